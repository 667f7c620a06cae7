"""A run's folder: one configuration, one process at a time, and errors of one line."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import configure
from runs import fork

from csf.errors import ConfigError, RunDirError
from csf.io import run_dir
from csf.io.run_dir import RunDir, check_place, differences, read_config


def tree_of(*overrides: str) -> dict[str, Any]:
    return configure("run_name=run", *overrides).tree


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_gets_its_places_and_its_configuration(tmp_path: Path) -> None:
    tree = tree_of()
    made = RunDir(tmp_path / "deep" / "run", tree)
    assert made.plots.is_dir()
    assert made.checkpoints.is_dir()
    assert yaml.safe_load((made.path / "config.yaml").read_text()) == tree
    assert not list(made.path.glob("*.partial"))
    made.close()


def test_the_same_configuration_may_enter_again(tmp_path: Path) -> None:
    for _ in range(2):
        RunDir(tmp_path, tree_of("agent.lr=1e-5", "agent.hidden=[8,8]")).close()


# ---- configurations


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=1", "seed is 0 there, 1 here"),
        ("agent.lr=0.5", "agent.lr is 0.001 there, 0.5 here"),
        ("agent.hidden=[8,8]", "agent.hidden is [64, 64] there, [8, 8] here"),
        ("agent.backbone.tau=0.5", "agent.backbone.tau is 0.005 there, 0.5 here"),
        ("task.batch_size=7", "task.batch_size is 128 there, 7 here"),
        ("+env.max_steps=5", "env.max_steps is absent there, 5 here"),
    ],
)
def test_another_configuration_is_refused_and_nothing_overwritten(override: str, said: str, tmp_path: Path) -> None:
    RunDir(tmp_path, tree_of()).close()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    before = contents(tmp_path)
    with pytest.raises(RunDirError) as raised:
        RunDir(tmp_path, tree_of(override))
    assert str(raised.value) == (
        f"{tmp_path} holds a run with another configuration: {said}; "
        "accepted: its values, or another run_name or exp_dir"
    )
    assert contents(tmp_path) == before


def test_every_difference_is_told(tmp_path: Path) -> None:
    RunDir(tmp_path, tree_of("+env.max_steps=5")).close()
    with pytest.raises(RunDirError, match=r"seed is 0 there, 2 here; env\.max_steps is 5 there, absent here"):
        RunDir(tmp_path, tree_of("seed=2"))


MAY_CHANGE = (
    "task.epochs=99 task.eval_every=3 task.save_every=3 device=cpu graphs=false threads=2 wandb=offline exp_dir=x"
)


@pytest.mark.parametrize("override", MAY_CHANGE.split())
def test_what_does_not_change_the_training_may_change(override: str, tmp_path: Path) -> None:
    RunDir(tmp_path, tree_of()).close()
    RunDir(tmp_path, tree_of(override)).close()
    key, value = override.split("=")
    kept: Any = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for part in key.split("."):
        kept = kept[part]
    assert kept == yaml.safe_load(value), "config.yaml is not of the newest command"


def test_a_value_written_out_is_the_same_configuration(tmp_path: Path) -> None:
    """`variant` only names the folder: with a name of its own, saying what holds anyhow changes nothing."""
    RunDir(tmp_path, tree_of()).close()
    RunDir(tmp_path, tree_of("agent.lr=1e-3")).close()


def test_a_run_goes_on_when_a_setting_has_come_that_it_does_not_use() -> None:
    now = tree_of()
    before = {key: value for key, value in now.items() if key not in ("skills", "cp_path", "hold")}
    assert differences(before, now) == differences(now, before) == ""
    assert differences(before, {**now, "hold": 4}) == "hold is absent there, 4 here"
    assert differences({**now, "hold": 4}, now) == "hold is 4 there, None here"


def test_the_simulators_threads_may_change() -> None:
    one, two = {"env": {"threads": 1}}, {"env": {"threads": 2}}
    assert differences(one, two) == ""


@pytest.mark.parametrize("read", [lambda folder: RunDir(folder, tree_of()), read_config], ids=["enter", "read"])
@pytest.mark.parametrize("content", [b"", b"a: [1", b"just words", b"\xff\xfe\x00"])
def test_a_config_that_is_none_is_refused_in_one_line(
    content: bytes, read: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(RunDirError, match=r"config\.yaml is not .*; repair it, or set another run_name$") as raised:
        read(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert (tmp_path / "config.yaml").read_bytes() == content


# ---- processes


def enter_and_tell(folder: Path) -> None:
    try:
        RunDir(folder, tree_of()).close()
    except RunDirError as error:
        os.write(2, f"refused: {error}".encode())


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    owner = RunDir(folder, tree_of())
    child = fork(tmp_path / "log", enter_and_tell, folder)
    assert child.wait() == 0
    assert child.said == f"refused: {folder} is in use by another process; wait for it or change run_name"
    owner.close()
    child = fork(tmp_path / "log", enter_and_tell, folder)
    assert child.wait() == 0
    assert child.said == ""


def hold_and_die(folder: Path) -> None:
    RunDir(folder, tree_of())
    os._exit(9)


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert fork(tmp_path / "log", hold_and_die, folder).wait() == 9
    RunDir(folder, tree_of()).close()


def test_a_refused_configuration_does_not_keep_the_folder(tmp_path: Path) -> None:
    RunDir(tmp_path, tree_of()).close()
    with pytest.raises(RunDirError, match="seed"):
        RunDir(tmp_path, tree_of("seed=1"))
    RunDir(tmp_path, tree_of()).close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_used(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    RunDir(tmp_path / "run", tree_of()).close()
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}/run is on a file system without locks ({os.strerror(number)}): "
        "a second process can write to it at the same time"
    )


def test_a_lock_that_fails_otherwise_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(RunDirError, match=r"^cannot use the run folder .*: Input/output error$"):
        RunDir(tmp_path / "run", tree_of())


# ---- folders that cannot be used


def test_a_folder_whose_name_is_not_utf_8_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the path .* is not UTF-8 under this locale; accepted: "):
        RunDir(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), tree_of())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/x", "file/x/y", "x" * 256, "new/" + "x" * 256])
def test_a_place_is_judged_beforehand_as_it_is_on_entry(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunDirError) as beforehand:
        check_place(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(RunDirError) as entered:
        RunDir(tmp_path / name, tree_of())
    assert str(beforehand.value) == str(entered.value)


def test_a_place_that_may_not_be_written_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(dir: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    monkeypatch.setattr(run_dir, "TemporaryFile", denied)  # to root, every folder is writable
    with pytest.raises(RunDirError, match=f"^cannot use the run folder {tmp_path}/a/b: Permission denied$"):
        check_place(tmp_path / "a/b")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system in which nobody can create folders")
def test_a_place_that_not_even_root_may_write_is_refused_beforehand() -> None:
    with pytest.raises(RunDirError, match=r"^cannot use the run folder /proc/a/b: "):
        check_place(Path("/proc/a/b"))


def test_a_place_that_can_be_made_is_accepted_and_not_made(tmp_path: Path) -> None:
    check_place(tmp_path / "a/b")
    assert not list(tmp_path.iterdir())


def test_a_folder_below_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "x"
    with pytest.raises(RunDirError) as raised:
        RunDir(path, tree_of())
    assert str(raised.value) == f"cannot use the run folder {path}: Not a directory"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(RunDirError) as raised:
        RunDir(path, tree_of())
    assert str(raised.value) == f"cannot use the run folder {path}: File exists"


def test_a_full_disk_keeps_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunDir(tmp_path, tree_of()).close()
    before = contents(tmp_path)

    def full(path: Path, *_: object) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunDirError) as raised:
        RunDir(tmp_path, tree_of("task.epochs=99"))
    assert str(raised.value) == f"cannot use the run folder {tmp_path}: No space left on device"
    assert contents(tmp_path) == before, "a half-written file is left"
