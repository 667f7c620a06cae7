"""The state of runs, read from folders that real runs and mishaps left."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from runs import error_of, reached, train, wait_for_epoch

from csf.errors import RunDirError
from csf.io.lock import is_held
from csf.status import __main__ as entry
from csf.status import read, table
from csf.status.read import Status


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("exp") / "run"
    done = train(folder, "task.epochs=30", "task.eval_every=10")
    assert done.wait() == 0, done.said
    return folder


def long_run(finished: Path, folder: Path, epochs: int = 20_000) -> Path:
    """A copy of a run with far more rows, of which every 5,000th has an evaluation."""
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    evaluated, plain = rows[20], rows[19]
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/policy_000030.safetensors"):
        (folder / name).write_bytes((finished / name).read_bytes())
    with (folder / "metrics.jsonl").open("w") as file:
        for epoch in range(epochs + 1):
            row = evaluated | {"eval/coverage": float(epoch)} if epoch % 5000 == 0 else plain
            told = {**row, "epoch": epoch, "env_steps": 20 * epoch, "loss/critic": float(epoch)}
            file.write(json.dumps(told) + "\n")
    return folder


def test_a_run_that_has_ended_is_finished(finished: Path) -> None:
    found = read.read(finished)
    assert (found.state, found.done, found.length, found.saved, found.line) == ("finished", 30, 30, 30, "")
    assert found.seconds_left is None
    assert found.seconds_per_epoch is not None
    assert found.seconds_per_epoch > 0
    assert found.health
    assert {"eval/coverage", "loss/critic"} <= set(found.metrics)


def test_running_interrupted_and_failed_runs_are_told_apart(tmp_path: Path) -> None:
    alive, bad = tmp_path / "alive", tmp_path / "bad"
    child = train(alive, "task.epochs=100000", "task.save_every=100000")
    wait_for_epoch(child, alive, 20)
    found = read.read(alive)
    assert found.state == "running"
    assert found.seconds_left is not None
    assert found.seconds_per_epoch is not None
    assert found.seconds_left == pytest.approx((100_000 - found.done) * found.seconds_per_epoch)
    child.kill(signal.SIGKILL)
    child.wait()
    found = read.read(alive)
    assert (found.state, found.seconds_left, found.done) == ("interrupted", None, reached(alive))
    assert found.line == "no checkpoint was saved"
    message = error_of(train(bad, "task.epochs=9", "task.save_every=1", "agent.lr=1e30"))
    found = read.read(bad)
    assert (found.state, f"error: {found.line}") == ("failed", message)
    assert [path.name for path in read.runs(tmp_path)] == ["alive", "bad"]


def test_a_running_run_that_writes_nothing_is_told(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with (folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read.read(folder).line == ""
        then = time.time() - 3000
        os.utime(folder / "metrics.jsonl", (then, then))
        found = read.read(folder)
    assert (found.state, found.line) == ("running", "no row for 50 minutes")


def test_a_failure_is_forgotten_when_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    error_of(train(folder, "task.epochs=9", "task.save_every=1", "task.replay_size=100", "agent.lr=1e30"))
    assert read.read(folder).state == "failed"
    assert train(folder, "task.epochs=1", "task.save_every=1", "agent.lr=1e30").wait() == 0
    assert read.read(folder).state == "finished"


def test_unexpected_errors_leave_their_traceback(tmp_path: Path, finished: Path) -> None:
    from csf.io.run_dir import FAILURE, RunDir, read_config

    config = read_config(finished)
    assert config is not None
    place = RunDir(tmp_path / "run", config)
    try:
        raise KeyError("two\nlines")
    except KeyError as error:
        place.record(error)
    place.close()
    found = read.read(tmp_path / "run")
    assert found.state == "failed"
    assert found.line == r"KeyError: 'two\nlines'"
    assert "Traceback" in (tmp_path / "run" / FAILURE).read_text()


def test_only_the_ends_of_a_large_file_are_read(finished: Path, tmp_path: Path) -> None:
    folder = long_run(finished, tmp_path / "run")
    file = folder / "metrics.jsonl"
    rows, whole = read._rows(file, file.stat().st_size)
    assert not whole
    assert len(rows) < 200
    found = read.read(folder)
    assert found.metrics["loss/critic"] == 20_000
    assert found.metrics["eval/coverage"] == 20_000
    assert found.health is not None
    assert not any(each.diagnostic.least for each in found.health)
    with file.open("a") as tail:
        for epoch in range(20_001, 24_000):
            tail.write(json.dumps({**rows[-2], "epoch": epoch}) + "\n")
        tail.write('{"epoch": 24000, "env')
    found = read.read(folder)
    assert found.metrics["epoch"] == 23_999
    assert found.metrics["eval/coverage"] == 20_000, "the latest evaluation is far from the end"


def test_a_damaged_folder_is_one_line_and_hides_no_other(finished: Path, tmp_path: Path) -> None:
    for name, file, text in (
        ("a", "config.yaml", "{"),
        ("b", "metrics.jsonl", "hello\nworld\n"),
        ("c", "config.yaml", "3"),
        ("d", "metrics.jsonl", '{"epoch": Infinity, "env_steps": 0}\n'),
        ("e", "metrics.jsonl", 3 * '{"epoch": 1, "env_steps": 0, "time/collect": 1, "time/learn": 1}\n'),
        ("f", "metrics.jsonl", f'{{"epoch": 1, "env_steps": 0, "x": 1{400 * "0"}}}\n'),
    ):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
        (folder / file).write_text(text)
    found = entry.look(tmp_path)
    assert [each.state for each in found] == ["unreadable"] * 6
    assert all(str(each.path) in each.line and "\n" not in each.line for each in found)


def test_looking_turns_no_run_away(tmp_path: Path) -> None:
    """A lock that is held for an instant is waited for."""
    from csf.io.run_dir import RunDir

    RunDir(tmp_path, {}).close()
    assert is_held(tmp_path / ".lock") is False
    assert is_held(tmp_path / "none") is False
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, time; f = open({str(tmp_path / '.lock')!r}); "
         "fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); time.sleep(0.1)"], stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    place = RunDir(tmp_path, {})
    assert is_held(tmp_path / ".lock") is True
    place.close()
    holder.wait()
    with (tmp_path / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunDirError, match="is in use by another process"):
            RunDir(tmp_path, {})


def test_the_command_prints_once_where_there_is_no_terminal(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["csf.status", *map(str, words)])
        entry.main()
        return capsys.readouterr().out

    link = tmp_path / "exp"
    link.symlink_to(finished.parent)
    for folder in (finished.parent, link):
        said = status(folder)
        assert said.startswith("1 run: 1 finished\n")
        assert "\nrun  finished  30 of 30 epochs" in said
    (found,) = json.loads(status(finished, "json=true"))
    assert (found["run"], found["state"], found["done"]) == (str(finished), "finished", 30)
    assert found["evaluation"]["eval/coverage"] > 0
    with pytest.raises(SystemExit, match=f"^error: {finished}/plots has no runs; accepted: a folder of runs, such as"):
        status(finished / "plots")


def test_on_a_terminal_it_is_refreshed_until_an_interrupt(finished: Path) -> None:
    mine, its = pty.openpty()
    command = [sys.executable, "-m", "csf", "status", str(finished.parent), "every=0.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    said, end = b"", time.monotonic() + 60
    while said.count(b"1 finished") < 3:
        assert time.monotonic() < end, said
        if select.select([mine], [], [], 1)[0]:
            said += os.read(mine, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    os.close(mine)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.0, "12 s"), (59.0, "59 s"), (90.0, "2 min"), (7_800.0, "2 h 10 min"), (360_000.0, "4 d 4 h"), (None, "")],
)
def test_times_are_told_in_two_units(seconds: float | None, text: str) -> None:
    assert table.duration(seconds) == text


def test_the_most_urgent_come_first() -> None:
    found: list[Any] = [Status(Path(f"exp/{state}"), state, "why") for state in reversed(read.STATES)]
    screen = table.console(force_terminal=False)
    with screen.capture() as text:
        screen.print(table.table(found, Path("exp"), screen))
    rows = [line.split() for line in text.get().splitlines()]
    assert [row[1] for row in rows if len(row) == 2 and row[0] == row[1]] == [*read.STATES]
    assert "failed: why" in text.get().partition("state")[0], "above the table, whose end may be cut off"


def test_a_narrow_terminal_shows_whole_words_of_fewer_columns() -> None:
    metrics = {"eval/coverage": 1070.0, "eval/return": -151.9}
    path = Path("exp/fast/half_cheetah/csf/sd000")
    found = Status(path, "running", "", "epochs", 1257, 2000, 1250, 2.1, 1560.3, metrics=metrics)
    said = {}
    for width in (80, 200):
        screen = table.console(force_terminal=True, color_system=None, width=width)
        with screen.capture() as text:
            screen.print(table.table([found], Path("exp"), screen))
        said[width] = text.get()
        assert max(map(len, said[width].splitlines())) <= width
        assert "…" not in said[width]
        assert "running  1,257 of 2,000 epochs  26 min" in said[width]
    assert "coverage 1070, return -151.9" in said[200]
    assert said[80].splitlines()[-1] == "a wider terminal also shows: latest evaluation"
