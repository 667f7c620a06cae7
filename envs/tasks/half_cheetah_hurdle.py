"""HalfCheetahHurdle: run forward over bars across the track."""

from __future__ import annotations

from typing import Any, Literal

import mujoco
import numpy as np

from envs.half_cheetah import HalfCheetahVectorEnv
from envs.observations import Array
from envs.single import one_world
from envs.tasks.base import TaskEnv

# x in meters. Hurdles behind the start obstruct running backward and are not rewarded.
HURDLES = (-15.0, -13.0, -9.0, -5.0, -1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 23.0, 27.0)
_REWARDED = np.array([x for x in HURDLES if x >= 0])
_SHOWN = np.array([*HURDLES, 15.0])  # after the last hurdle the observation is 15, as in the released program


class HurdledCheetahs(HalfCheetahVectorEnv):
    """N half cheetahs on a track with hurdles."""

    hurdles = HURDLES

    def __init__(self, num_envs: int, **settings: Any) -> None:
        """Creates the worlds, with the arguments of `HalfCheetahVectorEnv`."""
        super().__init__(num_envs, **settings)
        self._foot = mujoco.mj_name2id(self.model, int(mujoco.mjtObj.mjOBJ_BODY), "bfoot")
        self._xpos = self._batch.bind("xpos")

    def back_foot(self) -> Array:
        """Returns the current x of the back feet's origins [N] in meters.

        The released program uses the value of one physics step (0.01 s) earlier.
        """
        return self._xpos[:, self._foot, 0].copy()

    def close_extras(self) -> None:
        """Stops the threads and frees the worlds."""
        del self._xpos
        super().close_extras()


class HalfCheetahHurdleVectorEnv(TaskEnv):
    """N half cheetahs on a track with hurdles: observation [20], action [6].

    Observation: the cheetah's [18]; the x of the next hurdle that the back foot has not passed, or 15 if it has passed
    all; the distance of the back foot to that x. A downstream task of the CSF paper (arXiv 2412.08021): the reward is 1
    for every hurdle at x >= 0 that the back foot passes, and -1 for every one that it passes backward.

    Infos: those of `TaskEnv`. The parts are the seven hurdles at x >= 0 in order; a step counts for a hurdle if it ends
    with the back foot beyond it.
    """

    base = "half_cheetah"
    goal_dim = 2
    coord_dim = HalfCheetahVectorEnv.coord_dim
    success_radii = ()
    coverage_cell = HalfCheetahVectorEnv.coverage_cell

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        normalizer: Literal["preset", "off"] = "preset",
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step the worlds; 0: one per usable core, at most N.
            normalizer: Fixed normalization of observations, "preset" or "off".
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        self._cheetahs = HurdledCheetahs(
            num_envs,
            threads=threads,
            normalizer=normalizer,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        super().__init__(self._cheetahs, len(_REWARDED))
        self._passed = np.zeros(self._staying.shape, bool)

    def _beyond(self) -> Array:
        """Returns whether the back foot has passed each rewarded hurdle [N, 7] bool."""
        return self._cheetahs.back_foot()[:, None] > _REWARDED

    def _after_reset(self, ids: Array, options: dict[str, Any]) -> None:
        super()._after_reset(ids, options)
        self._passed[ids] = self._beyond()[ids]

    def _reward(self, before: Array, after: Array, action: Array) -> Array:
        return self._beyond().sum(1) - self._passed.sum(1, dtype=np.float64)

    def _after_step(self, reward: Array) -> None:
        self._passed = self._beyond()
        self._staying += self._passed

    def _columns(self) -> Array:
        foot = self._cheetahs.back_foot()
        shown = _SHOWN[np.searchsorted(HURDLES, foot)]
        return np.stack((shown, np.abs(shown - foot)), axis=1)


make_half_cheetah_hurdle = one_world(HalfCheetahHurdleVectorEnv)
