"""python -m csf.evaluate: what it measures is what a plain loop finds, and where it goes."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from gymnasium.error import DependencyNotInstalled
from PIL import Image
from runs import train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

import csf
import envs
from csf import evaluate
from csf.io import files, hub, policy


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "run"
    child = train(folder, "task.epochs=2")
    assert child.wait() == 0, child.said
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["csf.evaluate", *words])
    evaluate.main()


def refusal(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *words)
    message = str(ended.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def found(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run / "checkpoints/eval_000002.json").read_text())
    return report


def test_an_evaluation_leaves_the_random_state_as_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    command(monkeypatch, f"cp_path={run}", "skills=3", "goals=2", "threads=1")
    assert torch.equal(torch.get_rng_state(), before)


def test_it_prints_and_keeps_what_it_finds(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, f"cp_path={run}", "goals=4", "skills=3", "seed=5", "threads=1")
    said, report = capsys.readouterr(), found(run)
    assert said.out.splitlines()[0].startswith("csf on point (v0")
    assert "epoch 2, 40 env steps; seed 5, 3 skills, 4 goals" in said.out
    about = {"checkpoint": "policy_000002.safetensors", "epoch": 2, "env_steps": 40, "method": "csf", "env": "point"}
    assert {key: report[key] for key in about} == about
    assert (report["seed"], report["skills"], report["goals"]) == (5, 3, 4)
    assert report["env_version"]
    assert "mujoco" in report["versions"]
    assert report["results"]["eval/return"] == 0
    for name, value in report["results"].items():
        assert f"  {name.removeprefix('eval/')} " in said.out
        assert np.isfinite(value)
    pictures = {path.name for path in (run / "checkpoints").glob("eval_*.png")}
    assert pictures == {f"eval_000002_{name}.png" for name in ("trajectories", "phi", "goal")}


@pytest.mark.parametrize("file", ["policy_000002.safetensors", "epoch_000002.pt"])
def test_goals_are_those_of_a_plain_loop(file: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, count, seed = run / "checkpoints" / file, 6, 3
    command(monkeypatch, f"cp_path={path}", f"goals={count}", "skills=2", f"seed={seed}", "threads=1")
    agent, worlds = csf.load(path), envs.make_vec("point", count, max_steps=5)
    goal, place = worlds.goals(count, np.random.default_rng(seed))
    words = np.random.SeedSequence((seed, 0)).generate_state(count)
    obs, _ = worlds.reset(seed=[int(word) >> 1 for word in words])
    torch.manual_seed(seed)
    inside = []
    for _ in range(5):
        skill = agent.goal_skill(torch.from_numpy(obs), torch.from_numpy(goal))
        assert skill is not None
        obs, _, _, _, info = worlds.step(agent.act(torch.from_numpy(obs), skill).numpy())
        inside.append(np.linalg.norm(info["coord"] - place, axis=1) <= 0.3)
    results = found(run)["results"]
    assert results["eval/goal/staying_0.3"] == np.mean(inside)
    assert results["eval/goal/hit_0.3"] == np.any(inside, axis=0).mean()
    assert results["eval/goal/distance"] == pytest.approx(np.linalg.norm(info["coord"] - place, axis=1).mean(), 1e-12)


def test_a_run_is_found_by_method_and_environment(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["goals=2", "skills=2", "threads=1"]
    command(monkeypatch, "method=csf", "env=point", f"exp_dir={run.parent}", *few)
    assert f"evaluating {run}/checkpoints/policy_000002.safetensors, epoch 2\n" in capsys.readouterr().err


def test_mistakes_are_told_in_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "accepted: RUN_OR_FILE, or method=METHOD env=ENV" in refusal(monkeypatch)
    assert "accepted: RUN_OR_FILE" in refusal(monkeypatch, "method=csf")
    assert "cp_path=ant: no such file or folder" in refusal(monkeypatch, "ant")
    assert "unexpected argument 'b'; accepted: CP_PATH [KEY=VALUE ...], --help" in refusal(monkeypatch, "a", "b")
    assert refusal(monkeypatch, "--goals=3") == "error: --goals=3 is not understood; accepted: goals=VALUE"
    assert refusal(monkeypatch, "--no-video") == "error: --no-video is not understood; accepted: video=false"
    assert refusal(monkeypatch, "-x") == "error: -x is not understood; accepted: key=value, --help"
    assert "accepted: cp_path, method, env" in refusal(monkeypatch, "goal=3")
    assert "goals is 0; accepted: an integer of at least 1" in refusal(monkeypatch, f"cp_path={run}", "goals=0")
    assert "goals: Value 'many'" in refusal(monkeypatch, f"cp_path={run}", "goals=many")
    assert "no such file or folder" in refusal(monkeypatch, f"cp_path={tmp_path}/nowhere")
    words = [f"cp_path={run}", "method=metra", "env=point"]
    assert refusal(monkeypatch, *words).endswith(" was trained with agent=csf; accepted: metra (method=metra)")
    words = [f"cp_path={run}", "method=csf", "env=ant"]
    assert refusal(monkeypatch, *words).endswith(" was trained with env=point; accepted: ant (env=ant)")
    assert "agent=metra on env=point" in refusal(monkeypatch, "method=metra", "env=point", f"exp_dir={run.parent}")


def test_a_checkpoint_of_other_observations_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "checkpoints/policy_000002.safetensors"
    agent, told = csf.load(path), policy.describe(path)
    told["config"]["env"] = {"name": "half_cheetah", "threads": 1}
    policy.save(path, agent, told)
    message = refusal(monkeypatch, f"cp_path={path}")
    assert message.startswith("error: env=point: obs_shape is (2,) in the checkpoint, (18,) here (v0, mujoco ")


def test_what_cannot_be_written_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "checkpoints/eval_000002.json").mkdir()
    message = refusal(monkeypatch, f"cp_path={run}", "goals=2", "skills=2", "threads=1")
    assert message.startswith(f"error: cannot write {run}/checkpoints/eval_000002.json: Is a directory")
    assert not list((run / "checkpoints").glob(f"*{files.PARTIAL}*"))


FEW = ("goals=2", "skills=2", "threads=1", "device=cpu")


def test_every_epoch_keeps_its_evaluation(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older checkpoint that is evaluated later takes nothing from that of a newer one."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    child = train(run, "task.epochs=3")
    assert child.wait() == 0, child.said
    folder = run / "checkpoints"
    command(monkeypatch, str(run), *FEW)
    before = {path.name: path.read_bytes() for path in folder.glob("eval*")}
    command(monkeypatch, str(folder / "policy_000002.safetensors"), *FEW)
    assert {name: (folder / name).read_bytes() for name in before} == before
    epochs = {name: json.loads((folder / name).read_text())["epoch"] for name in EVALUATIONS}
    assert epochs == {"eval_000002.json": 2, "eval_000003.json": 3}


EVALUATIONS = ("eval_000002.json", "eval_000003.json")


def test_a_run_is_named_by_position(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose path looks like key=value."""
    named = run.rename(run.with_name("csf-lr=3"))
    monkeypatch.chdir(named.parent)
    command(monkeypatch, "csf-lr=3", *FEW)
    assert (named / "checkpoints/eval_000002.json").is_file()


