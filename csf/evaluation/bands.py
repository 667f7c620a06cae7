"""The expected range (band) of each metric, its source, and the gradient steps after which it applies.

A band is an expectation, not a test: a value outside should be investigated, but values inside do not prove that a run
is correct.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

RATE = 1e-4  # learning rate for which budgets are given; higher rates shorten them in proportion
# Gradient steps after which skills have emerged on Ant. In the released logs, of 50 steps per epoch, coverage is above
# 100 cells at epoch 1,000 (METRA) or 1,500 (CSF; 43 to 234 over seeds and variants), and above 500 at epoch 2,000.
SKILLS = 125_000
CROSSING = 64_000  # gradient steps that METRA's multiplier needs to fall from 30 to 0.05 at its maximum rate
LEAST_RANK = 1.2  # effective rank of two singular values that differ by a factor of 3

Config = Mapping[str, Any]  # configuration of a run, as in its config.yaml


class Band(NamedTuple):
    """The expected range of a value, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Diagnostic:
    """A metric and its expected range."""

    metric: str  # key of metrics.jsonl
    methods: tuple[str, ...]  # agents to which it applies; empty: all
    meaning: str
    source: str  # source of the band
    band: Callable[[Config, float], Band | None]  # (config, mean of the first values) -> band; None: not applicable
    after: int  # gradient steps after which it applies, at a learning rate of `RATE`
    rate: str = "lr"  # setting of the agent with the relevant learning rate
    least: bool = False  # whether the value is the least of the run instead of a mean of the last values
    given: str | None = None  # metric that must be positive at the last evaluation, otherwise the verdict is "not yet"
    label: str = "out"  # what a value outside the band is called in reports


def _fixed(low: float, high: float) -> Callable[[Config, float], Band | None]:
    return lambda config, start: Band(low, high)


def _grows(factor: float) -> Callable[[Config, float], Band | None]:
    """Return a band from `factor` times the initial value upwards."""
    return lambda config, start: Band(factor * start, math.inf)


def trivial_loss(config: Config) -> float:
    """Return CSF's loss if transitions are independent of skills: xi log n for n negatives, 27.726 in the paper."""
    agent = config["agent"]
    fresh = agent.get("negatives", "fresh") == "fresh"
    count = agent["num_negatives"] if fresh else config["task"]["batch_size"]
    return float(agent["negative_weight"] * math.log(count))


def _csf_optimum(config: Config) -> float:
    """Return the step length that minimizes CSF's loss if every step is parallel to its skill: about Z / xi."""
    return float(config["agent"]["skill_dim"] / config["agent"]["negative_weight"])


def _csf_trivial(config: Config, start: float) -> Band:
    return Band(-math.inf, trivial_loss(config) + 0.1)


def _csf_learned(config: Config, start: float) -> Band:
    return Band(-math.inf, trivial_loss(config) - 0.05 * _csf_optimum(config) / 2)


def _csf_settled(config: Config, start: float) -> Band:
    return Band(-math.inf, trivial_loss(config) - 0.5 * _csf_optimum(config) / 2)


def _is_released(config: Config) -> bool:
    """Return whether the run has the environment and learning rates of the released logs."""
    agent, backbone = config["agent"], config["agent"]["backbone"]
    rates = {agent["lr"], backbone["lr"], backbone["alpha_lr"]}
    return bool(config["env"]["name"] == "ant" and rates == {RATE})


def _csf_alpha_dips(config: Config, start: float) -> Band | None:
    return Band(3e-5, 4e-4) if _is_released(config) else None


def _csf_alpha_rises(config: Config, start: float) -> Band | None:
    return Band(4e-3, 3e-2) if _is_released(config) else None


def _takes_off(config: Config, start: float) -> Band | None:
    return Band(100, math.inf) if _is_released(config) else None


def _csf_step(config: Config, start: float) -> Band:
    return Band(0.1 * _csf_optimum(config) ** 2, 10 * _csf_optimum(config) ** 2)


def most_directions(coord_dim: int) -> int:
    """Return the largest value of `eval/directions`: both sides of a line, or 16 sectors of the plane."""
    return 2 if coord_dim == 1 else 16


def _is_one_hot(config: Config) -> bool:
    return bool(config["agent"].get("prior") == "one_hot")


def _directions(config: Config, start: float) -> Band | None:
    """Both sides of a line, or half of the sectors that the skills can reach; not applicable with few skills."""
    most, distinct = most_directions(config["spec"]["coord_dim"]), config["task"]["coverage_skills"]
    if _is_one_hot(config):
        distinct = min(distinct, config["agent"]["skill_dim"])
    low = 2.0 if most == 2 else min(most, distinct) / 2
    return Band(low, most) if distinct > most / 2 else None


