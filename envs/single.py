"""Wraps a vector environment of one world as a single Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from envs.base import NotCopied, WorldsEnv
from envs.errors import WorldError
from envs.observations import Array, Obs, row


class OneWorldEnv(NotCopied, gymnasium.Env[Obs, Array]):
    """A Gymnasium environment that runs a vector environment with `num_envs=1`.

    Attributes:
        worlds: The vector environment.
    """

    def __init__(self, worlds: WorldsEnv) -> None:
        """Takes ownership of `worlds`.

        Args:
            worlds: A vector environment of one world.

        Raises:
            WorldError: If it has more than one world.
        """
        if worlds.num_envs != 1:
            raise WorldError(f"num_envs is {worlds.num_envs!r}; accepted: 1")
        self.worlds = worlds
        self.observation_space = worlds.single_observation_space
        self.action_space = worlds.single_action_space
        self.metadata, self.render_mode = worlds.metadata, worlds.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Starts a new episode.

        Args:
            seed: Seed of the world's generator; if None, the generator is kept.
            options: `state`, a tuple of arrays, sets an exact state.

        Returns:
            Observation and info with `coord` [C] float64.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        if "state" in options:
            options["state"] = tuple(np.asarray(part)[None] for part in options["state"])
        obs, infos = self.worlds.reset(seed=seed, options=options)
        self._np_random = self.worlds.generators[0]
        return row(obs, 0), _first_rows(infos)

    def step(self, action: Array) -> tuple[Obs, SupportsFloat, bool, bool, dict[str, Any]]:
        """Takes an action [A] in [-1, 1]; returns observation, reward, terminated, truncated and info."""
        obs, reward, terminated, truncated, infos = self.worlds.step(np.asarray(action)[None])
        return row(obs, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first_rows(infos)

    def render(self) -> Array:
        """Renders the current state as an image [H, W, 3] uint8; see `WorldsEnv.render`."""
        return self.worlds.render()[0]

    def close(self) -> None:
        """Closes the world."""
        self.worlds.close()


def one_world(kind: Callable[..., WorldsEnv]) -> Callable[..., OneWorldEnv]:
    """Returns an entry point for `gymnasium.make` that creates one world of `kind` and accepts its settings."""

    def make(**settings: Any) -> OneWorldEnv:
        return OneWorldEnv(kind(num_envs=1, **settings))

    return make


def _first_rows(infos: dict[str, Any]) -> dict[str, Any]:
    """Returns the first rows of infos [1, ...] without Gymnasium's masks; scalars as Python objects."""
    rows = {key: value[0] for key, value in infos.items() if not key.startswith("_")}
    return {key: row if isinstance(row, np.ndarray) else row.item() for key, row in rows.items()}