def test_results_may_go_elsewhere(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path for path in run.rglob("*"))
    command(monkeypatch, str(run), *FEW, "video=true", f"out={tmp_path}/mine/results")
    assert sorted(path for path in run.rglob("*")) == before
    names = {path.name for path in (tmp_path / "mine/results").iterdir()}
    assert {"eval", "eval_000002.json", "eval_000002_phi.png", "eval_000002_skills.webm"} <= names


def test_a_run_that_is_read_only_is_told_before_the_evaluation(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(evaluate, "TemporaryFile", read_only)
    message = refusal(monkeypatch, str(run), *FEW)
    assert message == (
        f"error: cannot write to {run}/checkpoints: Read-only file system; choose another folder with out=DIR"
    )
    assert "evaluating" not in capsys.readouterr().err


def test_results_of_a_policy_on_the_hub_need_a_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_file = run / "checkpoints/policy_000002.safetensors"
    monkeypatch.setattr(hub, "download", lambda *_: policy_file)
    assert refusal(monkeypatch, "hf://me/point", *FEW) == (
        "error: the results of hf://me/point need a folder; accepted: out=DIR"
    )
    command(monkeypatch, "hf://me/point", *FEW, f"out={tmp_path}/out")
    assert (tmp_path / "out/eval_000002.json").is_file()


def test_help_lists_every_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--help")
    said = capsys.readouterr().out
    assert "  goals=200 " in said
    assert "number of episodes for zero-shot goal reaching" in said
    assert "  out=null " in said


def test_skills_are_filmed_on_demand(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, f"cp_path={run}", "goals=2", "skills=2", "threads=1", "video=true")
    reader = cv2.VideoCapture(str(run / "checkpoints/eval_000002_skills.webm"))
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) in (6, -1)
    count = 0
    while reader.grab():
        count += 1
    assert count == 6  # the start, and five steps
    (film,) = board(run).Images("skills")
    with Image.open(io.BytesIO(film.encoded_image_string)) as picture:
        assert (picture.format, getattr(picture, "n_frames", 1)) == ("GIF", 6)
        assert picture.size == (film.width // 2, film.height // 2)


def board(run: Path) -> EventAccumulator:
    """What TensorBoard shows of evaluations."""
    return EventAccumulator(str(run / "eval")).Reload()


def test_tensorboard_shows_what_was_found(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, f"cp_path={run}", "goals=2", "skills=2", "threads=1")
    shown = board(run)
    numbers = {name: shown.Scalars(name)[0].value for name in shown.Tags()["scalars"]}
    assert numbers == {name: np.float32(value) for name, value in found(run)["results"].items()}
    assert shown.Scalars("eval/return")[0].step == 2
    assert set(shown.Tags()["images"]) == {"trajectories", "phi", "goal"}


def test_a_missing_package_of_an_environment_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise DependencyNotInstalled("environment 'point' needs 'wings', which is not installed: pip install wings")

    monkeypatch.setattr(envs, "make_vec", lacking)
    assert refusal(monkeypatch, f"cp_path={run}").endswith("pip install wings")


def test_a_path_is_taken_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No character of it means anything but to a pattern."""
    monkeypatch.chdir(tmp_path)
    for path in ("*", "[a]*", "{a: b", "${foo}", "a: b #c", "1e3", "x" * 300):
        assert refusal(monkeypatch, f"cp_path={path}").startswith(f"error: cp_path={path}: no such file or folder; ")
    assert refusal(monkeypatch, "cp_path=").startswith("error: no checkpoint is given; accepted: ")
    assert refusal(monkeypatch, "cp_path=x", "seed=4294967296").startswith(
        "error: seed is 4294967296; accepted: an integer of "
    )


def test_several_seeds_give_means_and_ranges(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"cp_path={run}", "goals=4", "skills=3", "threads=1"]
    single = []
    for seed in (3, 4):
        command(monkeypatch, *words, f"seed={seed}", f"out={tmp_path / str(seed)}")
        single.append(json.loads((tmp_path / str(seed) / "eval_000002.json").read_text())["results"])
    capsys.readouterr()
    command(monkeypatch, *words, "seed=3", "seeds=2", f"out={tmp_path / 'both'}")
    said, report = capsys.readouterr().out, json.loads((tmp_path / "both/eval_000002.json").read_text())
    assert "means and ranges over seeds 3 to 4, 3 skills, 4 goals" in said
    assert single[0] != single[1]
    for name, mean in report["results"].items():
        values = [results[name] for results in single]
        assert mean == pytest.approx(np.mean(values))
        assert report["ranges"][name] == [min(values), max(values)]
        assert f"({min(values):.4g} to {max(values):.4g})" in said
