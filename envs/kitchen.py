"""Kitchen: a Franka arm in front of an oven, cabinets, a microwave and a kettle, with image observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal

import mujoco
import numpy as np

from envs.errors import WorldError
from envs.kitchen_goals import CHORES, COLUMNS, rows
from envs.kitchen_model import HAND, START, kitchen_model
from envs.measures import judged, real_steps
from envs.observations import Array
from envs.pixels import PixelVectorEnv
from envs.single import one_world
from envs.vector import BAD_STATE

_SUBSTEPS = 40
# Distance in meters from the hand to its target at full action, and the fraction of the rotation to its target.
_REACH = 0.05


class KitchenVectorEnv(PixelVectorEnv):
    """N kitchens: observation [64, 64, 9] uint8 = the last three images, action [7].

    The action is the hand's displacement along x, y and z, three rotation angles, and a finger command that opens one
    finger while closing the other, as in the CSF paper's released program. Under a zero action, the arm's actuators
    slowly pull it to its zero position, also as in that program. A step lasts 0.08 s. Every episode starts in the same
    state. There is no reward.

    The coordinates are the angles of the burner knob and the light switch in radians, the position of the sliding
    cabinet in meters, the angles of the hinged cabinet and the microwave door in radians, and the x, y of the kettle
    in meters. A goal is a row of coordinates; NaN marks coordinates that are ignored.
    """

    metadata = PixelVectorEnv.metadata | {"render_fps": 12}
    camera = "eye"
    coord_dim = len(COLUMNS)
    success_radii = ()
    coverage_cell = 1.0
    named_goals: ClassVar[Mapping[str, Sequence[float]]] = rows()

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        renderer: Literal["gl", "warp"] = "gl",
        quality: Literal["paper", "fast"] = "paper",
        max_steps: int = 50,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Create the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step and render the worlds; 0: one per usable core, at most N.
            renderer: Renderer of image observations: "gl" for OpenGL, "warp" for MuJoCo Warp's ray tracer.
            quality: Quality of image observations: "paper", or "fast" for coarser edges (and shadows, with OpenGL).
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to render images, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If gymnasium-robotics or the renderer is not installed.
        """
        model = kitchen_model()
        super().__init__(
            model,
            num_envs=num_envs,
            substeps=_SUBSTEPS,
            bounds=np.array([[-1.0, 1.0]] * 7),
            threads=threads,
            renderer=renderer,
            quality=quality,
            goal_range=1.0,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        self._hand = model.body(HAND).id
        self._data = [mujoco.MjData(model) for _ in range(num_envs)]
        self._qpos = np.zeros((num_envs, model.nq))
        self._pool = ThreadPoolExecutor(self._threads, "csf-kitchen")

    def measure(self, coord: Array, length: Array) -> dict[str, float]:
        """Compute metrics over the episodes of all skills; see `Measured.measure`.

        Returns:
            `reached_NAME` per goal, 1 if any episode reached it and 0 otherwise, and `goals_reached`, their sum.
        """
        real = real_steps(coord, length)
        found = {
            f"reached_{name}": float((chore.done(coord[:, 1:], chore.wanted) & real).any())
            for name, chore in CHORES.items()
        }
        return found | {"goals_reached": sum(found.values())}

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """Evaluate whether each of n episodes reached its goal; see `Measured.success`.

        Returns:
            Arrays [n]: `hit`, whether any step reached the goal; `end`, whether the last step did; `staying`, the
            fraction of steps that did; and, per named goal, `hit_NAME` and `staying_NAME`, NaN for episodes with
            another goal.
        """
        done = np.ones((len(coord), coord.shape[1] - 1), bool)
        for chore in CHORES.values():
            wanted = place[:, None, chore.columns]
            done &= chore.done(coord[:, 1:], wanted) | np.isnan(wanted).any(-1)
        return judged(done & real_steps(coord, length), length, self._named_masks(place))

    def close_extras(self) -> None:
        """Stop the threads and free the worlds and renderers."""
        super().close_extras()
        self._pool.shutdown()
        self._data.clear()

    def _begin(self, ids: Array) -> None:
        qpos = START.copy()
        mujoco.mj_normalizeQuat(self.model, qpos)
        self._set(ids, (np.tile(qpos, (len(ids), 1)), np.zeros((len(ids), self.model.nv))))

    def _set(self, ids: Array, state: tuple[Array, ...]) -> None:
        for i, qpos, qvel in zip(ids, *state, strict=True):
            data = self._data[i]
            mujoco.mj_resetData(self.model, data)
            data.qpos[:], data.qvel[:] = qpos, qvel
            mujoco.mj_kinematics(self.model, data)
            data.mocap_pos[0], data.mocap_quat[0] = data.xpos[self._hand], data.xquat[self._hand]
            mujoco.mj_forward(self.model, data)
            self._qpos[i] = data.qpos

    def _move(self, action: Array) -> Array:
        diverged = np.array(list(self._pool.map(self._step, self._data, action)))
        if diverged.any():
            self._begin(np.flatnonzero(diverged))
        for i in np.flatnonzero(~diverged):
            self._qpos[i] = self._data[i].qpos
        return diverged

    def _step(self, data: mujoco.MjData, action: Array) -> bool:
        """Step one world with an action [7]; return whether the simulation diverged."""
        model, pos, quat = self.model, data.xpos[self._hand], data.xquat[self._hand]
        target = _quaternion(_euler(quat) - action[3:6])
        data.ctrl[7:9] = action[6], -action[6]
        try:
            for _ in range(_SUBSTEPS):
                data.mocap_pos[0] = pos + _REACH * action[:3]
                data.mocap_quat[0] = quat + _REACH * (target - quat)
                # In this order, as in dm_control, the new target takes effect in the next substep.
                mujoco.mj_step2(model, data)
                mujoco.mj_step1(model, data)
        except mujoco.FatalError as error:
            raise WorldError(f"MuJoCo cannot continue: {error}") from error
        finite = bool((np.abs(data.qpos) <= mujoco.mjMAXVAL).all() and (np.abs(data.qvel) <= mujoco.mjMAXVAL).all())
        return not finite or any(data.warning[warning].number for warning in BAD_STATE)

    def _coord(self) -> Array:
        return self._qpos[:, COLUMNS]

    def _goal_poses(self, place: Array) -> Array:
        qpos = np.tile(START, (len(place), 1))
        for chore in CHORES.values():
            done = np.flatnonzero(chore.done(place, chore.wanted))
            qpos[done[:, None], chore.joints] = chore.values  # includes linked joints, such as the burner's glow
            asked = place[:, chore.columns]
            given = np.flatnonzero(~np.isnan(asked).any(1))
            qpos[given[:, None], chore.seen] = asked[given]
        return qpos


def _euler(quaternion: Array) -> Array:
    """Convert a quaternion [4] (w, x, y, z) to ZYZ Euler angles [3] in radians."""
    w, x, y, z = quaternion
    half, rest = np.arctan2(z, w), np.arctan2(-x, y)
    share = (w * w + z * z) / (quaternion @ quaternion)
    return np.array([half + rest, 2.0 * np.arccos(np.sqrt(min(share, 1.0))), half - rest])


def _quaternion(angles: Array) -> Array:
    """Convert ZYZ Euler angles [3] in radians to a quaternion [4] (w, x, y, z)."""
    a, b, c = angles / 2.0
    return np.array(
        [np.cos(b) * np.cos(a + c), -np.sin(b) * np.sin(a - c), np.sin(b) * np.cos(a - c), np.cos(b) * np.sin(a + c)]
    )


make_kitchen = one_world(KitchenVectorEnv)
