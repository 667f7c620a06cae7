"""What csf doctor says of machines: of this one, and of ones that lack something."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from csf.doctor import checks as doctor
from csf.doctor.checks import Line


def csf(*words: str, cwd: Path, path: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "csf", "doctor", *words]
    place = os.pathsep.join(map(str, dict.fromkeys((path, ROOT))))
    variables = {**os.environ, "PYTHONPATH": place, **environment}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=240)


@pytest.mark.long
def test_this_machine_is_described_in_one_line_for_each_thing(tmp_path: Path) -> None:
    done = csf("json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert [*found] == [
        *("Python", "packages", "extras", "CPU", "threads", "PyTorch", "MuJoCo", "GPU", "OpenGL", "disk"),
    ]
    assert all("\n" not in each["found"] for each in found.values())
    assert found["PyTorch"]["found"].startswith("2.")
    assert str(tmp_path) in found["disk"]["found"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_broken_pytorch_is_told_with_the_mend_and_all_else_as_well(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/torch.py").write_text("raise ImportError('libtorch.so: no such file')\n")
    done = csf(cwd=tmp_path, path=tmp_path / "broken")
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("BROKEN"))
    assert line.startswith("BROKEN PyTorch   ImportError: libtorch.so: no such file; install it again: ")
    assert len(done.stdout.splitlines()) == 10
    assert "Traceback" not in done.stderr


def test_a_try_ends_after_its_time_and_tells_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIME", 0.3)
    start = time.monotonic()
    assert doctor.attempt("import time; time.sleep(60)") == (False, "no answer within 0 seconds")
    assert time.monotonic() - start < 10
    monkeypatch.setattr(doctor, "TIME", 60.0)
    assert doctor.attempt("raise ValueError('two\\nlines')") == (False, "lines")
    assert doctor.attempt("import os; os.kill(os.getpid(), 11)") == (False, "exit code -11")
    assert doctor.attempt(command=["/nowhere"]) == (False, "No such file or directory")


def versions(monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None]) -> None:
    installed = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: changed.get(name, installed(name)))


def test_versions_are_compared_with_the_tested_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    pins = doctor.pins()
    assert {"torch", "numpy", "mujoco"} <= set(pins)
    versions(monkeypatch, {**pins, "numpy": "2.0.1"})
    found = doctor.packages()
    assert found.state == "note"
    assert found.found == (
        f"{len(pins) - 1} of {len(pins)} have the tested version; others: numpy 2.0.1 (tested: {pins['numpy']})"
    )
    assert found.mend == f"results are only tested with: {doctor.pip('-r requirements.txt')}"
    monkeypatch.setattr(doctor, "requirements", lambda extra="": iter(["torch>=2.6", "numpy>=2"]))
    versions(monkeypatch, {"numpy": None})
    assert doctor.packages()[:3] == ("packages", "broken", "not installed: numpy")
    monkeypatch.setattr(doctor, "requirements", lambda extra="": iter([]))
    assert doctor.packages()[1] == "note", "a checkout that is not installed"
    assert "numpy" in doctor.packages().found


def test_pip_is_that_of_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/env/bin/python")
    monkeypatch.setattr(shutil, "which", lambda name: f"/env/bin/{name}")
    assert doctor.pip("csf") == "pip install csf"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert doctor.pip("csf") == "/env/bin/python -m pip install csf"


def test_without_a_checkout_the_tested_versions_are_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "numpy>=2",
        'torch==2.13.0; extra == "tested"',
        'dm_control==1.0; python_version < "3" and extra == "tested"',
    ]
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    assert doctor.pins() == {"torch": "2.13.0", "dm_control": "1.0"}
    assert [*doctor.requirements()] == ["numpy>=2"]


def test_more_threads_than_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "500")
    assert doctor.threads().state == "note"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(doctor, "_quota", lambda: 0.5)
    assert doctor.threads().mend == "more threads than cores are slower: threads=1"
    monkeypatch.setattr(doctor, "_quota", lambda: None)
    assert doctor.threads().state == "ok"


QUOTAS: dict[str, tuple[dict[str, str], float | None]] = {
    "second version": ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    "unlimited": ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "first version": (
        {f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us": value for name, value in (("quota", "400000"), ("period", "100000"))},
        4.0,
    ),
    "none": ({}, None),
}


@pytest.mark.parametrize(("files", "cores"), QUOTAS.values(), ids=QUOTAS)
def test_the_share_of_a_container_is_read(
    files: dict[str, str], cores: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_text", lambda path: files.get(path, ""))
    assert doctor._quota() == cores


GPU = "NVIDIA H200, 570.86, 143771 MiB"


@pytest.mark.parametrize(
    ("cuda", "line"),
    [
        (
            (True, "12.8\nNVIDIA H200 (9, 0)"),
            Line("GPU", "ok", f"{GPU}; computes with CUDA 12.8 as NVIDIA H200 (9, 0)"),
        ),
        (
            (False, "AssertionError: Torch not compiled with CUDA enabled"),
            Line(
                "GPU",
                "note",
                f"{GPU}; PyTorch cannot use it (AssertionError: Torch not compiled with CUDA enabled)",
                doctor.CUDA_MEND,
            ),
        ),
    ],
    ids=["works", "another PyTorch"],
)
def test_a_gpu_is_tried(cuda: tuple[bool, str], line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor, "attempt", lambda program="", command=None: (True, GPU) if command else cuda)
    assert doctor.gpu() == line


@pytest.mark.parametrize("works", [True, False])
def test_every_renderer_is_tried(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(program: str, MUJOCO_GL: str) -> tuple[bool, str]:
        return (True, "egl: llvmpipe") if works and MUJOCO_GL == "egl" else (False, "no library")

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor, "attempt", attempt)
    found = doctor.rendering()
    assert found.state == ("ok" if works else "note")
    assert "osmesa cannot render (no library)" in found.found
    assert ("apt install" in found.mend) is not works


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.disk(tmp_path / "exp/more")
    assert found.found.startswith(f"{tmp_path}: ")
    assert not list(tmp_path.iterdir())
    slow: Callable[..., None] = lambda _: time.sleep(0.2)  # noqa: E731
    monkeypatch.setattr(doctor, "WRITTEN", 1000)
    monkeypatch.setattr(os, "fsync", slow)
    assert doctor.disk(tmp_path).mend.startswith("saving is slow")
    monkeypatch.setattr(os, "fsync", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", full)
        found = doctor.disk(tmp_path)
        assert "no locks (No space left on device)" in found.found
        assert found.state == "note"
    assert doctor.disk(tmp_path / ("x" * 300)).state == "broken"
    monkeypatch.setattr(os, "fsync", full)
    assert doctor.disk(tmp_path)[1:3] == ("broken", f"{tmp_path} cannot be used: No space left on device")
