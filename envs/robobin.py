"""Robobin: a Sawyer arm above two bins with a cube in each, with image observations from the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from mujoco.batch import Batch

from envs.base import choice
from envs.measures import judged, real_steps
from envs.observations import Array
from envs.pixels import BatchPixelVectorEnv
from envs.robobin_model import BEGIN, CUBES, robobin_model
from envs.single import one_world
from envs.vector import CURRENT, NOTHING, step_worlds

_SUBSTEPS = 5
_SPEED = 0.01  # displacement of the mocap body per step at full action, in meters
_LOW, _HIGH = np.array([-0.5, 0.4, 0.07]), np.array([0.5, 0.8, 0.5])  # bounds of the mocap body, in meters
_HOME = np.array([0.0, 0.6, 0.2])  # initial position of the mocap body, in meters
_SETTLING = 10  # steps in which the hand converges to the mocap body
_RADIUS = 0.1  # of success, in meters
_ANY = (float("nan"),) * 3
_HAND = (0.0, 0.65, 0.2)  # position of the hand in images of goals that only concern cubes, in meters
_LEFT, _RIGHT = BEGIN
# Positions of the hand, the first and the second cube in meters; NaN is ignored.
_GOALS = {
    "reach_left": ((0.12, 0.75, 0.1), _ANY, _ANY),
    "reach_right": ((-0.1, 0.85, 0.1), _ANY, _ANY),
    "push_front": (_ANY, _LEFT, (0.1, 0.85, 0.04)),
    "push_back": (_ANY, (-0.1, 0.55, 0.04), _RIGHT),
}


class RobobinVectorEnv(BatchPixelVectorEnv):
    """N arms above two bins: observation [64, 64, 9] uint8 = the last three images, action [4].

    The action is the hand's displacement along x, y and z and a command that closes the fingers. A step lasts 0.0125 s.
    Every episode starts in the same state. There is no reward.

    The coordinates are the x, y, z of the hand and of the two cubes, in meters. A goal is a row of coordinates; NaN
    marks coordinates that are ignored. It is reached if the hand and every cube that it specifies are within 0.1 m.
    """

    metadata = BatchPixelVectorEnv.metadata | {"render_fps": 40}  # half speed, because an episode lasts only 2.5 s
    camera = "eye"
    parts = ("qpos", "qvel", "mocap_pos")
    coord_dim = 9
    success_radii = ()
    coverage_cell = 0.01
    named_goals: ClassVar[Mapping[str, Sequence[float]]] = {
        name: (*hand, *cube, *other) for name, (hand, cube, other) in _GOALS.items()
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        renderer: Literal["gl", "warp"] = "gl",
        quality: Literal["paper", "fast"] = "paper",
        success_rule: Literal["own", "released"] = "own",
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Create the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step and render the worlds; 0: one per usable core, at most N.
            renderer: Renderer of image observations: "gl" for OpenGL, "warp" for MuJoCo Warp's ray tracer.
            quality: Quality of image observations: "paper", or "fast" for coarser edges (and shadows, with OpenGL).
            success_rule: Condition under which a goal is reached, "own" or "released".
                "own": the distances of the hand or the cubes that the goal specifies.
                "released": as in the released program, the hand's distance to "reach_left", for every goal.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to render images, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If metaworld or the renderer is not installed.
        """
        model = robobin_model()
        self.success_rule = choice("success_rule", success_rule, ("own", "released"))
        super().__init__(
            model,
            num_envs=num_envs,
            substeps=_SUBSTEPS,
            bounds=np.array([[-1.0, 1.0]] * 4),
            threads=threads,
            renderer=renderer,
            quality=quality,
            goal_range=1.0,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        self._hand, self._cubes = model.body("hand").id, [model.geom(name).id for name in CUBES]
        self._mocap = self._batch.bind("mocap_pos")
        self._xpos, self._geom_xpos = self._batch.bind("xpos"), self._batch.bind("geom_xpos")
        self._start = self._settled(_HOME[None], np.array([BEGIN])).state[0].copy()

    def measure(self, coord: Array, length: Array) -> dict[str, float]:
        """Compute metrics over the episodes of all skills; see `Measured.measure`.

        Returns:
            `coverage`, the number of distinct visited coordinates, rounded to centimeters.
        """
        visited = coord[np.arange(coord.shape[1]) <= length[:, None]]
        return {"coverage": float(len(np.unique(visited.round(2) + 0.0, axis=0)))}  # + 0.0 turns -0.0 into 0.0

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """Evaluate whether each of n episodes reached its goal; see `Measured.success`.

        Returns:
            Arrays [n]: `hit`, whether any step reached the goal; `end`, whether the last step did; `staying`, the
            fraction of steps that did; and, per named goal, `hit_NAME` and `staying_NAME`, NaN for episodes with
            another goal.
        """
        wanted = place
        if self.success_rule == "released":
            wanted = np.tile(self.named_goals["reach_left"], (len(place), 1))
        away = (coord[:, 1:] - wanted[:, None]).reshape(*coord[:, 1:].shape[:2], 3, 3)
        distance = np.linalg.norm(away, axis=-1)
        done = ((distance < _RADIUS) | np.isnan(distance)).all(-1)
        return judged(done & real_steps(coord, length), length, self._named_masks(place))

    def close_extras(self) -> None:
        """Free the worlds and renderers."""
        super().close_extras()
        del self._mocap, self._xpos, self._geom_xpos

    def _begin(self, ids: Array) -> None:
        self._batch.reset(ids, stage=NOTHING)
        self._batch.state[ids] = self._start
        self._batch.forward(ids, stage=CURRENT)

    def _move(self, action: Array) -> Array:
        self._mocap[:, 0] = np.clip(self._mocap[:, 0] + _SPEED * action[:, :3], _LOW, _HIGH)
        diverged = super()._move(action[:, 3:] * [1.0, -1.0])
        if diverged.any():
            self._begin(np.flatnonzero(diverged))
        return diverged

    def _coord(self) -> Array:
        cubes = self._geom_xpos[:, self._cubes].reshape(self.num_envs, 6)
        return np.concatenate((self._xpos[:, self._hand], cubes), axis=1)

    def _goal_poses(self, place: Array) -> Array:
        rest = np.array([*_HAND, *_LEFT, *_RIGHT])
        row = np.where(np.isnan(place), rest, place).reshape(-1, 3, 3)
        batch = self._settled(_HOME[None].repeat(len(row), 0), np.array([BEGIN] * len(row)))
        self._settle(batch, row[:, 0], row[:, 1:])
        mocap = batch.bind("mocap_pos")
        mocap[:], batch.bind("ctrl")[:] = np.clip(mocap, _LOW, _HIGH), 0.0  # a step with zero action
        step_worlds(batch, _SUBSTEPS)
        return batch.bind("qpos").copy()

    def _settled(self, hand: Array, cubes: Array) -> Batch:
        """Return simulations at rest with the hand at positions [n, 3] and the cubes at [n, 2, 3], in meters."""
        batch = Batch(self.model, len(hand), 1, persistent=True)
        self._settle(batch, hand, cubes)
        return batch

    def _settle(self, batch: Batch, hand: Array, cubes: Array) -> None:
        batch.bind("mocap_pos")[:, 0], batch.bind("ctrl")[:] = hand, (-1.0, 1.0)
        for _ in range(_SETTLING):
            step_worlds(batch, _SUBSTEPS)
        for i, cube in enumerate(CUBES):
            joint = self.model.body(cube).jntadr[0]
            qpos, qvel = self.model.jnt_qposadr[joint], self.model.jnt_dofadr[joint]
            batch.bind("qpos")[:, qpos : qpos + 3] = cubes[:, i]
            batch.bind("qpos")[:, qpos + 3 : qpos + 7] = 1.0, 0.0, 0.0, 0.0
            batch.bind("qvel")[:, qvel : qvel + 6] = 0.0
        batch.forward(stage=CURRENT)


make_robobin = one_world(RobobinVectorEnv)
