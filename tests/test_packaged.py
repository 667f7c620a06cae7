"""Policies that are installed with the package: every command accepts them, and their cards are true."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from test_controllers import WORDS

import csf
from csf import evaluate, export
from csf.config import names
from csf.config.compose import check
from csf.config.schema import Config
from csf.errors import CheckpointError
from csf.io import packaged
from csf.io.load import EXPORTED, choose, find, read
from csf.pretrained import KEPT, Skills, keep, with_skills
from csf.report import __main__ as report

LIMIT = 1_000_000  # bytes of a packaged policy
SHARE = 0.1  # of a value, by which another machine may be outside of a range


def run(monkeypatch: pytest.MonkeyPatch, module: object, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["csf", *map(str, words)])
    module.main()  # type: ignore[attr-defined]


def controller(exp: Path, *words: str) -> tuple[Config, Skills]:
    settings = [*WORDS, f"exp_dir={exp}", *words]
    cfg, skills = with_skills(check(settings), settings)
    assert skills is not None
    return cfg, skills


def test_there_is_one_for_the_point() -> None:
    assert "point" in packaged.names()
    agent = csf.load("packaged:point")
    assert agent.spec.id == "point"
    assert agent.act(torch.zeros(3, 2), agent.sample_skills(3), True).shape == (3, 2)


@pytest.mark.parametrize("name", packaged.names())
def test_a_card_has_the_range_over_five_seeds_and_the_file_is_small(name: str) -> None:
    folder = packaged.FOLDER / name
    assert {path.name for path in folder.iterdir()} == {
        EXPORTED,
        "README.md",
        "config.yaml",
        "eval.json",
        "metrics.jsonl",
    }
    assert (folder / EXPORTED).stat().st_size < LIMIT
    card, about = (folder / "README.md").read_text(), read(folder / EXPORTED)[0]
    assert "| range over 5 evaluation seeds |" in card
    assert "| trained with | `csf train agent=" in card
    assert f"| seed | {about['config']['seed']} |" in card
    assert f"commit {about['versions']['commit']} |" in card
    assert "dirty" not in about["versions"]["commit"]
    assert about["config"]["exp_dir"] == "exp"


@pytest.mark.parametrize("name", packaged.names())
def test_it_scores_within_the_range_of_its_card(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, evaluate, f"packaged:{name}", "seed=2", f"exp_dir={tmp_path}", "threads=1")
    (file,) = (tmp_path / "packaged" / name).glob("eval_*.json")
    found, card = json.loads(file.read_text()), json.loads((packaged.FOLDER / name / "eval.json").read_text())
    assert (card["seed"], card["seeds"]) == (0, 5)
    assert [found[key] == card[key] for key in ("skills", "goals", "checkpoint")] == [True, True, False]
    for key, (low, high) in card["ranges"].items():
        margin = high - low + SHARE * max(abs(low), abs(high))  # other CPUs round differently: episodes are then others
        assert low - margin <= found["results"][key] <= high + margin, key


def test_the_environment_completes_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, evaluate, "packaged", "env=point", "skills=2", "goals=2", f"exp_dir={tmp_path}", "threads=1")
    assert (tmp_path / "packaged/point/eval_000040.json").is_file()


@pytest.mark.parametrize("cp_path", ["packaged:nowhere", "packaged", "packaged:", "packaged:../packaged/point"])
def test_an_unknown_name_is_answered_with_the_known(cp_path: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        csf.load(cp_path)
    assert str(raised.value) == f"cp_path={cp_path}: no such packaged policy; accepted: {packaged.addresses()}"


def test_an_environment_without_one_is_answered_with_the_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, evaluate, "packaged", "env=kitchen")
    message = f"cp_path=packaged:kitchen: no such packaged policy; accepted: {packaged.addresses()}"
    assert str(ended.value) == f"error: {message}"
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match=r"accepted: none, since none is installed$"):
        csf.load("packaged:point")


def test_where_no_run_is_found_the_message_names_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"or select one with cp_path=, such as cp_path=packaged:point$"):
        choose(tmp_path, "csf", "point")
    with pytest.raises(CheckpointError, match=r"or select one with cp_path=$"):
        choose(tmp_path, "dads", "point")
    with pytest.raises(CheckpointError, match=r"accepted: a run's folder, .*packaged:point.*, hf://USER/NAME$"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize("cp_path", ["packaged", "packaged:point"])
def test_a_controller_uses_it_and_keeps_a_copy(cp_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, skills = controller(tmp_path, "skills=csf", f"cp_path={cp_path}")
    assert (cfg.cp_path, skills.cp_path, skills.kept) == ("packaged:point", "packaged:point", False)
    folder = tmp_path / cfg.run_name
    folder.mkdir(parents=True)
    keep(folder, skills)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(cfg.tree)))
    assert (folder / KEPT).is_file()
    for words in (["skills=csf", f"cp_path={cp_path}"], ["skills=csf"]):
        again, kept = controller(tmp_path, *words)
        assert (again.cp_path, kept.kept) == ("packaged:point", True)


def test_a_controller_of_another_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^packaged:point was trained with agent=csf; accepted: metra"):
        controller(tmp_path, "skills=metra", "cp_path=packaged")


def test_the_name_of_a_controllers_run_has_the_address() -> None:
    found = [names.skills_run(cp_path, Path("exp"), "csf") for cp_path in ("packaged", "packaged:ant", "exp/packaged")]
    assert found[:2] == ["packaged", "packaged_ant"]
    assert found[2].startswith("packaged-")


def test_report_and_export_accept_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in packaged.FOLDER.rglob("*")}
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, report, "packaged:point")
    page = Path("report.html").read_text()
    assert "eval/directions" in page
    assert "commit" in page
    assert "not been saved" not in page
    run(monkeypatch, export, "packaged:point", "hub", "video=false")
    names = {path.name for path in Path("hub").iterdir()}
    assert names == {path.name for path in (packaged.FOLDER / "point").iterdir()}
    assert {path: path.stat().st_mtime_ns for path in packaged.FOLDER.rglob("*")} == before, "a file was written there"
