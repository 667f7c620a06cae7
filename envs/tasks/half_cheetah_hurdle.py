"""HalfCheetahHurdle: run forward over bars that lie across the track."""

from __future__ import annotations

from typing import Any, Literal

import mujoco
import numpy as np

from envs.half_cheetah import HalfCheetahVectorEnv
from envs.observations import Array
from envs.single import one_world
from envs.tasks.base import TaskEnv

# Meters along the track; those behind the start are in the way of who runs backward, and pay nothing.
HURDLES = (-15.0, -13.0, -9.0, -5.0, -1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 23.0, 27.0)
_PAYING = np.array([x for x in HURDLES if x >= 0])
_SHOWN = np.array([*HURDLES, 15.0])  # who has passed all of them is shown 15, as in the released program


class HurdledCheetahs(HalfCheetahVectorEnv):
    """N half cheetahs on a track with hurdles."""

    hurdles = HURDLES

    def __init__(self, num_envs: int, **settings: Any) -> None:
        """Builds the worlds, with the arguments of `HalfCheetahVectorEnv`."""
        super().__init__(num_envs, **settings)
        self._foot = mujoco.mj_name2id(self.model, int(mujoco.mjtObj.mjOBJ_BODY), "bfoot")
        self._xpos = self._batch.bind("xpos")

    def back_foot(self) -> Array:
        """Returns the x of the back feet's origins [N] in meters, of the present state.

        The released program reads it one physics step of 0.01 s late.
        """
        return self._xpos[:, self._foot, 0].copy()

    def close_extras(self) -> None:
        """Ends the threads and frees the worlds."""
        del self._xpos
        super().close_extras()


class HalfCheetahHurdleVectorEnv(TaskEnv):
    """N half cheetahs on a track with hurdles: observation [20], action [6].

    Observation: the cheetah's [18]; the x of the first hurdle that is not behind the back foot, 15 if none is; the
    distance of the back foot to that x. The CSF paper's downstream task (arXiv 2412.08021): a step earns 1 for every
    hurdle at x >= 0 that the back foot passes, -1 for every one that it comes back over.

    Infos: those of `TaskEnv`, where the parts are the seven hurdles at x >= 0 in their order, and steps count that end
    with the back foot beyond them.
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
        """Builds the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Threads that step the worlds; 0 chooses.
            normalizer: "preset" or "off".
            max_steps: Steps of an episode.
            render_mode: "rgb_array" to take pictures, or None.
            render_size: Side of a picture in pixels.

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
        super().__init__(self._cheetahs, len(_PAYING))
        self._passed = np.zeros(self._staying.shape, bool)

    def _beyond(self) -> Array:
        """Returns whether each paying hurdle is behind the back foot [N, 7] bool."""
        return self._cheetahs.back_foot()[:, None] > _PAYING

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
