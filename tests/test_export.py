"""python -m csf.export: a folder that says what it is, and from which the policy can be loaded and used as it says."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from runs import different, train

import csf
from csf import evaluate, export
from csf.errors import SamplerError
from csf.io.load import EXPORTED as FILE
from csf.io.load import read

NAMES = ("README.md", "config.yaml", "metrics.jsonl")


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


def test_the_module_and_the_command_export(run: Path, tmp_path: Path) -> None:
    for i, words in enumerate((["csf.export"], ["csf", "export"])):
        line = [sys.executable, "-m", *words, str(run), str(tmp_path / str(i)), "video=false"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert {path.name for path in (tmp_path / str(i)).iterdir()} == {*NAMES, FILE}


def test_nothing_follows_the_call_of_main() -> None:
    """What follows `if __name__ == "__main__": main()` is not defined yet when main runs."""
    for file in [*ROOT.glob("csf/**/*.py"), *ROOT.glob("tests/benchmark/*.py")]:
        for node in ast.parse(file.read_text()).body[:-1]:
            called = isinstance(node, ast.If) and "main()" in ast.unparse(node)
            assert not (called and "__name__ == '__main__'" in ast.unparse(node)), file


@pytest.mark.parametrize("file", ["", "checkpoints/policy_000002.safetensors", "checkpoints/epoch_000002.pt"])
def test_the_policy_acts_as_the_run_does(file: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run / file, tmp_path / "hub", "video=false")
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {*NAMES, FILE}
    mine, theirs = csf.load(tmp_path / "hub/policy.safetensors"), csf.load(run)
    obs, skill = torch.randn(4, 2), theirs.sample_skills(4)
    assert torch.equal(mine.act(obs, skill, True), theirs.act(obs, skill, True))
    told = read(tmp_path / "hub/policy.safetensors")[0]
    assert told["epoch"] == 2
    assert yaml.safe_load((tmp_path / "hub/config.yaml").read_text()) == told["config"]
    assert str(run.parent).encode() not in (tmp_path / "hub/policy.safetensors").read_bytes()


def test_the_card_says_what_it_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run, tmp_path / "hub", "video=false", "license=cc0-1.0")
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
    command(monkeypatch, copy, tmp_path / "hub", "video=false")
    assert "| coverage | 1234 |" in (tmp_path / "hub/README.md").read_text()
    assert json.loads((tmp_path / "hub/eval.json").read_text()) == report
    newer = report | {"results": {"eval/coverage": 5678.0}}
    (copy / "checkpoints/eval_000002.json").write_text(json.dumps(newer))
    (copy / "checkpoints/eval_000001.json").write_text("of another epoch")
    command(monkeypatch, copy / "checkpoints/epoch_000002.pt", tmp_path / "newer", "video=false")
    assert "| coverage | 5678 |" in (tmp_path / "newer/README.md").read_text()
    (copy / "checkpoints/eval_000002.json").unlink()
    (copy / "checkpoints/eval.json").write_text(json.dumps(report | {"checkpoint": "another"}))
    command(monkeypatch, copy, tmp_path / "other", "video=false")
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
        message = refusal(monkeypatch, copy, tmp_path / f"hub{number}", "video=false")
        assert message.startswith(f"error: {copy}/checkpoints/eval.json is not a result of csf evaluate; run it again")


def test_a_replay_is_in_the_folder_and_on_the_card(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install viser mjviser")
    command(monkeypatch, run, tmp_path / "hub", "video=false", "replay=true")
    assert "__VISER_EMBED_DATA__" in (tmp_path / "hub/skills.html").read_text()
    assert "[skills.html](skills.html)" in (tmp_path / "hub/README.md").read_text()


def test_a_video_that_fails_removes_the_replay(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise SamplerError("env=point cannot be rendered: no display")

    monkeypatch.setattr(export, "film", fail)
    monkeypatch.setattr(export, "record", lambda file, path: path.write_text("a page"))
    assert "no display" in refusal(monkeypatch, run, tmp_path / "hub", "replay=true")
    assert not any((tmp_path / "hub").iterdir())


def test_a_video_that_fails_leaves_the_folder_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SamplerError("no screen")

    monkeypatch.setattr(export, "film", fail)
    assert refusal(monkeypatch, run, tmp_path / "hub") == "error: no screen"
    command(monkeypatch, run, tmp_path / "hub", "video=false")
    assert (tmp_path / "hub/README.md").is_file()


@pytest.mark.slow
def test_the_cards_code_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run, tmp_path / "hub", "video=false")
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "hub/README.md").read_text(), re.DOTALL)
    line = [sys.executable, "-c", code + "print(step + 1, truncated)"]
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=tmp_path / "hub", env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "5 [ True]\n", done.stderr


def test_mistakes_are_told_in_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    message = refusal(monkeypatch, run, tmp_path / "full", "video=false")
    assert message == f"error: {tmp_path}/full is not empty; accepted: a new or an empty folder"
    assert (tmp_path / "full/mine").read_text() == "mine"
    message = refusal(monkeypatch, run, tmp_path / "full/mine/below", "video=false")
    assert message == f"error: cannot create {tmp_path}/full/mine/below: Not a directory"
    assert "no such file or folder" in refusal(monkeypatch, tmp_path / "nowhere", tmp_path / "hub", "video=false")
    assert not (tmp_path / "hub").exists()


class Api:
    """What csf uses of huggingface_hub."""

    def __init__(self) -> None:
        self.sent, self.made = dict[str, bytes](), list[str]()

    def HfApi(self) -> Api:
        return self

    def create_repo(self, name: str, exist_ok: bool) -> None:
        assert exist_ok
        self.made.append(name)

    def upload_folder(self, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str) -> None:
        assert commit_message
        assert self.made == [repo_id]
        for path in Path(folder_path).rglob("*"):
            if path.relative_to(folder_path).as_posix() in allow_patterns:
                self.sent[path.name] = path.read_bytes()


def test_the_files_of_the_export_are_uploaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, make = Api(), export.export
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)

    def make_beside_others(*words: Any) -> list[str]:
        made = make(*words)
        (words[1] / "secret.txt").write_text("of somebody else")
        return made

    monkeypatch.setattr(export, "export", make_beside_others)
    command(monkeypatch, run, tmp_path / "hub", "video=false", "push=me/ant")
    assert client.sent == {name: (tmp_path / "hub" / name).read_bytes() for name in (*NAMES, FILE)}
    assert client.made == ["me/ant"]
    assert "uploaded to https://huggingface.co/me/ant\n" in capsys.readouterr().err


def test_mistakes_with_the_hub_are_told_before_anything_is_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = refusal(monkeypatch, run, tmp_path / "hub", "push=me/ant")
    assert message == "error: push=me/ant needs the package huggingface_hub: pip install huggingface_hub"
    message = refusal(monkeypatch, run, tmp_path / "hub", "push=me")
    assert message == "error: push=me is not understood; accepted: push=USER/NAME"
    assert not (tmp_path / "hub").exists()


def test_an_upload_that_fails_is_told_in_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Api):
        def create_repo(self, name: str, exist_ok: bool) -> None:
            raise ValueError("401 Client Error\nInvalid username or password.")

    monkeypatch.setitem(sys.modules, "huggingface_hub", Refusing())
    message = refusal(monkeypatch, run, tmp_path / "hub", "video=false", "push=me/ant")
    assert message.startswith(f"error: cannot upload {tmp_path}/hub to me/ant: 401 Client Error. To log in: ")


def test_what_is_exported_may_be_loaded_evaluated_and_exported_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(monkeypatch, f"cp_path={run}", f"folder={tmp_path}/hub", "video=false")
    mine, theirs = csf.load(tmp_path / "hub"), csf.load(run)
    assert different(mine.policy_state(), theirs.policy_state()) == []
    monkeypatch.setattr(sys, "argv", ["csf.evaluate", str(tmp_path / "hub"), "goals=2", "skills=2", "threads=1"])
    evaluate.main()
    command(monkeypatch, tmp_path / "hub", tmp_path / "again", "video=false")
    report = json.loads((tmp_path / "again/eval.json").read_text())
    assert (report["epoch"], report["checkpoint"]) == (2, "policy.safetensors")


def test_critics_that_a_run_keeps_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a run may begin to keep them when it resumes."""
    folder = tmp_path / "run"
    for words, kept in (([], False), (["task.keep_critics=true"], True)):
        child = train(folder, f"task.epochs={1 + kept}", "task.save_every=1", *words)
        assert child.wait() == 0, child.said
        command(monkeypatch, folder, tmp_path / f"{kept}", "video=false")
        state = read(folder / f"checkpoints/epoch_00000{1 + kept}.pt")[1].state_dict()
        torch.manual_seed(1)  # critics that are not in the file are initialized at random, here unlike the run's
        found = csf.load(tmp_path / f"{kept}").state_dict()
        assert (different(found, state) == []) is kept


