"""Environments whose actions are skills: a controller chooses skills, and a frozen agent executes them.

Source: the hierarchical controller of the CSF paper (arXiv 2412.08021), vectorized over worlds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, SupportsFloat

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from csf.agents import Agent
from csf.agents.base import Prior
from csf.errors import ActionError
from csf.types import EnvSpec, ObsArray, SomeObs, Worlds, map_obs, obs_tensor

Array = NDArray[Any]
Step = tuple[SomeObs, Array, Array, Array, dict[str, Any]]


class SkillVectorEnv(VectorEnv[SomeObs, Array, Array]):
    """N worlds with Gymnasium's vector interface, without autoreset; each step holds a skill for `hold` world steps.

    Observations are those of the worlds. The agent acts deterministically on the part of them that it was trained on:
    the image, if there is one, and the leading columns of the vector. A step ends early if the episode does. Its reward
    is the sum over its world steps. Its infos are those of its last world step, together with `action_norm` [N], the
    norm of the controller's action, and `world_steps` [N], the number of world steps taken.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}  # noqa: RUF012

    def __init__(self, worlds: Worlds, agent: Agent, hold: int = 25) -> None:
        """Take ownership of the worlds.

        Args:
            worlds: the environment on which the agent was trained, or a task that appends columns to its observations.
            agent: executes the skills; it is not trained.
            hold: number of world steps for which a skill is held.

        Raises:
            ValueError: the agent has no skills or was trained on another environment, or `hold` is not a positive
                integer.
        """
        if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:
            raise ValueError(f"hold is {hold!r}; accepted: an integer of at least 1")
        check_fit(worlds, agent)
        self.metadata = {**worlds.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.worlds, self.agent, self.hold = worlds, agent.eval(), hold
        self.num_envs, self.version = worlds.num_envs, worlds.version
        self.renderer, self.quality = (getattr(worlds, name, None) for name in ("renderer", "quality"))
        self.max_steps = -(-worlds.max_steps // hold)
        self.coord_dim, self.coverage_cell = worlds.coord_dim, worlds.coverage_cell
        self.success_radii = worlds.success_radii
        self.obs_mean, self.obs_std = worlds.obs_mean, worlds.obs_std
        self.prior, self.skill_dim = agent.objective.prior, agent.objective.cfg.skill_dim
        self.single_observation_space = worlds.single_observation_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        space: gymnasium.Space[Any] = action_space(self.prior, self.skill_dim)
        self.single_action_space, self.action_space = space, batch_space(space, self.num_envs)
        self.watch: Callable[[], None] | None = None  # called before every world step, for example to record a video
        self._obs: ObsArray | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SomeObs, dict[str, Any]]:
        """Start new episodes; `seed` and `options` are passed to the worlds."""
        obs, infos = self.worlds.reset(seed=seed, options=options)
        self._obs = obs
        return map_obs(np.copy, obs), infos

    def step(self, actions: Array) -> Step:
        """Hold one skill per world for `hold` world steps.

        Args:
            actions: [N, Z]; one-hot skills may also be given as indices [N].

        Returns:
            Observations, rewards, terminated, truncated and infos, as returned by the worlds. Results of a world whose
            episode has ended are those of its last step, while the other worlds continue.

        Raises:
            ActionError: actions have another shape or are not finite.
        """
        if self._obs is None:
            raise ResetNeeded("call reset() first")
        chosen = choices(actions, self.num_envs, self.prior, self.skill_dim)
        skill = torch.from_numpy(skills(chosen, self.prior)).to(self.agent.objective.device())
        obs, reward = self._obs, np.zeros(self.num_envs)
        terminated, truncated, lost = (np.zeros(self.num_envs, bool) for _ in range(3))
        infos: dict[str, Any] = {}
        taken = np.zeros(self.num_envs, np.int64)
        for _ in range(self.hold):
            alive = ~(terminated | truncated | lost)
            if not alive.any():
                break
            if self.watch is not None:
                self.watch()
            below = self.worlds.step(self._act(obs, skill))
            taken += alive
            rows = None if alive.all() else alive
            obs = map_obs(lambda new, old: _update_rows(rows, new, old), below[0], obs)  # noqa: B023
            reward = reward + np.where(alive, below[1], 0.0)
            terminated, truncated = terminated | (below[2] & alive), truncated | (below[3] & alive)
            infos = {name: _update_rows(rows, new, infos.get(name)) for name, new in below[4].items()}
            lost = lost | infos["diverged"]
        self._obs = obs
        for name, values in (("action_norm", np.linalg.norm(chosen, axis=1)), ("world_steps", taken)):
            infos |= {name: values, f"_{name}": np.ones(self.num_envs, bool)}
        return map_obs(np.copy, obs), reward, terminated, truncated, infos

    @property
    def goal_names(self) -> tuple[str, ...]:
        """Names accepted by `goal_at`."""
        return self.worlds.goal_names

    @property
    def has_goals(self) -> bool:
        """Whether the worlds define goals."""
        return self.worlds.has_goals

    def goals(self, n: int, rng: np.random.Generator) -> tuple[SomeObs, Array]:
        """Draw goals of the worlds, as observations [n, *O] and positions [n, C]."""
        return self.worlds.goals(n, rng)

    def goal_at(self, goal: Any) -> tuple[SomeObs, Array]:
        """Return a goal of the worlds given by name or position."""
        return self.worlds.goal_at(goal)

    def measure(self, coord: Array, length: Array) -> dict[str, float]:
        """Return the metrics of the worlds; empty if hold > 1, as coordinates between decisions are unknown."""
        return self.worlds.measure(coord, length) if self.hold == 1 else {}

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """Return the success metrics of the worlds, from the coordinates after each step of this environment."""
        return self.worlds.success(coord, length, place)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("SkillVectorEnv cannot be copied or pickled; create another one from new worlds and the agent")

    def render(self) -> tuple[Array, ...]:
        """Render every world as an image [H, W, 3] uint8, if the worlds were created with a render mode."""
        return tuple(self.worlds.render())

    def close_extras(self, **_: Any) -> None:
        """Close the worlds."""
        self.worlds.close()

    def _act(self, obs: ObsArray, skill: torch.Tensor) -> Array:
        """[N, *O], [N, Z] -> the agent's deterministic actions [N, A]."""
        seen = obs_tensor(visible(obs, self.agent.spec), skill.device)
        return self.agent.act(seen, skill, True).cpu().numpy()


def _update_rows(alive: Array | None, new: Any, old: Any) -> Any:
    """Take the rows of worlds that are alive from `new`, and the other rows from `old`; None: all are alive."""
    if old is None or alive is None or not isinstance(new, np.ndarray) or np.shape(old) != new.shape:
        return new
    return np.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)


