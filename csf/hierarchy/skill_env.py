"""Worlds whose action is a skill: a frozen agent acts on it for `hold` steps, all worlds in one policy call each.

Source: the controller of the CSF paper's released program (arXiv 2412.08021), for a batch of worlds at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from csf.agents import Agent
from csf.hierarchy.actions import action_space, choices, skills
from csf.hierarchy.fit import check_fit
from csf.types import Worlds

Array = NDArray[Any]
Step = tuple[Array, Array, Array, Array, dict[str, Any]]


class SkillVectorEnv(VectorEnv[Array, Array, Array]):
    """N worlds behind Gymnasium's vector interface, without autoreset; a step holds a skill for `hold` steps of theirs.

    Observations are those of the worlds. The agent sees their first columns, as many as it was trained on, and takes
    its mode. A step's reward is the sum over the steps below; it ends early where the episode does, and its infos are
    those of the last step below, with `action_norm` [N], the length of the controller's choice.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}  # noqa: RUF012

    def __init__(self, worlds: Worlds, agent: Agent, hold: int = 25) -> None:
        """Take over the worlds.

        Args:
            worlds: those on which the agent was trained, or a task that adds columns to what they show.
            agent: whose skills are the actions; it is not trained here.
            hold: steps of the worlds for which a skill is held.

        Raises:
            ValueError: the agent has no skills, was trained on other worlds, or `hold` is not a positive integer.
        """
        if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:
            raise ValueError(f"hold is {hold!r}; an integer of at least 1 is accepted")
        check_fit(worlds, agent)
        self.metadata = {**worlds.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.worlds, self.agent, self.hold = worlds, agent.eval(), hold
        self.num_envs, self.version = worlds.num_envs, worlds.version
        self.max_steps = -(-worlds.max_steps // hold)
        self.coord_dim, self.coverage_cell = worlds.coord_dim, worlds.coverage_cell
        self.success_radii = worlds.success_radii
        self.obs_mean, self.obs_std = worlds.obs_mean, worlds.obs_std
        self.prior, self.skill_dim = agent.objective.prior, agent.objective.cfg.skill_dim
        self.single_observation_space = worlds.single_observation_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        space: gymnasium.Space[Any] = action_space(self.prior, self.skill_dim)
        self.single_action_space, self.action_space = space, batch_space(space, self.num_envs)
        self.watch: Callable[[], None] | None = None  # called before every step of the worlds, such as to film it
        self._obs: Array | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes, with the seeds and options of the worlds."""
        obs, infos = self.worlds.reset(seed=seed, options=options)
        self._obs = obs
        return obs.copy(), infos

    def step(self, actions: Array) -> Step:
        """Hold skills for `hold` steps.

        Args:
            actions: [N, Z], of one-hot skills also their indices [N].

        Returns:
            As the worlds do. A world whose episode ends waits, as it ended, for those whose episodes go on.

        Raises:
            WorldError: actions of another shape, or that are not finite.
        """
        if self._obs is None:
            raise ResetNeeded("call reset() first")
        chosen = choices(actions, self.num_envs, self.prior, self.skill_dim)
        skill = torch.from_numpy(skills(chosen, self.prior)).to(self.agent.objective.device())
        obs, reward = self._obs, np.zeros(self.num_envs)
        terminated, truncated, lost = (np.zeros(self.num_envs, bool) for _ in range(3))
        infos: dict[str, Any] = {}
        for _ in range(self.hold):
            alive = ~(terminated | truncated | lost)
            if not alive.any():
                break
            if self.watch is not None:
                self.watch()
            below = self.worlds.step(self._act(obs, skill))
            obs, reward = _where(alive, below[0], obs), reward + np.where(alive, below[1], 0.0)
            terminated, truncated = terminated | (below[2] & alive), truncated | (below[3] & alive)
            infos = {name: _where(alive, rows, infos.get(name)) for name, rows in below[4].items()}
            lost = lost | infos["diverged"]
        self._obs = obs
        infos |= {"action_norm": np.linalg.norm(chosen, axis=1), "_action_norm": np.ones(self.num_envs, bool)}
        return obs.copy(), reward, terminated, truncated, infos

    @property
    def goal_names(self) -> tuple[str, ...]:
        """The names that `goal_at` accepts."""
        return self.worlds.goal_names

    @property
    def has_goals(self) -> bool:
        """Whether the worlds define goals."""
        return self.worlds.has_goals

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Goals of the worlds, as observations [n, O] and as places [n, C]."""
        return self.worlds.goals(n, rng)

    def goal_at(self, goal: Any) -> tuple[Array, Array]:
        """The goal of the worlds that is asked for by name or place."""
        return self.worlds.goal_at(goal)

    def measure(self, coord: Array, length: Array) -> dict[str, float]:
        """What the worlds measure; nothing if skills are held, since the coordinates in between are not known."""
        return self.worlds.measure(coord, length) if self.hold == 1 else {}

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """What the worlds say of goals, from the coordinates at the ends of the holds."""
        return self.worlds.success(coord, length, place)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("SkillVectorEnv cannot be copied or pickled; make another one of new worlds and the agent")

    def render(self) -> tuple[Array, ...]:
        """A picture [H, W, 3] uint8 of every world, if the worlds take pictures."""
        return tuple(self.worlds.render())

    def close_extras(self, **_: Any) -> None:
        """Release the worlds."""
        self.worlds.close()

    def _act(self, obs: Array, skill: torch.Tensor) -> Array:
        """[N, O], [N, Z] -> the agent's actions [N, A]."""
        seen = torch.from_numpy(obs[:, : self.agent.spec.obs_dim]).to(skill.device)
        return self.agent.act(seen, skill, True).cpu().numpy()


def _where(alive: Array, new: Any, old: Any) -> Any:
    """Rows of living worlds as they are now, those of others as they were."""
    if old is None or alive.all() or not isinstance(new, np.ndarray) or np.shape(old) != new.shape:
        return new
    return np.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)
