"""A run that is stopped in any way goes on by the same command, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from runs import TINY, different, reached, rows, train, wait_for_epoch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from csf.evaluation.diagnostics import EVALUATED
from csf.io import checkpoint, files
from csf.replay import ReplayBuffer
from csf.types import EnvSpec

EPOCHS = 60
BUDGET = (f"task.epochs={EPOCHS}", "task.save_every=4")
# Products that are large enough for PyTorch to share them among threads.
THREADED = ("threads=2", "agent.hidden=[128,128]", "agent.backbone.hidden=[128,128]", "task.batch_size=256")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed, by the command line itself."""
    folder: Path = tmp_path_factory.mktemp("whole") / "run"
    done = command(folder, *BUDGET)
    _, said = done.communicate(timeout=240)
    assert done.returncode == 0, said
    return folder


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    settings = [*TINY, f"exp_dir={folder.parent}", f"run_name={folder.name}", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "csf.train", *settings]
    return subprocess.Popen(line, cwd=folder.parent, env=environment, stderr=subprocess.PIPE, text=True)


def states(folder: Path) -> dict[str, dict[str, Any]]:
    """All of the full checkpoints but where they were written, and how long the logs were.

    The replay buffer's files depend on when a run was saved before, so they are compared as a buffer that reads them.
    """
    found = {path.name: checkpoint.load(path) for path in (folder / "checkpoints").glob("*.pt")}
    for state in found.values():
        parts = state["parts"]
        dim = state["config"]["agent"]["skill_dim"]
        replay = ReplayBuffer(parts["replay"]["capacity"], EnvSpec(**state["spec"]), dim, "cpu")
        replay.load_full_state(parts["replay"])
        parts["replay"] = replay.full_state()
        del state["config"]["exp_dir"], state["config"]["run_name"], state["parts"]["logger"]
    return found


def final(folder: Path) -> dict[str, Any]:
    return states(folder)[checkpoint.FULL.format(EPOCHS)]


def timeless(folder: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows(folder)]


def without_evaluation(folder: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.startswith(EVALUATED)} for row in timeless(folder)]


def assert_same_end(folder: Path, reference: Path, saved_more: bool = False) -> None:
    """With `saved_more`, a signal has saved a policy that the reference lacks, and that is kept as a milestone."""
    assert different(states(folder), states(reference)) == []
    assert timeless(folder) == timeless(reference)
    kinds = ("*.pt",) if saved_more else ("*",)
    kept = [sorted(path.name for path in files.walk(run / "checkpoints", *kinds)) for run in (folder, reference)]
    assert kept[0] == kept[1]
    assert [row["epoch"] for row in rows(folder)] == list(range(EPOCHS + 1))
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("env_steps")] == list(range(EPOCHS + 1))


