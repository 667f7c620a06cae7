"""Tasks on Gymnasium's MuJoCo bodies: other directions of movement than forward."""

from __future__ import annotations

from typing import Any

import gymnasium

from envs.errors import WorldError
from envs.observations import Array

ID = "csf/BodyTask-v0"
HEIGHT = {"HalfCheetah": 1, "Walker2d": 1, "Ant": 2}  # index of the height of the torso in qpos
RISE = {"HalfCheetah": 15.0, "Walker2d": 10.0, "Ant": 10.0}  # reward per meter above the start
TASKS = ("forward", "backward", "jump")


class BodyTask(gymnasium.Wrapper[Array, Array, Array, Array]):
    """A body whose reward for moving forward is replaced; costs and the bonus for not falling are unchanged.

    With v the forward velocity in m/s and h the height of the torso above that at the start of the episode in m:
    `forward` is the body's own task, `backward` rewards -v, and `jump` RISE h, less |v| except for HalfCheetah.
    """

    def __init__(self, env: gymnasium.Env[Array, Array], task: str) -> None:
        """Wraps `env`, HalfCheetah, Walker2d or Ant.

        Raises:
            WorldError: If the body or the task is not accepted.
        """
        super().__init__(env)
        name = env.spec.name if env.spec else ""
        if name not in HEIGHT:
            raise WorldError(f"the body is {name!r}; accepted: {', '.join(HEIGHT)}")
        if task not in TASKS:
            raise WorldError(f"task is {task!r}; accepted: {', '.join(TASKS)}")
        self.task, self.body, self._start = task, name, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts a new episode."""
        found = self.env.reset(seed=seed, options=options)
        self._start = self._height()
        return found

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Advances the body and replaces the part of the reward for moving forward."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self.task != "forward":
            reward = float(reward) - info["reward_forward"] + self._term(info["x_velocity"])
        return obs, reward, terminated, truncated, info

    def _term(self, velocity: float) -> float:
        if self.task == "backward":
            return -velocity
        rise = RISE[self.body] * (self._height() - self._start)
        return rise if self.body == "HalfCheetah" else rise - abs(velocity)

    def _height(self) -> float:
        return float(self.unwrapped.data.qpos[HEIGHT[self.body]])  # type: ignore[attr-defined]


def make(of: str, task: str = "forward", render_mode: str | None = None) -> BodyTask:
    """Creates the body `of` (a Gymnasium id) with a task; see `BodyTask`."""
    return BodyTask(gymnasium.make(of, render_mode=render_mode), task)


gymnasium.register(ID, entry_point="envs.body_tasks:make")
