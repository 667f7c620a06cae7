"""Wrappers that give Gymnasium's own environments the interface of ours."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from envs.base import Array, StepResult, batch_infos, check_render_mode, map_action
from envs.gl import settle


class GymnasiumWorlds(VectorWrapper[Array, Array, Array, Array, Array]):
    """A vector environment of Gymnasium, with flat float32 observations and actions in [-1, 1].

    A finished world may be stepped on while others still run: it is restarted below, and stays truncated
    until the caller resets it. Attributes are those of `envs.base.WorldsEnv`; coordinates are empty (C = 0).
    """

    coord_dim = 0
    success_radii: tuple[float, ...] = ()
    coverage_cell = 1.0
    obs_mean: Array | None = None
    obs_std: Array | None = None

    def __init__(self, env: VectorEnv[Array, Array, Array]) -> None:
        """Wraps `env`, whose observations are flat already.

        Raises:
            ValueError: If its actions are not continuous and bounded, or it has no limit of steps.
        """
        super().__init__(env)
        spec = env.spec
        name = spec.id if spec else repr(env)
        inner = env.single_action_space
        if not isinstance(inner, Box):
            raise ValueError(
                f"environment {name!r} has actions {inner}; discrete actions are not supported yet, only Box"
            )
        if not inner.is_bounded():
            raise ValueError(f"environment {name!r} has actions {inner}; accepted: a Box with finite bounds")
        self.max_steps = _step_limit(env, name)
        self.version = f"gymnasium {gymnasium.__version__}"
        self._inner = inner
        self._low, self._high = (np.asarray(b, np.float64).ravel() for b in (inner.low, inner.high))
        self.single_action_space = Box(-1.0, 1.0, self._low.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        shape = env.single_observation_space.shape
        self.single_observation_space = Box(-np.inf, np.inf, shape, np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._finished = np.zeros(self.num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts new episodes, with seeds and `reset_mask` as in Gymnasium's SyncVectorEnv."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        obs, infos = self.env.reset(seed=seed, options=dict(options) if options else None)
        self._finished &= ~mask
        return obs.astype(np.float32), infos | batch_infos(coord=np.zeros((self.num_envs, 0)))

    def step(self, actions: Array) -> StepResult:
        """Advances all worlds by one step; see `envs.base.WorldsEnv.step`."""
        if self._finished.any():
            self.env.reset(options={"reset_mask": self._finished.copy()})
        action = map_action(actions, self.num_envs, self._low, self._high)
        inner = action.reshape(self.num_envs, *self._inner.shape).astype(self._inner.dtype)
        obs, reward, terminated, truncated, infos = self.env.step(inner)
        terminated, truncated = terminated & ~self._finished, truncated | self._finished
        self._finished = terminated | truncated
        more = batch_infos(coord=np.zeros((self.num_envs, 0)), diverged=np.zeros(self.num_envs, bool))
        return obs.astype(np.float32), reward, terminated, truncated, infos | more

    def render(self) -> tuple[Array, ...]:
        """Takes a picture [H, W, 3] uint8 of every world, as the environment itself draws it.

        Raises:
            ValueError: If the environment was made without `render_mode="rgb_array"`.
        """
        check_render_mode(self.render_mode)
        settle()
        return tuple(np.asarray(frame) for frame in self.env.render() or ())

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Refuses: Gymnasium's environments define no goals.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.env} defines no goals; evaluate it by its reward")


def _step_limit(env: VectorEnv[Array, Array, Array], name: str) -> int:
    spec = env.spec
    limit = spec.kwargs.get("max_episode_steps", spec.max_episode_steps) if spec else None
    if limit is None:
        raise ValueError(f"environment {name!r} has no limit of steps; set max_steps")
    return int(limit)
