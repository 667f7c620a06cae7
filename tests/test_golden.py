"""Updates of the paper's released program, number for number: every gradient, parameter, buffer and logged loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import golden_map
import numpy as np
import pytest
import torch
from golden_map import CHANGING, UNUSED, Arrays

from csf.agents import Agent
from csf.nets.encoder import ImageEncoder

CASES = [
    "csf",
    "metra",
    "metra_discrete",
    "diayn",
    "visr",
    "dads",
    "cic",
    "sac",
    "sac_discrete",
    "ppo",
    "ppo_categorical",
    "csf_pixels",
    "sac_pixels_goal",
]

# What is logged there, and which of our metrics it is, with its factor.
LOGGED = {
    "LossTe": ("loss/representation", 1),
    "LossSd": ("loss/representation", 1),
    "TeObjMean": ("loss/representation", -1),
    "LossDualLam": ("loss/multiplier", 1),
    "DualLam": ("phi/multiplier", 1),
    "DualCstPenalty": ("phi/slack", 1),
    "phi_diff_l2": ("phi/step", 1),
    "PureRewardMean": ("reward/mean", 1),
    "DadsRewardMean": ("reward/mean", 1),
    "QTargetsMean": ("critic/target", 1),
    "LossVf": ("loss/critic", 1),
    "LossOp": ("loss/actor", 1),
    "LossSacp": ("loss/actor", 1),
    "LossSurrogateOp": ("loss/actor", 1),
    "SacpNewActionLogProbMean": ("policy/entropy", -1),
    "Alpha": ("policy/alpha", 1),
    "LossAlpha": ("loss/alpha", 1),
}
# What of it we log in another sense, or not at all: means that gradients and losses determine.
ELSEWHERE = {
    ("csf", "PureRewardMean"): ("phi/positive", 1),  # of phi before its step; reward/mean is of phi after it
    ("csf_pixels", "PureRewardMean"): ("phi/positive", 1),
    ("visr", "PureRewardMean"): ("phi/alignment", 1),  # likewise, of phi of unit length
}
NOT_LOGGED = {"PureRewardStd", "phi_l2", "Qf1Mean", "Qf2Mean", "QfTargetsMean", "QfTdErrsMean", "QTdErrsMean"}
NOT_LOGGED |= {"CicLogits", "DadsSdLogProbMean", "DadsSdAltLogProbMean"}
NOT_LOGGED |= {"SdTargetRunningMean", "SdTargetRunningVar"}  # of buffers that are compared
NOT_COMPARED = {
    ("csf", "DualCstPenalty"),  # of METRA's constraint, which CSF has not
    ("csf_pixels", "DualCstPenalty"),
    ("sac_discrete", "SacpNewActionLogProbMean"),  # a mean over all actions alike, not over the policy
}


def run(
    name: str, plant: Callable[[Agent], object] = lambda agent: None
) -> tuple[Agent, Arrays, list[dict[str, float]]]:
    """The case's agent after its iterations, its arrays, and the metrics of each iteration."""
    arrays = golden_map.read(name)
    agent = golden_map.make(golden_map.meta_of(arrays))
    golden_map.load(agent, arrays)
    plant(agent)
    return agent, arrays, golden_map.update(agent, arrays)


def group(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(name): value for key, value in arrays.items() if key.startswith(name)}


def assert_names(agent: Agent, arrays: Arrays) -> None:
    """Whatever the file holds is known here, or not used there."""
    ours = set(golden_map.dump(agent))
    init, after, grad = (set(group(arrays, name)) for name in ("init/", "after/", "grad/"))
    assert ours <= init, f"here, not there: {ours - init}"
    assert grad <= ours, f"has a gradient there, not here: {grad - ours}"
    unknown = {key for key in init - ours if not key.startswith(tuple(UNUSED))}
    assert not unknown, f"there, not here: {unknown}"
    changed = {key for key in after - ours if not CHANGING.fullmatch(key)}
    assert not changed, f"changes there, not here: {changed}"


def assert_gradients(agent: Agent, arrays: Arrays) -> None:
    """Within 1e-4 of the largest entry of each."""
    found, wanted = golden_map.gradients(agent), group(arrays, "grad/")
    if not wanted and golden_map.meta_of(arrays)["iterations"] > 1:
        return  # only files of a single iteration have gradients
    assert set(found) == set(wanted), f"gradients on one side alone: {sorted(set(found) ^ set(wanted))}"
    for key, want in wanted.items():
        largest = max(np.abs(want).max(), 1e-6)
        np.testing.assert_allclose(found[key], want, rtol=0, atol=1e-4 * largest, err_msg=key)


