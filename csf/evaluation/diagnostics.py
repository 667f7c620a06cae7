"""What a healthy run looks like: numbers with the band in which each is expected, why, and from when on.

A band is an expectation, not a test: a run outside of one deserves a look, a run inside of all has no certificate. A
value within its band counts at once; one outside counts only after a budget in which a healthy run gets there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

RATE = 1e-4  # the learning rate for which budgets are stated; networks that learn faster get there sooner
START, END = 3, 10  # values that are averaged: skills may emerge within the first ten epochs
SKILLS = 1_000_000  # gradient steps: half of the paper's on Ant. No curve of CSF's first half is published
CROSSING = 64_000  # gradient steps in which METRA's multiplier, at full speed, falls from 30 to 0.05

Config = Mapping[str, Any]  # of a run, as in its config.yaml
Verdict = Literal["in", "out", "not yet"]


class Band(NamedTuple):
    """Where a number is expected, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Diagnostic:
    """One number of a run, and what is expected of it."""

    metric: str  # key of metrics.jsonl
    methods: tuple[str, ...]  # agents that it is for; empty: all
    meaning: str
    source: str  # of the band
    band: Callable[[Config, float], Band | None]  # of the configuration and of the number's start; None: says nothing
    after: int  # gradient steps, at a learning rate of `RATE`
    rate: str = "lr"  # the agent's learning rate that matters


class Finding(NamedTuple):
    """A diagnostic of a run."""

    diagnostic: Diagnostic
    value: float | None  # mean of the newest values; None before there is any
    band: Band
    after: int  # gradient steps of this run
    verdict: Verdict


def judge(config: Config, series: Mapping[str, np.ndarray], gradient_steps: int) -> list[Finding]:
    """What the table says of a run.

    Args:
        config: of the run.
        series: values [T] by metric, oldest first.
        gradient_steps: that the run has made.
    """
    found = []
    for each in DIAGNOSTICS:
        values = series.get(each.metric, np.empty(0))
        after = _budget(each, config)
        late = gradient_steps >= after
        concerns = not each.methods or config["agent"]["name"] in each.methods
        if not concerns or (late and not len(values)):
            continue
        try:
            band = each.band(config, float(values[:START].mean()) if len(values) else math.nan)
        except KeyError:  # a configuration of another version lacks what the band depends on
            continue
        if band is None:
            continue
        value = float(_newest(each.metric, values).mean()) if len(values) else None
        inside = value is not None and band.low <= value <= band.high
        found.append(Finding(each, value, band, after, "in" if inside else "out" if late else "not yet"))
    return found


def _newest(metric: str, values: np.ndarray) -> np.ndarray:
    """Evaluations are rare and already means; what comes with every epoch is averaged."""
    return values[-1:] if metric.startswith("eval/") else values[-END:]


def _budget(diagnostic: Diagnostic, config: Config) -> int:
    """Gradient steps after which the diagnostic counts: at ten times the learning rate, a tenth."""
    rate = config["agent"].get(diagnostic.rate) or RATE
    return round(diagnostic.after * RATE / rate)


def _fixed(low: float, high: float) -> Callable[[Config, float], Band | None]:
    return lambda config, start: Band(low, high)


def _grows(factor: float) -> Callable[[Config, float], Band | None]:
    """At least so many times what it was at the start."""
    return lambda config, start: Band(factor * start, math.inf)


def trivial_loss(config: Config) -> float:
    """CSF's loss while steps say nothing of their skills: xi log n for n negatives, 27.726 as in the paper."""
    agent = config["agent"]
    fresh = agent.get("negatives", "fresh") == "fresh"
    count = agent["num_negatives"] if fresh else config["task"]["batch_size"]
    return float(agent["negative_weight"] * math.log(count))


def _csf_optimum(config: Config) -> float:
    """Length of the step at which CSF's loss is least, if every step lies along its skill: about Z / xi."""
    return float(config["agent"]["skill_dim"] / config["agent"]["negative_weight"])


def _csf_trivial(config: Config, start: float) -> Band:
    return Band(-math.inf, trivial_loss(config) + 0.1)


def _csf_learned(config: Config, start: float) -> Band:
    return Band(-math.inf, trivial_loss(config) - 0.05 * _csf_optimum(config) / 2)


def _csf_step(config: Config, start: float) -> Band:
    return Band(0.1 * _csf_optimum(config) ** 2, 10 * _csf_optimum(config) ** 2)


def _metra_bound(config: Config) -> float:
    """The bound on ||d||^2: 1, or Z where the mean over the Z dimensions is bounded by 1."""
    agent = config["agent"]
    return float(agent["skill_dim"] if agent.get("constraint") == "mean" else 1)


def _metra_falls(config: Config, start: float) -> Band | None:
    """Not for constraint=mean, under which METRA's own run on Ant was above its start again at epoch 3,000."""
    agent = config["agent"]
    falls = agent["multiplier_lr"] and agent.get("constraint") != "mean"
    return Band(0.0, 0.95 * agent["init_multiplier"]) if falls else None


def _metra_settles(config: Config, start: float) -> Band | None:
    scale = math.sqrt(_metra_bound(config))
    return Band(4 * scale, 60 * scale) if config["agent"]["multiplier_lr"] else None


def _metra_step(config: Config, start: float) -> Band:
    bound = _metra_bound(config)
    return Band(0.7 * bound, 1.2 * bound)


def _twice_chance(config: Config, start: float) -> Band:
    return Band(2 / config["agent"]["skill_dim"], 1.0)


