"""Checkpoints: whole or not at all, harmless to load, and enough to go on bit for bit."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import platform
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import SPEC, batch, make
from runs import different, fork
from safetensors import safe_open

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import checkpoint, files, policy
from csf.replay import ReplayBuffer
from csf.trainer import Counters
from csf.types import Episodes, Stateful

FORMAT = checkpoint.FORMAT
CPU = torch.device("cpu")
FACTS = {
    "epoch": 3,
    "env_steps": 60,
    "gradient_steps": 9,
    "results": {"eval/coverage": 7.0},
    "config": {"seed": 0, "agent": {"hidden": [16, 16], "lr": 1e-4}},
    "versions": {"torch": "2"},
}


def parts_of(seed: int, updates: int = 2) -> dict[str, Stateful]:
    """Parts with something in every corner of their state."""
    torch.manual_seed(seed)
    agent, replay = make("csf"), ReplayBuffer(30, SPEC, 2, "cpu")
    shape = (2, SPEC.max_steps)
    rows = (torch.randn(2, SPEC.max_steps + 1, 3), torch.randn(*shape, 2), torch.randn(shape), torch.zeros(shape))
    replay.add(Episodes(*rows, torch.randn(2, 2), torch.tensor([4, 9]), torch.zeros(2, SPEC.max_steps + 1, 2)))
    for _ in range(updates):
        agent.update(batch(agent))
    return {"agent": agent, "replay": replay, "counters": Counters(seed, 10 * seed)}


def states(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    return {name: part.full_state() for name, part in parts.items()}


def saved(path: Path, seed: int = 1) -> Path:
    path.parent.mkdir(exist_ok=True)
    checkpoint.save(path, parts_of(seed), FACTS, CPU)
    return path


# ---- there and back


def test_what_is_restored_is_what_was_saved_bit_for_bit(tmp_path: Path) -> None:
    parts, others = parts_of(1), parts_of(2, updates=0)
    checkpoint.save(tmp_path / "a.pt", parts, FACTS, CPU)
    after = torch.randn(5)
    state = checkpoint.load(tmp_path / "a.pt")
    assert {key: state[key] for key in FACTS} == FACTS
    assert different(states(parts), states(others))
    checkpoint.restore(state, others, CPU)
    assert different(states(parts), states(others)) == []
    assert torch.equal(torch.randn(5), after), "the random state is another"


def test_what_is_restored_learns_on_bit_for_bit(tmp_path: Path) -> None:
    parts, others = parts_of(1), parts_of(2)
    checkpoint.save(tmp_path / "a.pt", parts, FACTS, CPU)
    for each in (parts, others):
        checkpoint.restore(checkpoint.load(tmp_path / "a.pt"), each, CPU)
        agent, replay = each["agent"], each["replay"]
        assert isinstance(agent, Agent)
        assert isinstance(replay, ReplayBuffer)
        for _ in range(3):
            agent.update(replay.sample(16))
    assert different(states(parts), states(others)) == []


# ---- random states of devices


class Cuda:
    """The random states of several devices, where there are none."""

    def __init__(self, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states = [torch.full((16,), index, dtype=torch.uint8) for index in range(devices)]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": self.states[index_of(device)].clone())
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in self.states])
        monkeypatch.setattr(torch.cuda, "set_rng_state", self.put)
        monkeypatch.setattr(torch.cuda, "set_rng_state_all", self.put_all)

    def put_all(self, states: list[torch.Tensor]) -> None:
        for index, state in enumerate(states):
            self.put(state, index)

    def put(self, state: torch.Tensor, device: Any = "cuda") -> None:
        self.states[index_of(device)] = state.clone()


def index_of(device: Any) -> int:
    return device if isinstance(device, int) else torch.device(device).index or 0


@pytest.mark.parametrize(("there", "here"), [("cuda", "cuda"), ("cuda:1", "cuda"), ("cuda", "cuda:1")])
def test_only_the_random_state_of_the_runs_device_is_kept(
    there: str, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a run goes on where there is another number of devices, and leaves those alone that it does not use."""
    with monkeypatch.context() as patch:
        Cuda(2, patch)
        checkpoint.save(tmp_path / "a.pt", parts_of(1), FACTS, torch.device(there))
    machine = Cuda(index_of(here) + 1, monkeypatch)
    machine.put(torch.full((16,), 77, dtype=torch.uint8), here)
    checkpoint.restore(checkpoint.load(tmp_path / "a.pt"), parts_of(2), torch.device(here))
    states = [int(state[0]) for state in machine.states]
    assert states == [*range(index_of(here)), index_of(there)]


