"""Model of Robobin: metaworld's Sawyer arm above two bins with a cube in each."""

from __future__ import annotations

import functools
from typing import Any

import mujoco
import numpy as np

from envs.assets import asset
from envs.observations import Array
from envs.painting import look

CUBES = ("obj", "obj2")
BEGIN = (-0.1, 0.7, 0.04), (0.1, 0.7, 0.04)  # initial positions of the cubes, in meters

_ROOT = 2.0**-0.5


@functools.cache
def robobin_model() -> mujoco.MjModel:
    """Build metaworld's arm with the table, bins and cubes of the CSF paper's released program.

    Raises:
        DependencyNotInstalled: If metaworld is not installed.
    """
    spec = mujoco.MjSpec.from_file(asset("metaworld", "assets/sawyer_xyz/sawyer_bin_picking.xml"))
    spec.compiler.inertiagrouprange = 0, 5
    _clear(spec)
    _arm(spec)
    _hand(spec)
    _light(spec)
    _table(spec)
    _bin(spec, "bin_left", -0.16, (1, 0.3, 0.3, 1))
    _bin(spec, "bin_right", 0.16, (0.3, 0.3, 1, 1))
    for name, place, color in zip(CUBES, BEGIN, ((0, 1, 0, 1), (0.8, 0.8, 0.1, 1)), strict=True):
        _cube(spec, name, place, color)
    look(spec, (0.0, 0.65, 0.0), distance=1.4, elevation=-41.0, azimuth=270.0)
    return spec.compile()


def _clear(spec: mujoco.MjSpec) -> None:
    """Remove metaworld's scene except the arm and the sky."""
    sky = mujoco.mjtTexture.mjTEXTURE_SKYBOX
    unwanted: list[Any] = [spec.body(name) for name in ("tablelink", "RetainingWall", "obj", "bin_start", "bin_goal")]
    unwanted += [spec.geom("floor"), *spec.lights]
    unwanted += [spec.mesh(name) for name in ("tablebody", "tabletop", "bin")]
    unwanted += [texture for texture in spec.textures if texture.type != sky]
    unwanted += [spec.material(name) for name in ("basic_floor", "table_wood", "table_col", "wall_metal")]
    unwanted += [spec.material(name) for name in ("bin_red", "bin_blue", "obj_green")]
    for element in unwanted:
        spec.delete(element)


def _arm(spec: mujoco.MjSpec) -> None:
    for i in range(7):
        spec.joint(f"right_j{i}").armature = 0.1
    (grip,) = (geom for geom in spec.body("right_hand").geoms if geom.meshname == "eGripperBase")
    grip.quat = 0, 0, 0, 1
    (weld,) = spec.equalities
    # Anchor, relative position, relative quaternion and torque scale. The scale reproduces the much stiffer welds of
    # MuJoCo 2.
    weld.data[:] = 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 20, 0
    spec.body("mocap").quat = _down()


def _down() -> Array:
    """Return the hand's quaternion [4] with the fingers pointing down."""
    quaternion = np.array([1.0, 0.0, 0.0, 0.0])
    # 180 degrees about y, -90 degrees about z, then the rotation between metaworld's hand and the paper's.
    for turn in ((0, 0, 1, 0), (_ROOT, 0, 0, -_ROOT), (-_ROOT, 0, _ROOT, 0)):
        product = np.empty(4)
        mujoco.mju_mulQuat(product, quaternion, np.array(turn, np.float64))
        quaternion = product
    return quaternion


def _hand(spec: mujoco.MjSpec) -> None:
    for geom in spec.body("hand").find_all("geom"):
        geom.contype = geom.conaffinity = 1
        if geom.name.endswith("pad_geom"):
            geom.solimp[:3], geom.solref[:] = (0.9, 0.9, 0.01), (0.01, 1.0)
        else:
            geom.solimp[:3], geom.solref[:] = (1.0, 1.0, 0.0), (0.02, 1.0)
        if geom.name != "rail":
            geom.rgba = 1, 1, 1, 1
    spec.geom("rightpad_geom").mass = 0.0162
    for site in spec.body("hand").find_all("site"):
        site.rgba[3] = 0.0


def _light(spec: mujoco.MjSpec) -> None:
    spec.visual.headlight.ambient[:] = 0.5
    for place in ((1, 1, 4), (-3, -3, 4)):
        light = spec.worldbody.add_light(type=mujoco.mjtLightType.mjLIGHT_SPOT, pos=place, dir=(0, -0.15, -1))
        light.castshadow = False
        light.diffuse[:], light.specular[:] = 0.8, 0.3


def _table(spec: mujoco.MjSpec) -> None:
    wood = asset("metaworld", "assets/textures/light_wood_v3.png")
    spec.add_texture(name="wood", type=mujoco.mjtTexture.mjTEXTURE_2D, file=wood)
    material = spec.add_material(name="wood", specular=0.4, shininess=0.1)
    material.textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "wood"
    table = spec.worldbody.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0.4, 0.4, 0.5))
    table.pos, table.material, table.rgba = (0, 0.6, 0), "wood", (0.6, 0.6, 0.5, 1)
    table.friction[:], table.solimp[:3] = (2.0, 0.1, 0.002), (1.0, 1.0, 0.0)


def _bin(spec: mujoco.MjSpec, name: str, x: float, color: tuple[float, ...]) -> None:
    body = spec.worldbody.add_body(name=name, pos=(x, 0.7, 0.02))
    box, capsule = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE
    body.add_geom(type=box, size=(0.15, 0.2, 0.001), pos=(0, 0, 0.005), rgba=color)
    for size, side in (
        ((0.15, 0.001, 0.03), (0, 0.2)),
        ((0.15, 0.001, 0.03), (0, -0.2)),
        ((0.001, 0.2, 0.03), (0.15, 0)),
        ((0.001, 0.2, 0.03), (-0.151, 0)),
    ):
        _harden(body.add_geom(type=box, size=size, pos=(*side, 0.034), rgba=color))
    for corner in ((a * 0.148, b * 0.198) for a in (1, -1) for b in (1, -1)):
        ends = (*corner, 0.0075, *corner, 0.06)
        _harden(body.add_geom(type=capsule, size=(0.005, 0, 0), fromto=ends, rgba=color))


def _cube(spec: mujoco.MjSpec, name: str, place: tuple[float, ...], color: tuple[float, ...]) -> None:
    # The large inertia prevents the cube from rotating.
    body = spec.worldbody.add_body(name=name, pos=place, mass=0.01, inertia=(1e5, 1e5, 1e5), explicitinertial=True)
    body.add_freejoint()
    geom = body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.02, 0.02, 0.02), rgba=color, condim=4)
    geom.friction[:] = 1.0, 0.1, 0.002
    _harden(geom)


def _harden(geom: Any) -> None:
    geom.solref[:], geom.solimp[:3] = (0.01, 1.0), (0.99, 0.99, 0.01)
