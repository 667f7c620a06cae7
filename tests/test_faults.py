"""Mistakes and mishaps on the command line: one line that names the thing, exit code 1, and nothing else harmed."""

from __future__ import annotations

import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import ROOT, SPEC
from runs import TINY, Child, different, error_of, fork, main, reached, rows, train, wait_for_epoch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from test_resume import states, timeless
from torch import Tensor

from csf import pretrained
from csf import run as running
from csf import train as entry
from csf.config.compose import check
from csf.core.signals import Stop
from csf.errors import CheckpointError, NonFiniteError, RunDirError, SamplerError
from csf.io import checkpoint, files, policy
from csf.io.progress import Progress
from csf.learners import in_turn
from csf.run import Run
from csf.status.read import read
from csf.trainer import Counters, Schedule, Trainer
from csf.types import Batch, Episodes, Evaluation, Metrics
from envs import WorldError


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What `python -m csf.train` exits with; the interpreter prints it on stderr and makes it exit code 1."""
    monkeypatch.setattr(sys, "argv", ["csf.train", *words])
    with pytest.raises(SystemExit) as left:
        entry.main()
    message = left.value.code
    assert isinstance(message, str)
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert "error" not in capsys.readouterr().err, "it is told twice"
    return message


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory, in which a refused command leaves nothing."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert not list(folder.iterdir())


# ---- mistakes in the command

MISTAKES = {
    "misspelt key": (["env=point", "agent.skil_dim=3"], "agent.skil_dim is not known", "did you mean 'skill_dim'?"),
    "misspelt key, added": (["env=point", "+task.epoch=3"], "task.epoch", "did you mean 'epochs'?"),
    "wrong type": (["env=point", "agent.skill_dim=two"], "agent.skill_dim", "'two'"),
    "wrong value": (["env=point", "task.batch_size=0"], "task.batch_size is 0", "at least 1"),
    "unknown env": (["env=pont"], "env=pont is not known", "did you mean 'point'?"),
    "unknown agent": (["agent=csff"], "agent=csff is not known", "did you mean 'csf'?"),
    "unknown task": (["task=pretrane"], "task=pretrane is not known", "did you mean 'pretrain'?"),
    "misspelt env setting": (
        ["env=point", "+env.max_step=5", "device=cpu"],
        "env.max_step ",
        "is not known; accepted: ",
    ),
    "small buffer": (
        ["env=point", "device=cpu", "threads=1", "task.replay_size=159", "task.min_replay_size=1"],
        "task.replay_size is 159",
        "accepted: at least the 160 transitions of an epoch",
    ),
    "endless buffer": (
        ["env=point", "device=cpu", "threads=1", "task.replay_size=1000000000000000"],
        "task.replay_size is 1000000000000000",
        "does not fit into memory",
    ),
    "batch without neighbors": (
        ["env=point", "agent=cic", "device=cpu", "threads=1", "task.batch_size=15"],
        "task.batch_size is 15",
        "accepted with agent=cic: at least 16",
    ),
    "batch without variance": (
        ["env=point", "agent=dads", "device=cpu", "threads=1", "task.batch_size=1"],
        "task.batch_size is 1",
        "accepted with agent=dads: at least 2",
    ),
}


@pytest.mark.parametrize(("words", "thing", "help_"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.usefixtures("home")
def test_a_mistake_is_named_with_what_is_accepted(
    words: list[str], thing: str, help_: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(capsys, monkeypatch, *words)
    assert thing in message
    assert help_ in message


@pytest.mark.usefixtures("home")
def test_a_device_that_is_absent_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = refusal(capsys, monkeypatch, "env=point", "device=cuda")
    assert message == "error: device is 'cuda', but PyTorch finds no CUDA device; accepted on this machine: auto, cpu"
    message = refusal(capsys, monkeypatch, "env=point", "device=tpu")
    assert "device is 'tpu'" in message
    assert "auto, cpu, cuda" in message


@pytest.mark.usefixtures("home")
def test_a_folder_below_a_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    message = refusal(capsys, monkeypatch, *TINY, f"exp_dir={tmp_path}/file", "run_name=x")
    assert message == f"error: cannot use the run folder {tmp_path}/file/x: Not a directory"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_the_command_line_prints_one_line_and_exits_with_one(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "csf.train", "agent=csf", "env=point", "agent.lr=fast"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: agent.lr: ")
    assert not list(tmp_path.iterdir())


def test_another_configuration_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "task.epochs=2").wait() == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    message = error_of(train(folder, "task.epochs=3", "agent.lr=0.5", "seed=4"))
    assert str(folder) in message
    assert "agent.lr is 0.001 there, 0.5 here" in message
    assert "seed is 0 there, 4 here" in message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    owner = train(folder, "task.epochs=10000")
    wait_for_epoch(owner, folder, 1)
    words = [*TINY, "task.epochs=10000", f"exp_dir={tmp_path}", "run_name=run"]
    message = error_of(fork(tmp_path / "second.log", main, words))  # a log of its own: the owner goes on writing
    assert message == f"error: {folder} is in use by another process; wait for it or change run_name"
    assert owner.process.is_alive()
    owner.kill(signal.SIGKILL)
    owner.wait()


def test_a_run_that_cannot_be_made_leaves_neither_lock_nor_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same process may try again."""
    cfg = check([*TINY, "task.epochs=1", f"exp_dir={tmp_path}", "run_name=run"])
    made, make = list[Any](), pretrained.worlds_of

    def remember(*words: Any) -> Any:
        worlds = make(*words)
        monkeypatch.setattr(worlds, "close", lambda: made.remove(worlds))
        made.append(worlds)
        return worlds

    def fail(*_: object) -> None:
        assert len(made) == 2
        raise CheckpointError("cannot write the skills")

    monkeypatch.setattr(running, "worlds_of", remember)
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "keep", fail)
        with pytest.raises(CheckpointError, match="cannot write the skills"):
            Run(cfg, torch.device("cpu"))
    assert made == []
    with Run(cfg, torch.device("cpu")):
        assert len(made) == 2
    assert made == []