def test_a_checkpoint_of_the_cpu_has_no_other_random_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(2, monkeypatch)
    checkpoint.save(tmp_path / "a.pt", parts_of(1), FACTS, CPU)
    assert checkpoint.load(tmp_path / "a.pt")["rng"].keys() == {"torch"}


@pytest.mark.parametrize("devices", [0, 1, 3])
def test_older_checkpoints_list_the_states_of_all_devices(
    devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "a.pt", parts_of(1), FACTS, CPU)
    state = checkpoint.load(tmp_path / "a.pt")
    state["rng"]["cuda"] = [torch.full((16,), 50 + index, dtype=torch.uint8) for index in range(2)]
    machine = Cuda(devices, monkeypatch)
    checkpoint.restore(state, parts_of(2), torch.device("cuda" if devices else "cpu"))
    assert [int(each[0]) for each in machine.states] == [50, 1, 2][:devices]


# ---- files that are not checkpoints


class Payload:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled(path: Path, good: bytes) -> bytes:
    return pickle.dumps(Payload(path))


def pickled_by_torch(path: Path, good: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"format": FORMAT, "parts": Payload(path)}, file)
    return file.getvalue()


def zipped(path: Path, good: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes/a.txt", "hello")
    return file.getvalue()


def flipped(path: Path, good: bytes) -> bytes:
    """One bit of a tensor: the file still has its form, and PyTorch would load it."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        tensors = [info for info in archive.infolist() if "/data/" in info.filename]
        content = archive.read(max(tensors, key=lambda info: info.file_size))
    place = good.index(content) + len(content) // 2
    return good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]


FOREIGN: dict[str, Callable[[Path, bytes], bytes]] = {
    "empty": lambda path, good: b"",
    "one byte": lambda path, good: good[:1],
    "half": lambda path, good: good[: len(good) // 2],
    "all but its end": lambda path, good: good[:-1],
    "flipped bit": flipped,
    "text": lambda path, good: b"hello\nworld\n",
    "zip": zipped,
    "pickle that runs code": pickled,
    "checkpoint that runs code": pickled_by_torch,
    "bytes that a pickle might begin with": lambda path, good: b"\x80\x02(lp0\n0000",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_any_other_file_is_refused_in_one_line(content: Callable[[Path, bytes], bytes], tmp_path: Path) -> None:
    path = saved(tmp_path / "epoch_000001.pt")
    path.write_bytes(content(tmp_path / "ran", path.read_bytes()))
    with pytest.raises(CheckpointError) as raised:
        checkpoint.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path} is not a whole checkpoint of this program (")
    assert len(message.splitlines()) == 1
    assert "weights_only" not in message, "an advice that would run the code"
    assert not (tmp_path / "ran").exists(), "it ran"


def test_the_payload_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickled(tmp_path / "ran", b""))
    assert (tmp_path / "ran").exists()


def test_another_format_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    path = saved(tmp_path / "a.pt")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=rf"a\.pt has checkpoint format 99; this version reads 1 and {FORMAT}$"):
        checkpoint.load(path)


def test_plain_tensors_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="format None"):
        checkpoint.load(tmp_path / "a.pt")


def test_a_missing_file_lists_its_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"^no checkpoint {tmp_path}/b\.pt; in that folder: none$"):
        checkpoint.load(tmp_path / "b.pt")
    saved(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"in that folder: a\.pt$"):
        checkpoint.load(tmp_path / "b.pt")


# ---- the newest


def test_the_newest_is_found_by_its_number(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    for epoch in (9, 1_000_000, 999_999):
        saved(tmp_path / checkpoint.FULL.format(epoch))
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found[0].name == "epoch_1000000.pt"


@pytest.mark.parametrize("damage", [b"", b"\x80"], ids=["empty", "cut"])
def test_a_damaged_one_gives_way_to_the_one_before(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = saved(tmp_path / "epoch_000003.pt")
    bad = tmp_path / "epoch_000006.pt"
    bad.write_bytes(damage)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found[0] == good
    assert found[1]["epoch"] == 3
    (record,) = caplog.records
    assert str(bad) in record.getMessage()
    assert record.getMessage().endswith("trying the previous checkpoint")


def test_if_none_can_be_read_the_run_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "epoch_000003.pt").write_bytes(b"")
    (tmp_path / "epoch_000006.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=rf"^no checkpoint in {tmp_path} can be read: .*epoch_000006\.pt"):
        checkpoint.latest(tmp_path)


def test_names_that_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    good = saved(tmp_path / "epoch_000003.pt")
    copies = [tmp_path / "epoch_000003 (copy).pt", tmp_path / "epoch_best.pt", tmp_path / "policy_best.safetensors"]
    for path in copies:
        path.write_text("mine")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found[0] == good
    checkpoint.prune(tmp_path, 3, 2, 1000)
    assert all(path.exists() for path in [good, *copies])


def test_two_states_are_kept_and_milestones_of_the_policy(tmp_path: Path) -> None:
    for epoch in (500, 1000, 1500, 2000, 2500):
        for kind in (checkpoint.FULL, checkpoint.POLICY):
            (tmp_path / kind.format(epoch)).touch()
    checkpoint.prune(tmp_path, 2500, 2, 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch_002000.pt",
        "epoch_002500.pt",
        "policy_000500.safetensors",  # the first that was saved
        "policy_001000.safetensors",
        "policy_001500.safetensors",  # the first after 1448
        "policy_002000.safetensors",
        "policy_002500.safetensors",
    ]


def test_what_is_kept_is_the_users_choice(tmp_path: Path) -> None:
    for epoch in range(10, 101, 10):
        for kind in (checkpoint.FULL, checkpoint.POLICY):
            (tmp_path / kind.format(epoch)).touch()
    checkpoint.prune(tmp_path, 100, 3, 40)
    assert [*checkpoint.found(tmp_path, checkpoint.FULL)] == [80, 90, 100]
    assert [*checkpoint.found(tmp_path, checkpoint.POLICY)] == [10, 20, 30, 40, 50, 70, 80, 90, 100]


def test_a_damaged_checkpoint_does_not_count_as_one_of_two(tmp_path: Path) -> None:
    """A run that resumed from epoch 10, since 20 was damaged, and saves more often now."""
    for epoch in (10, 15, 20):
        (tmp_path / checkpoint.FULL.format(epoch)).touch()
    checkpoint.prune(tmp_path, 15, 2, 1000)
    assert [*checkpoint.found(tmp_path, checkpoint.FULL)] == [10, 15]


def kept_of(folder: Path, save_every: int, epochs: int) -> list[int]:
    """The epochs whose policies a run has kept in the end, that prunes at every save."""
    folder.mkdir()
    for epoch in range(save_every, epochs + 1, save_every):
        for kind in (checkpoint.FULL, checkpoint.POLICY):
            (folder / kind.format(epoch)).touch()
        checkpoint.prune(folder, epoch, 2, 1000)
    return list(checkpoint.found(folder, checkpoint.POLICY))


@pytest.mark.parametrize("every", [1, 7, 100])
def test_policies_of_log_spaced_epochs_are_kept_whatever_the_length_of_the_run(every: int, tmp_path: Path) -> None:
    short, long = (kept_of(tmp_path / str(epochs), every, epochs) for epochs in (700, 1400))
    shared = [epoch for epoch in long if epoch <= 700]
    newest = {700 // every * every, (700 // every - 1) * every}  # beside full states
    assert set(short) - newest <= set(shared) <= set(short)
    first = [next(n for n in range(every, 1401, every) if n >= mark) for mark in (1, 2, 8, 16, 64, 128, 512, 1024)]
    assert set(first) <= set(long)
    assert len(long) <= 25


def test_some_twenty_policies_of_a_long_run_are_log_spaced() -> None:
    kept = checkpoint.milestones(range(100, 40001, 100), 1000)
    assert 15 <= len({epoch for epoch in kept if epoch % 1000}) <= 25 or len(kept) < 65
    assert set(range(1000, 40001, 1000)) <= kept


def test_partial_files_of_processes_that_run_are_left_alone(tmp_path: Path) -> None:
    """A half-written evaluation, say, of another process; those of a process that was killed are deleted."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine, theirs, dead, young, old = (
        tmp_path / f"eval.json.{name}partial"
        for name in (*(f"{platform.node()}.{pid}." for pid in (os.getpid(), other.pid, gone.pid)), "elsewhere.1.", "")
    )
    for path in (mine, theirs, dead, young, old):
        path.touch()
    os.utime(old, (0, 0))
    checkpoint.prune(tmp_path, 0, 2, 1000)
    other.communicate(b"\n")
    assert sorted(tmp_path.iterdir()) == sorted([theirs, young])