def _rank(config: Config, start: float) -> Band | None:
    """Not applicable if skills can only differ along a line."""
    dim = config["agent"]["skill_dim"] - _is_one_hot(config)  # the centered positions of K skills have rank K - 1
    return Band(LEAST_RANK, config["agent"]["skill_dim"]) if dim > 1 and config["spec"]["coord_dim"] > 1 else None


def _metra_bound(config: Config) -> float:
    """Return the bound on ||d||^2: 1, or Z if the mean over the Z dimensions is bounded by 1."""
    agent = config["agent"]
    return float(agent["skill_dim"] if agent.get("constraint") == "mean" else 1)


def _metra_falls(config: Config, start: float) -> Band | None:
    agent = config["agent"]
    return Band(0.0, 0.95 * agent["init_multiplier"]) if agent["multiplier_lr"] else None


def _metra_dips(config: Config, start: float) -> Band | None:
    released = config["agent"].get("constraint") == "mean" and config["agent"]["multiplier_lr"] == RATE
    return Band(2.1, 8.6) if released and _is_released(config) else None


def _metra_settles(config: Config, start: float) -> Band | None:
    scale = math.sqrt(_metra_bound(config))
    return Band(8 * scale, 52 * scale) if config["agent"]["multiplier_lr"] else None


def _metra_step(config: Config, start: float) -> Band:
    bound = _metra_bound(config)
    return Band(0.7 * bound, 1.2 * bound)


def _twice_chance(config: Config, start: float) -> Band:
    return Band(2 / config["agent"]["skill_dim"], 1.0)


def _diayn_reward(config: Config, start: float) -> Band:
    return Band(0.0, math.log(config["agent"]["skill_dim"]))