def _diayn_reward(config: Config, start: float) -> Band:
    return Band(0.0, math.log(config["agent"]["skill_dim"]))


def _dads_reward(config: Config, start: float) -> Band:
    return Band(0.0, math.log(config["agent"]["num_alternatives"] + 1))


def _cic_accuracy(config: Config, start: float) -> Band:
    return Band(2 / config["task"]["batch_size"], 1.0)


def _no_losses(config: Config, start: float) -> Band:
    return Band(0.0, 0.01 * config["task"]["episodes_per_epoch"])


def _ppo_divergence(config: Config, start: float) -> Band | None:
    return Band(-0.05, 0.1) if config["agent"]["backbone"]["name"] == "ppo" else None


DIAGNOSTICS = (
    Diagnostic(
        "loss/representation",
        ("csf",),
        "The contrastive loss settles at the trivial value, xi log n (27.73 in the paper's setting), or below",
        "the released program on Ant, epochs 95 to 285: 27.728 to 27.726",
        _csf_trivial,
        1_000,
    ),
    Diagnostic(
        "loss/representation",
        ("csf",),
        "The contrastive loss leaves the trivial value downwards: steps tell their skill from others",
        "a twentieth of Z / (2 xi), which is to be gained if every step lies along its skill",
        _csf_learned,
        SKILLS,
    ),
    Diagnostic(
        "phi/step",
        ("csf",),
        "The squared length of phi(s') - phi(s) grows to the order of (Z / xi)^2, where the loss is least",
        "minimum of the loss; a decade either side",
        _csf_step,
        SKILLS,
    ),
    Diagnostic(
        "phi/alignment",
        ("csf",),
        "The cosine of phi(s') - phi(s) and z becomes clearly positive: skills move along themselves",
        "an expectation; 0.7 on the plane after 500 updates at 1e-3",
        _fixed(0.1, 1.0),
        SKILLS,
    ),
    Diagnostic(
        "phi/multiplier",
        ("metra",),
        "The dual variable falls from its start as long as the bound is slack",
        "its largest speed: one learning rate of log lambda an update",
        _metra_falls,
        1_000,
        "multiplier_lr",
    ),
    Diagnostic(
        "phi/multiplier",
        ("metra",),
        "The dual variable falls while the bound is slack, rises when steps reach it, and settles",
        "METRA's own program on Ant, constraint=mean, Z = 2: 4.3 at epoch 599, 33 at 2,999, 23 to 27 after 8,000. "
        "With phi scaled by sqrt(Z), constraint=sum has the same optimum at a multiplier smaller by sqrt(Z)",
        _metra_settles,
        150_000,
        "multiplier_lr",
    ),
    Diagnostic(
        "phi/step",
        ("metra",),
        "E||phi(s') - phi(s)||^2 tends to its bound: 1, or Z under constraint=mean",
        "0.9884 after 20M env steps on Ant under constraint=sum, by a study of METRA; "
        "at least 0.72 Z in the run of METRA's own program",
        _metra_step,
        625_000,
    ),
    Diagnostic(
        "phi/alignment",
        ("metra",),
        "The cosine of phi(s') - phi(s) and z becomes clearly positive: skills move along themselves",
        "an expectation; a public reproduction that failed stayed below 0.02",
        _fixed(0.1, 1.0),
        CROSSING,
    ),
    Diagnostic(
        "episode/displacement",
        ("csf", "metra"),
        "Episodes end at least twice as far from their start as the first ones did: skills travel",
        "an expectation",
        _grows(2),
        SKILLS,
    ),
    Diagnostic(
        "discriminator/accuracy",
        ("diayn",),
        "The classifier names the skill at least twice as often as chance, 1 / K",
        "it leaves chance within the first epochs; 0.29 on Ant after 2,700 updates",
        _twice_chance,
        1_000,
    ),
    Diagnostic(
        "reward/mean",
        ("diayn",),
        "Log q(z given s') + log K is positive, and at most log K",
        "the classifier is better than chance; the most it can say",
        _diayn_reward,
        1_000,
    ),
    Diagnostic(
        "reward/mean",
        ("dads",),
        "A step is likelier under its own skill than under others, by at most log (L + 1)",
        "bounds of the reward",
        _dads_reward,
        10_000,
    ),
    Diagnostic(
        "dynamics/error",
        ("dads",),
        "The squared error per normalized coordinate falls from about 1: the model explains some of the motion",
        "1 is the error of the mean",
        _fixed(0.0, 0.9),
        10_000,
    ),
    Diagnostic(
        "contrast/accuracy",
        ("cic",),
        "A skill finds its own transition in the batch at least twice as often as chance",
        "it leaves chance, 1 / batch size, within the first epochs",
        _cic_accuracy,
        1_000,
    ),
    Diagnostic(
        "phi/alignment",
        ("visr",),
        "phi(s).z, phi of unit length, rises from 0 towards 1",
        "an expectation",
        _fixed(0.1, 1.0),
        CROSSING,
    ),
    Diagnostic(
        "policy/divergence",
        (),
        "An update moves PPO's policy by a few hundredths of a nat",
        "clipping at 0.2",
        _ppo_divergence,
        0,
    ),
    Diagnostic(
        "episode/discarded",
        (),
        "Hardly any world diverges: at most one episode in a hundred is thrown away",
        "the models are stable under actions in [-1, 1]",
        _no_losses,
        0,
    ),
)
