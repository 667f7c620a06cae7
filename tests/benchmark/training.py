"""How fast an epoch of CSF on Ant is, phase by phase, beside what bounds it: `python tests/benchmark/training.py`.

Both sides of every ratio are measured in this run, in turns, and printed as medians with their spread:
collecting against the physics alone, gradient steps against the matrix products that they contain.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

import csf  # first: how threads wait is decided before PyTorch is loaded
from csf.agents import Agent
from csf.config.compose import check
from csf.core.device import one_thread
from csf.core.precision import Precision, linear
from csf.core.products import FASTER
from csf.io import checkpoint
from csf.learners import EpochBudget
from csf.learners.replay import ReplayLearner
from csf.run import Run
from csf.sampler import RolloutSampler
from csf.types import EnvSpec, Episodes
from csf.worlds import describe, make_worlds

PRODUCTS = 24  # square products of one update of CSF, counted by hand; 8 of them are phi's
FLOAT32: dict[Precision, int] = {"float32": PRODUCTS, "bf16": 8, "bf16_all": 0}  # products that stay in float32
WIDTHS = (1024, 256)
RELEASED = {"collect": 1.33, "learn": 7.2}  # seconds, two cores of this kind: environment, 50 gradient steps


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=7, help="measurements of each phase")
    arguments.add_argument("overrides", nargs="*", help="key=value, as for csf.train")
    given = arguments.parse_args()
    cfg = check(["agent=csf", "env=ant", *given.overrides])
    torch.set_num_threads(cfg.threads or len(os.sched_getaffinity(0)))
    phases = collecting(cfg)
    for width in WIDTHS:
        phases |= learning(cfg, width)
    phases |= evaluating(cfg)
    times: dict[str, list[float]] = {name: [] for name in phases}
    for phase in phases.values():
        phase()  # warm up
    for _ in range(given.repeat):
        for name, phase in phases.items():
            start = time.perf_counter()
            phase()
            times[name].append(time.perf_counter() - start)
    report(cfg, times)


def collecting(cfg: Any) -> dict[str, Callable[[], object]]:
    """An epoch's episodes; with all PyTorch threads; and their physics alone."""
    worlds = make_worlds(cfg.env, cfg.task.episodes_per_epoch)
    spec = describe(worlds, "ant")
    agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)
    sampler = RolloutSampler(worlds, spec, 0, "cpu")
    skills = agent.objective.sample_skills(cfg.task.episodes_per_epoch)
    actions = np.random.default_rng(0).uniform(-1, 1, (spec.max_steps, len(skills), spec.action_dim))
    threads = torch.get_num_threads()

    def all_threads(obs: torch.Tensor, skill: torch.Tensor, mode: bool = False, /) -> torch.Tensor:
        torch.set_num_threads(threads)
        return agent.act(obs, skill, mode)

    def physics() -> None:
        worlds.reset(seed=list(range(len(skills))))
        batch: Any = worlds
        for action in actions:
            batch._advance(action)

    def policy() -> None:
        obs = torch.zeros(len(skills), *spec.obs_shape)
        with one_thread(torch.device("cpu")):
            for _ in range(spec.max_steps):
                agent.act(obs, skills)

    return {
        "collect": lambda: sampler.collect(agent.act, skills),
        "collect, policy on all threads": lambda: sampler.collect(all_threads, skills),
        "physics alone": physics,
        "policy alone": policy,
    }


