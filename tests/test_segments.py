"""Replay buffers in files that checkpoints share: each row is written once, and no moment of a save loses a state."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TINY, different, error_of, fork, main, rows, train
from test_replay import SMALL
from test_replay import Source as Vectors
from test_replay_images import IMAGE
from test_replay_images import Source as Images

from csf.errors import CheckpointError
from csf.io import checkpoint, segments
from csf.replay import ReplayBuffer
from csf.trainer import Counters
from csf.types import EnvSpec

CPU = torch.device("cpu")
SPECS = {"vectors": SMALL, "images": IMAGE}
every_kind = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


class Run:
    """The part of a training run that fills a replay buffer and saves it."""

    def __init__(self, folder: Path, spec: EnvSpec, capacity: int = 60) -> None:
        self.folder, self.replay, self.counters = folder, ReplayBuffer(capacity, spec, 2, "cpu"), Counters()
        self.source: Any = Images(spec) if spec.has_image else Vectors()
        self.saved: checkpoint.Saved = {}
        folder.mkdir(exist_ok=True)

    @property
    def parts(self) -> dict[str, Any]:
        return {"replay": self.replay, "counters": self.counters}

    def epoch(self, *lengths: int) -> None:
        self.replay.add(self.source.episodes(list(lengths)))
        self.counters.epoch += 1

    def save(self) -> Path:
        path = self.folder / checkpoint.FULL.format(self.counters.epoch)
        checkpoint.save(path, self.parts, {}, CPU, self.saved)
        checkpoint.prune(self.folder, self.counters.epoch, 2, 1000)
        return path

    def resume(self) -> None:
        found = checkpoint.latest(self.folder)
        if found is not None:
            checkpoint.restore(found[1], self.parts, CPU)
            self.saved.update(checkpoint.saved_in(found[1]))

    def state(self) -> dict[str, Any]:
        return {name: part.full_state() for name, part in self.parts.items()}


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "replay").iterdir()}


def rows_of(folder: Path) -> list[tuple[int, int]]:
    """First and last rows of the files, as their names say."""
    return sorted((int(name.split("_")[0]), int(name.split("_")[1])) for name in names(folder))


def fresh(run: Run) -> Run:
    """Another run, resumed from the folder of this one."""
    other = Run(run.folder, run.replay.spec, run.replay.capacity)
    other.resume()
    return other


# ---- there and back


@every_kind
@pytest.mark.parametrize("largest", [1, 400, segments.LARGEST])
def test_a_buffer_comes_back_from_its_files_at_every_moment(
    spec: EnvSpec, largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "LARGEST", largest)
    run, rng = Run(tmp_path, spec), random.Random(0)
    for epoch in range(25):
        run.epoch(*(rng.choice([0, 1, 2, 7]) for _ in range(4)))
        if epoch % 2 or epoch > 20:
            run.save()
            other = fresh(run)
            assert different(other.state(), run.state()) == []
            torch.manual_seed(0)
            index = run.replay.sample_index(50)
            torch.manual_seed(0)
            assert torch.equal(index, other.replay.sample_index(50)), "the same draws are other transitions"
            if epoch % 4 == 1:  # go on as the resumed one
                other.source, run = run.source, other


@every_kind
def test_a_buffer_that_was_never_saved_before_it_wrapped_comes_back(spec: EnvSpec, tmp_path: Path) -> None:
    run = Run(tmp_path, spec, 20)
    for _ in range(9):
        run.epoch(7, 5)
    run.save()
    assert different(fresh(run).state(), run.state()) == []


def test_an_empty_buffer_comes_back(tmp_path: Path) -> None:
    run = Run(tmp_path, SMALL)
    run.save()
    assert not list(tmp_path.glob("replay/*"))
    assert different(fresh(run).state(), run.state()) == []


# ---- what is written


def test_a_save_writes_new_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LARGEST", 1)
    run = Run(tmp_path, SMALL)
    written: list[str] = []
    save = torch.save

    def recorded(state: dict[str, Any], file: Any) -> None:
        written.append(str(state.get("begin")))
        save(state, file)

    monkeypatch.setattr(torch, "save", recorded)
    run.epoch(7, 7)
    run.save()
    run.epoch(5)
    run.save()
    run.save()
    assert written == ["0", "7", "None", "14", "None", "None"]


def test_files_are_deleted_when_no_checkpoint_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LARGEST", 1)
    run = Run(tmp_path, SMALL, 20)
    for _ in range(12):
        run.epoch(7)
        run.save()
    # 84 rows: of the newest checkpoint, 64 and later; of the one before, 57 and later.
    assert rows_of(tmp_path) == [(start, start + 7) for start in range(56, 84, 7)]
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == ["epoch_000011.pt", "epoch_000012.pt"]
    (tmp_path / "replay" / "notes.txt").write_text("mine")
    (tmp_path / "replay" / f"0_9_0{segments.SUFFIX}").write_text("of a save that was killed")
    run.epoch(7)
    run.save()
    assert names(tmp_path) >= {"notes.txt"}
    assert f"0_9_0{segments.SUFFIX}" not in names(tmp_path)


def test_frequent_saves_make_few_files_and_rare_ones_small_files(tmp_path: Path) -> None:
    run = Run(tmp_path, SMALL, 10_000)
    amount, before = 0, set[str]()
    for _ in range(100):
        run.epoch(2, 1)
        run.save()
        amount += sum((tmp_path / "replay" / name).stat().st_size for name in names(tmp_path) - before)
        before = names(tmp_path)
    assert len(run.saved["replay"]) <= 10
    assert run.saved["replay"][-1].end == 300
    small = dataclasses.replace(SMALL)
    once = Run(tmp_path / "once", small, 10_000)
    for _ in range(100):
        once.epoch(2, 1)
    most = 300 * once.replay.nbytes // once.replay.capacity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "LARGEST", most // 10)
        once.save()
    sizes = [each.end - each.begin for each in once.saved["replay"]]
    assert 10 <= len(sizes) <= 11
    assert max(sizes) <= 30


# ---- damage


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "flipped bit": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_in_one_line(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    run = Run(tmp_path, IMAGE)
    run.epoch(7, 7)
    run.save()
    (path,) = (tmp_path / "replay").iterdir()
    damage(path)
    with pytest.raises(CheckpointError) as raised:
        checkpoint.latest(tmp_path)
    message = str(raised.value)
    assert re.search(
        rf"can be read: (cannot read {path}: No such file|{path} is damaged: its size or checksum)", message
    )
    assert len(message.splitlines()) == 1


def test_a_damaged_file_costs_the_checkpoints_that_list_it_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(segments, "LARGEST", 1)
    run = Run(tmp_path, IMAGE)
    run.epoch(7, 7)
    run.save()
    kept = run.state()
    run.epoch(5)
    run.save()
    newest = max((tmp_path / "replay").iterdir())
    flip(newest)
    other = fresh(run)
    assert different(other.state(), kept) == []
    assert f"{newest} is damaged" in caplog.text
    other.epoch(6)
    other.save()
    assert different(fresh(other).state(), other.state()) == []


HOSTILE: dict[str, Any] = {
    "no mapping": [1],
    "a path": {"replay": {"segments": [{"begin": "../../x", "end": 1, "size": 1, "crc32": 1}]}},
    "other keys": {"replay": {"segments": [{"file": "x"}]}},
    "no list": {"replay": {"segments": 3}},
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE)
def test_lists_that_make_no_sense_are_refused(parts: Any, tmp_path: Path) -> None:
    path = tmp_path / "epoch_000001.pt"
    torch.save({"format": checkpoint.FORMAT, "parts": parts, "rng": {}}, path)
    with pytest.raises(CheckpointError, match=rf"^{path} is not a whole checkpoint of this program"):
        checkpoint.load(path)


# ---- writes that fail


@every_kind
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_that_fails_at_any_write_leaves_the_previous_state(
    spec: EnvSpec, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then saves as if nothing had happened, once there is room again."""
    monkeypatch.setattr(segments, "LARGEST", 1)
    run = Run(tmp_path, spec, 30)
    for _ in range(3):
        run.epoch(7, 3)
    run.save()
    real, failed = getattr(os, call), 0
    for moment in range(20):
        kept, calls = run.state(), [0]
        run.epoch(7, 2)
        after = run.state()

        def fails(*args: Any, moment: int = moment, calls: list[int] = calls) -> Any:
            calls[0] += 1
            if calls[0] == moment % 4 + 1:
                raise OSError(28, "No space left on device")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            error = failure(run.save)
        if error:
            failed += 1
            assert re.match(rf"cannot write {tmp_path}/.*: No space left on device; earlier", error)
            assert different(fresh(run).state(), kept) == []
            run.save()
        assert different(fresh(run).state(), after) == []
    assert failed >= 10


