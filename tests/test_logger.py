"""Rows and pictures of a run: what is written can be read back, and a resumed run has every epoch once."""

from __future__ import annotations

import builtins
import itertools
import json
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import different, fork
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from csf.errors import ConfigError, MissingDependency
from csf.io.logger import Logger

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def opened(folder: Path) -> Logger:
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    logger = Logger(folder)
    logger.open("disabled", "name", {})
    return logger


def row(epoch: int, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "env_steps": 10 * epoch, "loss/critic": 0.5**epoch, **more}


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def steps(folder: Path, tag: str = "loss/critic") -> list[int]:
    return [event.step for event in events(folder).Scalars(tag)]


# ---- what is written


def test_rows_are_written_as_they_are_and_at_once(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    rows = [row(0), row(1, **{"eval/coverage": 3.0}), row(2, late=1e-30)]  # new keys may come at any time
    for i, each in enumerate(rows):
        logger.write(each, {})
        assert lines(tmp_path) == rows[: i + 1]
        assert steps(tmp_path) == list(range(i + 1))
    logger.close()


def test_pictures_are_named_by_epoch_and_lossless(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    logger.write(row(3), {"phi": PICTURE, "trajectories": PICTURE[::-1]})
    logger.close()
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "phi_000003.png",
        "trajectories_000003.png",
    ]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "plots/phi_000003.png")), PICTURE)


def test_tensorboard_has_the_same_numbers_and_pictures(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    for epoch in range(3):
        logger.write(row(epoch), {"phi": PICTURE} if epoch == 2 else {})
    logger.close()
    found = events(tmp_path)
    assert found.Tags()["scalars"] == ["env_steps", "loss/critic"]
    assert [(e.step, e.value) for e in found.Scalars("loss/critic")] == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert [(e.step, e.value) for e in found.Scalars("env_steps")] == [(0, 0), (1, 10), (2, 20)]
    (image,) = found.Images("phi")
    assert (image.step, image.height, image.width) == (2, 5, 7)
    (tmp_path / "phi.png").write_bytes(image.encoded_image_string)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "phi.png")), PICTURE)


# ---- resuming


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_a_resumed_run_has_every_epoch_once(closed: bool, tmp_path: Path) -> None:
    """Twice: the second time, a file that the checkpoint knows nothing of is in the folder."""
    first = opened(tmp_path)
    for epoch in range(3):
        first.write(row(epoch), {"phi": PICTURE})
    state = first.full_state()
    for last in (5, 4):
        for epoch in range(3, last):
            first.write(row(epoch, old=1.0), {})
        if closed:
            first.close()
        first = Logger(tmp_path)
        first.load_full_state(json.loads(json.dumps(state)))
        assert steps(tmp_path) == [0, 1, 2]
        first.open("disabled", "name", {})
    for epoch in range(3, 6):
        first.write(row(epoch), {})
    first.close()
    assert lines(tmp_path) == [row(epoch) for epoch in range(6)]
    assert steps(tmp_path) == list(range(6))
    assert "old" not in events(tmp_path).Tags()["scalars"]


