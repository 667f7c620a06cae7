"""Goals that a user sets for single worlds, the skills inferred for them, and how well they are reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from csf.agents import Agent
from csf.errors import ConfigError
from csf.evaluation.goals import goal_metrics
from csf.hierarchy import visible
from csf.types import ObsArray, Worlds, map_obs, obs_tensor
from csf.worlds import is_refusal


def why_off(agent: Agent, worlds: Worlds, has_controller: bool) -> str | None:
    """Return why no goals can be set; None if they can."""
    if has_controller:
        return "the controller chooses the skills"
    if not agent.objective.cfg.skill_dim:
        return "this agent has no skills"
    if not agent.objective.reaches_goals():
        return f"agent={agent.objective.cfg.name} has no rule that turns a goal into a skill"
    if not worlds.has_goals:
        return f"env={agent.spec.id} defines no goals"
    return None


class Goals:
    """At most one goal for each of N worlds.

    Attributes:
        place: [N, C] positions of the goals; NaN for worlds without a goal, and for coordinates that a goal ignores.
        active: [N] bool, which worlds have a goal.
    """

    def __init__(self, worlds: Worlds, count: int) -> None:
        self.worlds = worlds
        self.place = np.full((count, worlds.coord_dim), np.nan)
        self.active = np.zeros(count, bool)
        self._paths: list[list[np.ndarray]] = [[] for _ in range(count)]  # coordinates [C] since the goal was set
        self._obs: Any = None  # observations of the goals [N, *O]; None until the first goal

    def set(self, ids: Sequence[int], goal: str | Sequence[float], coord: np.ndarray) -> None:
        """Set the goal of some worlds.

        Args:
            ids: worlds.
            goal: a name or a position [C].
            coord: current coordinates [N, C].

        Raises:
            ConfigError: the name or the position is not accepted.
        """
        try:
            obs, place = self.worlds.goal_at(goal if isinstance(goal, str) else np.asarray(goal, np.float64))
        except ValueError as error:
            if is_refusal(error):
                raise ConfigError(str(error)) from error
            raise
        if self._obs is None:
            self._obs = map_obs(lambda part: np.tile(part, (len(self.active), *[1] * part.ndim)), obs)
        for i in ids:
            map_obs(lambda rows, part: rows.__setitem__(i, part), self._obs, obs)  # noqa: B023
            self.place[i], self.active[i], self._paths[i] = place, True, [coord[i].copy()]

    def clear(self, ids: Sequence[int]) -> None:
        """Remove the goals of some worlds."""
        for i in ids:
            self.place[i], self.active[i], self._paths[i] = np.nan, False, []

    def begin(self, ids: Sequence[int], coord: np.ndarray) -> None:
        """Keep the goals of some worlds at the start of a new episode with coordinates [N, C]."""
        for i in ids:
            self._paths[i] = [coord[i].copy()] if self.active[i] else []

    def moved(self, coord: np.ndarray, kept: int) -> None:
        """Record the coordinates [N, C] after a step; at most the last `kept` steps count."""
        for i in np.flatnonzero(self.active):
            self._paths[i].append(coord[i].copy())
            del self._paths[i][1:-kept]

    def skills(self, agent: Agent, obs: ObsArray, skill: np.ndarray) -> np.ndarray:
        """Return the skills [N, Z], with those inferred for goals from the current observations [N, *O]."""
        if not self.active.any():
            return skill
        device = agent.objective.device()
        here, there = (obs_tensor(visible(each, agent.spec), device) for each in (obs, self._obs))
        with torch.no_grad():
            found = agent.goal_skill(here, there)
        assert found is not None
        return np.where(self.active[:, None], found.cpu().numpy(), skill).astype(np.float32)

    def represented(self, agent: Agent) -> np.ndarray | None:
        """Return the representations [n, Z] of the goals of the worlds with a goal; None if there are none."""
        if not self.active.any():
            return None
        with torch.no_grad():
            found = agent.represent(obs_tensor(visible(self._obs, agent.spec), agent.objective.device()))
        return None if found is None else found.cpu().numpy()[self.active]

    def measures(self) -> dict[str, float]:
        """Return the success metrics of the environment since the goals were set, as means over worlds with a goal."""
        walked = [i for i in np.flatnonzero(self.active) if len(self._paths[i]) > 1]
        if not walked:
            return {}
        length = np.array([len(self._paths[i]) - 1 for i in walked])
        coord = np.stack([_padded(np.stack(self._paths[i]), int(length.max()) + 1) for i in walked])
        return goal_metrics(self.worlds.success(coord, length, self.place[walked]))


def _padded(path: np.ndarray, length: int) -> np.ndarray:
    """Repeat the last row of a path [T, C] up to a length."""
    return np.concatenate([path, np.repeat(path[-1:], length - len(path), axis=0)])
