"""Shapes of a MuJoCo model as meshes, and their poses in a batch of worlds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import mujoco
import numpy as np

from csf.errors import optional
from csf.play import MISSING

HIDDEN_GROUP = 3  # MuJoCo's viewer hides geoms of this and later groups, which are shapes for collisions
POINT = 0.06  # radius of the sphere that stands for a world without a model
LIFT = 0.02  # height of paths above the floor


class Frame(NamedTuple):
    """Poses in N worlds."""

    position: np.ndarray  # [N, G, 3] of the geoms, in meters
    rotation: np.ndarray  # [N, G, 4] quaternions w, x, y, z
    tracked: np.ndarray  # [N, 3] position whose path is drawn


@dataclass(frozen=True)
class Part:
    """Geoms of the same shape.

    Attributes:
        geoms: indices [K].
        vertices: [V, 3].
        faces: [F, 3].
        colors: [K, 3] uint8, colors of the geoms in the model.
        tinted: [K] bool, which geoms belong to the robot and have the color of its skill.
    """

    vertices: np.ndarray
    faces: np.ndarray
    geoms: np.ndarray
    colors: np.ndarray
    tinted: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


class Bodies:
    """The moving and the fixed shapes of a model.

    Attributes:
        parts: moving shapes.
        fixed: indices of fixed geoms, without the floor.
        radius: approximate radius of the robot in meters.
        walks: whether the robot can leave its place.
    """

    def __init__(self, model: Any) -> None:
        """Convert the shapes of a model; None: one sphere.

        Raises:
            MissingDependency: mjviser is not installed.
        """
        self.model = point_model() if model is None else model
        self._data = mujoco.MjData(self.model)
        shown = (self.model.geom_group < HIDDEN_GROUP) & (self.model.geom_rgba[:, 3] > 0)
        still = self.model.body_weldid[self.model.geom_bodyid] == 0
        plane = self.model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
        self.fixed = np.flatnonzero(shown & still & ~plane)
        moving = self._moving = np.flatnonzero(shown & ~still)
        self._robot = self._first_moving_body()
        self.walks = self._is_free(self._robot)
        self._tracked = self._robot if self.walks else self._end_of(self._robot)
        robot = self.model.body_rootid[self.model.geom_bodyid] == self.model.body_rootid[self._robot]
        self.parts = self._parts(moving, robot)
        self.radius = self._radius(moving[robot[moving]])

    def frame(self, qpos: np.ndarray) -> Frame:
        """Compute the poses for joint positions [N, nq]."""
        model, data = self.model, self._data
        position = np.empty((len(qpos), model.ngeom, 3))
        bodies = np.empty((len(qpos), model.nbody, 4))
        tracked = np.empty((len(qpos), 3))
        for i, row in enumerate(qpos):
            data.qpos[:] = row
            mujoco.mj_kinematics(model, data)
            position[i], bodies[i], tracked[i] = data.geom_xpos, data.xquat, data.xpos[self._tracked]
        if self.walks:
            tracked[:, 2] = LIFT
        return Frame(position, _product(bodies[:, model.geom_bodyid], model.geom_quat), tracked)

    @cached_property
    def scenery(self) -> Any:
        """The fixed shapes as one mesh of the package trimesh; None if there are none."""
        if not len(self.fixed):
            return None
        import trimesh

        mujoco.mj_kinematics(self.model, self._data)
        meshes = []
        for geom in self.fixed:
            mesh, pose = self._mesh(geom), np.eye(4)
            pose[:3, :3] = self._data.geom_xmat[geom].reshape(3, 3)
            pose[:3, 3] = self._data.geom_xpos[geom]
            mesh.apply_transform(pose)
            meshes.append(mesh)
        return trimesh.util.concatenate(meshes)

    def surroundings(self) -> np.ndarray:
        """Return the lowest and the highest point [2, 3] of the robot and of what is fixed around it."""
        mujoco.mj_resetData(self.model, self._data)
        mujoco.mj_kinematics(self.model, self._data)
        place, reach = self._data.geom_xpos[self._moving], self.model.geom_rbound[self._moving, None]
        points = [place - reach, place + reach]
        if self.scenery is not None:
            points.append(self.scenery.bounds)
        return np.stack([np.concatenate(points).min(0), np.concatenate(points).max(0)])

    def _parts(self, moving: np.ndarray, robot: np.ndarray) -> list[Part]:
        groups: dict[tuple[Any, ...], list[int]] = {}
        for geom in moving:
            kind, mesh = int(self.model.geom_type[geom]), int(self.model.geom_dataid[geom])
            groups.setdefault((kind, mesh, *self.model.geom_size[geom]), []).append(int(geom))
        return [self._part(np.array(geoms), robot) for geoms in groups.values()]

    def _part(self, geoms: np.ndarray, robot: np.ndarray) -> Part:
        mesh = self._mesh(geoms[0])
        colors = np.array([self._color(geom) for geom in geoms])
        return Part(np.asarray(mesh.vertices), np.asarray(mesh.faces), geoms, colors, robot[geoms])

    def _mesh(self, geom: Any) -> Any:
        convert = conversions()
        is_mesh = self.model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_MESH)
        return (convert.mujoco_mesh_to_trimesh if is_mesh else convert.create_primitive_mesh)(self.model, geom)

    def _color(self, geom: int) -> np.ndarray:
        material = self.model.geom_matid[geom]
        rgba = self.model.mat_rgba[material] if material >= 0 else self.model.geom_rgba[geom]
        return (255 * rgba[:3]).round().clip(0, 255).astype(np.uint8)

    def _first_moving_body(self) -> int:
        """Return the first body with joints that an actuator moves or that belongs to their tree; otherwise body 1."""
        joints = [int(j) for j, kind in zip(self.model.actuator_trnid[:, 0], self.model.actuator_trntype, strict=True)
                  if kind == int(mujoco.mjtTrn.mjTRN_JOINT)]  # fmt: skip
        trees = {int(self.model.body_rootid[self.model.jnt_bodyid[j]]) for j in joints}
        moving = np.flatnonzero(self.model.body_weldid > 0)
        own = [int(body) for body in moving if int(self.model.body_rootid[body]) in trees]
        return own[0] if own else int(moving[0]) if len(moving) else 0

    def _is_free(self, body: int) -> bool:
        """Whether a body has a free joint, or slides along a horizontal axis."""
        joints = self.model.body_jntadr[body] + np.arange(self.model.body_jntnum[body])
        free = self.model.jnt_type[joints] == int(mujoco.mjtJoint.mjJNT_FREE)
        slides = self.model.jnt_type[joints] == int(mujoco.mjtJoint.mjJNT_SLIDE)
        level = np.abs(self.model.jnt_axis[joints, :2]).sum(1) > 0
        return bool((free | (slides & level & ~self._limited(joints))).any())

    def _limited(self, joints: np.ndarray) -> np.ndarray:
        return self.model.jnt_limited[joints].astype(bool)

    def _end_of(self, body: int) -> int:
        """Return the last body of the longest chain that begins at a body, such as the finger of an arm."""
        root, depth = self.model.body_rootid[body], np.zeros(self.model.nbody, int)
        for i in range(1, self.model.nbody):
            depth[i] = depth[self.model.body_parentid[i]] + 1
        return int(np.where(self.model.body_rootid == root, depth, -1).argmax())

    def _radius(self, geoms: np.ndarray) -> float:
        mujoco.mj_resetData(self.model, self._data)
        mujoco.mj_kinematics(self.model, self._data)
        if not len(geoms):
            return float(self.model.stat.extent) / 2
        place = self._data.geom_xpos[geoms]
        return float((np.linalg.norm(place - place.mean(0), axis=1) + self.model.geom_rbound[geoms]).max())


def point_model() -> mujoco.MjModel:
    """Build a sphere with a free position in the plane, for worlds that have coordinates and no model."""
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name="point", pos=(0, 0, POINT))
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(POINT, 0, 0))
    for axis in ((1, 0, 0), (0, 1, 0)):
        body.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    return spec.compile()


def poses_of(worlds: Any, coord: np.ndarray) -> np.ndarray:
    """Return the joint positions [N, nq] of worlds with coordinates [N, C], with or without a model."""
    if worlds.model is not None:
        return np.asarray(worlds.poses())
    return np.pad(coord, ((0, 0), (0, 2 - coord.shape[1])))


def _product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the products [..., 4] of quaternions w, x, y, z."""
    w, x, y, z = np.moveaxis(one, -1, 0)
    a, b, c, d = np.moveaxis(np.broadcast_to(other, one.shape), -1, 0)
    rows = (w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c, w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a)  # fmt: skip
    return np.stack(rows, axis=-1)


def conversions() -> Any:
    """Import the conversion of MuJoCo's shapes to meshes.

    Raises:
        MissingDependency: mjviser is not installed.
    """
    return optional("mjviser.conversions", MISSING)