def test_a_row_that_was_cut_short_is_gone_after_resuming(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    logger.write(row(0), {})
    state = logger.full_state()
    logger.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1, "env_st')
    (events_file,) = tmp_path.glob("events*")
    with events_file.open("ab") as binary:
        binary.write(b"\x30\0\0\0half a record")
    again = Logger(tmp_path)
    again.load_full_state(state)
    again.open("disabled", "name", {})
    again.write(row(1), {})
    again.close()
    assert lines(tmp_path) == [row(0), row(1)]
    assert steps(tmp_path) == [0, 1]


def test_without_a_checkpoint_earlier_rows_are_kept_aside(tmp_path: Path) -> None:
    """With all that belongs to them, and again when it happens again."""
    for number in (1, 2):
        logger = opened(tmp_path)
        logger.write(row(0), {"phi": PICTURE})
        logger.write(row(number), {})
        logger.close()
        (tmp_path / ".wandb_id").write_text("abc")
        (tmp_path / "notes.txt").write_text("mine")
        before = (tmp_path / "metrics.jsonl").read_bytes()
        aside = Logger(tmp_path).start_over()
        assert aside == tmp_path / f"earlier_{number}"
        assert (aside / "metrics.jsonl").read_bytes() == before
        assert steps(aside) == [0, number]
        assert (aside / "plots/phi_000000.png").is_file()
        assert (aside / ".wandb_id").read_text() == "abc"
        earlier = [f"earlier_{n}" for n in range(1, number + 1)]
        assert sorted(path.name for path in tmp_path.iterdir()) == [*earlier, "notes.txt", "plots"]
        assert not list((tmp_path / "plots").iterdir())


@pytest.mark.parametrize("content", ["", '{"epoch": 0, "env'])
def test_without_a_row_nothing_is_kept_aside(content: str, tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "metrics.jsonl").write_text(content)
    assert Logger(tmp_path).start_over() is None
    assert [path.name for path in tmp_path.iterdir()] == ["plots"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-7],
        lambda content: content[:-40] + bytes(40),
        lambda content: content[:-40] + bytes(400),
    ],
    ids=["cut", "zeros", "more zeros"],
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "events*"])
def test_a_file_that_lost_its_end_is_cut_to_whole_records_and_that_is_said(
    name: str, spoil: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a crash of the machine, when it is shorter than the checkpoint says, or ends in zeros."""
    logger = opened(tmp_path)
    for epoch in range(3):
        logger.write(row(epoch), {"phi": PICTURE})
    state = logger.full_state()
    logger.close()
    (file,) = tmp_path.glob(name)
    file.write_bytes(spoil(file.read_bytes()))
    again = Logger(tmp_path)
    again.load_full_state(state)
    (record,) = caplog.records
    assert f"{file} is incomplete: truncated to whole records" in record.getMessage()
    again.open("disabled", "name", {})
    again.write(row(3), {})
    again.close()
    whole = [0, 1, 2, 3]
    lost = [0, 1, 3]
    assert [each["epoch"] for each in lines(tmp_path)] == (lost if name == "metrics.jsonl" else whole)
    assert steps(tmp_path) == (lost if name == "events*" else whole)


def test_what_is_removed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = opened(tmp_path)
    logger.write(row(0), {})
    state, size = logger.full_state(), (tmp_path / "metrics.jsonl").stat().st_size
    logger.write(row(1), {})
    logger.close()
    more = (tmp_path / "metrics.jsonl").stat().st_size - size
    Logger(tmp_path).load_full_state(state)
    said = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path}/metrics.jsonl: {more} bytes written after the checkpoint are removed" in said
    assert len(said) == 2


def test_a_file_is_never_made_longer(tmp_path: Path) -> None:
    """No zeros are put behind a log that is shorter than the checkpoint says."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n')
    Logger(tmp_path).load_full_state({"lengths": {"metrics.jsonl": 1000}})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 0}\n'


# ---- faults


