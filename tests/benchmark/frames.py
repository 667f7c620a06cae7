"""Frames per second of image environments: `python tests/benchmark/frames.py quadruped:gl:fast kitchen:warp:paper`.

Prints a line of JSON for each case. It runs in a process of its own in other benchmarks, which may end it: a driver can
block, and the first frame of a renderer can take minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from gymnasium.error import DependencyNotInstalled

import envs
from envs.vector import usable_cores

WORLDS = 8  # as in training
ENVIRONMENTS = ("quadruped", "humanoid", "kitchen", "robobin")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def rate(work: Callable[[], Any], amount: int, least: float, clock: Callable[[], float]) -> float:
    """How much of `amount` per call is done in a second, over at least `least` seconds; the first call is left out."""
    work()
    start, end, calls = clock(), time.perf_counter() + least, 0
    while not calls or time.perf_counter() < end:
        work()
        calls += 1
    return amount * calls / (clock() - start)


def measure(case: str, threads: int, least: float, clock: Callable[[], float]) -> dict[str, Any]:
    """Frames per second of rendering alone, steps per second of physics alone, and seconds until the first frame.

    Warp renders a batch of worlds as in training. OpenGL renders one world after another, so one per thread is enough.
    """
    name, renderer, quality = case.split(":")
    threads = threads or usable_cores()
    count, start = WORLDS if renderer == "warp" else threads, time.perf_counter()
    worlds: Any = envs.make_vec(name, count, renderer=renderer, quality=quality, threads=threads)
    try:
        worlds.reset(seed=0)
        first = time.perf_counter() - start
        rng, shape = np.random.default_rng(0), (count, *worlds.single_action_space.shape)
        low, high = worlds.bounds.T
        frames = rate(lambda: worlds._painters.paint(worlds.poses()), count, least, clock)
        physics = rate(lambda: worlds._move(low + (high - low) * rng.uniform(size=shape)), count, least / 2, clock)
    finally:
        worlds.close()
    return {"frames": frames, "physics": physics, "first": first}


def in_process(cases: list[str], threads: int, least: float, clock: str, limit: float) -> dict[str, dict[str, Any]]:
    """What `measure` found for each case in a process that is ended after `limit` seconds; {"error"} if it was not."""
    command = [sys.executable, __file__, "--threads", str(threads), "--least", str(least), "--clock", clock, *cases]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit)
        output, reason = done.stdout, (done.stderr.decode().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired as error:
        output, reason = error.stdout or b"", f"not done within {limit:.0f} s"
    rows = [json.loads(line) for line in output.decode().splitlines()]
    return {case: {"error": reason} for case in cases} | {row.pop("case"): row for row in rows}


def main() -> None:
    """Measure the cases in the order given."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=1, help="0: one per core")
    arguments.add_argument("--least", type=float, default=1.0, help="seconds that a rate is measured for")
    arguments.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: sum over threads")
    arguments.add_argument("cases", nargs="+", help="environment:renderer:quality")
    given = arguments.parse_args()
    for case in given.cases:
        try:
            found = measure(case, given.threads, given.least, CLOCKS[given.clock])
        except DependencyNotInstalled as error:
            found = {"error": str(error).splitlines()[0]}
        sys.stdout.write(json.dumps({"case": case, **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