def failure(function: Callable[[], Any]) -> str:
    """What a CheckpointError says; empty if there is none."""
    try:
        function()
    except CheckpointError as error:
        return str(error)
    return ""


# ---- killed


def fill_and_save(folder: Path, spec: EnvSpec) -> None:
    """Endlessly, from wherever the folder is, episodes that follow from the number of the epoch alone."""
    segments.LARGEST = 300
    run = Run(folder, spec)
    run.resume()
    while True:
        run.source = Images(spec, run.counters.epoch) if spec.has_image else Vectors()
        rng = random.Random(run.counters.epoch)
        run.source.episode = run.source.step = 100 * run.counters.epoch
        run.epoch(*(rng.choice([1, 2, 7]) for _ in range(3)))
        run.save()


def reference(spec: EnvSpec, folder: Path, epochs: int) -> Run:
    """What an undisturbed run holds."""
    run = Run(folder, spec)
    for epoch in range(epochs):
        run.source = Images(spec, epoch) if spec.has_image else Vectors()
        rng = random.Random(epoch)
        run.source.episode = run.source.step = 100 * epoch
        run.epoch(*(rng.choice([1, 2, 7]) for _ in range(3)))
    return run


@pytest.mark.slow
@every_kind
def test_a_process_that_is_killed_while_saving_leaves_a_whole_state(spec: EnvSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder, moments, reached = tmp_path / "run", random.Random(1), 0
    folder.mkdir()
    partial = 0
    for _ in range(15):
        child = fork(tmp_path / "log", fill_and_save, folder, spec)
        end = time.monotonic() + 60
        while max(checkpoint.found(folder, checkpoint.FULL), default=0) <= reached and time.monotonic() < end:
            assert child.process.exitcode is None, child.said
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        child.kill(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        partial += bool(list(folder.rglob("*.partial")))
        run = Run(folder, spec)
        run.resume()
        assert run.counters.epoch > reached, "the state of an earlier kill was lost"
        reached = run.counters.epoch
        assert_same_transitions(run, reference(spec, tmp_path / "reference", reached))
    assert partial, "no kill hit a write"
    assert len(list(folder.glob("*.pt"))) <= 3


def assert_same_transitions(a: Run, b: Run) -> None:
    """Of what follows from the number of an epoch: observations, skills and where episodes end."""
    one, other = a.replay, b.replay
    assert (one.total, one.size, list(one.live)) == (other.total, other.size, list(other.live))
    index = one.rows(torch.arange(len(one)))
    assert torch.equal(index, other.rows(torch.arange(len(other))))
    for name in ("obs", "next_obs", "skill"):
        assert torch.equal(getattr(one.gather(index), name), getattr(other.gather(index), name)), name


# ---- runs


def test_a_run_on_images_resumes_bit_for_bit(tmp_path: Path) -> None:
    words = ["env=point_pixels", "task.save_every=2", "task.batch_size=4", "task.updates_per_epoch=1"]
    words += ["encoder.channels=[2,2,2,2]", "task.replay_size=50", "task.coverage_skills=2", "task.goals=2"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder, epochs in ((whole, 6), (halves, 4), (halves, 6)):
        places = [f"exp_dir={tmp_path}", f"run_name={folder.name}", f"task.epochs={epochs}"]
        done = fork(tmp_path / "log", main, [*TINY, *words, *places])
        assert done.wait() == 0, done.said
        if epochs == 6 and folder == whole:
            pattern = r"^a full replay buffer takes .* of memory, and checkpoints as much of disk \(.* free\)$"
            assert len(re.findall(pattern, done.said, re.MULTILINE)) == 1
    ends = [checkpoint.load(folder / "checkpoints" / "epoch_000006.pt") for folder in (whole, halves)]
    found = [{name: end["parts"][name] for name in ("agent", "sampler")} | {"rng": end["rng"]} for end in ends]
    assert different(*found) == []
    assert ends[0]["parts"]["replay"]["segments"].listed == ends[1]["parts"]["replay"]["segments"].listed
    mine, theirs = ([dict(row) for row in rows(folder)] for folder in (whole, halves))
    for row in (*mine, *theirs):
        for key in [key for key in row if key.startswith(("time/", "eval/", "phi/rank", "phi/singular"))]:
            del row[key]
    assert mine == theirs


def test_a_run_with_a_damaged_file_ends_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "task.epochs=2", "task.save_every=2").wait() == 0
    (path,) = (folder / "checkpoints" / "replay").iterdir()
    flip(path)
    message = error_of(train(folder, "task.epochs=4", "task.save_every=2"))
    assert f"{path} is damaged" in message
