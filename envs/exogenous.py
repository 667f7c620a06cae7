"""Appends entries to observations that no action affects, to test what representations depend on."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from envs.errors import WorldError
from envs.observations import Array

ID = "csf/Exogenous-v0"


class Exogenous(gymnasium.Wrapper[Array, Array, Array, Array]):
    """An environment with `exogenous` additional entries at the end of its observation vector.

    Every entry is an independent autoregressive process e' = p e + sqrt(1 - p^2) n with standard normal noise n and
    e ~ N(0, 1) at the start, so its variance is 1 at every step.
    """

    def __init__(self, env: gymnasium.Env[Array, Array], exogenous: int, persistence: float) -> None:
        """Wraps `env`.

        Args:
            env: An environment with vector observations.
            exogenous: Number of additional entries.
            persistence: p, the correlation of an entry with its value one step earlier.

        Raises:
            WorldError: If a value is not accepted, or observations are not vectors.
        """
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise WorldError(f"observations are {space}; accepted with exogenous entries: a vector")
        if not isinstance(exogenous, int) or exogenous < 1:
            raise WorldError(f"exogenous is {exogenous!r}; accepted: an integer of at least 1")
        if not 0 <= persistence < 1:
            raise WorldError(f"persistence is {persistence!r}; accepted: a number of at least 0 and below 1")
        self.persistence = persistence
        far = np.full(exogenous, np.inf, np.float32)
        low, high = np.append(space.low, -far), np.append(space.high, far)
        self.observation_space = Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        self._entries = np.zeros(exogenous)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts a new episode with entries drawn from N(0, 1)."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._entries = self.np_random.standard_normal(len(self._entries))
        return self._joined(obs), info

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Advances the environment and the entries."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        noise = self.np_random.standard_normal(len(self._entries))
        self._entries = self.persistence * self._entries + math.sqrt(1 - self.persistence**2) * noise
        return self._joined(obs), reward, terminated, truncated, info

    def _joined(self, obs: Array) -> Array:
        return np.concatenate([obs, self._entries]).astype(np.float32)


def make(of: str, exogenous: int = 4, persistence: float = 0.95, render_mode: str | None = None) -> Exogenous:
    """Creates the environment `of` (a Gymnasium id) with exogenous entries; see `Exogenous`."""
    return Exogenous(gymnasium.make(of, render_mode=render_mode), exogenous, persistence)


gymnasium.register(ID, entry_point="envs.exogenous:make")