def test_no_run_or_no_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ([], [run], [f"folder={tmp_path}/hub"]):
        assert refusal(monkeypatch, *words).startswith("error: a run and a folder are required; accepted: RUN")
    message = refusal(monkeypatch, run, tmp_path / "hub", "--no-video")
    assert message == "error: --no-video is not understood; accepted: video=false"


def test_help_lists_every_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--help")
    said = capsys.readouterr().out
    for key in ("cp_path=null", "folder=null", "license=mit", "video=True", "push=null"):
        assert f"  {key} " in said


def test_the_evaluations_up_to_the_epoch_are_in_the_folder(run: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(run, tmp_path / "run"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [("eval/return" in row) for row in rows] == [True, False, True]
    with (made / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(rows[2] | {"epoch": 3}) + '\n{"epoch": 4, "eval/re')
    export.export(str(made), tmp_path / "hub", "mit", False)
    kept = [json.loads(line) for line in (tmp_path / "hub/metrics.jsonl").read_text().splitlines()]
    assert kept == [rows[0], rows[2]]


def test_the_card_states_the_command_and_the_range_over_seeds(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path(shutil.copytree(run, tmp_path / "run"))
    (made / "checkpoints/eval_000002.json").write_text(
        json.dumps(
            {
                "checkpoint": "policy_000002.safetensors",
                "seeds": 5,
                "results": {"eval/coverage": 12.34},
                "ranges": {"eval/coverage": [11, 14.5]},
            }
        )
    )
    export.export(str(made), tmp_path / "hub", "mit", False)
    card = (tmp_path / "hub/README.md").read_text()
    assert (
        "| measure | mean | range over 5 evaluation seeds |\n|---|---|---|\n| coverage | 12.34 | 11 to 14.5 |\n" in card
    )
    settings = yaml.safe_load((made / "config.yaml").read_text())
    words = "csf train agent=csf env=point task=pretrain seed=0"
    assert f"\n| trained with | `{words}`, changed settings: `{settings['variant'][1:]}` |\n" in card
