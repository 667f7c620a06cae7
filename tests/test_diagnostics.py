"""Bands of healthy runs: what they say, of which runs, and from when on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import NAMES, configure

from csf.evaluation.diagnostics import DIAGNOSTICS, Finding, judge


def found(findings: list[Finding], metric: str) -> list[tuple[str, float, float]]:
    return [(each.verdict, *each.band) for each in findings if each.diagnostic.metric == metric]


def constant(**values: float) -> dict[str, np.ndarray]:
    return {name.replace("__", "/"): np.full(20, value) for name, value in values.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_band_can_be_computed_for_the_methods_it_is_for(name: str) -> None:
    tree = configure(f"agent={name}").tree
    concerned = [each for each in DIAGNOSTICS if not each.methods or name in each.methods]
    bands = [each.band(tree, 1.0) for each in concerned]
    assert all(band is None or band.low < band.high for band in bands)


def test_every_method_has_bands() -> None:
    named = {name for each in DIAGNOSTICS for name in each.methods}
    assert named == {"csf", "metra", "diayn", "dads", "cic", "visr", "slusd"}


@pytest.mark.parametrize(("words", "most"), [([], 30), (["agent.bound=nce", "agent.candidates=fresh"], 257)])
def test_the_reward_of_slusd_is_at_most_the_logarithm_of_the_candidates(words: list[str], most: int) -> None:
    (band,) = found(
        judge(configure("agent=slusd", "env=ant", *words).tree, constant(reward__mean=9.0), 10**6), "reward/mean"
    )
    assert band == ("out", 0.0, math.log(most))
    unlimited = configure("agent=slusd", "agent.bound=nwj").tree
    assert not found(judge(unlimited, constant(reward__mean=9.0), 10**6), "reward/mean")


def test_csf_trivial_value_is_that_of_the_paper() -> None:
    tree = configure("agent=csf", "env=ant").tree
    settles, learned = found(judge(tree, constant(loss__representation=27.7259), 2_000_000), "loss/representation")
    assert (settles[0], learned[0]) == ("in", "out")
    assert (settles[2], learned[2]) == pytest.approx((27.826, 27.716), abs=1e-3)


def test_csf_against_the_batch_has_as_many_negatives_as_the_batch() -> None:
    tree = configure("agent=csf", "env=ant", "agent.negatives=batch", "task.batch_size=64").tree
    ((_, _, high), _) = found(judge(tree, constant(loss__representation=0), 0), "loss/representation")
    assert high == pytest.approx(5 * math.log(64) + 0.1)


def test_outside_of_its_band_a_value_counts_only_after_the_budget() -> None:
    tree = configure("agent=metra", "env=ant").tree
    assert found(judge(tree, constant(phi__alignment=0.01), 63_999), "phi/alignment")[0][0] == "not yet"
    assert found(judge(tree, constant(phi__alignment=0.01), 64_000), "phi/alignment")[0][0] == "out"
    assert found(judge(tree, constant(phi__alignment=0.3), 10), "phi/alignment")[0][0] == "in"


def test_a_larger_learning_rate_makes_the_budget_shorter() -> None:
    tree = configure("agent=metra", "env=ant", "agent.lr=1e-3").tree
    assert found(judge(tree, constant(phi__alignment=0.01), 6_400), "phi/alignment")[0][0] == "out"
    assert found(judge(tree, constant(phi__alignment=0.01), 6_399), "phi/alignment")[0][0] == "not yet"


def test_a_fixed_multiplier_is_not_expected_to_fall() -> None:
    values = constant(phi__multiplier=30)
    assert not found(judge(configure("agent=metra", "agent.multiplier_lr=0").tree, values, 10**6), "phi/multiplier")
    verdicts = [each[0] for each in found(judge(configure("agent=metra").tree, values, 10**6), "phi/multiplier")]
    assert verdicts == ["out", "in"]  # it never fell; where it is, a healthy run may settle


# Of METRA's own program on Ant: the epoch, of 50 gradient steps at 1e-4, and the multiplier in that epoch.
RELEASED = {99: 18.8, 299: 7.3, 599: 4.3, 999: 6.8, 1_999: 18.8, 2_999: 33.0, 4_000: 36.5, 8_000: 27.4, 40_000: 23.3}


@pytest.mark.parametrize(("epoch", "multiplier"), RELEASED.items())
def test_metras_own_run_is_within_the_band_of_its_constraint(epoch: int, multiplier: float) -> None:
    tree = configure("agent=metra", "env=ant", "agent.constraint=mean").tree
    steps = 50 * (epoch + 1)
    verdicts = [each[0] for each in found(judge(tree, constant(phi__multiplier=multiplier), steps), "phi/multiplier")]
    assert len(verdicts) == 1
    assert verdicts[0] == ("not yet" if 500 < epoch < 700 else "in")


def test_the_step_is_bounded_by_the_dimensions_where_their_mean_is_bounded() -> None:
    for words, bound in ((["agent.constraint=mean", "agent.skill_dim=4"], 4), (["agent.skill_dim=4"], 1)):
        tree = configure("agent=metra", *words).tree
        assert found(judge(tree, constant(phi__step=bound), 10**6), "phi/step") == [("in", 0.7 * bound, 1.2 * bound)]


def test_displacement_is_compared_with_the_run_s_own_start() -> None:
    tree = configure("agent=csf", "env=ant").tree
    values = {"episode/displacement": np.concatenate([np.full(3, 2.0), np.full(30, 3.9)])}
    assert found(judge(tree, values, 10**6), "episode/displacement") == [("out", 4.0, math.inf)]
    values["episode/displacement"][-10:] = 4.1
    assert found(judge(tree, values, 10**6), "episode/displacement") == [("in", 4.0, math.inf)]


def test_what_is_not_measured_yet_is_not_yet_and_what_never_is_has_no_place() -> None:
    tree = configure("agent=diayn").tree
    (early,) = [each for each in judge(tree, {}, 0) if each.diagnostic.metric == "discriminator/accuracy"]
    assert (early.value, early.verdict) == (None, "not yet")
    assert not found(judge(tree, {}, 10**6), "discriminator/accuracy")


def test_other_methods_bands_do_not_apply() -> None:
    metrics = {each.diagnostic.metric for each in judge(configure("agent=diayn").tree, {}, 0)}
    assert metrics == {"discriminator/accuracy", "reward/mean"}


def test_a_configuration_of_another_version_leaves_out_what_it_cannot_say() -> None:
    tree = configure("agent=csf").tree
    del tree["agent"]["negative_weight"]
    metrics = {each.diagnostic.metric for each in judge(tree, {}, 0)}
    assert metrics == {"phi/alignment", "episode/displacement"}
