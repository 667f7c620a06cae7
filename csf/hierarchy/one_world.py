"""One world whose action is a skill, as an ordinary Gymnasium environment: for any library that trains on one."""

from __future__ import annotations

from typing import Any, NoReturn, SupportsFloat

import gymnasium
import numpy as np

from csf.agents import Agent
from csf.hierarchy.skill_env import Array, SkillVectorEnv
from csf.types import Worlds


class SkillEnv(gymnasium.Env[Array, Any]):
    """The only world of a `SkillVectorEnv`; its action is a row [Z], or the index of a one-hot skill."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, worlds: Worlds, agent: Agent, hold: int = 25) -> None:
        """Take over a batch of one world; the rest is as in `SkillVectorEnv`.

        Raises:
            ValueError: there is more than one world, or the agent's skills do not fit it.
        """
        if worlds.num_envs != 1:
            raise ValueError(f"num_envs is {worlds.num_envs}; accepted: 1")
        self.worlds = SkillVectorEnv(worlds, agent, hold)
        self.metadata = {key: value for key, value in worlds.metadata.items() if key != "autoreset_mode"}
        self.render_mode = getattr(worlds, "render_mode", None)
        self.observation_space = self.worlds.single_observation_space
        self.action_space = self.worlds.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start a new episode; options are those of the worlds, whose arrays begin with their number, 1."""
        super().reset(seed=seed)
        obs, infos = self.worlds.reset(seed=seed, options=options)
        return obs[0], _first(infos)

    def step(self, action: Any) -> tuple[Array, SupportsFloat, bool, bool, dict[str, Any]]:
        """Hold one skill: observation [O], the sum of rewards, terminated, truncated, info."""
        obs, reward, terminated, truncated, infos = self.worlds.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(infos)

    def render(self) -> Any:
        """A picture of the world [H, W, 3] uint8, if it takes pictures."""
        return self.worlds.render()[0]

    def close(self) -> None:
        """Release the world."""
        self.worlds.close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("SkillEnv cannot be copied or pickled; make another one of a new world and the agent")


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    """The only rows of infos [1, ...], without Gymnasium's masks."""
    return {key: rows[0] for key, rows in infos.items() if not key.startswith("_")}