def _slusd_reward(config: Config, start: float) -> Band | None:
    """Not applicable to bounds that may be negative or have no upper limit."""
    agent = config["agent"]
    if agent["bound"] not in ("ba", "nce"):
        return None
    batch = config["task"]["batch_size"]
    sizes = {"all": agent["skill_dim"], "fresh": agent["num_fresh"] + 1, "batch": batch, "states": batch}
    return Band(0.0, math.log(sizes[agent["candidates"]]))


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
        "The contrastive loss falls below the trivial value: transitions identify their skill",
        "a twentieth of Z / (2 xi), the largest decrease, reached if every step is parallel to its skill; the released "
        "program on Ant: 27.7145 at epoch 1,500, 27.67 at 2,000",
        _csf_learned,
        SKILLS,
    ),
    Diagnostic(
        "loss/representation",
        ("csf",),
        "The contrastive loss approaches its minimum",
        "half of the largest decrease; the released program on Ant: 27.60 at epoch 3,000, 27.52 at 5,000",
        _csf_settled,
        250_000,
    ),
    Diagnostic(
        "policy/alpha",
        ("csf",),
        "The entropy temperature falls to about 1e-4 before skills emerge, because rewards are small",
        "the released program on Ant: 1.03e-4 at epoch 1,000; a factor of 4 below and above, since values between the "
        "logged epochs are unknown",
        _csf_alpha_dips,
        75_000,
        least=True,
    ),
    Diagnostic(
        "policy/alpha",
        ("csf",),
        "The entropy temperature rises again with the reward",
        "the released program on Ant: 0.0082 at epoch 2,500, 0.0142 at 5,000, 0.0104 at 10,000; a factor of 2",
        _csf_alpha_rises,
        150_000,
    ),
    Diagnostic(
        "eval/coverage",
        ("csf", "metra"),
        "Skills emerge: they cover at least 100 cells",
        "released programs on Ant: CSF 225 cells at epoch 1,500, METRA 107 at 1,000; 500 epochs later than CSF",
        _takes_off,
        100_000,
    ),
    Diagnostic(
        "phi/step",
        ("csf",),
        "The squared length of phi(s') - phi(s) grows to the order of (Z / xi)^2, the minimum of the loss",
        "minimum of the loss, within a factor of 10",
        _csf_step,
        SKILLS,
    ),
    Diagnostic(
        "phi/alignment",
        ("csf",),
        "The cosine of phi(s') - phi(s) and z becomes positive: the representation moves in the direction of the skill",
        "an expectation; 0.7 on env=point after 500 updates at a learning rate of 1e-3",
        _fixed(0.1, 1.0),
        SKILLS,
    ),
    Diagnostic(
        "phi/multiplier",
        ("metra",),
        "The dual variable falls from its initial value while the constraint is inactive",
        "the largest change of log lambda per update, which is its learning rate",
        _metra_falls,
        1_000,
        "multiplier_lr",
        least=True,
    ),
    Diagnostic(
        "phi/multiplier",
        ("metra",),
        "With constraint=mean, the dual variable falls to about 4 before it rises",
        "METRA's own program on Ant: 18.8, 7.3, 4.3 and 6.8 at epochs 99, 299, 599 and 999; a factor of 2 around 4.3",
        _metra_dips,
        40_000,
        "multiplier_lr",
        least=True,
    ),
    Diagnostic(
        "phi/multiplier",
        ("metra",),
        "The dual variable falls while the constraint is inactive, rises when it becomes active, and converges",
        "METRA's own program on Ant, constraint=mean, Z = 2: 18.8 at epoch 1,999, 33 at 2,999, at most 36.5, "
        "23 at 40,000; a factor of 2 around the last two. "
        "With phi scaled by 1 / sqrt(Z), constraint=sum has the same optimum, at a multiplier sqrt(Z) times smaller",
        _metra_settles,
        150_000,
        "multiplier_lr",
    ),
    Diagnostic(
        "phi/step",
        ("metra",),
        "E||phi(s') - phi(s)||^2 converges to its bound: 1, or Z if constraint=mean",
        "0.9884 after 20M env steps on Ant with constraint=sum in a study of METRA; "
        "at least 0.72 Z in the run of METRA's own program",
        _metra_step,
        625_000,
    ),
    Diagnostic(
        "phi/alignment",
        ("metra",),
        "The cosine of phi(s') - phi(s) and z becomes positive: the representation moves in the direction of the skill",
        "an expectation; below 0.02 in a public reproduction that failed",
        _fixed(0.1, 1.0),
        CROSSING,
    ),
    Diagnostic(
        "episode/displacement",
        ("csf", "metra"),
        "The distance between start and end of an episode becomes at least twice that of the first epochs",
        "an expectation",
        _grows(2),
        SKILLS,
    ),
    Diagnostic(
        "eval/directions",
        ("csf", "metra"),
        "Skills end far from their start in all directions; collapsed if they run in few directions, whatever z is",
        "half of the 16 sectors; end points on a line are in at most 4. Both sides if there is one coordinate",
        _directions,
        SKILLS,
        label="collapsed",
    ),
    Diagnostic(
        "phi/rank",
        ("csf", "metra"),
        "The changes of phi over an episode differ between skills in more than one dimension, once skills travel far; "
        "collapsed if they lie on a line",
        "1.2 if two singular values differ by a factor of 3; 1 on a line. An untrained phi may have any rank, so the "
        "verdict depends on eval/directions",
        _rank,
        SKILLS,
        given="eval/directions",
        label="collapsed",
    ),
    Diagnostic(
        "discriminator/accuracy",
        ("diayn",),
        "The accuracy of the classifier is at least twice that of chance, 1 / K",
        "above chance within the first epochs; 0.29 on Ant after 2,700 updates",
        _twice_chance,
        1_000,
    ),
    Diagnostic(
        "reward/mean",
        ("diayn",),
        "log q(z | s') + log K is positive, and at most log K",
        "positive if the classifier is better than chance; log K if it is certain",
        _diayn_reward,
        1_000,
    ),
    Diagnostic(
        "bound/accuracy",
        ("slusd",),
        "The own skill has the highest score at least twice as often as by chance, 1 / K",
        "an expectation, as for the classifier of DIAYN",
        _twice_chance,
        1_000,
    ),
    Diagnostic(
        "reward/mean",
        ("slusd",),
        "With bound=ba or nce, the mean bound is positive, and at most the logarithm of the number of candidates",
        "positive if the critic is better than chance; the limit of InfoNCE",
        _slusd_reward,
        1_000,
    ),
    Diagnostic(
        "reward/mean",
        ("dads",),
        "A transition is more likely under its own skill than under L others, by at most log(L + 1)",
        "bounds of the reward",
        _dads_reward,
        10_000,
    ),
    Diagnostic(
        "dynamics/error",
        ("dads",),
        "The squared error per normalized coordinate falls below 1: the model predicts part of the motion",
        "1 is the error of predicting the mean",
        _fixed(0.0, 0.9),
        10_000,
    ),
    Diagnostic(
        "contrast/accuracy",
        ("cic",),
        "The accuracy of matching skills to transitions of the batch is at least twice that of chance",
        "above chance, 1 / batch size, within the first epochs",
        _cic_accuracy,
        1_000,
    ),
    Diagnostic(
        "phi/alignment",
        ("visr",),
        "phi(s).z, with phi of unit length, rises from 0 towards 1",
        "an expectation",
        _fixed(0.1, 1.0),
        CROSSING,
    ),
    Diagnostic(
        "policy/divergence",
        (),
        "The KL divergence of a PPO update is a few hundredths of a nat",
        "clipping of the probability ratio at 0.2",
        _ppo_divergence,
        0,
    ),
    Diagnostic(
        "episode/discarded",
        (),
        "At most one episode in a hundred is discarded because its world diverged",
        "the models are stable under actions in [-1, 1]",
        _no_losses,
        0,
    ),
)
