"""Skills that a user picks: angles on the circle, numbers per dimension, or the index of a one-hot skill."""

from __future__ import annotations

import math

import numpy as np

from csf.agents import Agent
from csf.agents.base import Prior
from csf.errors import ConfigError

TURN = math.pi / 4  # by which "next" turns a skill on the circle
LENGTH = {"sphere": 1.0, "box": 1.0, "gaussian": 1.5, "one_hot": 1.0}  # of the skills that `spread` returns
REACH = {"sphere": 1.0, "box": 1.0, "gaussian": 3.0, "one_hot": 1.0}  # largest entry that can be picked


class Repertoire:
    """The skills of an agent, and operations on them.

    Attributes:
        prior: distribution of the skills.
        dim: Z, the dimension of a skill; 0 if the agent has no skills.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.prior: Prior = agent.objective.prior
        self.dim: int = agent.objective.cfg.skill_dim

    @property
    def is_circle(self) -> bool:
        """Whether a skill is an angle."""
        return self.prior == "sphere" and self.dim == 2

    def sample(self, n: int) -> np.ndarray:
        """Sample skills [n, Z] from the prior."""
        return self.agent.sample_skills(n).cpu().numpy().astype(np.float32)

    def spread(self, n: int) -> np.ndarray:
        """Return n different skills [n, Z].

        One-hot skills are repeated if there are more than Z. Skills of dimension 1 and 2 are evenly spaced; the others
        are samples of the prior.
        """
        if self.prior == "one_hot":
            return np.eye(self.dim, dtype=np.float32)[np.arange(n) % self.dim]
        if self.dim == 2:
            return np.float32(LENGTH[self.prior]) * circle(2 * math.pi * np.arange(n) / n)
        if self.dim == 1 and self.prior != "sphere":
            ends = LENGTH[self.prior]
            return (
                np.linspace(-ends, ends, n, dtype=np.float32)[:, None] if n > 1 else np.full((1, 1), ends, np.float32)
            )
        return self.sample(n)

    def after(self, skill: np.ndarray) -> np.ndarray:
        """Return the skill [Z] that follows a skill: the next index, the next direction, or the next signed axis."""
        if self.prior == "one_hot":
            return np.roll(skill, 1)
        if self.is_circle:
            return circle(np.array([angle(skill) + TURN]))[0]
        largest = int(np.abs(skill).argmax())
        number = 2 * largest + int(skill[largest] < 0) + 1  # axes in the order +1, -1, +2, -2, ...
        axis, sign = divmod(number % (2 * self.dim), 2)
        found = np.zeros(self.dim, np.float32)
        found[axis] = LENGTH[self.prior] * (1 - 2 * sign)
        return found

    def checked(self, values: object) -> np.ndarray:
        """Return a picked skill [Z] float32; a skill on the sphere is normalized.

        Raises:
            ConfigError: it is not a skill of this agent.
        """
        accepted = f"{self.dim} finite numbers" + (", not all 0" if self.prior in ("sphere", "one_hot") else "")
        try:
            skill = np.array(values, np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"skill is {values!r}; accepted: {accepted}") from error
        if skill.shape != (self.dim,) or not np.isfinite(skill).all():
            raise ConfigError(f"skill is {np.array(values).tolist()}; accepted: {accepted}")
        if self.prior in ("sphere", "one_hot"):
            length = float(np.linalg.norm(skill))
            if length < 1e-6:
                raise ConfigError(f"skill is {skill.tolist()}; accepted: {accepted}")
            skill = np.eye(self.dim)[skill.argmax()] if self.prior == "one_hot" else skill / length
        return skill.astype(np.float32)


def angle(skill: np.ndarray) -> float:
    """Return the angle of a skill [2] in radians, in [0, 2 pi)."""
    return float(np.arctan2(skill[1], skill[0]) % (2 * math.pi))


def circle(angles: np.ndarray) -> np.ndarray:
    """Return the points [n, 2] float32 of the unit circle at angles [n] in radians."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
