"""Files that somebody made to harm: each is refused in one line, nothing in it is executed, and memory stays small.

Pickles that run code are in test_checkpoint.py, links out of a folder of the hub in test_load.py as well.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from conftest import make
from runs import TINY, fork
from test_checkpoint import Payload, pickled, pickled_by_torch, saved
from test_load import Hub, exported, facts, trained

import csf
from csf.config.compose import check
from csf.errors import CheckpointError, CsfError
from csf.io import checkpoint, policy, untrusted
from csf.io.load import read
from csf.io.run_dir import read_config
from csf.pretrained import skills_of
from csf.report.load import read as read_report
from csf.run import Run
from csf.status.read import read as read_status

ROOM = 2**30  # bytes of memory that a refusal may take, beside those of the process


def line_of(error: pytest.ExceptionInfo[CsfError]) -> str:
    """The message, which is one line."""
    message = str(error.value)
    assert len(message.splitlines()) == 1, message
    return message


def within_memory(function: Callable[[Path], None], path: Path) -> None:
    """Call in a process of its own, which may not allocate much, and not for long."""
    child = fork(path.with_suffix(".log"), limited, function, path)
    assert child.wait() == 0, child.said


def limited(function: Callable[[Path], None], path: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))
    start = time.monotonic()
    function(path)
    assert time.monotonic() - start < 20


# ---- pickles


@pytest.mark.parametrize("content", [pickled, pickled_by_torch], ids=["pickle", "in a zip"])
@pytest.mark.parametrize("name", ["epoch_000003.pt", "policy_000003.safetensors"])
def test_a_pickle_is_not_executed(name: str, content: Callable[[Path, bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "run/checkpoints" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content(tmp_path / "ran", b""))
    for entry in (path, tmp_path / "run"):
        with pytest.raises(CheckpointError) as error:
            csf.load(entry)
        assert line_of(error).startswith(str(path))
    assert not (tmp_path / "ran").exists()


def test_transitions_that_are_a_pickle_are_not_executed(tmp_path: Path) -> None:
    path = saved(tmp_path / "epoch_000001.pt")
    (part,) = (each for each in checkpoint._growing(checkpoint.load(path)).values())
    segments = part["segments"]
    file = segments.folder / segments.listed[0].name
    torch.save(Payload(tmp_path / "ran"), file)
    with pytest.raises(Exception, match=r"Unsupported|Weights only|GLOBAL"):
        list(segments)
    assert not (tmp_path / "ran").exists()


# ---- archives


def rezipped(path: Path, compression: int, content: bytes | None = None) -> None:
    """Write a checkpoint's archive anew, with other bytes for its largest member if they are given."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    largest = max(members, key=lambda name: len(members[name]))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data if content is None or name != largest else content)


