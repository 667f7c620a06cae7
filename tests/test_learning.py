"""Does it learn? One small world where the answer is known, through the program that users run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

# Those with a preset for the plane and a rule to reach goals.
METHODS = ["csf", pytest.param("metra", marks=pytest.mark.long)]
THRESHOLD = 0.9

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=METHODS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole run on the plane."""
    exp = tmp_path_factory.mktemp("exp")
    return train(exp / "run", f"agent={request.param}", "env=point", "task.epochs=40")


def train(folder: Path, *words: str) -> Path:
    """A run by the program that users run."""
    settings = ["device=cpu", "threads=1", *words, f"exp_dir={folder.parent}", f"run_name={folder.name}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "csf.train", *settings]
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, float]]:
    """Every epoch's numbers of that run."""
    return read(folder)


def read(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_to_reach_goals_on_the_plane(rows: list[dict[str, float]]) -> None:
    assert rows[-1]["epoch"] == 40
    assert rows[-1]["eval/goal/hit_0.3"] > THRESHOLD


def test_an_untrained_agent_does_not(rows: list[dict[str, float]]) -> None:
    assert rows[0]["epoch"] == 0
    assert rows[0]["eval/goal/hit_0.3"] <= THRESHOLD


def test_its_skills_come_to_cover_the_plane(rows: list[dict[str, float]]) -> None:
    assert rows[-1]["eval/coverage"] > 2 * rows[0]["eval/coverage"]


# ---- a controller whose actions are those skills

CONTROLLED = ["env=point_two_goals", "task=hierarchical", "hold=4", "task.epochs=30", "task.eval_every=30"]
SOLVED = 12.0  # of 40 steps; who goes straight to both goals spends about half of them on the way


def test_a_controller_over_its_skills_solves_the_task_of_two_goals(folder: Path) -> None:
    method = method_of(folder)
    found = read(train(folder.parent / "controller", *CONTROLLED, f"skills={method}"))
    assert found[0]["eval/return"] < SOLVED
    assert found[-1]["eval/return"] > SOLVED


@pytest.mark.long
def test_a_controller_over_untrained_skills_does_not(folder: Path) -> None:
    """By the same training, on the policy of a run that collected and never learned."""
    method = method_of(folder)
    untrained = train(
        folder.parent / "untrained", f"agent={method}", "env=point", "task.epochs=1", "task.min_replay_size=10000"
    )
    assert read(untrained)[-1]["gradient_steps"] == 0
    words = [*CONTROLLED, f"skills={method}", f"cp_path={untrained}"]
    assert read(train(folder.parent / "helpless", *words))[-1]["eval/return"] < SOLVED


def method_of(folder: Path) -> str:
    return str(yaml.safe_load((folder / "config.yaml").read_text())["agent"]["name"])


# ---- the plane observed as images

REACHED = 0.8  # of goals


@pytest.mark.long
def test_it_learns_to_reach_goals_on_the_plane_from_images_and_untrained_it_does_not(tmp_path: Path) -> None:
    """About a minute and a half on two cores."""
    folder = train(tmp_path / "run", "agent=csf", "env=point_pixels", "threads=2")
    found = [row for row in read(folder) if "eval/goal/hit_0.3" in row]
    assert found[0]["epoch"] == 0
    assert found[0]["eval/goal/hit_0.3"] <= REACHED
    assert found[-1]["eval/goal/hit_0.3"] > REACHED
