"""The files and commands of docs/adding_*.md work, and docs/metrics.md lists what the code logs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FILE = re.compile(r"^`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```sh\ncsf (train .*)\n```$", re.MULTILINE)
METRIC = re.compile(r"(?!agent/)[a-z]+/[a-z_]+")
# Where metrics are made. Names with a radius or after eval/goal are composed, and worlds name the rest.
MAKERS = ["csf/agents", "csf/backbones", "csf/trainer.py", "csf/evaluation/rollouts.py", "csf/evaluation/entropy.py"]
COMPOSED = ("eval/goal", "eval/coverage", "eval/directions")


@pytest.mark.long
@pytest.mark.parametrize(("page", "metric"), [("adding_a_method", "skill/error"), ("adding_a_backbone", "loss/actor")])
def test_what_a_page_adds_is_trained_by_its_command(page: str, metric: str, tmp_path: Path) -> None:
    text = (ROOT / f"docs/{page}.md").read_text()
    for folder in ("csf", "envs", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    files = FILE.findall(text)
    assert len(files) == 2
    for name, content in files:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(content)
    (command,) = COMMAND.findall(text)
    small = ["agent.hidden=[8]", "agent.backbone.hidden=[8]", "task.updates_per_epoch=2", "run_name=run"]
    words = [sys.executable, "-m", "csf", *command.split(), *small]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    rows = (tmp_path / "exp/run/metrics.jsonl").read_text().splitlines()
    last = json.loads(rows[-1])
    assert last["epoch"] == 2
    assert {metric, "eval/coverage", "eval/goal/distance"} <= last.keys()


@pytest.mark.parametrize("page", ["adding_a_method", "adding_a_backbone"])
def test_what_a_page_adds_is_in_the_style_of_the_code(page: str, tmp_path: Path) -> None:
    files = dict(FILE.findall((ROOT / f"docs/{page}.md").read_text()))
    (source,) = (content for name, content in files.items() if name.endswith(".py"))
    (tmp_path / "new.py").write_text(source)
    for words in (["check"], ["format", "--check"]):
        run = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / ".ruff.toml"), str(tmp_path)]
        ended = subprocess.run(run, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout


def logged() -> set[str]:
    """Every string in the modules that make metrics that has the form of a metric's name."""
    places = [ROOT / maker for maker in MAKERS]
    files = [file for place in places for file in ([place] if place.is_file() else place.glob("*.py"))]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if METRIC.fullmatch(text)}


def test_the_page_of_metrics_lists_what_is_logged() -> None:
    rows = [line for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([a-z]+/[a-z_]+)", row.split("|")[1])}
    found = logged()
    assert {"loss/critic", "phi/step", "time/collect", "eval/return"} <= found
    assert found - listed == set(), "logged but not listed"
    assert {name for name in listed - found if not name.startswith(COMPOSED)} == set(), "listed but not logged"
