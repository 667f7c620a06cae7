"""The check of a GPU is rehearsed on the CPU: the same code with tiny sizes and a tape in place of CUDA graphs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from runs import TINY

sys.path.insert(0, str(ROOT / "tests/benchmark"))
import gpu_check

SECONDS = 120.0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], float]:
    """The folder that all parts leave, the table, and how long they took."""
    out = tmp_path_factory.mktemp("out")
    words = [word for word in TINY if word != "task.eval_every=1000"]
    line = [sys.executable, "tests/benchmark/gpu_check.py", "--out", str(out), "--device", "cpu"]
    line += ["--seconds", str(SECONDS), "--least", "0.02", *words, "task.epochs=12"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=2 * SECONDS)
    took = time.monotonic() - start
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == (out / "table.md").read_text()
    return out, json.loads((out / "table.json").read_text()), took


@pytest.mark.long
def test_all_parts_run_and_leave_at_most_eight_files(found: tuple[Path, dict[str, Any], float]) -> None:
    out, table, took = found
    assert took < SECONDS
    names = sorted(path.name for path in out.iterdir())
    assert names == ["metrics.jsonl", "table.json", "table.md", "tests.txt", "train.txt", "trajectories.png"]
    assert table.keys() == {"machine", "tests", "speed", "train"}
    assert table["machine"]["device"] == "cpu"


@pytest.mark.long
def test_the_tests_for_a_gpu_are_found_and_left_out_with_a_reason(found: tuple[Path, dict[str, Any], float]) -> None:
    out, table, _ = found
    assert table["tests"]["result"] == "passed"
    assert "skipped" in table["tests"]["pytest"]
    assert "PyTorch finds no CUDA device here" in (out / "tests.txt").read_text()


@pytest.mark.long
def test_every_mode_is_measured_and_graphs_change_no_number(found: tuple[Path, dict[str, Any], float]) -> None:
    rows = found[1]["speed"]
    for kind, mode in gpu_check.CELLS:
        assert rows[f"gradient steps/s, {kind}, {mode}"] > 0
    for kind in gpu_check.KINDS:
        assert rows[f"largest difference of a metric, {kind}, captured to eager"] == 0
    assert rows["seconds of an epoch, float32, captured, task.overlap=true"] > 0
    for mode in ("eager", "captured"):
        assert rows[f"env steps/s while collecting, {mode}"] > 0
        assert rows[f"seconds of an epoch, float32, {mode}"] > 0


@pytest.mark.long
def test_a_run_is_resumed_and_trained(found: tuple[Path, dict[str, Any], float]) -> None:
    rows = found[1]["train"]
    assert rows["a run on cpu, cuda, cpu"] == "goes on"
    assert rows["resumed on the device, against undisturbed"] == "bit for bit the same"
    assert rows["exit code of training, 143 where its time was over"] == 0
    assert (rows["epoch"], rows["gradient_steps"]) == (12, 3 * 11)
    assert {"loss/representation", "eval/coverage", "time/learn, median seconds"} <= rows.keys()


def job_in(folder: Path) -> gpu_check.Check:
    return gpu_check.Check(folder, "cpu", 60.0, (), 0.01)


def test_parts_that_run_alone_keep_each_others_rows(tmp_path: Path) -> None:
    job_in(tmp_path).note("speed", {"a": 1.5})
    job_in(tmp_path).note("train", {"b": "goes on"})
    job_in(tmp_path).note("speed", {"a": 12345.6})
    table = json.loads((tmp_path / "table.json").read_text())
    assert (table["speed"], table["train"]) == ({"a": 12345.6}, {"b": "goes on"})
    text = (tmp_path / "table.md").read_text()
    assert "| a | 12,346 |" in text
    assert "| b | goes on |" in text


def test_a_mode_that_fails_is_told_and_the_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu_check, "CELLS", [("float32", "compiled"), ("TF32", "eager")])
    monkeypatch.setitem(gpu_check.MODES, "compiled", (fails,))
    job = gpu_check.Check(tmp_path, "cpu", 60.0, (*TINY,), 0.01)
    gpu_check.speed(job, 60.0)
    rows = job.table["speed"]
    assert rows["gradient steps/s, float32, compiled"] == "failed: RuntimeError: no such kernel"
    assert rows["gradient steps/s, TF32, eager"] > 0
    assert job.failed


def test_a_mode_that_takes_too_long_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "CELLS", [("float32", "compiled"), ("TF32", "eager")])
    monkeypatch.setitem(gpu_check.MODES, "compiled", (lambda *_: time.sleep(60),))
    job = gpu_check.Check(tmp_path, "cpu", 60.0, (*TINY,), 0.01)
    gpu_check.speed(job, 3.0)
    rows = job.table["speed"]
    assert rows["gradient steps/s, float32, compiled"] == "left out: out of time"
    assert rows["gradient steps/s, TF32, eager"] == "left out: no time"
    assert not job.failed


def test_a_word_that_is_no_part_is_refused(tmp_path: Path) -> None:
    line = ["sh", str(ROOT / "scripts/gpu_check.sh"), "part=pixel"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "csf: part is pixel; accepted: tests, speed, train\n")
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_there_is_nothing_to_check(tmp_path: Path) -> None:
    line = ["sh", str(ROOT / "scripts/gpu_check.sh"), "out", "part=speed"]
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("csf: PyTorch finds no CUDA device here, so that there is nothing to check\n")