def test_a_run_whose_checkpoints_were_deleted_keeps_its_rows_aside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "task.epochs=3").wait() == 0
    before = rows(folder)
    shutil.rmtree(folder / "checkpoints")
    child = train(folder, "task.epochs=2")
    assert child.wait() == 0, child.said
    assert f"no checkpoint: training restarts; earlier results are moved to {folder}/earlier_1\n" in child.said
    assert rows(folder / "earlier_1") == before
    assert [row["epoch"] for row in rows(folder)] == [0, 1, 2]


def test_a_folder_without_a_readable_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "task.epochs=2").wait() == 0
    (found,) = (folder / "checkpoints").glob("*.pt")
    found.write_bytes(b"")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    message = error_of(train(folder, "task.epochs=2"))
    assert f"no checkpoint in {folder}/checkpoints can be read" in message
    assert f"error: {(folder / 'error.txt').read_text()}" == f"{message}\n"
    (folder / "error.txt").unlink()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_sweep_goes_on_behind_a_job_that_fails(tmp_path: Path) -> None:
    names = "${task.replay_size}"
    child = train(tmp_path / names, "-m", "task.replay_size=100,10,200", "task.min_replay_size=10", "task.epochs=1")
    assert child.wait() == 1
    said = child.said
    reason = f"{tmp_path}/10: task.replay_size is 10; accepted: at least the 20 transitions of an epoch"
    assert f"error: {reason}" in said.splitlines(), "at once"
    assert said.splitlines()[-1] == f"  {reason}", "and in the list at the end"
    assert "Traceback" not in said
    assert (tmp_path / "100" / "checkpoints" / "epoch_000001.pt").exists()
    assert (tmp_path / "200" / "checkpoints" / "epoch_000001.pt").exists()


# ---- numbers that are not finite


