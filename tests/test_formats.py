"""Files that earlier versions wrote: policies load and act as they did, runs resume or are refused by format number."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from conftest import ROOT
from runs import error_of, fork, main, rows

import csf

FORMATS = ROOT / "tests/golden/formats"  # its README.md says how the files were made
POLICIES: dict[str, dict[str, Any]] = json.loads((FORMATS / "policies.json").read_text())
SMALL = ["device=cpu", "threads=1", "agent.hidden=[8,8]", "agent.backbone.hidden=[8,8]", "task.episodes_per_epoch=4"]
SMALL += ["task.updates_per_epoch=3", "task.coverage_skills=3", "task.goals=3", "task.eval_every=1000"]
CONTROLLER = ["env=point_two_goals", "skills=csf", "hold=5"]
# What each run was trained with; budgets may change when a run resumes.
RUNS = {
    "csf": ["env=point", "agent=csf", "task.batch_size=16", "task.replay_size=100", "task.min_replay_size=40"],
    "csf_segments": ["env=point", "agent=csf", "task.batch_size=16", "task.replay_size=100", "task.min_replay_size=40"],
    "controller": [
        *CONTROLLER,
        "task=hierarchical",
        "task.batch_size=16",
        "task.replay_size=100",
        "task.min_replay_size=8",
    ],
    "controller_ppo": [*CONTROLLER, "task=hierarchical_ppo", "task.batch_size=8"],
}


def assert_acts_as_recorded(path: Path, kept: dict[str, Any]) -> None:
    agent = csf.load(path)
    obs, skill = (torch.tensor(kept[name]) for name in ("obs", "skill"))
    torch.testing.assert_close(agent.act(obs, skill, True), torch.tensor(kept["action"]), rtol=1e-4, atol=1e-6)
    if "goal_skill" in kept:
        goal_skill = agent.goal_skill(obs, obs.flip(0))
        assert goal_skill is not None
        torch.testing.assert_close(goal_skill, torch.tensor(kept["goal_skill"]), rtol=1e-4, atol=1e-6)


def test_every_file_is_tested() -> None:
    assert set(POLICIES) == {path.relative_to(FORMATS).as_posix() for path in FORMATS.rglob("*.safetensors")}
    assert set(RUNS) == {path.parent.name for path in FORMATS.glob("*/config.yaml")}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_file_says_what_it_is(name: str) -> None:
    with safetensors.safe_open(FORMATS / name, framework="pt") as file:
        header = json.loads(file.metadata()["csf"])
    assert header["format"] == 1
    agent = header["config"]["agent"]
    found = {"agent": agent["name"], "backbone": agent["backbone"]["name"], "env": header["spec"]["id"]}
    found |= {"epoch": header["epoch"], "prior": header["prior"]}
    assert found.items() <= POLICIES[name].items()
    assert csf.load(FORMATS / name).spec.id == found["env"]


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_file_acts_as_it_did(name: str) -> None:
    assert_acts_as_recorded(FORMATS / name, POLICIES[name])


@pytest.mark.parametrize("name", RUNS)
def test_a_full_checkpoint_loads_as_its_policy_file_does(name: str) -> None:
    kept = POLICIES[f"{name}/checkpoints/policy_000002.safetensors"]
    assert_acts_as_recorded(FORMATS / name / "checkpoints/epoch_000002.pt", kept)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_resumes_or_is_refused_by_its_format(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(FORMATS / name, folder)
    before = rows(folder)
    places = [f"exp_dir={tmp_path}", f"run_name={name}"]
    child = fork(tmp_path / "log", main, [*SMALL, *RUNS[name], *places, "task.epochs=4", "task.save_every=1"])
    if child.wait() != 0:
        assert re.search(r"epoch_000002\.pt has checkpoint format (\d); this version reads (?!.*\1)", error_of(child))
        assert rows(folder) == before
        return
    after = rows(folder)
    assert after[:3] == before
    assert [row["epoch"] for row in after] == [0, 1, 2, 3, 4]
    assert [row["gradient_steps"] for row in after[2:]] == [6, 9, 12]
    # The worlds go on from where they were: without a terminal, each epoch has as many steps as the first.
    assert [row["env_steps"] for row in after] == [epoch * after[1]["env_steps"] for epoch in range(5)]
    obs, skill = (
        torch.tensor(POLICIES[f"{name}/checkpoints/policy_000002.safetensors"][key]) for key in ("obs", "skill")
    )
    new, old = (csf.load(run / "checkpoints").act(obs, skill, True) for run in (folder, FORMATS / name))
    assert not torch.equal(new, old)
