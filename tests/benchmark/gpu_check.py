"""What runs on a CUDA device, checked and measured within minutes: scripts/gpu_check.sh says how to call it.

Every part writes its results into OUT/table.json and OUT/table.md as soon as it has them, so that a part which fails or
runs out of time costs nothing of what came before. On the CPU (`--device cpu`), which is for rehearsals, a tape stands
in for CUDA graphs, and no figure means anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


import csf  # noqa: F401  # first: how threads wait is decided before PyTorch is loaded

# isort: split
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from gpu_job import Check, at_most, failure, per_second
from gpu_pixels import pixels

from csf.agents import Agent
from csf.config.compose import check
from csf.errors import ConfigError
from csf.io import checkpoint
from csf.learners import EpochBudget, Learner, Overlapped
from csf.learners.captured import CapturedSteps
from csf.learners.replay import ReplayLearner
from csf.run import Run
from csf.sampler import RolloutSampler
from csf.types import Episodes
from csf.worlds import describe, make_worlds

ROOT = Path(__file__).parents[2]
TOTAL = 285.0  # seconds for all parts
SHARE = {"tests": 110.0, "speed": 85.0}  # of it, at most; the rest is for training
STOP = 20.0  # seconds that a run is given to end its epoch, evaluate and save
KINDS = ("float32", "TF32", "bf16")
ANT = ("agent=csf", "env=ant", "task=pretrain")
SMALL = ("agent=csf", "env=point", "agent.hidden=[16,16]", "agent.backbone.hidden=[16,16]", "task.updates_per_epoch=4")


# ---- tests


def tests(job: Check, seconds: float) -> None:
    """The tests with the marker gpu, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/test_gpu.py", "-rs", "--tb=short", "--durations=8"]
    command += ["-p", "no:cacheprovider", "-v"]
    if job.device.type == "cuda" and importlib.util.find_spec("xdist"):  # recording graphs is work of the CPU
        command += ["-n", str(min(8, len(os.sched_getaffinity(0))))]
    log, start = job.out / "tests.txt", time.monotonic()
    with log.open("w") as file:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, timeout=max(seconds, 1)).returncode
            said = {0: "passed", 1: "failed"}.get(code, f"exit code {code}")
        except subprocess.TimeoutExpired:
            said = "out of time"
    *_, last = log.read_text().splitlines() or [""]
    job.failed |= said != "passed"
    job.note("tests", {"result": said, "pytest": last.strip("= "), "seconds": time.monotonic() - start})


# ---- speed


class Setting:
    """CSF on Ant with a full enough buffer, in one precision, from the same initial values each time."""

    def __init__(self, job: Check, kind: str, episodes: Episodes | None) -> None:
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high" if kind == "TF32" else "highest")
        self.cfg = check([*ANT, *job.words])
        task = self.cfg.task
        self.worlds = make_worlds(self.cfg.env, task.episodes_per_epoch)
        spec = describe(self.worlds, str(self.cfg.env["name"]))
        self.agent = Agent(self.cfg.agent, self.cfg.backbone, spec, self.cfg.encoder).to(job.device)
        if kind == "bf16":
            self.agent.use_precision("bf16_all")
        self.sampler = RolloutSampler(self.worlds, spec, 0, job.device)
        budget = dataclasses.replace(EpochBudget.of(task), min_replay_size=1)
        self.learner = ReplayLearner(self.agent, budget, job.device)
        self.skills = self.agent.objective.sample_skills(task.episodes_per_epoch)
        self.episodes = episodes or self.sampler.collect(self.agent.act, self.skills)

    def learn(self) -> dict[str, float]:
        return self.learner.learn(self.episodes)

    def collect(self) -> Episodes:
        return self.learner.collect(self.sampler, self.skills)

    def epoch(self) -> dict[str, float]:
        return self.learner.learn(self.collect())

    def close(self) -> None:
        self.worlds.close()


def capture(learner: Learner) -> None:
    """Graphs, or a tape where there is no CUDA."""
    if learner.device.type == "cuda":
        learner.capture()
        learner.agent.capture()
        return
    from tape import record

    def uncompiled(function: Callable[[], Any]) -> Any:
        with torch.compiler.set_stance("force_eager"):  # no compiler sees through a tape
            return record(function)

    learner.make_steps = CapturedSteps(learner.agent, uncompiled)
    learner.agent.capture(uncompiled)


def compile_losses(agent: Any, device: torch.device) -> None:
    """Each loss as one compiled function; without CUDA traced alone, which is quick."""
    backend = "inductor" if device.type == "cuda" else "eager"
    torch._dynamo.reset()
    for part, name in ((agent.objective, "loss"), (agent.backbone, "critic_loss"), (agent.backbone, "actor_loss")):
        setattr(part, name, torch.compile(getattr(part, name), fullgraph=True, backend=backend))


