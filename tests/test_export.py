"""python -m csf.export: a folder that says what it is, and from which the policy can be loaded and used as it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from runs import train

import csf
from csf import export
from csf.errors import SamplerError
from csf.io.load import read


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "run"
    child = train(folder, "task.epochs=2")
    assert child.wait() == 0, child.said
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["csf.export", *map(str, words)])
    export.main()


def refusal(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> str:
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *words)
    assert "\n" not in str(ended.value)
    return str(ended.value)


@pytest.mark.parametrize("file", ["", "checkpoints/policy_000002.safetensors", "checkpoints/epoch_000002.pt"])
def test_the_policy_acts_as_the_run_does(file: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run / file, tmp_path / "hub", "--no-video")
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {"README.md", "config.yaml", "policy.safetensors"}
    mine, theirs = csf.load(tmp_path / "hub/policy.safetensors"), csf.load(run)
    obs, skill = torch.randn(4, 2), theirs.sample_skills(4)
    assert torch.equal(mine.act(obs, skill, True), theirs.act(obs, skill, True))
    told = read(tmp_path / "hub/policy.safetensors")[0]
    assert told["epoch"] == 2
    assert yaml.safe_load((tmp_path / "hub/config.yaml").read_text()) == told["config"]
    assert str(run.parent).encode() not in (tmp_path / "hub/policy.safetensors").read_bytes()


def test_the_card_says_what_it_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run, tmp_path / "hub", "--no-video", "--license", "cc0-1.0")
    text = (tmp_path / "hub/README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert (head["license"], head["library_name"]) == ("cc0-1.0", "csf")
    assert {"csf", "point"} <= set(head["tags"])
    told = read(run / "checkpoints/policy_000002.safetensors")[0]
    for fact in ("`point`, v0", "2 epochs, 40 environment steps, 3 gradient steps", "2 dimensions, sphere", "torch "):
        assert fact in text
    assert f"| coverage | {told['results']['eval/coverage']:.4g} |" in text
    assert "<video" not in text


def test_the_card_prefers_what_was_evaluated_of_this_checkpoint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    report = {"checkpoint": "policy_000002.safetensors", "results": {"eval/coverage": 1234.0}}
    (copy / "checkpoints/eval.json").write_text(json.dumps(report))
    command(monkeypatch, copy, tmp_path / "hub", "--no-video")
    assert "| coverage | 1234 |" in (tmp_path / "hub/README.md").read_text()
    assert json.loads((tmp_path / "hub/eval.json").read_text()) == report
    (copy / "checkpoints/eval.json").write_text(json.dumps(report | {"checkpoint": "another"}))
    command(monkeypatch, copy, tmp_path / "other", "--no-video")
    assert "1234" not in (tmp_path / "other/README.md").read_text()


def test_a_video_is_in_the_folder_and_on_the_card(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run, tmp_path / "hub")
    assert (tmp_path / "hub/skills.webm").stat().st_size > 1000
    assert '<video controls muted loop src="skills.webm"></video>' in (tmp_path / "hub/README.md").read_text()


def test_an_evaluation_that_is_damaged_is_told_in_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    for number, content in enumerate(("{", "[]", '{"checkpoint": "policy_000002.safetensors"}')):
        (copy / "checkpoints/eval.json").write_text(content)
        message = refusal(monkeypatch, copy, tmp_path / f"hub{number}", "--no-video")
        assert message.startswith(f"error: {copy}/checkpoints/eval.json is not what csf.evaluate writes; run it again")


def test_a_video_that_fails_leaves_the_folder_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SamplerError("no screen")

    monkeypatch.setattr(export, "film", fail)
    assert refusal(monkeypatch, run, tmp_path / "hub") == "error: no screen"
    command(monkeypatch, run, tmp_path / "hub", "--no-video")
    assert (tmp_path / "hub/README.md").is_file()


@pytest.mark.slow
def test_the_cards_code_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run, tmp_path / "hub", "--no-video")
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "hub/README.md").read_text(), re.DOTALL)
    line = [sys.executable, "-c", code + "print(step + 1, truncated)"]
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=tmp_path / "hub", env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "5 [ True]\n", done.stderr


def test_mistakes_are_told_in_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    message = refusal(monkeypatch, run, tmp_path / "full", "--no-video")
    assert message == f"error: {tmp_path}/full is not empty; accepted: a new or an empty folder"
    assert (tmp_path / "full/mine").read_text() == "mine"
    message = refusal(monkeypatch, run, tmp_path / "full/mine/below", "--no-video")
    assert message == f"error: cannot make {tmp_path}/full/mine/below: Not a directory"
    assert "no such file or folder" in refusal(monkeypatch, tmp_path / "nowhere", tmp_path / "hub", "--no-video")
    assert not (tmp_path / "hub").exists()
