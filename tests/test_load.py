"""From a file to an agent that acts: which file is meant, and that what comes out is what was saved."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NAMES, ROOT, SMALL, SPEC, batch, configure, make

import csf
from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import checkpoint, policy
from csf.io.load import find, load, newest, read, run_of


def facts(name: str, *overrides: str, env: str = "point") -> dict[str, Any]:
    tree = configure(f"agent={name}", *SMALL, *overrides).tree
    tree["env"]["name"] = env
    spec = dataclasses.asdict(SPEC)
    return {
        "epoch": 3,
        "env_steps": 60,
        "results": {"eval/coverage": 7.0},
        "config": tree,
        "spec": spec,
        "versions": {},
    }


def trained(name: str, *overrides: str) -> Agent:
    agent = make(name, *overrides)
    agent.update(batch(agent))
    return agent.eval()


def save(folder: Path, epoch: int, kinds: str, agent: Agent | None = None, env: str = "point") -> Path:
    """Files of an epoch in a run's folder: "p"olicy, "f"ull; returns the policy's path, or the full one's."""
    inside = folder / "checkpoints"
    inside.mkdir(parents=True, exist_ok=True)
    agent = agent or make("csf")
    told = facts(agent.objective.cfg.name, env=env) | {"epoch": epoch}
    paths = {"p": inside / checkpoint.POLICY.format(epoch), "f": inside / checkpoint.FULL.format(epoch)}
    if "f" in kinds:
        checkpoint.save(paths["f"], {"agent": agent}, told, torch.device("cpu"))
    if "p" in kinds:
        policy.save(paths["p"], agent, told)
    return paths[kinds[0]]


def age(path: Path, seconds: int) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


# ---- what comes out


@pytest.mark.parametrize("kind", ["p", "f"])
@pytest.mark.parametrize("name", NAMES)
def test_an_agent_acts_as_the_one_that_was_saved(name: str, kind: str, tmp_path: Path) -> None:
    agent = trained(name)
    again = csf.load(save(tmp_path / "run", 3, kind, agent))
    obs, goal = torch.randn(7, *SPEC.obs_shape), torch.randn(7, *SPEC.obs_shape)
    torch.manual_seed(0)
    skill = agent.sample_skills(7)
    torch.manual_seed(0)
    assert torch.equal(again.sample_skills(7), skill)
    assert torch.equal(again.act(obs, skill, True), agent.act(obs, skill, True))
    mine, theirs = again.goal_skill(obs, goal), agent.goal_skill(obs, goal)
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert torch.equal(mine, theirs)
    assert again.spec == SPEC
    assert not again.training


@pytest.mark.parametrize("kind", ["p", "f"])
def test_loading_leaves_the_random_state_as_it_was(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "run", 3, kind)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    csf.load(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "settings",
    [["agent.prior=one_hot", "agent.skill_dim=5"], ["agent/backbone=ppo"]],
    ids=lambda words: words[0],
)
def test_settings_that_change_the_networks_are_in_the_file(settings: list[str], tmp_path: Path) -> None:
    agent = make("metra", *settings)
    path = tmp_path / "policy.safetensors"
    policy.save(path, agent, facts("metra", *settings))
    again, skill = load(path), agent.sample_skills(4)
    obs = torch.randn(4, *SPEC.obs_shape)
    assert torch.equal(again.act(obs, skill, True), agent.act(obs, skill, True))


@pytest.mark.parametrize("kind", ["p", "f"])
def test_a_file_tells_of_itself_without_its_weights(kind: str, tmp_path: Path) -> None:
    told = read(save(tmp_path / "run", 3, kind))[0]
    assert (told["epoch"], told["config"]["agent"]["name"], told["results"]) == (3, "csf", {"eval/coverage": 7.0})
    assert {"parts", "rng"}.isdisjoint(told)