MODES: dict[str, tuple[Callable[[Setting, torch.device], None], ...]] = {
    "eager": (),
    "captured": (lambda setting, _: capture(setting.learner),),
    "compiled": (lambda setting, device: compile_losses(setting.agent, device),),
    "compiled and captured": (
        lambda setting, device: compile_losses(setting.agent, device),
        lambda setting, _: capture(setting.learner),
    ),
}
# Compiling takes long, so that what only compares precisions comes before it.
CELLS = [(kind, mode) for mode in ("captured", "eager") for kind in KINDS]
CELLS += [("float32", "compiled and captured"), ("float32", "compiled"), ("bf16", "compiled and captured")]


def speed(job: Check, seconds: float) -> None:
    """Gradient steps per second in every mode and precision; collecting and whole epochs with and without graphs."""
    end = time.monotonic() + seconds
    rows: dict[str, Any] = {}
    episodes: Episodes | None = None
    first: dict[str, dict[str, float]] = {}  # metrics of the first epoch, eager, by precision
    ahead: dict[str, dict[str, float]] = {}  # likewise of graphs
    for kind, mode in CELLS:
        name = f"gradient steps/s, {kind}, {mode}"
        if end - time.monotonic() < 1:
            rows[name] = "left out: no time"
            continue
        setting = Setting(job, kind, episodes)
        episodes = setting.episodes
        try:
            with at_most(end - time.monotonic()):
                found = cell(job, setting, kind, mode, rows)
            {"eager": first, "captured": ahead}.get(mode, {})[kind] = found
        except TimeoutError:
            rows[name] = "left out: out of time"
        except Exception as error:  # of one mode: the others are still worth measuring
            rows[name] = failure(error)
            job.failed = True
        finally:
            setting.close()
        job.note("speed", rows)
    for kind in first.keys() & ahead.keys():
        rows[f"largest difference of a metric, {kind}, captured to eager"] = apart(ahead[kind], first[kind])
    torch.set_float32_matmul_precision("highest")
    job.note("speed", rows)


def cell(job: Check, setting: Setting, kind: str, mode: str, rows: dict[str, Any]) -> dict[str, float]:
    """Measure one precision in one mode; returns the metrics of its first epoch."""
    for change in MODES[mode]:
        change(setting, job.device)
    torch.manual_seed(1)  # the same draws in every mode
    start = time.perf_counter()
    found = setting.learn()
    job.settle()
    if mode != "eager":
        rows[f"seconds of the first epoch, {kind}, {mode}"] = time.perf_counter() - start
    rows[f"gradient steps/s, {kind}, {mode}"] = per_second(job, setting.learn, setting.cfg.task.updates_per_epoch)
    if kind == "float32" and mode in ("eager", "captured"):
        rows |= collecting(job, setting, mode)
    if kind == "float32" and mode == "captured":
        rows["seconds of an epoch, float32, captured, task.overlap=true"] = overlapping(job, setting)
    return found


def collecting(job: Check, setting: Setting, mode: str) -> dict[str, float]:
    """Environment steps per second, and seconds of an epoch that collects and learns."""
    steps = setting.cfg.task.episodes_per_epoch * setting.agent.spec.max_steps
    return {
        f"env steps/s while collecting, {mode}": per_second(job, setting.collect, steps),
        f"seconds of an epoch, float32, {mode}": 1 / per_second(job, setting.epoch, 1),
    }


def overlapping(job: Check, setting: Setting) -> float:
    """Seconds of an epoch that collects on a thread while it learns."""
    sampler = RolloutSampler(setting.worlds, setting.agent.spec, 0, "cpu")
    overlapped = Overlapped(setting.learner, "float32")
    seconds = 1 / per_second(job, lambda: overlapped(sampler, setting.skills), 1)
    overlapped.close()
    return seconds


def apart(found: dict[str, float], want: dict[str, float]) -> float:
    """Of two sets of metrics, relative to their size or to 1 where that is larger."""
    return max(abs(found[name] - value) / max(abs(value), 1.0) for name, value in want.items())


# ---- train


def train(job: Check, seconds: float) -> None:
    """A run that changes the device and goes on bit for bit, then CSF on Ant until the time is over."""
    end = time.monotonic() + seconds
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows["a run on cpu, cuda, cpu"] = across(job, Path(folder) / "across")
            rows["resumed on the device, against undisturbed"] = resumed(job, Path(folder))
        except Exception as error:
            rows["resuming"] = failure(error)
            job.failed = True
        job.note("train", rows)
        rows |= ant(job, Path(folder), end - time.monotonic() - STOP)
    job.note("train", rows)


