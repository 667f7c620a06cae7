"""Kitchen: an arm before an oven, cabinets, a microwave and a kettle, seen from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal

import mujoco
import numpy as np

from envs.errors import WorldError
from envs.kitchen_model import CHORES, HAND, START, Chore, kitchen_model
from envs.observations import Array
from envs.painting import Eye
from envs.pixels import PixelVectorEnv
from envs.single import one_world
from envs.vector import BAD_STATE

_SUBSTEPS = 40
_REACH = 0.05  # how far the point lies ahead of the hand at full action, in meters; also the share of a turn
_COLUMNS = [joint for chore in CHORES.values() for joint in chore.seen]  # of qpos, that are the coordinates
_EVERY = np.arange(len(_COLUMNS))


def _columns(chore: Chore) -> list[int]:
    return [_COLUMNS.index(joint) for joint in chore.seen]


def _rows() -> dict[str, tuple[float, ...]]:
    """The goals by name, NaN where an object does not matter."""
    rows = {}
    for name, chore in CHORES.items():
        row = np.full(len(_COLUMNS), np.nan)
        row[_columns(chore)] = chore.wanted
        rows[name] = tuple(row)
    return rows


class KitchenVectorEnv(PixelVectorEnv):
    """N kitchens: observation [64, 64, 9] uint8 = the last three pictures, action [7].

    The action moves the hand: along x, y and z, by three angles, and opens one finger while it closes the other, as in
    the CSF paper's program. Without it the arm's servos slowly pull it to its zero position, as they do there. A step
    lasts 0.08 s. Every episode starts in the same state. There is no reward.

    The coordinates are what the goals judge: the angle of the burner's knob and of the light switch, the sliding
    cabinet's position in meters, the hinged cabinet's and the microwave's angle, and x, y of the kettle in meters.
    A goal is a row of coordinates in which NaN stands for what does not matter.
    """

    metadata = PixelVectorEnv.metadata | {"render_fps": 12}
    eye = Eye(lookat=(-0.3, 0.5, 2.0), distance=1.86, azimuth=90.0, elevation=-60.0)
    coord_dim = len(_COLUMNS)
    success_radii = ()
    coverage_cell = 1.0
    named_goals: ClassVar[Mapping[str, Sequence[float]]] = _rows()

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        renderer: Literal["gl"] = "gl",
        quality: Literal["paper", "fast"] = "paper",
        max_steps: int = 50,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Builds the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Threads that step and draw the worlds; 0 chooses.
            renderer: What draws the observed pictures: "gl", OpenGL.
            quality: Of the observed pictures: "paper", or "fast" for coarse shadows and edges.
            max_steps: Steps of an episode.
            render_mode: "rgb_array" to take pictures for films, or None.
            render_size: Side of a film's picture in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If gymnasium-robotics or an OpenGL library is not installed.
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
        """What the episodes of all skills together achieved.

        Returns:
            For every goal by name whether any episode reached it, 0 or 1, and `goals_reached`, how many were.
        """
        real = _real(coord, length)
        found = {
            f"reached_{name}": float((_done(chore, coord[:, 1:], np.array(chore.wanted)) & real).any())
            for name, chore in CHORES.items()
        }
        return found | {"goals_reached": sum(found.values())}

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """How far each of n episodes got with its goal; see `Measured.success`.

        Returns:
            Arrays [n]: `hit`, whether any step reached it, `end`, whether the last did, and `staying`, the fraction of
            steps that did; `hit_NAME` and `staying_NAME` of the goal of that name, NaN for episodes with another.
        """
        done = np.ones((len(coord), coord.shape[1] - 1), bool)
        for chore in CHORES.values():
            wanted = place[:, None, _columns(chore)]
            done &= _done(chore, coord[:, 1:], wanted) | np.isnan(wanted).any(-1)
        return judged(done & _real(coord, length), length, self._names(place))

    def close_extras(self) -> None:
        """Ends the threads and frees the worlds and what draws them."""
        super().close_extras()
        self._pool.shutdown()
        self._data.clear()

    def _names(self, place: Array) -> dict[str, Array]:
        """Of every goal that has a name, which episodes [n] have it."""
        return {name: _same(place, np.array(row)) for name, row in self.named_goals.items()}

    def _begin(self, ids: Array) -> None:
        self._set(ids, (np.tile(START, (len(ids), 1)), np.zeros((len(ids), self.model.nv))))

    def _set(self, ids: Array, state: tuple[Array, ...]) -> None:
        for i, qpos, qvel in zip(ids, *state, strict=True):
            data = self._data[i]
            mujoco.mj_resetData(self.model, data)
            data.qpos[:], data.qvel[:] = qpos, qvel
            mujoco.mj_normalizeQuat(self.model, data.qpos)
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
        """Moves one world by one step under an action [7]; returns whether it diverged."""
        model, pos, quat = self.model, data.xpos[self._hand], data.xquat[self._hand]
        target = _quaternion(_euler(quat) - action[3:6])
        data.ctrl[7:9] = action[6], -action[6]
        try:
            for _ in range(_SUBSTEPS):
                data.mocap_pos[0] = pos + _REACH * action[:3]
                data.mocap_quat[0] = quat + _REACH * (target - quat)
                # In this order the point acts from the next substep on, as in dm_control.
                mujoco.mj_step2(model, data)
                mujoco.mj_step1(model, data)
        except mujoco.FatalError as error:
            raise WorldError(f"MuJoCo cannot continue: {error}") from error
        finite = bool((np.abs(data.qpos) <= mujoco.mjMAXVAL).all() and (np.abs(data.qvel) <= mujoco.mjMAXVAL).all())
        return not finite or any(data.warning[warning].number for warning in BAD_STATE)

    def _coord(self) -> Array:
        return self._qpos[:, _COLUMNS]

    def _goal_poses(self, place: Array) -> Array:
        qpos = np.tile(START, (len(place), 1))
        for chore in CHORES.values():
            asked = place[:, _columns(chore)]
            done = _done(chore, place[:, None], np.array(chore.wanted))[:, 0]
            qpos[np.ix_(done, chore.joints)] = chore.values  # with what moves along, such as the burner's glow
            given = ~np.isnan(asked).any(1)
            qpos[np.ix_(given, chore.seen)] = asked[given]
        return qpos


def judged(done: Array, length: Array, named: dict[str, Array]) -> dict[str, Array]:
    """What episodes achieved of goals that are reached or not.

    Args:
        done: Whether the goal was reached after each step [n, T]; False behind an episode's end.
        length: Steps of each episode [n].
        named: Of every goal that has a name, which episodes [n] have it.

    Returns:
        Arrays [n]: `hit`, `end`, `staying`, and `hit_NAME`, `staying_NAME` with NaN for episodes with another goal.
    """
    hit, staying = done.any(1), done.sum(1) / length
    found = {"hit": hit, "end": done[np.arange(len(done)), length - 1], "staying": staying}
    for name, those in named.items():
        found[f"hit_{name}"] = np.where(those, hit, np.nan)
        found[f"staying_{name}"] = np.where(those, staying, np.nan)
    return found


def _real(coord: Array, length: Array) -> Array:
    """Which steps [n, T] are not behind their episode's end."""
    return np.arange(coord.shape[1] - 1) < length[:, None]