def kill_now_and_then(folder: Path, times: int, *words: str) -> int:
    """Start the run again and again, and kill it some time after an epoch that is new to it; how often that hit."""
    hits = 0
    for i in range(times):
        child = train(folder, *words)
        wait_for_epoch(child, folder, 1 + i * EPOCHS // (times + 1))
        child.process.join(random.uniform(0, 0.08))
        child.kill(signal.SIGKILL)
        hits += child.wait() == -signal.SIGKILL
    done = train(folder, *words)
    assert done.wait() == 0, done.said
    return hits


# ---- killed


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_the_same(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert kill_now_and_then(folder, 3, *BUDGET) >= 1, "it was always too late"
    assert_same_end(folder, whole)
    assert not list(folder.rglob("*.partial"))


@pytest.mark.long
def test_so_it_does_on_two_threads(tmp_path: Path) -> None:
    folder, reference = tmp_path / "run", tmp_path / "reference"
    done = train(reference, *BUDGET, *THREADED)
    assert done.wait() == 0, done.said
    assert kill_now_and_then(folder, 1, *BUDGET, *THREADED) >= 1, "it was always too late"
    assert_same_end(folder, reference)


@pytest.mark.slow
def test_a_run_that_is_killed_before_its_first_checkpoint_begins_anew(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = train(folder, f"task.epochs={EPOCHS}", "task.save_every=1000")
    wait_for_epoch(child, folder, 3)
    child.kill(signal.SIGKILL)
    child.wait()
    assert not list((folder / "checkpoints").iterdir())
    done = train(folder, *BUDGET)
    assert done.wait() == 0, done.said
    assert f"starting {folder}" in done.said
    assert_same_end(folder, whole)


def damage_the_newest(folder: Path) -> Path:
    newest = max((folder / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    return newest


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_an_interval_only(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "task.epochs=12", "task.save_every=4").wait() == 0
    newest = damage_the_newest(folder)
    done = train(folder, *BUDGET)
    assert done.wait() == 0, done.said
    assert f"{newest} is not a whole checkpoint of this program" in done.said
    assert f"resuming after epoch 8 of {EPOCHS} from {newest.with_name('epoch_000008.pt')}" in done.said
    assert_same_end(folder, whole)


def test_worlds_with_random_starts_go_on_where_they_were(tmp_path: Path) -> None:
    """A point always starts at the origin, so it would not notice that its seeds begin anew."""
    folder, reference = tmp_path / "run", tmp_path / "reference"
    for path, epochs in ((reference, 6), (folder, 3), (folder, 6)):
        words = ["env.name=Pendulum-v1", f"task.epochs={epochs}", "task.save_every=3", "task.eval_every=3"]
        done = train(path, *words)
        assert done.wait() == 0, done.said
    assert different(states(folder), states(reference)) == ["/epoch_000003.pt/config/task/epochs"]
    assert timeless(folder) == timeless(reference)


# ---- asked to stop


def check_stopped(folder: Path, said: str, name: str) -> None:
    """Saved at the end of the epoch, and said so."""
    last = reached(folder)
    assert f"{name}: saved after epoch {last}; the same command resumes the run" in said
    assert "Traceback" not in said
    assert [path.name for path in (folder / "checkpoints").glob("*.pt")] == [f"epoch_{last:06d}.pt"]


NEVER = ("task.epochs=10000", "task.save_every=10000")


@pytest.mark.slow
def test_an_interrupt_ends_the_epoch_saves_and_goes_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = command(folder, *NEVER)
    while reached(folder) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    check_stopped(folder, said, "SIGINT")
    if reached(folder) < EPOCHS:  # else this machine was too fast
        done = train(folder, *BUDGET)
        assert done.wait() == 0, done.said
        assert_same_end(folder, whole, saved_more=True)


def test_a_termination_does_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = train(folder, *NEVER)
    wait_for_epoch(child, folder, 2)
    child.kill(signal.SIGTERM)
    assert child.wait() == 143
    check_stopped(folder, child.said, "SIGTERM")


def test_a_second_signal_acts_at_once(tmp_path: Path) -> None:
    """While the first one's epoch is still running: here it never ends."""
    folder = tmp_path / "run"
    child = train(folder, *NEVER, "task.updates_per_epoch=1000000")
    wait_for_epoch(child, folder, 1)  # the second epoch is the first that learns
    child.process.join(0.3)
    child.kill(signal.SIGTERM)
    child.process.join(0.3)
    assert child.process.exitcode is None
    child.kill(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


# ---- what changes nothing


@pytest.mark.slow
def test_evaluating_more_often_changes_nothing_in_training(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = train(folder, *BUDGET, "task.eval_every=12")
    assert done.wait() == 0, done.said
    a, b = final(folder), final(whole)
    a["config"]["task"].pop("eval_every")
    b["config"]["task"].pop("eval_every")
    assert different(a, b) == []
    assert without_evaluation(folder) == without_evaluation(whole)
    evaluated = [row["epoch"] for row in rows(folder) if "eval/coverage" in row]
    assert evaluated == [0, 12, 24, 36, 48, 60]


@pytest.mark.slow
def test_a_finished_run_says_so_and_can_be_extended(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    short = ("task.epochs=20", "task.save_every=4")
    done = train(folder, *short)
    assert done.wait() == 0, done.said
    assert done.said.splitlines()[-1] == f"finished: 20 epochs; results are in {folder}"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = train(folder, *short)
    assert again.wait() == 0, again.said
    assert again.said.splitlines()[-1] == f"already finished: 20 of 20 epochs; results are in {folder}"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    longer = train(folder, *BUDGET)
    assert longer.wait() == 0, longer.said
    assert f"resuming after epoch 20 of {EPOCHS}" in longer.said
    assert different(final(folder), final(whole)) == []
    assert without_evaluation(folder) == without_evaluation(whole)


def test_the_comparison_would_see_one_bit(whole: Path) -> None:
    state = final(whole)
    log_alpha = state["parts"]["agent"]["modules"]["backbone.log_alpha"]
    log_alpha.copy_(torch.nextafter(log_alpha, torch.zeros(())))
    assert different(state, final(whole)) == ["/parts/agent/modules/backbone.log_alpha"]
    changed = json.loads(json.dumps(timeless(whole)))
    changed[3]["loss/critic"] *= 1 + 1e-15
    assert changed != timeless(whole)