REACH = 1.5  # scale from actions to Gaussian and box skills, as in the CSF paper's released program
TINY = 1e-12  # avoids division by zero for an action of zeros


def action_space(prior: Prior, dim: int) -> Box | Discrete[np.int64]:
    """Return the action space for skills of dimension Z: Discrete for one-hot skills, otherwise [-1, 1]^Z."""
    return Discrete(dim) if prior == "one_hot" else Box(-1.0, 1.0, (dim,), np.float32)


def choices(actions: Any, num_envs: int, prior: Prior, dim: int) -> NDArray[np.float32]:
    """Convert actions, rows [N, Z] or indices [N] of one-hot skills, to rows [N, Z] float32.

    Raises:
        ActionError: the shape or an index is not accepted, or a number is not finite.
    """
    given = np.asarray(actions)
    shapes = "an index or a one-hot row" if prior == "one_hot" else "a row"
    if prior == "one_hot" and given.shape == (num_envs,) and given.dtype.kind in "iu":
        if not ((given >= 0) & (given < dim)).all():
            raise ActionError(f"actions are {given.tolist()}; accepted: skills 0 to {dim - 1}")
        given = np.eye(dim)[given]
    if given.shape != (num_envs, dim):
        accepted = f"{shapes} of {dim} for each of {num_envs} worlds"
        raise ActionError(f"actions have shape {given.shape}; accepted: {accepted}")
    if not (finite := np.isfinite(given).all(1)).all():
        raise ActionError(f"actions of worlds {np.flatnonzero(~finite).tolist()} are not finite")
    return given.astype(np.float32)


def skills(rows: NDArray[np.float32], prior: Prior) -> NDArray[np.float32]:
    """Convert rows [N, Z] to skills [N, Z]: normalized (sphere), argmax (one-hot), or scaled by `REACH` (others)."""
    if prior == "one_hot":
        return np.eye(rows.shape[1], dtype=np.float32)[rows.argmax(1)]
    if prior == "sphere":
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
    return rows * np.float32(REACH)


def visible(obs: ObsArray, spec: EnvSpec) -> ObsArray:
    """Return the part of observations [N, *O] that an agent was trained on, without the columns appended by a task."""
    if isinstance(obs, dict):
        image, vector = obs["image"], obs["vector"][:, : spec.vector_dim]
        return {"image": image, "vector": vector} if spec.vector_dim else image
    return obs if spec.has_image else obs[:, : spec.obs_dim]


