"""One world of a vector environment as an ordinary Gymnasium environment: no logic is written twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from envs.base import NotCopied, WorldsEnv
from envs.errors import WorldError
from envs.observations import Array, Obs, row


class OneWorldEnv(NotCopied, gymnasium.Env[Obs, Array]):
    """The only world of a vector environment with `num_envs=1`.

    Attributes:
        worlds: The vector environment.
    """

    def __init__(self, worlds: WorldsEnv) -> None:
        """Wraps `worlds`, which this environment owns from now on.

        Args:
            worlds: A vector environment of one world.

        Raises:
            WorldError: If it has more than one.
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
            seed: Seed of the world's generator; None goes on with it.
            options: `state`, a tuple of arrays, puts the world into this exact state.

        Returns:
            Observation and info with `coord` [C] float64.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        if "state" in options:
            options["state"] = tuple(np.asarray(part)[None] for part in options["state"])
        obs, infos = self.worlds.reset(seed=seed, options=options)
        self._np_random = self.worlds.generators[0]
        return row(obs, 0), _first(infos)

    def step(self, action: Array) -> tuple[Obs, SupportsFloat, bool, bool, dict[str, Any]]:
        """Action [A] in [-1, 1] -> observation, reward, terminated, truncated, info."""
        obs, reward, terminated, truncated, infos = self.worlds.step(np.asarray(action)[None])
        return row(obs, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(infos)

    def render(self) -> Array:
        """Takes a picture [H, W, 3] uint8 of the world as it stands; see `WorldsEnv.render`."""
        return self.worlds.render()[0]

    def close(self) -> None:
        """Frees the world."""
        self.worlds.close()


def one_world(kind: Callable[..., WorldsEnv]) -> Callable[..., OneWorldEnv]:
    """The function that Gymnasium calls to make one world of `kind`, with the settings of `kind`."""

    def make(**settings: Any) -> OneWorldEnv:
        return OneWorldEnv(kind(num_envs=1, **settings))

    return make


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    """[1, ...] arrays -> their only rows, without Gymnasium's masks; scalars as Python's own."""
    rows = {key: value[0] for key, value in infos.items() if not key.startswith("_")}
    return {key: row if isinstance(row, np.ndarray) else row.item() for key, row in rows.items()}