def test_a_loss_that_explodes_is_named_and_its_evidence_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    message = error_of(train(folder, "task.epochs=9", "task.save_every=1", "agent.lr=1e30"))
    told = re.fullmatch(
        r"error: ((loss/\w+) is (nan|-?inf) at update (\d) in epoch 2); saved for debugging: (.*)", message
    )
    assert told, message
    name, update = told[2], int(told[4])
    assert told[5] == f"{folder}/failure.pt"
    assert [row["epoch"] for row in rows(folder)] == [0, 1]
    evidence = torch.load(folder / "failure.pt", weights_only=True)
    assert evidence["error"] == told[1]
    assert set(evidence["batch"]) == set(Batch._fields)
    assert evidence["batch"]["obs"].shape == (16, 2)
    assert [math.isfinite(value) for value in evidence["metrics"][name]] == [True] * update + [False]
    assert set(evidence["agent"]) == {"modules", "optim"}
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert found[1]["epoch"] == 1


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Run]:
    """A run of four epochs within this process, saved after each and, to be quick, never evaluated."""
    words = [*TINY, "task.epochs=4", "task.save_every=1", f"exp_dir={tmp_path}", "run_name=run"]
    with Run(check(words), torch.device("cpu")) as made:
        made.trainer.evaluators = []
        yield made


def spoil(whole: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: float, after: int) -> None:
    """Have a metric of the agent's update take a value after so many gradient steps."""
    update, count = whole.trainer.learner.update, [0]

    def spoilt(batch: Batch) -> Metrics:
        count[0] += 1
        return update(batch) | ({name: torch.tensor(value)} if count[0] > after else {})

    monkeypatch.setattr(whole.trainer.learner, "update", spoilt)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss/critic", "policy/entropy"])