@pytest.mark.parametrize("config", [{}, {"agent": {"name": "csf"}}, None, [1]])
def test_a_file_that_does_not_say_what_made_it_is_refused(config: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    policy.save(path, make("csf"), facts("csf") | {"config": config})
    with pytest.raises(CheckpointError, match=rf"^{path} does not say by which agent and on which environment"):
        read(path)


def test_neither_hydra_nor_an_environment_is_needed(tmp_path: Path) -> None:
    path = save(tmp_path / "run", 3, "p")
    code = (
        f"import csf, sys; csf.load({str(path)!r}); print([m for m in ('hydra', 'mujoco', 'envs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_a_full_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"agent": make("csf", "agent.hidden=[8]")}, facts("csf"), torch.device("cpu"))
    with pytest.raises(CheckpointError, match=rf"^{path} does not fit this version: .+") as raised:
        load(path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["p", "f"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"config": {"agent": {"name": "csf"}, "env": {"name": "ant"}}},
        {"config": {"agent": {"name": "csf", "backbone": "sac"}, "env": {"name": "ant"}}},
        {"spec": None},
        {"spec": dataclasses.asdict(SPEC) | {"obs_shape": []}},
    ],
)
def test_a_file_that_tells_what_nothing_can_be_made_of_is_refused(
    wrong: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    path, agent = tmp_path / {"p": "a.safetensors", "f": "a.pt"}[kind], make("csf")
    told = facts("csf") | wrong
    if kind == "p":
        policy.save(path, agent, told)
    else:
        checkpoint.save(path, {"agent": agent}, told, torch.device("cpu"))
    with pytest.raises(CheckpointError, match=rf"^{path} does not fit this version: .+") as raised:
        load(path)
    assert len(str(raised.value).splitlines()) == 1


# ---- which file


def test_a_run_means_its_latest_policy(tmp_path: Path) -> None:
    run = tmp_path / "run"
    paths = [save(run, epoch, "pf") for epoch in (1, 3, 2)]
    assert find(run) == find(run / "checkpoints") == paths[1]
    assert run_of(find(run)) == run
    assert find(paths[0]) == paths[0]


def test_without_a_policy_it_means_the_latest_full_state(tmp_path: Path) -> None:
    paths = [save(tmp_path / "run", epoch, "f") for epoch in (1, 2)]
    assert find(tmp_path / "run") == paths[1]


def test_a_folder_of_runs_and_a_pattern_mean_the_one_last_written(tmp_path: Path) -> None:
    old, new = save(tmp_path / "sd000", 9, "p"), save(tmp_path / "sd001", 1, "p")
    age(old, 60)
    assert find(tmp_path) == find(tmp_path / "sd*") == find(f"{tmp_path}/*/checkpoints/policy_*.safetensors") == new
    assert find(tmp_path / "*0") == old


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "no such file or folder; accepted: a run's folder, a policy file, a full checkpoint, or a pattern"),
        ("no*where", "no such file or folder; accepted: "),
        ("empty", "holds neither a policy file nor a full checkpoint; accepted: "),
    ],
)
def test_what_is_not_there_is_named(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError) as raised:
        find(tmp_path / name)
    assert str(raised.value).startswith(f"cp_path={tmp_path / name}")
    assert reason in str(raised.value)


def test_the_newest_run_is_sought_by_what_its_files_say(tmp_path: Path) -> None:
    mine = save(tmp_path / "a/whatever", 5, "p", make("csf"))
    younger = [
        save(tmp_path / "b", 9, "p", make("metra")),
        save(tmp_path / "c", 9, "p", make("csf"), env="ant"),
        save(tmp_path / "d", 9, "f", make("csf")),
    ]
    damaged = tmp_path / "e/checkpoints" / checkpoint.POLICY.format(9)
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no policy")
    age(mine, 60)
    assert newest(tmp_path, "csf", "point") == mine
    assert newest(tmp_path, "metra", "point") == younger[0]
    assert newest(tmp_path, "csf", "ant") == younger[1]


def test_the_newest_of_nothing_says_what_to_run(tmp_path: Path) -> None:
    message = (
        rf"^no run of agent=csf on env=ant under {tmp_path}/ has a policy file; "
        "train one: python -m csf.train agent=csf env=ant, or name one with cp_path=$"
    )
    with pytest.raises(CheckpointError, match=message):
        newest(tmp_path, "csf", "ant")