def _same(place: Array, row: Array) -> Array:
    return np.isclose(place, row, equal_nan=True).all(1)


def _done(chore: Chore, coord: Array, wanted: Array) -> Array:
    """Coordinates [..., C], values [..., k] of those that count -> whether they are as wanted [...] bool."""
    seen = coord[..., _columns(chore)]
    if chore.border is not None:
        return ((seen < chore.border) == (wanted < chore.border))[..., 0]
    return np.linalg.norm(seen - wanted, axis=-1) < chore.radius


def _euler(quaternion: Array) -> Array:
    """Quaternion w, x, y, z -> angles about z, y and z again."""
    w, x, y, z = quaternion
    half, rest = np.arctan2(z, w), np.arctan2(-x, y)
    share = (w * w + z * z) / (quaternion @ quaternion)
    return np.array([half + rest, 2.0 * np.arccos(np.sqrt(min(share, 1.0))), half - rest])


def _quaternion(angles: Array) -> Array:
    """Angles about z, y and z again -> quaternion w, x, y, z."""
    a, b, c = angles / 2.0
    return np.array(
        [np.cos(b) * np.cos(a + c), -np.sin(b) * np.sin(a - c), np.sin(b) * np.cos(a - c), np.cos(b) * np.sin(a + c)]
    )


make_kitchen = one_world(KitchenVectorEnv)