def test_every_metric_is_watched(name: str, value: float, whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(whole, monkeypatch, name, value, after=4)  # epochs 2 and 3 take three steps each
    with pytest.raises(
        NonFiniteError, match=rf"^{name} is {value} at update 1 in epoch 3; saved for debugging: .*/run/"
    ):
        whole.train()
    assert reached(whole.dir.path) == 2
    newest = max(whole.dir.checkpoints.glob("*.pt"))
    assert checkpoint.load(newest)["epoch"] == 2


def test_the_evidence_is_the_batch_of_the_bad_update(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    update, seen = whole.trainer.learner.update, []

    def remember(batch: Batch) -> Metrics:
        seen.append(batch)
        return update(batch) | ({"loss/actor": torch.tensor(torch.nan)} if len(seen) > 2 else {})

    monkeypatch.setattr(whole.trainer.learner, "update", remember)
    with pytest.raises(NonFiniteError):
        whole.train()
    evidence = torch.load(whole.dir.path / "failure.pt", weights_only=True)
    assert all(torch.equal(evidence["batch"][name], column) for name, column in seen[2]._asdict().items())
    assert len(evidence["metrics"]["loss/critic"]) == 3


class Evaluator:
    """Finds a number only as long as nothing has been learned."""

    episodes = 1

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def run(self, *_: object) -> Evaluation:
        return Evaluation({"eval/coverage": math.nan if self.counters.epoch else 1.0}, {})


def test_an_evaluation_that_is_not_finite_is_named(whole: Run) -> None:
    whole.trainer.evaluators = [Evaluator(whole.counters)]
    with pytest.raises(NonFiniteError, match=r"^eval/coverage is nan in epoch 4; saved for debugging: "):
        whole.train()
    assert (whole.dir.path / "failure.pt").exists()


def test_if_the_evidence_does_not_fit_the_number_is_still_named(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(whole, monkeypatch, "loss/critic", math.nan, after=4)
    write = files.write

    def full(path: Path, dump: Any) -> None:
        if path.name == "failure.pt":
            monkeypatch.setattr(os, "fsync", no_space)
        write(path, dump)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(
        NonFiniteError, match=r"^loss/critic is nan .* in epoch 3; cannot write .*/failure.pt: No space"
    ):
        whole.train()


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


# ---- disks that fail


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.long), 5])
def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_it_can_go_on(epoch: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    budget = ("task.epochs=300", "task.save_every=4")
    child = train(folder, *budget)
    wait_for_epoch(child, folder, epoch)
    assert child.process.pid is not None
    resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
    message = error_of(child)
    assert message.startswith((f"error: cannot write to {folder}: File too large", f"error: cannot write {folder}/"))
    assert "File too large" in message
    assert not list(folder.rglob("*.partial"))
    last = reached(folder) + 2
    again = train(folder, f"task.epochs={last}", budget[1])
    assert again.wait() == 0, again.said
    assert [row["epoch"] for row in rows(folder)] == list(range(last + 1))


def test_logs_that_cannot_be_opened_are_told_in_one_line(whole: Run) -> None:
    (whole.dir.path / "metrics.jsonl").mkdir()
    with pytest.raises(RunDirError, match=rf"^cannot write to {whole.dir.path}: "):
        whole.train()


def test_a_policy_is_there_for_every_full_state(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is killed in between, so the policy is written first, and the list of transitions after them."""
    written, write = [], files.write

    def remember(path: Path, dump: Any) -> None:
        written.append("transitions" if path.suffix == ".segment" else path.name)
        write(path, dump)

    monkeypatch.setattr(files, "write", remember)
    whole.train()
    assert written[:6] == [
        "policy_000001.safetensors",
        "transitions",
        "epoch_000001.pt",
        "policy_000002.safetensors",
        "transitions",
        "epoch_000002.pt",
    ]


# ---- the epoch loop


class Stub:
    """A learner, sampler, logger and agent that do nothing; episodes are as given."""

    gradient_steps = 0
    spec = SPEC

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes
        self.written: list[dict[str, float]] = []
        self.objective = self
        self.act = None

    def sample_skills(self, n: int) -> Tensor:
        return torch.zeros(n, 2)

    def collect(self, *_: object) -> Episodes:
        return self.episodes

    def learn(self, episodes: Episodes) -> dict[str, float]:
        return {}

    def write(self, row: dict[str, float], images: dict[str, np.ndarray]) -> None:
        self.written.append(row)

    def update(self, row: dict[str, float]) -> None:
        pass


class Loop:
    """A trainer around stubs, and the epochs at which it saved."""

    def __init__(self, episodes: Episodes, schedule: Schedule) -> None:
        self.stub, self.saved, self.counters = Stub(episodes), list[int](), Counters()
        stub: Any = self.stub
        run_epoch = partial(in_turn, stub)
        self.trainer = Trainer(stub, stub, stub, run_epoch, [], stub, stub, self.counters, schedule, self.save)
        self.progress: Progress = stub

    def save(self, results: dict[str, float]) -> None:
        self.saved.append(self.counters.epoch)


def walk() -> Episodes:
    """Three episodes of up to four steps along a line: a whole one, one that ended early, one that was lost."""
    coord = torch.zeros(3, 5, 1, dtype=torch.float64)
    coord[0, :, 0] = torch.tensor([1.0, 2, 3, 4, 5])
    coord[1, :3, 0] = torch.tensor([1.0, 4, 7])
    coord[2, :3, 0] = torch.tensor([1.0, 90, 99])
    reward = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [50, 50, 0, 0]])
    obs, action = torch.zeros(3, 5, 2), torch.zeros(3, 4, 2)
    return Episodes(obs, action, reward, torch.zeros(3, 4), torch.zeros(3, 2), torch.tensor([4, 2, 0]), coord)


def test_lost_and_short_episodes_are_counted_for_what_they_are() -> None:
    loop = Loop(walk(), Schedule(1, 3, 1, 1))
    loop.trainer.run(loop.progress, Stop())
    row = loop.stub.written[-1]
    assert row["env_steps"] == 6
    assert row["episode/discarded"] == 1
    assert row["episode/return"] == pytest.approx((4 + 2) / 2)
    assert row["episode/displacement"] == pytest.approx((4 + 6) / 2)


def test_it_saves_on_schedule_and_at_the_end() -> None:
    loop = Loop(walk(), Schedule(7, 3, 100, 3))
    loop.trainer.run(loop.progress, Stop())
    assert loop.saved == [3, 6, 7]


def test_a_signal_before_the_first_epoch_ends_is_saved_too() -> None:
    loop = Loop(walk(), Schedule(7, 3, 100, 3))
    loop.trainer.run(loop.progress, Stop(signal=15))
    assert loop.saved == [0]


class LateSignal(Schedule):
    """A signal that comes right after it was decided that this epoch need not be saved."""

    stop = Stop()

    def saves(self, counters: Counters) -> bool:
        if counters.epoch == 2:
            self.stop.signal = 15
        return super().saves(counters)


def test_no_moment_is_wrong_for_a_signal() -> None:
    loop = Loop(walk(), LateSignal(7, 3, 100, 100))
    loop.trainer.run(loop.progress, LateSignal.stop)
    assert loop.saved == [2], "said to be saved, and is not"


@pytest.mark.parametrize("epoch", [0, 4])
def test_a_run_that_is_stopped_at_once_after_resuming_has_nothing_to_save(epoch: int) -> None:
    loop = Loop(walk(), Schedule(7, 3, 100, 3))
    loop.counters.epoch, loop.trainer.begun = epoch, True
    loop.trainer.run(loop.progress, Stop(signal=15))
    assert loop.saved == []
    assert loop.stub.written == [], "the row of this epoch is in the log"


# ---- worlds that fail


def test_an_environment_that_fails_is_named(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise WorldError("out of arena memory")

    monkeypatch.setattr(whole.worlds, "step", broken)
    with pytest.raises(SamplerError, match=r"^the environment point failed: out of arena memory$"):
        whole.train()


# ---- faults that are really made, and the run goes on as if there had been none; docs/faults.md has the outcomes

LENGTH = ("task.epochs=24", "task.save_every=4", "task.eval_every=8")
LAST = checkpoint.FULL.format(24)
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has done two thirds of it."""
    folder: Path = tmp_path_factory.mktemp("begun") / "run"
    child = train(folder, *LENGTH, "task.epochs=16")
    assert child.wait() == 0, child.said
    return folder


@pytest.fixture(scope="module")
def reference(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder: Path = tmp_path_factory.mktemp("reference") / "run"
    child = train(folder, *LENGTH)
    assert child.wait() == 0, child.said
    return folder


def on_disk(folder: Path, *words: str) -> Child:
    """The command in a process whose log is elsewhere, since the disk may be full."""
    settings = [*TINY, *LENGTH, f"exp_dir={folder.parent}", f"run_name={folder.name}", *words]
    return fork(folder.parents[1] / "log", main, settings)


def continued(folder: Path, reference: Path, *words: str) -> str:
    """Give the same command again, see that it ends as the undisturbed run did, and return what it said."""
    child = on_disk(folder, *words)
    assert child.wait() == 0, child.said
    assert different(states(folder)[LAST], states(reference)[LAST]) == []
    assert timeless(folder) == timeless(reference)
    assert read(folder).state == "finished"
    assert not list(folder.rglob("*.partial"))
    return child.said


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or not shutil.which("mount") or not mounted(place, "size=64m", "-t", "tmpfs", "tmpfs"):
        pytest.skip("needs to mount a small disk, which only root may")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def mounted(place: Path, options: str, *words: str) -> bool:
    return subprocess.run(["mount", "-o", options, *words, place], capture_output=True).returncode == 0


@pytest.mark.parametrize("room", [pytest.param(40, marks=LONG), 120, pytest.param(200, marks=LONG)])  # kB
def test_a_full_disk_ends_the_run_in_one_line_and_loses_no_checkpoint(
    room: int, disk: Path, begun: Path, reference: Path
) -> None:
    folder = disk / "run"
    shutil.copytree(begun, folder)
    used = shutil.disk_usage(disk).used // 1000
    assert mounted(disk, f"remount,size={used + room}k")
    kept = checkpoint.latest(folder / "checkpoints")
    assert kept is not None
    message = error_of(on_disk(folder, "task.save_every=1"))
    assert message.startswith((f"error: cannot write to {folder}: ", f"error: cannot write {folder}/"))
    assert "No space left on device" in message
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert found[1]["epoch"] >= kept[1]["epoch"]
    status = read(folder)
    assert (status.state, f"error: {status.line}") == ("failed", message)
    assert mounted(disk, "remount,size=64m")
    assert f"resuming after epoch {found[1]['epoch']} of 24" in continued(folder, reference)


@pytest.mark.long
def test_a_read_only_disk_is_one_line_and_nothing_is_lost(disk: Path, begun: Path, reference: Path) -> None:
    folder = disk / "run"
    shutil.copytree(begun, folder)
    assert mounted(disk, "remount,ro")
    message = error_of(on_disk(folder))
    assert message == f"error: cannot use the run folder {folder}: Read-only file system"
    assert read(folder).done == 16
    assert mounted(disk, "remount,rw")
    continued(folder, reference)


def flip(path: Path) -> None:
    """Flip one bit among the numbers of a file: of a checkpoint, in the middle of its largest tensor."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
            place = content.index(archive.read(largest)) + largest.file_size // 2
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("epoch_000016.pt", flip),
        pytest.param("epoch_000016.pt", cut, marks=LONG),
        pytest.param("replay/*.segment", flip, marks=LONG),
        ("replay/*.segment", cut),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    kind: str, damage: Callable[[Path], None], begun: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(begun, folder)
    inside = folder / "checkpoints"
    damage(max(inside.glob(kind)))  # of several files of rows, the one that only the newest checkpoint has
    said = continued(folder, reference)
    assert "trying the previous checkpoint" in said
    assert f"resuming after epoch 12 of 24 from {inside}/epoch_000012.pt" in said


def test_two_good_checkpoints_are_kept_beside_a_damaged_one(begun: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(begun, folder)
    flip(folder / "checkpoints/epoch_000016.pt")
    assert train(folder, *LENGTH, "task.epochs=13").wait() == 0
    assert [*checkpoint.found(folder / "checkpoints", checkpoint.FULL)] == [12, 13]


def test_a_flipped_bit_is_noticed_or_harmless(begun: Path, tmp_path: Path) -> None:
    """At any place in a full checkpoint and in a policy."""
    full, policies = (begun / "checkpoints" / kind.format(16) for kind in (checkpoint.FULL, checkpoint.POLICY))
    good, agent = checkpoint.load(full), policy.load(policies)[1].policy_state()
    rng, refused = random.Random(0), 0
    for path in [full, policies] * 25:
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        copy = tmp_path / path.name
        copy.write_bytes(content)
        try:
            if path is full:
                found = checkpoint.load(copy)
                assert different(found, good) in ([], ["/parts/replay/segments"])  # whose folder is another
            else:
                assert different(policy.load(copy)[1].policy_state(), agent) == []
        except CheckpointError:
            refused += 1
    assert refused > 30


@pytest.mark.long
def test_of_two_processes_that_start_at_once_one_trains(tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "run"
    words = [*TINY, *LENGTH, f"exp_dir={tmp_path}", "run_name=run"]
    children = [fork(tmp_path / f"log{number}", main, words) for number in range(2)]
    codes = [child.wait() for child in children]
    if sum(codes):  # else the second began when the first had ended
        assert sorted(codes) == [0, 1]
        message = error_of(children[codes.index(1)])
        assert message == f"error: {folder} is in use by another process; wait for it or change run_name"
    continued(folder, reference)


def blow_up(whole: Run, monkeypatch: pytest.MonkeyPatch, number: float, worlds: slice) -> None:
    """Put a number into the velocities of worlds of MuJoCo in the second epoch."""
    step: Any = whole.worlds.step

    def disturbed(action: np.ndarray) -> Any:
        if whole.counters.epoch == 1:
            cast(Any, whole.worlds)._qvel[worlds, 0] = number
        return step(action)

    monkeypatch.setattr(whole.worlds, "step", disturbed)


CHEETAH = [*(word for word in TINY if "max_steps" not in word), "env=half_cheetah", "env.threads=1", "task.goals=1"]
CHEETAH += ["task.coverage_skills=1", "task.replay_size=2400", "task.epochs=3", "task.save_every=1"]


@pytest.mark.parametrize("number", [math.nan, 1e12])
def test_a_world_that_diverges_loses_its_episode_only(
    number: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run(check([*CHEETAH, f"exp_dir={tmp_path}", "run_name=run"]), torch.device("cpu")) as made:
        made.trainer.evaluators = []
        blow_up(made, monkeypatch, number, slice(1))
        assert made.train() == 0
    assert [row.get("episode/discarded") for row in rows(tmp_path / "run")] == [None, 0, 1, 0]


def test_worlds_that_all_diverge_end_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = check([*CHEETAH, f"exp_dir={tmp_path}", "run_name=run"])
    with Run(words, torch.device("cpu")) as made:
        made.trainer.evaluators = []
        blow_up(made, monkeypatch, math.nan, slice(None))
        with pytest.raises(SamplerError, match=r"^all 4 worlds of a round diverged; no episode is left$"):
            made.train()
    assert checkpoint.latest(tmp_path / "run/checkpoints") is not None
    with Run(words, torch.device("cpu")) as made:
        made.trainer.evaluators = []
        assert made.train() == 0
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [0, 1, 2, 3]


def with_a_jumping_clock(words: list[str]) -> None:
    """Train while the clock of the machine jumps by up to a month, forth and back."""
    import tqdm.std

    from csf.io import progress

    real, rng = time.time, random.Random(0)
    cast(Any, tqdm.std).time = time.time = lambda: real() + rng.uniform(-30, 30) * 86400
    progress.LOG_EVERY = 0.0
    main(words)


@pytest.mark.long
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "run"
    for epochs in (12, 24):
        words = [*TINY, *LENGTH, f"task.epochs={epochs}", f"exp_dir={tmp_path}", "run_name=run"]
        child = fork(tmp_path / "log", with_a_jumping_clock, words)
        assert child.wait() == 0, child.said
    assert different(states(folder)[LAST], states(reference)[LAST]) == []
    told = re.findall(r"^epoch \d+/24 \[([^,]+), ([^,]+) left\]", child.said, re.MULTILINE)
    assert len(told) >= 5, child.said
    assert all(re.fullmatch(r"00:\d\d|\?", each) for pair in told for each in pair), told
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("env_steps") if event.step > 12] == list(range(13, 25))
    assert [event.step for event in events.Scalars("env_steps")][-1] == 24


@pytest.mark.long
def test_memory_that_runs_out_is_one_line(tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "run"
    child = train(folder, *LENGTH, "task.epochs=100000", "task.save_every=1", "task.eval_every=50")
    wait_for_epoch(child, folder, 1)
    assert child.process.pid is not None
    pages = int(Path(f"/proc/{child.process.pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    resource.prlimit(child.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    message = error_of(child)
    assert re.match(r"error: out of memory after epoch \d+ \(.*\); the same command resumes the run; ", message)
    found = read(folder)
    assert (found.state, f"error: {found.line}") == ("failed", message)
    again = train(folder, *LENGTH, f"task.epochs={reached(folder) + 2}")
    assert again.wait() == 0, again.said


@pytest.mark.long
def test_a_hundred_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    """Every other one while it starts or resumes, the others while it trains, saves and deletes."""
    folder, other = tmp_path / "run", tmp_path / "other"
    words = ("task.epochs=2000", "task.save_every=2", "task.eval_every=1000")
    done = train(other, *words)
    assert done.wait() == 0, done.said
    rng, hits, partial, before = random.Random(0), 0, 0, [-1]
    while hits < 100:
        child = train(folder, *words)
        if hits % 2:
            wait_for_epoch(child, folder, before[-1] + 1)
            child.process.join(rng.uniform(0, 0.05))
        else:
            child.process.join(rng.uniform(0, 1))
        child.kill(signal.SIGKILL)
        code = child.wait()
        assert code == -signal.SIGKILL, f"it ended after {hits} kills: {child.said}"
        hits += 1
        partial += bool(list(folder.rglob("*.partial")))
        before.append(max(reached(folder), before[-1]))
    done = train(folder, *words)
    assert done.wait() == 0, done.said
    print(f"{hits} kills, {partial} with a file half written, at epochs {before[::10]}")
    found = [states(run) for run in (folder, other)]
    for state in (state for each in found for state in each.values()):
        del state["versions"]  # somebody may commit in these minutes
    assert different(*found) == []
    assert timeless(folder) == timeless(other)
    kept = [sorted(path.name for path in files.walk(run / "checkpoints", "*")) for run in (folder, other)]
    assert kept[0] == kept[1]
