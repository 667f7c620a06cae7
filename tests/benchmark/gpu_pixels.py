"""The part of the check of a GPU that learns from images: gradient steps, replay, and frames of every environment."""

from __future__ import annotations

import time
from typing import Any

import torch
from frames import ENVIRONMENTS, in_process
from gpu_job import Check, at_most, failure, per_second
from images import SPEC, config, fill, make_agent, random_episodes
from tape import record

from csf.agents import Agent
from csf.config.schema import Config
from csf.core.precision import Precision
from csf.learners.captured import CapturedSteps
from csf.learners.updates import MakeSteps, make_steps
from csf.replay import ReplayBuffer
from csf.types import Batch, Episodes

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16_all")
STEPS = 10  # gradient steps in a measured call, which are one graph
COMPARED = 20  # batches
LEARNING = 0.6  # of the time at most
RENDERERS = {"gl": 0.4, "warp": 0.9}  # and of the time that is left then, the share that each may take


def pixels(job: Check, seconds: float) -> None:
    """Learning and replay at the paper's size, then frames per second of every environment and renderer."""
    end = time.monotonic() + seconds
    rows: dict[str, Any] = {}
    try:
        with at_most(LEARNING * seconds):
            learning(job, rows)
    except TimeoutError:
        rows["the rest of learning"] = "left out: out of time"
    except Exception as error:  # frames are still worth measuring
        rows["learning"] = failure(error)
        job.failed = True
    job.note("pixels", rows)
    quality = "paper" if job.device.type == "cuda" else "fast"
    for renderer, share in RENDERERS.items():
        cases = [f"{env}:{renderer}:{quality}" for env in ENVIRONMENTS]
        limit = max(share * (end - time.monotonic()), 1.0)
        for case, found in in_process(cases, 0, job.least, "wall", limit).items():
            name = case.replace(":", ", ")
            rows[f"frames/s, {name}"] = found.get("frames", found.get("error"))
            rows[f"seconds until the first frame, {name}"] = found.get("first", "-")
        job.note("pixels", rows)


def learning(job: Check, rows: dict[str, Any]) -> None:
    """Replay on the device and in host memory, and gradient steps on batches from both."""
    cfg = config(*job.words)
    agent = make_agent(cfg, "float32", job.device)
    episodes = random_episodes(agent, cfg.task.episodes_per_epoch)
    here = filled(job, rows, cfg, episodes, job.device)
    for kind in PRECISIONS:
        for mode in ("captured", "eager"):
            rows[f"gradient steps/s, {kind}, {mode}"] = speed(job, cfg, kind, here, mode)
            job.note("pixels", rows)
    host = filled(job, rows, cfg, episodes, torch.device("cpu"))
    apart = different(job, cfg, agent, here, host)
    rows["batches from host memory"] = f"{apart} of {COMPARED} differ" if apart else "equal those of the device"
    job.failed |= apart > 0
    for name, replay in (("the device", here), ("host memory", host)):
        rows[f"batches/s from {name}"] = per_second(job, lambda: replay.sample(cfg.task.batch_size), 1)  # noqa: B023
    rows["gradient steps/s, bf16, eager, from host memory"] = speed(job, cfg, "bf16", host, "eager")


def filled(job: Check, rows: dict[str, Any], cfg: Config, episodes: Episodes, storage: torch.device) -> ReplayBuffer:
    """A full replay buffer of the paper's size."""
    start = time.perf_counter()
    replay = ReplayBuffer(cfg.task.replay_size, SPEC, cfg.agent.skill_dim, job.device, storage)
    fill(replay, episodes)
    job.settle()
    where = "the device" if storage == job.device else "host memory"
    rows[f"seconds to fill a replay buffer of {replay.nbytes / 1e9:.2f} GB in {where}"] = time.perf_counter() - start
    return replay


def speed(job: Check, cfg: Config, kind: Precision, replay: ReplayBuffer, mode: str) -> float:
    """Gradient steps per second."""
    agent = make_agent(cfg, kind, job.device)
    steps: MakeSteps = make_steps
    if mode == "captured":
        steps = CapturedSteps(agent, None if job.device.type == "cuda" else record)
    return per_second(job, lambda: steps(agent.update, replay, STEPS, cfg.task.batch_size), STEPS)


def different(job: Check, cfg: Config, agent: Agent, here: ReplayBuffer, host: ReplayBuffer) -> int:
    """How many batches from host memory differ from those of the device, if the device computes in between."""
    pairs: list[tuple[Batch, Batch]] = []
    for _ in range(COMPARED):
        order = torch.randint(len(here), (cfg.task.batch_size,))
        pairs.append((here.gather(here.rows(order.to(here.storage))), host.gather(host.rows(order))))
        agent.update(pairs[-1][1])
    job.settle()
    return sum(any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in pairs)