def small(job: Check, folder: Path, device: str, epochs: int) -> dict[str, Any]:
    """Train a point up to an epoch; returns the checkpoint without what names the run."""
    words = [*SMALL, f"exp_dir={folder.parent}", f"run_name={folder.name}", f"device={device}", "task.save_every=3"]
    words += [f"task.epochs={epochs}", "task.eval_every=1000", "task.min_replay_size=100", "task.replay_size=10000"]
    cfg = check(words)
    with Run(cfg, torch.device(device)) as whole:
        if code := whole.train():
            raise ConfigError(f"a small run on {device} ended with exit code {code}")
    state = checkpoint.load(folder / "checkpoints" / checkpoint.FULL.format(epochs))
    del state["config"], state["parts"]["logger"]
    return state


def across(job: Check, folder: Path) -> str:
    """Whether a run goes on where it is moved to another device and back."""
    for epochs, device in ((3, "cpu"), (6, job.device.type), (9, "cpu")):
        small(job, folder, device, epochs)
    epochs_of = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if epochs_of != list(range(10)):
        job.failed = True
        return f"failed: rows of epochs {epochs_of}"
    return "goes on"


def resumed(job: Check, folder: Path) -> str:
    """Whether a run that was stopped and resumed on the device ends as one that was not."""
    from runs import different

    want = small(job, folder / "whole", job.device.type, 6)
    small(job, folder / "parts", job.device.type, 3)
    paths = different(small(job, folder / "parts", job.device.type, 6), want)
    job.failed |= bool(paths)
    return f"differ in {len(paths)} places, such as {paths[0]}" if paths else "bit for bit the same"


def ant(job: Check, folder: Path, seconds: float) -> dict[str, Any]:
    """Train through the command line, asked to stop after some seconds; what it wrote goes to OUT."""
    if seconds < STOP:
        return {"training": "left out: no time"}
    words = [*ANT, f"device={job.device.type}", f"exp_dir={folder}", "run_name=ant", "task.save_every=100000"]
    words += ["task.eval_every=500", *job.words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with (job.out / "train.txt").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "csf.train", *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        with suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        child.send_signal(signal.SIGTERM)
        try:
            code: int | str = child.wait(STOP)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
    job.failed |= code not in (0, 128 + signal.SIGTERM)
    found: dict[str, Any] = {"exit code of training, 143 where its time was over": code}
    return found | kept(job, folder / "ant")


def kept(job: Check, run: Path) -> dict[str, Any]:
    """Copy a run's rows and its newest picture; returns how far it came, and medians of its later half."""
    rows_file = run / "metrics.jsonl"
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file.exists() else []
    learned = [row for row in rows if row["gradient_steps"] and "loss/critic" in row]
    if not learned:
        job.failed = True
        return {"training": "failed: no epoch has learned; see train.txt"}
    shutil.copy(rows_file, job.out / "metrics.jsonl")
    for picture in sorted(run.glob("plots/trajectories_*.png"))[-1:]:
        shutil.copy(picture, job.out / "trajectories.png")
    later = learned[len(learned) // 2 :]
    found: dict[str, Any] = {name: rows[-1][name] for name in ("epoch", "env_steps", "gradient_steps")}
    for name in ("time/collect", "time/learn"):
        values = sorted(row[name] for row in later)
        found[f"{name}, median seconds"] = values[len(values) // 2]
    last = {name: value for row in rows for name, value in row.items()}
    names = ("loss/representation", "phi/alignment", "eval/coverage")
    return found | {name: last[name] for name in names if name in last}


PARTS: dict[str, Callable[[Check, float], None]] = {"tests": tests, "speed": speed, "train": train, "pixels": pixels}
ALONE = {"pixels": 120.0}  # parts that run only if they are named, and their seconds


def main() -> int:
    """Do one part or all; the exit code is 1 if something failed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True, help="folder for what is found")
    arguments.add_argument("--part", choices=[*PARTS, "all"], default="all")
    arguments.add_argument("--device", default="cuda", help="cpu is for rehearsals")
    arguments.add_argument("--seconds", type=float, help="for everything")
    arguments.add_argument("--least", type=float, default=1.5, help="seconds that a speed is measured for")
    arguments.add_argument("words", nargs="*", help="key=value, as for csf.train, for speed and training")
    given = arguments.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("csf: PyTorch finds no CUDA device here, so that there is nothing to check\n")
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    seconds = given.seconds or ALONE.get(given.part, TOTAL)
    job = Check(given.out, given.device, seconds, tuple(given.words), given.least)
    for name, part in PARTS.items():
        if given.part == name or (given.part == "all" and name not in ALONE):
            whole = given.part != "all" or name not in SHARE
            part(job, job.left() if whole else min(job.left(), SHARE[name] * seconds / TOTAL))
    sys.stdout.write((given.out / "table.md").read_text())
    return int(job.failed)


if __name__ == "__main__":
    sys.exit(main())
