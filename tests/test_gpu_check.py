"""The check of a GPU is rehearsed on the CPU: the same code with tiny sizes and a tape in place of CUDA graphs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from image_rules import need
from runs import TINY

from csf.replay import ReplayBuffer
from csf.replay.stacks import check_stacks, frames_of

sys.path.insert(0, str(ROOT / "tests/benchmark"))
import frames
import gpu_check
import gpu_job
import gpu_pixels
from images import SPEC, config, fill, make_agent, random_episodes

SECONDS = 120.0
IMAGES = [
    "agent.hidden=[8,8]",
    "agent.backbone.hidden=[8,8]",
    "encoder.channels=[2,2,4,4]",
    "task.batch_size=8",
    "task.replay_size=2000",
    "task.min_replay_size=100",
]


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


def job_in(folder: Path) -> gpu_job.Check:
    return gpu_job.Check(folder, "cpu", 60.0, (), 0.01)


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
    job = gpu_job.Check(tmp_path, "cpu", 60.0, (*TINY,), 0.01)
    gpu_check.speed(job, 60.0)
    rows = job.table["speed"]
    assert rows["gradient steps/s, float32, compiled"] == "failed: RuntimeError: no such kernel"
    assert rows["gradient steps/s, TF32, eager"] > 0
    assert job.failed


def test_a_mode_that_takes_too_long_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "CELLS", [("float32", "compiled"), ("TF32", "eager")])
    monkeypatch.setitem(gpu_check.MODES, "compiled", (lambda *_: time.sleep(60),))
    job = gpu_job.Check(tmp_path, "cpu", 60.0, (*TINY,), 0.01)
    gpu_check.speed(job, 3.0)
    rows = job.table["speed"]
    assert rows["gradient steps/s, float32, compiled"] == "left out: out of time"
    assert rows["gradient steps/s, TF32, eager"] == "left out: no time"
    assert not job.failed


def test_a_word_that_is_no_part_is_refused(tmp_path: Path) -> None:
    line = ["sh", str(ROOT / "scripts/gpu_check.sh"), "part=pixel"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "csf: part is pixel; accepted: tests, speed, train, pixels\n")
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_there_is_nothing_to_check(tmp_path: Path) -> None:
    line = ["sh", str(ROOT / "scripts/gpu_check.sh"), "out", "part=speed"]
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("csf: PyTorch finds no CUDA device here, so that there is nothing to check\n")


# ---- images


@pytest.mark.long
def test_images_are_rehearsed(tmp_path: Path) -> None:
    for name in frames.ENVIRONMENTS:
        need(name)
    line = [sys.executable, "tests/benchmark/gpu_check.py", "--out", str(tmp_path), "--device", "cpu"]
    line += ["--part", "pixels", "--least", "0.02", "--seconds", str(4 * SECONDS), *IMAGES]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=5 * SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.json", "table.md"]
    rows = json.loads((tmp_path / "table.json").read_text())["pixels"]
    for kind in gpu_pixels.PRECISIONS:
        assert rows[f"gradient steps/s, {kind}, captured"] > 0
        assert rows[f"gradient steps/s, {kind}, eager"] > 0
    assert rows["batches from host memory"] == "equal those of the device"
    assert rows["batches/s from the device"] > 0
    assert rows["batches/s from host memory"] > 0
    assert rows["gradient steps/s, bf16, eager, from host memory"] > 0
    for env in frames.ENVIRONMENTS:
        assert rows[f"frames/s, {env}, gl, fast"] > 0
        assert rows[f"seconds until the first frame, {env}, gl, fast"] > 0
        found = rows[f"frames/s, {env}, warp, fast"]
        assert "mujoco_warp" in found if find_spec("mujoco_warp") is None else found > 0


def test_batches_that_differ_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_pixels, "COMPARED", 2)
    job, cfg = job_in(tmp_path), config(*IMAGES)
    agent = make_agent(cfg, "float32")
    here, host = (ReplayBuffer(20, SPEC, cfg.agent.skill_dim, "cpu") for _ in range(2))
    for replay in (here, host):
        torch.manual_seed(1)
        fill(replay, random_episodes(agent, 2, 5))
    assert gpu_pixels.different(job, cfg, agent, here, host) == 0
    host.obs[..., 0] ^= 1
    assert gpu_pixels.different(job, cfg, agent, here, host) == 2


def test_random_episodes_are_stacks_of_images() -> None:
    """Otherwise a replay buffer would refuse them, or store other images than benchmarks claim."""
    episodes = random_episodes(make_agent(config(*IMAGES), "float32"), 2, 5)
    check_stacks(frames_of(SPEC), episodes.obs, episodes.length, SPEC.id)
    assert episodes.obs.shape == (2, 6, 64, 64, 9)
    assert not torch.equal(episodes.obs[:, 0], episodes.obs[:, 5])


def test_a_renderer_that_hangs_costs_only_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "frames.py"
    program.write_text('import time\nprint(\'{"case": "a", "frames": 2.0}\', flush=True)\ntime.sleep(60)\n')
    monkeypatch.setattr(frames, "__file__", str(program))
    found = frames.in_process(["a", "b"], 1, 0.1, "cpu", 1.0)
    assert found == {"a": {"frames": 2.0}, "b": {"error": "not done within 1 s"}}


def test_a_renderer_that_fails_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "frames.py"
    program.write_text("raise SystemExit('no driver')\n")
    monkeypatch.setattr(frames, "__file__", str(program))
    assert frames.in_process(["a"], 1, 0.1, "cpu", 10.0) == {"a": {"error": "no driver"}}