def _trained_on(space: gymnasium.Space[Any], added: int, spec: EnvSpec) -> EnvSpec:
    """Return `spec` with the observations of `space`, without the `added` columns that a task appends."""
    if isinstance(space, Dict):
        image, columns = tuple(space["image"].shape or ()), (space["vector"].shape or (0,))[0] - added
        return dataclasses.replace(spec, obs_shape=image, obs_dtype="uint8", vector_dim=columns)
    first, *rest = space.shape or (0,)
    shape = (first, *rest) if rest else (first - added,)
    return dataclasses.replace(spec, obs_shape=shape, obs_dtype=str(space.dtype) if rest else "float32", vector_dim=0)


def check_fit(worlds: Worlds, agent: Agent) -> None:
    """Check that observations and actions of the worlds match those that the agent was trained with.

    For a task, `base` is the environment whose skills are accepted, and `goal_dim` the number of columns that it
    appends to the vector, or adds as a vector next to the image. Other environments accept their own skills.

    Raises:
        ValueError: the agent has no skills, or was trained with other observations or actions.
    """
    spec, base, added = agent.spec, getattr(worlds, "base", None), int(getattr(worlds, "goal_dim", 0))
    if not agent.objective.cfg.skill_dim:
        raise ValueError(f"agent={agent.objective.cfg.name} has no skills to use as actions")
    if base not in (None, spec.id):
        raise ValueError(f"skills of environment {spec.id!r} cannot be used here; accepted: skills of {base!r}")
    here = _trained_on(worlds.single_observation_space, added, spec)
    if here != spec:
        there = spec.obs_words()
        raise ValueError(f"skills were trained on observations of shape {there}; here they have {here.obs_words()}")
    actions = worlds.single_action_space
    discrete = isinstance(actions, Discrete)
    if (spec.discrete, spec.action_dim) != (discrete, int(actions.n if discrete else actions.shape[0])):
        raise ValueError(f"skills were trained with {spec.action_dim} actions; here is {actions}")
    if changed := spec.other_images(worlds):
        raise ValueError(f"skills were trained on other images: {changed}")
    columns = spec.vector_dim if spec.has_image else spec.obs_dim
    for trained, now in ((spec.obs_mean, worlds.obs_mean), (spec.obs_std, worlds.obs_std)):
        if trained != (None if now is None else tuple(map(float, now[:columns]))):
            raise ValueError(
                "skills were trained with another normalization of observations; set normalizer as in their run"
            )


class SkillEnv(gymnasium.Env[SomeObs, Any]):
    """A `SkillVectorEnv` of one world as a Gymnasium environment; actions are rows [Z] or indices of one-hot skills."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, worlds: Worlds, agent: Agent, hold: int = 25) -> None:
        """Take ownership of a batch of one world; arguments are those of `SkillVectorEnv`.

        Raises:
            ValueError: there is more than one world, or an error of `SkillVectorEnv`.
        """
        if worlds.num_envs != 1:
            raise ValueError(f"num_envs is {worlds.num_envs}; accepted: 1")
        self.worlds = SkillVectorEnv(worlds, agent, hold)
        self.metadata = {key: value for key, value in worlds.metadata.items() if key != "autoreset_mode"}
        self.render_mode = getattr(worlds, "render_mode", None)
        self.observation_space = self.worlds.single_observation_space
        self.action_space = self.worlds.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SomeObs, dict[str, Any]]:
        """Start a new episode; arrays in `options`, which are passed to the worlds, have a leading axis of length 1."""
        super().reset(seed=seed)
        obs, infos = self.worlds.reset(seed=seed, options=options)
        return map_obs(lambda rows: rows[0], obs), _first_rows(infos)

    def step(self, action: Any) -> tuple[SomeObs, SupportsFloat, bool, bool, dict[str, Any]]:
        """Hold one skill; return observation [*O], sum of rewards, terminated, truncated and info."""
        obs, reward, terminated, truncated, infos = self.worlds.step(np.asarray(action)[None])
        first = map_obs(lambda rows: rows[0], obs)
        return first, float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first_rows(infos)

    def render(self) -> Any:
        """Render the world as an image [H, W, 3] uint8, if it was created with a render mode."""
        return self.worlds.render()[0]

    def close(self) -> None:
        """Close the world."""
        self.worlds.close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("SkillEnv cannot be copied or pickled; create another one from a new world and the agent")


def _first_rows(infos: dict[str, Any]) -> dict[str, Any]:
    """Return the first rows of infos [1, ...], without Gymnasium's masks."""
    return {key: rows[0] for key, rows in infos.items() if not key.startswith("_")}