def assert_states(agent: Agent, arrays: Arrays) -> None:
    """What changes there within 1e-6; what does not, bit for bit."""
    init, after = group(arrays, "init/"), group(arrays, "after/")
    wrong = []
    for key, value in golden_map.dump(agent).items():
        want = after.get(key, init[key])
        assert value.shape == want.shape, key
        allowed = golden_map.tolerance(arrays, key) + 1e-6 * np.abs(want) if key in after else 0
        if not (np.abs(value - want) <= allowed).all():
            wrong.append(key)
    assert not wrong, f"ends elsewhere: {wrong}"


def assert_logs(name: str, arrays: Arrays, rows: list[dict[str, float]]) -> None:
    """Every logged number that has a counterpart."""
    for i, row in enumerate(rows):
        logged = {key: float(value.squeeze()) for key, value in group(arrays, f"log/it{i}/").items()}
        losses = [logged.pop(key) for key in ("LossQf1", "LossQf2") if key in logged]
        compared = {"loss/critic": sum(losses)} if losses else {}
        for key, value in logged.items():
            if key in NOT_LOGGED or (name, key) in NOT_COMPARED:
                continue
            ours, factor = ELSEWHERE.get((name, key), LOGGED[key])
            compared[ours] = factor * value
        assert compared, f"iteration {i} logs nothing"
        losses_here = {key for key in row if key.startswith("loss/")}
        assert losses_here <= set(compared), f"losses that are not there: {losses_here - set(compared)}"
        for key, value in compared.items():
            assert row[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def assert_agrees(name: str, found: tuple[Agent, Arrays, list[dict[str, float]]]) -> None:
    agent, arrays, rows = found
    assert len(rows) == golden_map.meta_of(arrays)["iterations"]
    assert_names(agent, arrays)
    assert_gradients(agent, arrays)
    assert_states(agent, arrays)
    assert_logs(name, arrays, rows)


@pytest.mark.parametrize("name", CASES)
def test_an_update_is_the_released_programs(name: str) -> None:
    assert_agrees(name, run(name))


@pytest.mark.parametrize("name", ["ppo", "ppo_categorical"])
def test_advantages_and_returns_are_the_released_programs(name: str) -> None:
    arrays = golden_map.read(name)
    agent = golden_map.make(golden_map.meta_of(arrays))
    golden_map.load(agent, arrays)
    rollout = golden_map.rollouts(agent, arrays).rollout
    assert rollout is not None
    for found, key in ((rollout.advantage, "mid/it0/advantages"), (rollout.return_to_go, "batch/it0/returns")):
        np.testing.assert_allclose(found.numpy(), arrays[key].flatten(), rtol=1e-4, atol=1e-5, err_msg=key)


def test_every_exception_is_needed() -> None:
    init, logged = set[str](), set[str]()
    for arrays in map(golden_map.read, CASES):
        ours = golden_map.dump(golden_map.make(golden_map.meta_of(arrays)))
        init |= set(group(arrays, "init/")) - set(ours)
        logged |= set(group(arrays, "log/it0/"))
    for prefix in UNUSED:
        assert any(key.startswith(prefix) for key in init), prefix
    assert logged >= set(LOGGED) | NOT_LOGGED


# ---- faults that these tests must see


def negate_skills(agent: Agent) -> None:
    draw = agent.objective.sample_skills
    agent.objective.sample_skills = lambda n: -draw(n)  # type: ignore[method-assign]


def freeze(name: str) -> Callable[[Agent], None]:
    """A part whose optimizer does not step."""

    def plant(agent: Agent) -> None:
        for key, minimizer in agent.minimizers().items():
            if key == name:
                minimizer.step = lambda loss: loss.detach()  # type: ignore[method-assign]

    return plant


def freeze_module(name: str) -> Callable[[Agent], None]:
    """A network that the optimizer of its part has forgotten."""

    def plant(agent: Agent) -> None:
        objective: Any = agent.objective
        minimizer = objective.minimizers["representation"]
        forgotten = {id(param) for param in getattr(objective, name).parameters()}
        kept = [param for param in minimizer.params if id(param) not in forgotten]
        objective.minimizers["representation"] = type(minimizer)(kept, objective.cfg.lr)

    return plant


def shift_loss(agent: Agent) -> None:
    """A constant of the loss, which no gradient shows."""
    objective: Any = agent.objective
    loss = objective.loss
    objective.loss = lambda batch: (loss(batch)[0] + 1, loss(batch)[1])


def terminal_ignored(agent: Agent) -> None:
    backbone: Any = agent.backbone
    backbone.proceed = lambda batch: torch.full_like(batch.terminal, backbone.cfg.discount)


def nudge_constant(agent: Agent) -> None:
    """Moves what stands still there by less than the tolerance of what moves."""
    objective: Any = agent.objective
    objective.input_norm.weight.data += 5e-7


def count_twice(agent: Agent) -> None:
    objective: Any = agent.objective
    objective.input_norm.num_batches_tracked += 1


def still_moments(agent: Agent) -> None:
    objective: Any = agent.objective
    objective.moments.follow = lambda distances: None


def freeze_encoder(part: str, name: str) -> Callable[[Agent], None]:
    """The optimizer of a part does not have the convolutions of its encoder."""

    def plant(agent: Agent) -> None:
        minimizers = getattr(agent, part).minimizers
        old = minimizers[name]
        kept = [param for param in old.params if param.dim() != 4 and param.shape != (4,)]
        minimizers[name] = type(old)(kept, 1e-4)

    return plant


def swap_height_and_width(agent: Agent) -> None:
    for module in agent.modules():
        if isinstance(module, ImageEncoder):
            for weight in (param for param in module.parameters() if param.dim() == 4):
                weight.data = weight.data.mT.contiguous()


def goal_of_before(agent: Agent) -> None:
    """The goal beside s stands beside s' as well."""
    update = agent.update
    agent.update = lambda batch: update(  # type: ignore[method-assign]
        batch._replace(next_obs={**batch.next_obs, "vector": batch.obs["vector"]})
    )


# The case, the fault, and what the failure names.
FAULTS: dict[str, tuple[str, Callable[[Agent], object], str]] = {
    "the negatives of the contrast": ("csf", negate_skills, "traj_encoder"),
    "phi is frozen": ("csf", freeze("objective.representation"), "one side alone: .*traj_encoder"),
    "the multiplier is frozen": ("metra", freeze("objective.multiplier"), "one side alone: .*dual_lam.param"),
    "the temperature is frozen": ("sac_discrete", freeze("backbone.alpha"), "one side alone: .*log_alpha.param"),
    "the value is frozen": ("ppo", freeze("backbone.critic"), r"one side alone: .*vf\."),
    "the policy is frozen": ("ppo_categorical", freeze("backbone.actor"), "one side alone: .*option_policy"),
    "one network is frozen": ("cic", freeze_module("transition_net"), "one side alone: .*pred_net"),
    "the moments do not follow": ("cic", still_moments, "qf1"),
    "a constant of the loss": ("diayn", shift_loss, "loss/representation"),
    "terminals": ("sac", terminal_ignored, "qf1"),
    "the buffers of a norm": ("dads", count_twice, r"elsewhere: \['_sd_input_batch_norm.num_batches_tracked'\]"),
    "the policy's encoder is frozen": ("csf_pixels", freeze_encoder("backbone", "actor"), "alone: .*encoder"),
    "phi's encoder is frozen": ("csf_pixels", freeze_encoder("objective", "representation"), "alone: .*encoder"),
    "the critics' encoders are frozen": ("sac_pixels_goal", freeze_encoder("backbone", "critic"), "alone: .*encoder"),
    "height and width": ("csf_pixels", swap_height_and_width, "traj_encoder"),
    "the goal": ("sac_pixels_goal", goal_of_before, "qf1"),
    "a parameter that stands still": ("dads", nudge_constant, r"elsewhere: \['_sd_input_batch_norm.weight'\]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault: str) -> None:
    name, plant, where = FAULTS[fault]
    found = run(name, plant)
    with pytest.raises(AssertionError, match=where):
        assert_agrees(name, found)


def test_targets_that_do_not_follow_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda *_: None)
    with pytest.raises(AssertionError, match="target_qf1"):
        assert_agrees("visr", run("visr"))