def learning(cfg: Any, width: int) -> dict[str, Callable[[], object]]:
    """An epoch's gradient steps in each precision at a width of all networks, and their square products alone."""
    layers = (
        dataclasses.replace(cfg.agent, hidden=(width, width)),
        dataclasses.replace(cfg.backbone, hidden=(width, width)),
    )
    worlds = make_worlds(cfg.env, cfg.task.episodes_per_epoch)
    spec = describe(worlds, "ant")
    budget = dataclasses.replace(EpochBudget.of(cfg.task), min_replay_size=1)
    sampler = RolloutSampler(worlds, spec, 0, "cpu")

    def learn(precision: Precision) -> Callable[[], object]:
        agent = Agent(*layers, spec, cfg.encoder)
        agent.use_precision(precision)
        learner = ReplayLearner(agent, budget, "cpu")
        episodes = sampler.collect(agent.act, agent.objective.sample_skills(cfg.task.episodes_per_epoch))
        return lambda: learner.learn(episodes)

    def products(exact: int) -> Callable[[], object]:
        x, w = torch.randn(cfg.task.batch_size, width), torch.randn(width, width)
        half = x.bfloat16(), w.bfloat16()

        def multiply() -> None:
            for _ in range(cfg.task.updates_per_epoch):
                for _ in range(exact):
                    linear(x, w, None)
                for _ in range(PRODUCTS - exact):
                    torch.mm(*half)

        return multiply

    found: dict[str, Callable[[], object]] = {}
    for precision, exact in FLOAT32.items():
        found[f"learn, width {width}, {precision}"] = learn(precision)
        found[f"products, width {width}, {precision}"] = products(exact)
    return found


def evaluating(cfg: Any) -> dict[str, Callable[[], object]]:
    """Coverage, goals and pictures; and a checkpoint as large as it gets."""
    import tempfile

    folder = tempfile.TemporaryDirectory()
    moved = check(["agent=csf", "env=ant", f"exp_dir={folder.name}"])
    run = Run(moved, torch.device("cpu"))
    fill(run.parts["replay"], run.agent.spec, cfg, cfg.task.replay_size)

    def evaluate(keep: tempfile.TemporaryDirectory[str] = folder) -> None:
        for evaluator in run.trainer.evaluators:
            evaluator.run(run.agent, run.trainer.eval_sampler)

    def save() -> None:
        """A save writes what was added since the previous one, which the time of adding it includes here."""
        new = cfg.task.save_every * cfg.task.episodes_per_epoch * run.agent.spec.max_steps
        fill(run.parts["replay"], run.agent.spec, cfg, new)
        run.save({})

    return {"evaluate": evaluate, f"add and save {cfg.task.save_every} epochs": save}


def fill(replay: Any, spec: EnvSpec, cfg: Any, transitions: int) -> None:
    """Add episodes of noise."""
    count, steps = transitions // spec.max_steps, spec.max_steps
    obs = torch.randn(count, steps + 1, *spec.obs_shape)
    nothing, skill = torch.zeros(count, steps), torch.zeros(count, cfg.agent.skill_dim)
    action, coord = torch.zeros(count, steps, spec.action_dim), torch.zeros(count, steps + 1, 2)
    replay.add(Episodes(obs, action, nothing, nothing, skill, torch.full((count,), steps), coord))


def processor() -> str:
    """Model of the CPU, and whether it multiplies bfloat16 numbers in hardware."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in text]
    return f"{model or platform.machine()} ({', '.join(flags)})"


def report(cfg: Any, times: dict[str, list[float]]) -> None:
    """Print medians and ratios."""
    middle = {name: statistics.median(values) for name, values in times.items()}
    lines = [f"csf {csf.__version__} {checkpoint.provenance().get('commit', '')}, {date.today()}, {processor()}"]
    lines += [f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "]
    lines[-1] += f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}, load {os.getloadavg()[0]:.1f}"
    lines += [f"float32 products: {'oneDNN' if FASTER else 'the default library of PyTorch'}"]
    for name, values in times.items():
        lines.append(f"{name:<34} {middle[name]:7.3f} s   ({min(values):.3f} to {max(values):.3f})")
    lines += [
        f"collect / physics alone: {middle['collect'] / middle['physics alone']:.2f}",
        f"epoch in float32: {middle['collect'] + middle[f'learn, width {WIDTHS[0]}, float32']:.2f} s",
        "",
        "| width | precision | update, ms | square products alone, ms | ratio | faster than float32 |",
        "|---|---|---|---|---|---|",
    ]
    for width in WIDTHS:
        for precision in FLOAT32:
            learn, product, exact = (
                middle[f"{name}, width {width}, {kind}"] / cfg.task.updates_per_epoch * 1000
                for name, kind in (("learn", precision), ("products", precision), ("learn", "float32"))
            )
            ratios = f"{learn / product:.2f} | {exact / learn:.2f}"
            lines.append(f"| {width} | {precision} | {learn:.1f} | {product:.1f} | {ratios} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