def test_two_processes_write_one_file_without_meeting(tmp_path: Path) -> None:
    """The last one counts, and neither sees the other's half."""

    def dump(file: Any) -> None:
        (partial,) = tmp_path.glob("a.json.*")
        assert str(os.getpid()) in partial.name
        file.write(b"whole")

    files.write(tmp_path / "a.json", dump)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


# ---- disks that fail


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def half_then_full(_: object, file: Any) -> None:
    file.write(b"half of it")
    full()


BREAK: dict[str, tuple[object, str, Callable[..., None]]] = {
    "while writing": (torch, "save", half_then_full),
    "at the end": (os, "fsync", full),
    "when renaming": (os, "replace", full),
}


@pytest.mark.parametrize("place", BREAK.values(), ids=BREAK)
def test_a_full_disk_leaves_the_previous_file(
    place: tuple[object, str, Callable[..., None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "epoch_000001.pt")
    before = {each: each.read_bytes() for each in tmp_path.rglob("*.*")}
    monkeypatch.setattr(*place)
    parts = {name: part for name, part in parts_of(2).items() if name != "replay"}
    with pytest.raises(CheckpointError) as raised:
        checkpoint.save(path, parts, FACTS, CPU)
    assert str(raised.value) == f"cannot write {path}: No space left on device; earlier checkpoints are untouched"
    assert {each: each.read_bytes() for each in tmp_path.rglob("*.*")} == before


def save_with_little_room(folder: Path) -> None:
    """In a process of its own, since a limit on the size of files is for all of them."""
    for write, name in ((save_full, "epoch_000001.pt"), (save_policy, "policy_000001.safetensors")):
        path = folder / name
        size = path.stat().st_size
        for room in (0, 1, size // 2, size - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            with pytest.raises(CheckpointError) as raised:
                write(path)
            message = r"^cannot write {}.*: File too large; earlier checkpoints are untouched$"
            assert re.match(message.format(folder), str(raised.value))


def save_full(path: Path) -> None:
    large = torch.zeros(300_000)  # does not wait in a buffer, as small tensors do
    checkpoint.save(path, parts_of(2), {**FACTS, "large": large}, CPU)


def save_policy(path: Path) -> None:
    policy.save(path, make("csf"), FACTS)


def test_a_file_that_may_not_grow_leaves_the_previous_one(tmp_path: Path) -> None:
    """What a full disk does, for real: PyTorch's writer is told by the system, in the midst of a tensor."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_full(folder / "epoch_000001.pt")
    save_policy(folder / "policy_000001.safetensors")
    before = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    child = fork(tmp_path / "log", save_with_little_room, folder)
    assert child.wait() == 0, child.said
    assert {path.name: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_an_error_without_a_word_is_told_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"a\.pt: RuntimeError; earlier"):
        checkpoint.save(tmp_path / "a.pt", {"counters": Counters()}, FACTS, CPU)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.pt"
    with pytest.raises(CheckpointError, match=rf"^cannot write {path}: No such file or directory;"):
        checkpoint.save(path, {"counters": Counters()}, FACTS, CPU)


# ---- the policy alone


def test_a_policy_file_describes_itself(tmp_path: Path) -> None:
    path, agent = tmp_path / "policy.safetensors", make("csf")
    policy.save(path, agent, FACTS)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["csf"])
        names = set(file.keys())
    assert {key: about[key] for key in FACTS} == FACTS
    assert about["format"] == policy.FORMAT
    assert about["prior"] == "sphere"
    assert about["spec"] == json.loads(json.dumps(vars(SPEC)))
    assert {name.split(".")[0] for name in names} == {"objective", "backbone"}
    assert all(name.startswith(("objective.", "backbone.actor.")) for name in names)


def test_a_policy_file_holds_all_that_acting_takes(tmp_path: Path) -> None:
    path, agent, other = tmp_path / "policy.safetensors", make("csf"), make("csf")
    agent.update(batch(agent))
    policy.save(path, agent, FACTS)
    with safe_open(path, "pt") as file:
        found = other.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, strict=False)  # noqa: SIM118
    assert not found.unexpected_keys
    assert all("critic" in name or "target" in name or "alpha" in name for name in found.missing_keys)
    obs, goal, skill = torch.randn(9, 3), torch.randn(9, 3), agent.objective.sample_skills(9)
    assert torch.equal(agent.act(obs, skill, True), other.act(obs, skill, True))
    mine, theirs = agent.objective.goal_skill(obs, goal), other.objective.goal_skill(obs, goal)
    assert mine is not None
    assert theirs is not None
    assert torch.equal(mine, theirs)


HEADERS = {
    "none": None,
    "of another program": {"format": "pt"},
    "no JSON": {"csf": "hello"},
    "a list": {"csf": "[1]"},
    "no more than a format": {"csf": json.dumps({"format": policy.FORMAT})},
    "another format": {"csf": json.dumps({"format": 99})},
    "another specification": {"csf": json.dumps({"format": policy.FORMAT, "config": {}, "spec": {"wings": 2}})},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_tensors_of_another_program_are_no_policy(header: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(2)}, metadata=header))
    with pytest.raises(CheckpointError) as raised:
        policy.load(path)
    assert str(raised.value).startswith(str(path))
    assert len(str(raised.value).splitlines()) == 1


def test_a_policy_of_another_format_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.safetensors"
    monkeypatch.setattr(policy, "FORMAT", 99)
    save_policy(path)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=rf"^{path} has format 99; this version reads {policy.FORMAT}$"):
        policy.load(path)


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_any_other_file_is_no_policy(content: Callable[[Path, bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    if content in (flipped, pickled_by_torch):
        path.write_bytes(content(tmp_path / "ran", saved(tmp_path / "a.pt").read_bytes()))
    else:
        save_policy(path)
        path.write_bytes(content(tmp_path / "ran", path.read_bytes()))
    with pytest.raises(CheckpointError) as raised:
        policy.load(path)
    assert str(raised.value).startswith(f"{path} is not a policy file of this program (")
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


# ---- where it comes from


def test_the_versions_are_known_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = checkpoint.provenance()
    assert {"python", "torch", "numpy"} <= set(found)
    assert "commit" not in found
