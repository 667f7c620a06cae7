"""Does it learn? One small world where the answer is known, through the program that users run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

METHODS = ["csf", "metra"]  # those with a preset for the plane and a rule to reach goals
THRESHOLD = 0.9

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=METHODS)
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """Every epoch's numbers of one whole run on the plane."""
    exp = tmp_path_factory.mktemp("exp")
    words = [f"agent={request.param}", "env=point", "task.epochs=40", f"exp_dir={exp}", "device=cpu", "threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "csf.train", *words]
    done = subprocess.run(command, cwd=exp, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (metrics,) = exp.rglob("metrics.jsonl")
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def test_it_learns_to_reach_goals_on_the_plane(rows: list[dict[str, float]]) -> None:
    assert rows[-1]["epoch"] == 40
    assert rows[-1]["eval/goal/hit_0.3"] > THRESHOLD


def test_an_untrained_agent_does_not(rows: list[dict[str, float]]) -> None:
    assert rows[0]["epoch"] == 0
    assert rows[0]["eval/goal/hit_0.3"] <= THRESHOLD


def test_its_skills_come_to_cover_the_plane(rows: list[dict[str, float]]) -> None:
    assert rows[-1]["eval/coverage"] > 2 * rows[0]["eval/coverage"]
