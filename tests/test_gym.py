"""env=gym: any Gymnasium id as an environment, its run folder, and coverage by entropy where there are no places."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, configure
from torch import Tensor

from csf.agents import Agent
from csf.config.compose import check
from csf.config.help import text
from csf.config.schema import Config
from csf.errors import ConfigError
from csf.evaluation.entropy import StateEntropy, random_policy
from csf.evaluation.rollouts import SkillRollouts
from csf.sampler import RolloutSampler
from csf.types import SomeObs
from csf.worlds import describe, make_worlds

BODIES = {"Swimmer-v5": (8, 2), "Hopper-v5": (11, 3), "HalfCheetah-v5": (17, 6), "Walker2d-v5": (17, 6)}
BODIES |= {"Ant-v5": (105, 8), "MountainCarContinuous-v0": (2, 1), "Pendulum-v1": (3, 1), "CartPole-v1": (4, 2)}


def gym(identifier: str, *words: str) -> Config:
    return check(["env=gym", f"env.id={identifier}", *words])


@pytest.mark.parametrize(("identifier", "sizes"), BODIES.items())
def test_environments_of_the_study_have_vectors_and_bounded_actions(identifier: str, sizes: tuple[int, int]) -> None:
    cfg = gym(identifier, "env.max_steps=3")
    worlds = make_worlds(cfg.env, 2)
    spec = describe(worlds, cfg.env["name"])
    assert (spec.id, spec.obs_dim, spec.action_dim, spec.max_steps) == (identifier, *sizes, 3)
    assert spec.discrete == (identifier == "CartPole-v1")
    sampler = RolloutSampler(worlds, spec, 0, "cpu")
    episodes = sampler.collect(random_policy(spec, 0), torch.zeros(2, 0))
    sampler.close()
    assert torch.isfinite(episodes.transitions().next_obs).all()
    assert episodes.length.tolist() == [3, 3]


def test_without_an_id_it_is_the_mountain_car_with_its_own_limit() -> None:
    cfg = check(["env=gym"])
    assert cfg.env["id"] == cfg.env["name"] == "MountainCarContinuous-v0"
    assert make_worlds(cfg.env, 1).max_steps == 999


@pytest.mark.parametrize(
    ("identifier", "folder"),
    [
        ("MountainCarContinuous-v0", "MountainCarContinuous-v0"),
        ("Walker2d-v5", "Walker2d-v5"),
        ("my_module:MyEnv-v0", "my_module_MyEnv-v0"),
        ("space/MyEnv-v0", "space_MyEnv-v0"),
    ],
)
def test_a_run_folder_carries_the_id(identifier: str, folder: str) -> None:
    assert gym(identifier).run_name == f"pretrain/{folder}/csf/sd000"
    assert gym(identifier, "env.max_steps=9").run_name == f"pretrain/{folder}/csf-env.max_steps=9/sd000"
    assert gym(identifier, "task=hierarchical").run_name == f"hierarchical/{folder}/csf/sd000"
    assert gym(identifier, "task=scratch").run_name == f"hierarchical/{folder}/scratch/sd000"


def test_a_module_that_registers_ids_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "gymnasium.envs.classic_control:PendulumEnv"
    source = f"import gymnasium\ngymnasium.register('Mine-v0', '{entry}', max_episode_steps=9)\n"
    (tmp_path / "registers_mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert make_worlds(gym("registers_mine:Mine-v0").env, 2).max_steps == 9
    assert "registers_mine" in sys.modules


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env.id=null"], "env.id is null; accepted: an id registered with Gymnasium, such as Walker2d-v5"),
        (["env.id=[a]"], r"env.id is \['a'\]; accepted: an id registered with Gymnasium"),
        (["env.id=ant"], "env.id is ant; accepted: with env=gym, the id of .*; without it, env=ant"),
        (["env.max_steps=0"], "env.max_steps is 0; accepted: an integer of at least 1, or null"),
        (["env.plot_range=-1"], "env.plot_range is -1.0; accepted: a number above 0, or null"),
        (
            ["env=point", "env.id=Walker2d-v5"],
            "env.id is Walker2d-v5; accepted: with env=gym, .*; without it, env=point",
        ),
    ],
)
def test_wrong_settings(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(["env=gym", *words])


def test_an_unknown_id_is_answered_with_near_matches_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"unknown environment 'Walker2d-v9' \(did you mean 'Walker2d-v5'") as error:
        make_worlds(gym("Walker2d-v9").env, 1)
    assert "\n" not in str(error.value)


def test_a_backbone_without_discrete_actions_is_refused() -> None:
    cfg = gym("CartPole-v1", *SMALL)
    spec = describe(make_worlds(cfg.env, 1), cfg.env["name"])
    with pytest.raises(
        ConfigError, match=r"agent/backbone=successor does not support the one-hot .*: discrete_sac, es, ppo"
    ):
        Agent(cfg.agent, cfg.backbone, spec)


@pytest.mark.parametrize("backbone", ["discrete_sac", "ppo"])
def test_a_backbone_with_discrete_actions_acts_and_learns(backbone: str) -> None:
    torch.manual_seed(0)
    cfg = gym("CartPole-v1", "agent=slusd", f"agent/backbone={backbone}", *SMALL)
    spec = describe(make_worlds(cfg.env, 1), cfg.env["name"])
    agent = Agent(cfg.agent, cfg.backbone, spec)
    sampler = RolloutSampler(make_worlds(cfg.env, 2), spec, 0, "cpu")
    episodes = sampler.collect(agent.act, agent.sample_skills(2))
    assert set(episodes.transitions().action.sum(1).tolist()) == {1.0}
    if backbone == "discrete_sac":
        assert torch.isfinite(agent.update(episodes.transitions())["loss/critic"])


def test_help_describes_the_settings() -> None:
    lines = text(check(["env=gym"])).splitlines()
    (line,) = [line for line in lines if line.startswith("  env.id=")]
    assert line.startswith("  env.id=MountainCarContinuous-v0")
    assert "id registered with Gymnasium" in line
    assert any(line.startswith("  env.max_steps=null") and "number of steps" in line for line in lines)


# ---- coverage where there is no place to count


def entropy(policy_scale: float, seed: int = 3) -> float:
    """Of a policy whose actions are random, times a factor, held for an episode."""
    cfg = gym("MountainCarContinuous-v0", "env.max_steps=60")
    worlds = make_worlds(cfg.env, 8)
    sampler = RolloutSampler(worlds, describe(worlds, cfg.env["name"]), 0, "cpu")

    def hold(obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        return policy_scale * skill

    skills = torch.linspace(-1, 1, 8)[:, None]
    found = StateEntropy(seed)(sampler, sampler.collect(hold, skills, True, seed))
    return found["eval/state_entropy"]


def test_skills_that_go_farther_have_more_entropy() -> None:
    standing, slow, fast = (entropy(scale) for scale in (0.0, 0.3, 1.0))
    assert standing < slow < fast


def test_random_actions_have_about_the_entropy_of_a_standard_normal() -> None:
    cfg = gym("MountainCarContinuous-v0", "env.max_steps=60")
    worlds = make_worlds(cfg.env, 48)
    spec = describe(worlds, cfg.env["name"])
    sampler = RolloutSampler(worlds, spec, 0, "cpu")
    episodes = sampler.collect(random_policy(spec, 5), torch.zeros(48, 0), True, 5)
    found = StateEntropy(5)(sampler, episodes)["eval/state_entropy"]
    torch.manual_seed(8)
    assert StateEntropy(5)(sampler, episodes)["eval/state_entropy"] == found, "from 2,000 of 2,880 states"
    assert found == pytest.approx(np.log(2 * np.pi * np.e), abs=0.6)


def test_an_evaluation_measures_entropy_and_repeats_itself() -> None:
    """Bit for bit, whether or not it is the first one of a run, and without a trace in training."""
    cfg = gym("Pendulum-v1", "agent=slusd", "env.max_steps=20", *SMALL)
    worlds = make_worlds(cfg.env, 4)
    spec = describe(worlds, cfg.env["name"])
    torch.manual_seed(0)
    agent = Agent(cfg.agent, cfg.backbone, spec)
    evaluator, sampler = SkillRollouts(worlds, 4, 7, None), RolloutSampler(worlds, spec, 0, "cpu")
    state = torch.get_rng_state()
    first = evaluator.run(agent, sampler).metrics
    assert torch.equal(torch.get_rng_state(), state)
    assert "eval/coverage" not in first
    assert np.isfinite(first["eval/state_entropy"])
    assert evaluator.run(agent, sampler).metrics == first
    assert SkillRollouts(worlds, 4, 7, None).run(agent, sampler).metrics == first


def test_environments_with_coordinates_have_no_entropy() -> None:
    cfg = configure("+env.max_steps=5")
    worlds = make_worlds(cfg.env, 2)
    sampler = RolloutSampler(worlds, describe(worlds, "point"), 0, "cpu")
    episodes = sampler.collect(random_policy(sampler.spec, 0), torch.zeros(2, 2))
    assert StateEntropy(0)(sampler, episodes) == {}
