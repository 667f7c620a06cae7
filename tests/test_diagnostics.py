"""Bands of healthy runs: what they say, of which runs, and from when on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NAMES, configure

from csf.agents import Agent
from csf.evaluation.bands import DIAGNOSTICS
from csf.evaluation.diagnostics import Finding, judge
from csf.evaluation.rollouts import SkillRollouts
from csf.sampler import RolloutSampler
from csf.worlds import describe, make_worlds


def found(findings: list[Finding], metric: str) -> list[tuple[str, float, float]]:
    return [(each.verdict, *each.band) for each in findings if each.diagnostic.metric == metric]


def constant(**values: float) -> dict[str, np.ndarray]:
    return {name.replace("__", "/"): np.full(20, value) for name, value in values.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_band_can_be_computed_for_the_methods_it_is_for(name: str) -> None:
    tree = configure(f"agent={name}").tree | {"spec": {"coord_dim": 2}}
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
    findings = found(judge(tree, constant(loss__representation=27.7259), 2_000_000), "loss/representation")
    assert [verdict for verdict, _, _ in findings] == ["in", "out", "out"]
    assert [high for _, _, high in findings] == pytest.approx([27.826, 27.716, 27.626], abs=1e-3)


# Of the released CSF on Ant: the epoch, of 50 gradient steps at 1e-4, loss of phi, alpha and coverage.
CSF_LOG = {
    500: (27.7257, 8.5e-4, 4),
    1_000: (27.7258, 1.03e-4, 7),
    1_500: (27.7145, 9.68e-4, 225),
    2_000: (27.6736, 4.03e-3, 511),
    2_500: (27.6264, 8.23e-3, 830),
    3_000: (27.6011, 1.06e-2, 1_275),
    5_000: (27.5239, 1.42e-2, 1_738),
    10_000: (27.5304, 1.04e-2, 2_217),
}


@pytest.mark.parametrize("epoch", CSF_LOG)
def test_the_released_run_of_csf_is_never_outside(epoch: int) -> None:
    tree = configure("agent=csf", "env=ant").tree
    rows = np.array([row for at, row in CSF_LOG.items() if at <= epoch]).T
    series = {name: row.repeat(10) for name, row in zip(("loss/representation", "policy/alpha"), rows, strict=False)}
    series |= {"eval/coverage": rows[2]}
    findings = [each for each in judge(tree, series, 50 * epoch) if each.diagnostic.metric in series]
    assert len(findings) == 6
    assert "out" not in {each.verdict for each in findings}
    if epoch >= 5_000:
        assert {each.verdict for each in findings} == {"in"}


def test_a_run_of_csf_that_never_takes_off_is_outside() -> None:
    tree = configure("agent=csf", "env=ant").tree
    stuck = constant(loss__representation=27.7258, policy__alpha=1e-6, eval__coverage=7)
    verdicts = [each.verdict for each in judge(tree, stuck, 10**6) if each.diagnostic.metric in stuck]
    assert verdicts == ["in", "out", "out", "out", "out", "out"]


@pytest.mark.parametrize("word", ["env=half_cheetah", "agent.backbone.alpha_lr=0", "agent.lr=1e-3"])
def test_bands_of_a_released_log_are_for_its_settings(word: str) -> None:
    metrics = {each.diagnostic.metric for each in judge(configure("agent=csf", "env=ant", word).tree, {}, 0)}
    assert not metrics & {"policy/alpha", "eval/coverage"}


def test_csf_against_the_batch_has_as_many_negatives_as_the_batch() -> None:
    tree = configure("agent=csf", "env=ant", "agent.negatives=batch", "task.batch_size=64").tree
    ((_, _, high), *_) = found(judge(tree, constant(loss__representation=0), 0), "loss/representation")
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


@pytest.mark.parametrize("epoch", RELEASED)
def test_metras_own_run_is_within_the_bands_of_its_constraint(epoch: int) -> None:
    tree = configure("agent=metra", "env=ant", "agent.constraint=mean").tree
    series = {"phi/multiplier": np.array([value for at, value in RELEASED.items() if at <= epoch]).repeat(10)}
    verdicts = [each[0] for each in found(judge(tree, series, 50 * (epoch + 1)), "phi/multiplier")]
    dipped, settled = ("in" if epoch >= 299 else "not yet"), ("in" if epoch >= 1_999 or epoch == 99 else "not yet")
    assert verdicts == ["in", dipped, settled]


@pytest.mark.parametrize("multiplier", [30.0, 1.0, 90.0])
def test_a_multiplier_unlike_that_of_metras_own_run_is_outside(multiplier: float) -> None:
    tree = configure("agent=metra", "env=ant", "agent.constraint=mean").tree
    verdicts = [each[0] for each in found(judge(tree, constant(phi__multiplier=multiplier), 10**6), "phi/multiplier")]
    assert verdicts[1] == "out"


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


# ---- collapse

PLANE, LINE = {"spec": {"coord_dim": 2}}, {"spec": {"coord_dim": 1}}
EVALUATED = {"eval/return": np.zeros(2)}


def collapse(
    directions: float, rank: float, steps: int = 10**6, *words: str, spec: dict[str, Any] = PLANE
) -> list[str]:
    """The labels of both diagnostics."""
    tree = configure("agent=csf", "env=ant", *words).tree | spec
    series = EVALUATED | {"eval/directions": np.array([0, directions]), "phi/rank": np.array([1.9, rank])}
    findings = judge(tree, series, steps)
    return [each.label for each in findings if each.diagnostic.metric in ("eval/directions", "phi/rank")]


def test_skills_in_two_directions_are_collapsed() -> None:
    assert collapse(2, 1.01) == ["collapsed", "collapsed"]
    assert collapse(4, 1.9) == ["collapsed", "in"]
    assert collapse(14, 1.7) == ["in", "in"]
    assert collapse(2, 1.01, 124_999) == ["not yet", "not yet"]


def test_an_untrained_phi_is_not_healthy_whatever_its_rank() -> None:
    assert collapse(0, 1.9, 0) == ["not yet", "not yet"]
    assert collapse(0, 1.9) == ["collapsed", "not yet"]


@pytest.mark.parametrize("name", ["csf", "metra"])
def test_an_untrained_agent_on_ant_is_not_healthy(name: str) -> None:
    """Its skills stay near the start, and its phi is a nearly random map, of rank above that of a line."""
    cfg = configure(f"agent={name}", "env=ant", "agent.hidden=[64,64]", "agent.backbone.hidden=[64,64]")
    worlds = make_worlds(cfg.env, 16)
    spec = describe(worlds, "ant")
    torch.manual_seed(0)
    found = SkillRollouts(worlds, 16, 0, None).run(
        Agent(cfg.agent, cfg.backbone, spec), RolloutSampler(worlds, spec, 0, "cpu")
    )
    series = {key: np.array([value]) for key, value in found.metrics.items()}
    assert found.metrics["eval/directions"] == 0
    assert found.metrics["phi/rank"] > 1.2
    tree = cfg.tree | {"spec": {"coord_dim": spec.coord_dim}}
    for steps, want in ((0, ["not yet", "not yet"]), (10**6, ["collapsed", "not yet"])):
        findings = judge(tree, series, steps)
        assert [each.label for each in findings if each.diagnostic.metric in ("eval/directions", "phi/rank")] == want


def test_the_bands_of_a_collapse_depend_on_coordinates_and_skills() -> None:
    assert collapse(1, 1.0, spec=LINE) == ["collapsed"]
    assert collapse(2, 1.0, spec=LINE) == ["in"]
    assert collapse(8, 1.9, 10**6, "task.coverage_skills=48") == ["in", "in"]
    assert collapse(5, 1.9, 10**6, "task.coverage_skills=10") == ["in", "in"]
    assert collapse(1, 1.9, 10**6, "task.coverage_skills=8") == ["in"]
    assert collapse(9, 1.0, 10**6, "agent.skill_dim=1") == ["in"]
    one_hot = ("agent=metra", "agent.prior=one_hot", "agent.skill_dim=8")
    assert collapse(1, 1.9, 10**6, *one_hot) == ["in"]
    assert collapse(1, 1.9, spec={}) == []


def test_what_an_environment_does_not_measure_has_no_place() -> None:
    tree = configure("agent=csf", "env=ant").tree | PLANE
    metrics = {each.diagnostic.metric for each in judge(tree, EVALUATED | {"phi/rank": np.ones(2)}, 0)}
    assert not metrics & {"eval/directions", "phi/rank"}


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
