"""What learning from images costs on this CPU: `python tests/benchmark/pixels.py` prints tables in Markdown.

Rates of one thread and of updates are per second of CPU time, so they can also be measured on a busy machine. Those of
all threads are per second and need idle cores.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import csf  # first: how threads wait is decided before PyTorch is loaded

# isort: split
import torch
from frames import ENVIRONMENTS, WORLDS, in_process
from images import SPEC, config, fill, make_agent, random_batch, random_episodes
from training import processor

from csf.agents import Agent
from csf.config.compose import check
from csf.core.precision import Precision
from csf.io import checkpoint
from csf.nets.encoder import ImageEncoder
from csf.replay import ReplayBuffer

RENDERERS = ("gl:paper", "gl:fast", "warp:paper", "warp:fast")
LIMIT = 60.0  # seconds for all frames of one renderer and quality
SMALL = "encoder.channels=[12,24,48,96]"
ENCODERS: dict[str, tuple[str, ...]] = {
    "own": (),
    "shared": ("encoder=shared",),
    f"shared, {SMALL}": ("encoder=shared", SMALL),
}
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16_all")
PLAIN = "bf16_all, not channels-last"
STEPS = {"quadruped": 200, "humanoid": 200, "kitchen": 50, "robobin": 200}  # of an episode

Rates = dict[str, dict[str, Any]]  # by environment
Updates = dict[tuple[str, str], float]  # seconds of an update by encoder and precision
Table = list[list[str]]


def main() -> None:
    """Measure and print all tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=3, help="measured updates")
    arguments.add_argument("--least", type=float, default=1.0, help="seconds that a rate is measured for")
    given = arguments.parse_args()
    cores = len(os.sched_getaffinity(0))
    about = f"csf {csf.__version__} {checkpoint.provenance().get('commit', '')}, {date.today()}, {processor()}"
    say(f"{about}, {cores} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f} at the start")
    one = {kind: rates(kind, 1, given.least, "cpu") for kind in RENDERERS}
    every = {kind: rates(kind, 0, given.least, "wall") for kind in RENDERERS[:2]}
    say("", "Frames per second:", "", *markdown(frame_table(one, every, cores)))
    torch.set_num_threads(1)
    kinds = (*PRECISIONS, PLAIN)
    updates = {(name, kind): update(words, kind, given.repeat) for name, words in ENCODERS.items() for kind in kinds}
    say("", "Seconds of an update of CSF on Quadruped, one thread:", "", *markdown(update_table(updates)))
    say("", "Seconds of an epoch of CSF, one thread:", "", *markdown(epoch_table(one, updates)))
    say("", memory())
    say("", f"load {os.getloadavg()[0]:.1f} at the end")


# ---- frames


def rates(kind: str, threads: int, least: float, clock: str) -> Rates:
    """Rates of every environment with one renderer and quality; why one is missing goes to stderr."""
    found = in_process([f"{env}:{kind}" for env in ENVIRONMENTS], threads, least, clock, LIMIT)
    for case, row in found.items():
        if "error" in row:
            sys.stderr.write(f"{case}: {row['error']}\n")
    return {case.partition(":")[0]: row for case, row in found.items()}


def frame_table(one: dict[str, Rates], every: dict[str, Rates], cores: int) -> Table:
    """Frames per second by environment and renderer, and steps of the physics."""
    columns = [f"{kind.replace(':', ', ')}" for kind in RENDERERS]
    head = ["", *(f"{name}, 1 thread" for name in columns), *(f"{name}, {cores} threads" for name in columns[:2])]
    table = [[*head, "physics, 1 thread"]]
    for env in ENVIRONMENTS:
        cells = [shown(found.get(env, {}).get("frames")) for found in (*one.values(), *every.values())]
        table.append([env, *cells, shown(one["gl:fast"].get(env, {}).get("physics"))])
    return table


# ---- updates


