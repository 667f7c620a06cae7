"""Adapts any registered Gymnasium environment to the interface of `WorldsEnv`."""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import FlattenObservation

from envs.base import NotCopied, StepResult, batch_infos, check_render_mode, map_action
from envs.errors import WorldError, engine_errors
from envs.gl import set_default_backend
from envs.measures import Measured
from envs.observations import Array, Obs, is_picture, vectors

_ENDED = "ended"  # key of the info in which a world reports (terminated, truncated)


class Waiting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A world that ignores steps after the end of an episode until it is reset.

    SyncVectorEnv raises if a world is stepped after its end, so the end is reported in an info instead.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts a new episode."""
        self._obs, info = self.env.reset(seed=seed, options=options)
        self._finished = False
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advances the world; after the end of an episode, returns the last observation, no reward and truncated."""
        if self._finished:
            return self._obs, 0.0, False, False, {_ENDED: np.array([False, True])}
        self._obs, reward, terminated, truncated, info = self.env.step(action)
        self._finished = bool(terminated or truncated)
        return self._obs, float(reward), False, False, info | {_ENDED: np.array([terminated, truncated], bool)}


def adapted(env: gymnasium.Env[Any, Any]) -> Waiting:
    """Wraps one world for `GymnasiumWorlds`; observations are flattened unless they are images or image and vector."""
    space = env.observation_space
    return Waiting(env if is_picture(space) or _is_both(space) else FlattenObservation(env))


class GymnasiumWorlds(Measured, NotCopied, VectorWrapper[Obs, Array, Array, Any, Array]):
    """A vector environment of Gymnasium with the attributes and methods of `envs.base.WorldsEnv`.

    Actions are in [-1, 1], or one-hot if those of the environment are discrete. Finished worlds stay truncated until
    the caller resets them, while others continue. There are no coordinates (C = 0) and no goals.
    """

    coord_dim = 0
    success_radii = ()
    coverage_cell = 1.0
    obs_mean: Array | None = None
    obs_std: Array | None = None

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Wraps `env`, whose worlds must have been wrapped with `adapted`.

        Raises:
            WorldError: If its actions are neither discrete nor continuous and bounded, or it has no time limit.
        """
        super().__init__(env)
        spec = env.spec
        name = spec.id if spec else repr(env)
        inner = env.single_action_space
        if not isinstance(inner, Discrete) and not (isinstance(inner, Box) and inner.is_bounded()):
            raise WorldError(
                f"environment {name!r} has actions {inner}; accepted: Discrete, or a Box with finite bounds"
            )
        self.max_steps = _step_limit(env, name)
        self.version = f"gymnasium {gymnasium.__version__}"
        self._inner: Box | Discrete[Any] = inner
        self.single_action_space = _presented(inner)
        self._single = [world.unwrapped for world in getattr(env.unwrapped, "envs", ())]
        model = getattr(self._single[0], "model", None) if self._single else None
        self.model = model if type(model).__module__.partition(".")[0] == "mujoco" else None
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.single_observation_space = _float32(env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Starts new episodes, with seeds and `reset_mask` as in Gymnasium's SyncVectorEnv."""
        obs, infos = self.env.reset(seed=seed, options=dict(options) if options else None)
        return _converted(obs), infos | batch_infos(coord=np.zeros((self.num_envs, 0)))

    def step(self, actions: Array) -> StepResult:
        """Advances all worlds by one step; see `envs.base.WorldsEnv.step`.

        Args:
            actions: [N, A]; discrete actions may also be given as indices [N], from 0 on.
        """
        try:
            obs, reward, _, _, infos = self.env.step(_translated(actions, self.num_envs, self._inner))
        except engine_errors() as error:
            raise WorldError(f"MuJoCo cannot continue: {error}") from error
        terminated, truncated = infos.pop(_ENDED).T.copy()
        del infos[f"_{_ENDED}"]
        more = batch_infos(coord=np.zeros((self.num_envs, 0)), diverged=np.zeros(self.num_envs, bool))
        return _converted(obs), reward, terminated, truncated, infos | more

    def poses(self) -> Array:
        """Returns the joint positions qpos [N, nq] float64 as a new array.

        Raises:
            NotImplementedError: If the environment has no MuJoCo model.
        """
        if self.model is None:
            raise NotImplementedError(f"environment {self.env.spec.id if self.env.spec else self.env!r} has no model")
        return np.stack([world.data.qpos for world in self._single])

    def render(self) -> tuple[Array, ...]:
        """Renders every world as an image [H, W, 3] uint8, with the environment's own `render`.

        Raises:
            WorldError: If the environment was created without `render_mode="rgb_array"`.
        """
        check_render_mode(self.render_mode)
        set_default_backend()
        return tuple(np.asarray(frame) for frame in self.env.render() or ())


def _presented(space: Box | Discrete[Any]) -> Space[Any]:
    """Returns the space of the actions that `_translated` accepts, without the bounds or the start of `space`."""
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    return Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)


def _translated(actions: Array, num_envs: int, space: Box | Discrete[Any]) -> Array:
    """Converts actions to those of the environment, [N, ...].

    Raises:
        WorldError: If the shape is not accepted, an action is not finite, or an index is out of range.
    """
    if isinstance(space, Box):
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
        return map_action(actions, num_envs, low, high).reshape(num_envs, *space.shape).astype(space.dtype)
    given, count = np.asarray(actions), int(space.n)
    if given.shape == (num_envs, count):
        given = given.argmax(1)
    elif given.shape != (num_envs,) or given.dtype.kind not in "iu" or not ((given >= 0) & (given < count)).all():
        raise WorldError(
            f"actions are {given.tolist()}; accepted: a one-hot row or an index below {count} "
            f"for each of {num_envs} worlds"
        )
    return np.asarray(given + space.start, space.dtype)


def _is_both(space: Space[Any]) -> bool:
    """Returns whether the space is a Dict of an image and a vector of any number type."""
    if not isinstance(space, Dict) or set(space.spaces) != {"image", "vector"}:
        return False
    vector = space["vector"]
    return is_picture(space["image"]) and isinstance(vector, Box) and len(vector.shape) == 1


def _float32(space: Space[Any]) -> Space[Any]:
    """Returns the space of the observations that `_converted` returns."""
    if isinstance(space, Dict):
        return Dict({"image": space["image"], "vector": _float32(space["vector"])})
    return space if is_picture(space) else vectors(cast(Box, space).shape[0])


def _converted(obs: Any) -> Obs:
    """Converts vectors to float32; images are unchanged."""
    if isinstance(obs, dict):
        return {"image": obs["image"], "vector": obs["vector"].astype(np.float32)}
    return obs if obs.ndim == 4 else obs.astype(np.float32)


def _step_limit(env: VectorEnv[Any, Any, Any], name: str) -> int:
    spec = env.spec
    limit = spec.kwargs.get("max_episode_steps", spec.max_episode_steps) if spec else None
    if limit is None:
        raise WorldError(f"environment {name!r} has no time limit; set max_steps")
    return int(limit)