def refuse_bomb(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"is not a whole checkpoint of this program \(its content is compressed\)$"
    ):
        checkpoint.load(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = saved(tmp_path / "epoch_000001.pt")
    rezipped(path, zipfile.ZIP_DEFLATED, bytes(2**26))
    assert path.stat().st_size < 2**20
    within_memory(refuse_bomb, path)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A bomb without compression: the directory names the same bytes many times."""
    path = tmp_path / "epoch_000001.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data", bytes(2**16))
        first = archive.filelist[0]
        archive.filelist += [first] * 100
    with pytest.raises(CheckpointError, match=r"its content is larger than the file\)$"):
        checkpoint.load(path)


def test_an_ordinary_archive_is_what_pytorch_writes(tmp_path: Path) -> None:
    path = saved(tmp_path / "epoch_000001.pt")
    rezipped(path, zipfile.ZIP_STORED)
    with zipfile.ZipFile(path) as archive:
        untrusted.check_zip(archive, path.stat().st_size)


# ---- tensors that are larger than what is stored


def test_a_tensor_that_repeats_one_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "epoch_000001.pt"
    torch.save({"format": checkpoint.FORMAT, "parts": {}, "x": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert "a tensor of shape (1000000, 1000000) is larger than what is stored of it" in line_of(error)


def test_data_that_refers_to_itself_again_and_again_is_refused(tmp_path: Path) -> None:
    tree: Any = [0] * 10
    for _ in range(9):
        tree = [tree] * 10
    path = tmp_path / "epoch_000001.pt"
    torch.save({"format": checkpoint.FORMAT, "parts": {}, "config": tree}, path)
    with pytest.raises(CheckpointError, match=r"\(it has more than 1,000,000 entries or 100 levels\)$"):
        checkpoint.load(path)


def refuse_giant(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit this version: its networks would take .* GB") as error:
        read(path)
    line_of(error)


@pytest.mark.parametrize("kind", ["policy", "full"])
def test_a_small_file_of_giant_networks_allocates_nothing(kind: str, tmp_path: Path) -> None:
    told = facts("csf")
    told["config"]["agent"]["backbone"]["hidden"] = [100_000, 100_000]
    if kind == "policy":
        path = tmp_path / "policy.safetensors"
        policy.save(path, make("csf"), told)
    else:
        path = tmp_path / "epoch_000003.pt"
        checkpoint.save(path, {"agent": make("csf")}, told, torch.device("cpu"))
    assert path.stat().st_size < 100_000
    within_memory(refuse_giant, path)


# ---- headers


def refuse_policy(path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a policy file of this program") as error:
        policy.load(path)
    line_of(error)


HEADERS = {
    "longer than the file": struct.pack("<Q", 2**40) + b"{}",
    "longer than any memory": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a tensor beyond the end": b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
    "a shape that overflows": b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
    "deep": b'{"__metadata__":{"csf":"' + b"[" * 100_000 + b'"}}',
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_header_of_absurd_size_allocates_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    path.write_bytes(content if content[0] != ord("{") else struct.pack("<Q", len(content)) + content)
    within_memory(refuse_policy, path)


def test_a_header_of_endless_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    told = facts("csf") | {"format": policy.FORMAT, "prior": "sphere", "critics": False}
    told["config"]["agent"]["hidden"] = [1] * 20_000
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, metadata={"csf": json.dumps(told)}))
    with pytest.raises(CheckpointError) as error:
        policy.load(path)
    assert "more than 10,000 entries" in line_of(error)


# ---- yaml and JSON

YAML = {
    "object": "!!python/object/apply:os.mkdir [{ran}]",
    "new object": "a: !!python/object/new:os.mkdir [{ran}]",
    "module": "a: !!python/module:antigravity",
    "unknown tag": "a: !evil 3",
    "references": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "circle": "a: &a [*a]",
    "deep": "[" * 10_000,
    "no date": "a: 2026-99-99",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_yaml_runs_nothing_and_ends(text: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(text.replace("{ran}", str(tmp_path / "ran")))
    (run / "metrics.jsonl").write_text('{"epoch": 0, "env_steps": 0}\n')
    for reads in (read_config, read_report):
        with pytest.raises(CsfError) as error:
            reads(run)
        assert line_of(error).startswith(f"{run}/config.yaml is not valid yaml")
    found = read_status(run)
    assert found.state == "unreadable"
    assert found.line.startswith(f"{run}/config.yaml is not valid yaml")
    assert not (tmp_path / "ran").exists()


def test_the_object_would_have_been_made(tmp_path: Path) -> None:
    yaml.unsafe_load(YAML["object"].replace("{ran}", str(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "eval_000001.json"])
def test_json_that_is_nested_without_end_is_refused(name: str, tmp_path: Path) -> None:
    tree = facts("csf")["config"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0, "env_steps": 0}\n')
    (tmp_path / name).write_text('{"a":' * 100_000 + "\n")
    with pytest.raises(CsfError) as error:
        read_report(tmp_path)
    assert str(tmp_path / name) in line_of(error)


# ---- paths


def controller(folder: Path, cp_path: str) -> dict[str, Any]:
    """The configuration of a controller that was exported with a path of somebody else's choice."""
    exported(folder, trained("csf"))
    (folder / "skills.safetensors").unlink()
    return facts("csf")["config"] | {"skills": "csf", "cp_path": cp_path, "hold": 5}


@pytest.mark.parametrize("path", ["../private/policy.safetensors", "{private}", "hf://evil/policy", "packaged:point"])
def test_a_path_does_not_climb_out_of_an_exported_folder(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = exported(tmp_path / "private", trained("csf")) / "policy.safetensors"
    client = Hub(tmp_path / "private")
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    config = controller(tmp_path / "hub", path.replace("{private}", str(private)))
    monkeypatch.chdir(tmp_path / "hub")
    with pytest.raises(CheckpointError) as error:
        skills_of(config, tmp_path / "hub")
    assert line_of(error).startswith(f"{tmp_path / 'hub'} has no skills.safetensors")
    assert client.asked == []


def test_a_part_of_a_checkpoint_does_not_name_a_folder_elsewhere(tmp_path: Path) -> None:
    path = saved(tmp_path / "run" / "epoch_000001.pt")
    state = torch.load(path, weights_only=True)
    state["parts"]["../../elsewhere"] = state["parts"].pop("replay")
    torch.save(state, path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert "'../../elsewhere' is no name of a folder beside it" in line_of(error)


def test_an_epoch_that_is_a_path_is_refused(tmp_path: Path) -> None:
    """It is part of the names of files that are written."""
    path = tmp_path / "policy.safetensors"
    policy.save(path, make("csf"), facts("csf") | {"epoch": "../../x"})
    with pytest.raises(CheckpointError, match=r"has epoch '\.\./\.\./x'; accepted: an integer$"):
        csf.load(path)


LINKS = {
    "out": lambda folder: folder.parent / "private/policy.safetensors",
    "climbing": lambda folder: Path("../private/policy.safetensors"),
    "nowhere": lambda folder: folder / "none",
    "circle": lambda folder: Path("policy.safetensors"),
}


@pytest.mark.parametrize("target", LINKS.values(), ids=LINKS)
def test_a_link_in_a_folder_of_the_hub_is_not_followed(
    target: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(tmp_path / "private", trained("csf"))
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "policy.safetensors").symlink_to(target(folder))
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(folder))
    with pytest.raises(CheckpointError, match="is a link") as error:
        csf.load("hf://me/ant")
    assert "it is not read" in line_of(error)


def test_a_link_to_a_folder_elsewhere_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path / "private", trained("csf"))
    folder = exported(tmp_path / "hub", trained("csf"))
    (folder / "more").symlink_to(tmp_path / "private")
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(folder))
    with pytest.raises(CheckpointError, match="is a link out of the downloaded folder"):
        csf.load("hf://me/ant")


# ---- a run whose checkpoint was made by somebody else


def test_a_checkpoint_of_the_right_form_with_the_wrong_content_ends_in_one_line(tmp_path: Path) -> None:
    words = [*TINY, f"exp_dir={tmp_path}", "run_name=run"]
    with Run(check([*words, "task.epochs=1"]), torch.device("cpu")) as made:
        made.train()
    path = tmp_path / "run/checkpoints/epoch_000001.pt"
    good = torch.load(path, weights_only=True)
    wrong: dict[str, Any] = {
        "no random state": {key: value for key, value in good.items() if key != "rng"},
        "a part": good | {"parts": good["parts"] | {"agent": {"modules": {}, "optim": {}}}},
        "settings": good | {"config": 3},
        "results": good | {"results": 3},
    }
    for state in wrong.values():
        torch.save(state, path)
        with (
            pytest.raises(CheckpointError) as error,
            Run(check([*words, "task.epochs=2"]), torch.device("cpu")) as made,
        ):
            made.train()
        assert str(path) in line_of(error)