def update(words: tuple[str, ...], kind: str, repeat: int) -> float:
    """Seconds of CPU time of an update of CSF on a batch of the paper's size."""
    cfg = config(*words)
    precision = next((each for each in PRECISIONS if each == kind), PRECISIONS[-1])  # PLAIN: the last one
    agent = make_agent(cfg, precision)
    if kind == PLAIN:
        plain_order(agent)
    batch = random_batch(agent, cfg.task.batch_size)
    return seconds(lambda: agent.update(batch), repeat)


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Median CPU time of a call; the first one is left out."""
    times = []
    for _ in range(1 + repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def plain_order(agent: Agent) -> None:
    """Let the convolutions of an agent compute with images in the memory order channel, row, column."""
    for encoder in (module for module in agent.modules() if isinstance(module, ImageEncoder)):
        encoder.layers.register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))


def update_table(updates: Updates) -> Table:
    """Seconds by encoder and precision."""
    kinds = [*PRECISIONS, PLAIN]
    table = [["`encoder=`", *kinds]]
    return table + [[f"`{name}`", *(shown(updates[name, kind]) for kind in kinds)] for name in ENCODERS]


# ---- epochs


def epoch_table(one: dict[str, Rates], updates: Updates) -> Table:
    """Seconds of the parts of an epoch, from the rates above and the numbers of steps and updates."""
    table = [["", "settings", "physics", "rendering", "acting", "learning"]]
    own, *_, small = ENCODERS
    for env in ENVIRONMENTS:
        for kind, encoder, precision in (("gl:paper", own, "float32"), ("warp:fast", small, "bf16_all")):
            task, found = check(["agent=csf", f"env={env}"]).task, one[kind].get(env, {})
            steps = task.episodes_per_epoch * STEPS[env]
            parts = [steps / found[rate] if rate in found else None for rate in ("physics", "frames")]
            parts += [steps * acting(encoder, precision), task.updates_per_epoch * updates[encoder, precision]]
            words = [f"renderer={kind.replace(':', ', ')}", f"encoder={encoder}", precision]
            table.append([env, ", ".join(words), *map(shown, parts)])
    return table


@functools.cache
def acting(encoder: str, precision: Precision) -> float:
    """Seconds of CPU time of the policy per step of a world, for as many worlds as in training."""
    agent = make_agent(config(*ENCODERS[encoder]), precision)
    obs, skill = random_batch(agent, WORLDS).obs, agent.objective.sample_skills(WORLDS)
    return seconds(lambda: agent.act(obs, skill), 20) / WORLDS


# ---- memory


def memory() -> str:
    """What a full replay buffer of the paper's size takes, measured in a process of its own."""
    ours, theirs = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=fill_replay, args=(theirs,))
    process.start()
    theirs.close()
    before, peak, count = ours.recv()
    process.join()
    return (
        f"A process with a full replay buffer of {count:,} transitions of Quadruped, from which it has sampled: "
        f"{(peak - before) / 1e9:.2f} GB more resident memory at its peak than before."
    )


def fill_replay(pipe: Any) -> None:
    """Send resident memory before, the peak of it, and the number of transitions."""
    torch.set_num_threads(1)
    cfg = config()
    agent = make_agent(cfg, "float32")
    episodes = random_episodes(agent, cfg.task.episodes_per_epoch)
    before = resident("VmRSS")
    replay = ReplayBuffer(cfg.task.replay_size, SPEC, cfg.agent.skill_dim, "cpu")
    fill(replay, episodes)
    for _ in range(10):
        replay.sample(cfg.task.batch_size)
    pipe.send((before, resident("VmHWM"), len(replay)))


def resident(kind: str) -> int:
    """Resident memory of this process in bytes: now (VmRSS), or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024


# ---- tables


def markdown(table: Table) -> list[str]:
    """The lines of a table whose first row is its head."""
    rows = [f"| {' | '.join(row)} |" for row in table]
    return [rows[0], "|" + "---|" * len(table[0]), *rows[1:]]


def shown(value: float | None) -> str:
    """Two or three digits; a dash if it was not measured."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def say(*lines: str) -> None:
    """Print lines at once."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