def write_with_little_room(folder: Path, sink: int, room: int) -> None:
    """In a process of its own, since a limit on the size of files is for all of them."""
    logger = opened(folder)
    logger.sinks = logger.sinks[sink : sink + 1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        write_forever(logger)
    logger.close()
    logger.close()


def write_forever(logger: Logger) -> None:
    for epoch in itertools.count():
        logger.write(row(epoch), {"phi": PICTURE} if epoch == 2 else {})


@pytest.mark.parametrize("sink", [0, 1], ids=["metrics.jsonl", "TensorBoard"])
@pytest.mark.parametrize("room", [100, 1000])
def test_a_full_disk_is_told_by_write_alone(sink: int, room: int, tmp_path: Path) -> None:
    """Neither closing nor a thread nor the end of the program says it once more."""
    child = fork(tmp_path / "log", write_with_little_room, tmp_path / "run", sink, room)
    assert child.wait() == 0, child.said
    assert child.said == ""


# ---- Weights & Biases


def log_offline(folder: Path, epochs: list[int]) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        os.environ[name] = "http://127.0.0.1:9"  # nobody listens there
    logger = Logger(folder)
    logger.open("offline", "name", {"seed": 0})
    for epoch in epochs:
        logger.write(row(epoch), {"phi": PICTURE})
    logger.full_state()
    logger.close()


@pytest.mark.long
def test_wandb_works_offline_and_keeps_its_identity(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    (folder / "plots").mkdir(parents=True)
    identities = []
    for epochs in ([0, 1], [2]):
        child = fork(tmp_path / "log", log_offline, folder, epochs)
        assert child.wait() == 0, child.said
        assert "Traceback" not in child.said
        identities.append((folder / ".wandb_id").read_text())
    assert identities[0] == identities[1]
    stored = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(stored) == 2
    assert all(path.name == f"run-{identities[0]}.wandb" for path in stored)
    assert lines(folder) == [row(epoch) for epoch in range(3)]


class Refusing:
    """What csf uses of wandb, where it cannot start."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def init(self, **_: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("api_key not configured (no-tty). call wandb.login(key=[your_api_key])\nmore"), "api_key not conf"),
        (RuntimeError("Could not determine home directory."), "Could not determine home directory;"),
        (OSError(30, "Read-only file system"), "Read-only file system;"),
    ],
)
def test_wandb_that_cannot_start_is_told_in_one_line(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Refusing(error))
    logger = Logger(tmp_path)
    with pytest.raises(ConfigError, match=rf"^wandb=online cannot start: {re.escape(said)}") as raised:
        logger.open("online", "name", {})
    assert str(raised.value).endswith("; accepted: disabled, offline, online")
    assert len(str(raised.value).splitlines()) == 1
    logger.close()


class Recording(Refusing):
    def init(self, **settings: object) -> None:
        self.settings = settings


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"\xff\x00"])
def test_an_identity_that_is_none_is_replaced_and_that_is_said(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = Recording(ValueError())
    monkeypatch.setitem(sys.modules, "wandb", client)
    (tmp_path / ".wandb_id").write_bytes(content)
    Logger(tmp_path).open("offline", "name", {})
    assert re.fullmatch(r"[0-9a-f]{8}", str(client.settings["id"]))
    assert (tmp_path / ".wandb_id").read_text() == client.settings["id"]
    (record,) = caplog.records
    assert str(tmp_path / ".wandb_id") in record.getMessage()


def log_online(folder: Path) -> None:
    for name in ("HOME", "WANDB_API_KEY"):
        os.environ.pop(name, None)
    Logger(folder).open("online", "name", {})


@pytest.mark.slow
def test_the_real_wandb_without_a_key_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / "run").mkdir()
    child = fork(tmp_path / "log", log_online, tmp_path / "run")
    assert child.wait() == 1
    assert "csf.errors.ConfigError: wandb=online cannot start: " in child.said


def import_nothing_of_wandb(folder: Path) -> None:
    logger = opened(folder)
    logger.write(row(0), {"phi": PICTURE})
    logger.close()
    assert not [name for name in sys.modules if name.partition(".")[0] == "wandb"]


def test_wandb_is_not_imported_unless_asked_for(tmp_path: Path) -> None:
    child = fork(tmp_path / "log", import_nothing_of_wandb, tmp_path / "run")
    assert child.wait() == 0, child.said
    assert not (tmp_path / "run" / "wandb").exists()


def test_without_wandb_installed_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    logger = Logger(tmp_path)
    with pytest.raises(MissingDependency, match=r"^wandb=offline needs the package wandb: pip install wandb$"):
        logger.open("offline", "name", {})
    logger.close()


def test_lengths_are_those_on_disk(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    logger.write(row(0), {})
    state = logger.full_state()
    logger.close()
    on_disk = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()}
    assert different(state, {"lengths": on_disk}) == []
    assert len(on_disk) == 2
