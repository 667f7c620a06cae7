"""What csf play draws: shapes and poses of the models, paths, colors, and the plane of the representation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from conftest import ROOT

import envs
from csf.play.session import Session
from csf.play.source import Source

pytest.importorskip("mjviser", reason="needs mjviser: pip install viser mjviser")

from csf.play.bodies import Bodies, point_model, poses_of
from csf.play.drawing import KEPT, Phi
from csf.play.scene import CHUNK, FAR, Scene, linear

FORMATS = ROOT / "tests/golden/formats"
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["ant", "half_cheetah", "half_cheetah_hurdle", "ant_multi_goal", "Swimmer-v5"])
def test_poses_are_those_of_mujoco(name: str) -> None:
    worlds = envs.make_vec(name, 3)
    worlds.reset(seed=0)
    worlds.step(worlds.action_space.sample())
    qpos = worlds.poses()
    bodies = Bodies(worlds.model)
    frame = bodies.frame(qpos)
    data, matrix = mujoco.MjData(worlds.model), np.zeros(9)
    for i, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(worlds.model, data)
        np.testing.assert_allclose(frame.position[i], data.geom_xpos)
        for rotation, expected in zip(frame.rotation[i], data.geom_xmat, strict=True):
            mujoco.mju_quat2Mat(matrix, rotation)
            np.testing.assert_allclose(matrix, expected, atol=1e-9)
    worlds.close()


def test_poses_are_a_copy_and_follow_the_worlds() -> None:
    worlds = envs.make_vec("ant", 2)
    worlds.reset(seed=0)
    before = worlds.poses()
    kept = before.copy()
    worlds.step(np.ones((2, 8)))
    np.testing.assert_array_equal(before, kept)
    _, infos = worlds.reset(seed=1)
    np.testing.assert_array_equal(worlds.poses()[:, :2], infos["coord"])
    worlds.close()


@pytest.mark.parametrize("name", ["point", "Pendulum-v1"])
def test_worlds_without_a_model_say_so(name: str) -> None:
    worlds = envs.make_vec(name, 1)
    assert worlds.model is None
    with pytest.raises(NotImplementedError, match="has no"):
        worlds.poses()
    worlds.close()


def test_every_moving_shape_is_drawn_once_and_the_hurdles_stand_still() -> None:
    worlds = envs.make_vec("half_cheetah_hurdle", 1)
    bodies = Bodies(worlds.model)
    assert sorted(np.concatenate([part.geoms for part in bodies.parts])) == list(range(13, 21))
    assert len(bodies.fixed) == 12
    low, high = bodies.scenery.bounds
    np.testing.assert_allclose([low, high], [[-15.05, -1.0, 0.17], [27.05, 1.0, 0.23]], atol=1e-6)
    assert bodies.walks
    worlds.close()


@pytest.mark.parametrize(
    ("size", "kind"), [((0.25, 0, 0), "SPHERE"), ((0.1, 0.3, 0), "CAPSULE"), ((0.1, 0.2, 0.3), "BOX")]
)
def test_shapes_have_the_size_of_the_model(size: tuple[float, float, float], kind: str) -> None:
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body()
    body.add_freejoint()
    body.add_geom(type=getattr(mujoco.mjtGeom, f"mjGEOM_{kind}"), size=size)
    (part,) = Bodies(spec.compile()).parts
    half = {"SPHERE": (size[0],) * 3, "CAPSULE": (size[0], size[0], size[0] + size[1]), "BOX": size}[kind]
    np.testing.assert_allclose(np.ptp(part.vertices, axis=0) / 2, half, atol=0.01)
    np.testing.assert_allclose(part.vertices.max(0) + part.vertices.min(0), 0, atol=1e-6)


def test_a_point_is_a_sphere_at_its_coordinates() -> None:
    bodies = Bodies(None)
    frame = bodies.frame(np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(frame.position[0, 0, :2], [1.0, 2.0])
    assert point_model().nq == 2


class Node:
    """A node of a scene; keeps what was set."""

    def __init__(self, name: str, args: tuple[Any, ...], settings: dict[str, Any], nodes: dict[str, Node]) -> None:
        self.name, self.args, self.nodes, self.visible = name, args, nodes, True
        self.__dict__.update(settings)

    def remove(self) -> None:
        assert self.nodes.pop(self.name, None) is self, "it was removed already"


class Api:
    """The methods of viser's scene that add nodes."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def __getattr__(self, method: str) -> Any:
        def add(name: str, *args: Any, **settings: Any) -> Node:
            self.nodes[name] = Node(name, args, settings, self.nodes)
            return self.nodes[name]

        return add


def staged(count: int = 3) -> tuple[Session, Scene, Api]:
    session, api = Session(Source(str(FORMATS / "csf"), CPU, 1), count, 0), Api()
    return session, Scene(api, session), api


def path_of(api: Api) -> np.ndarray:
    """All drawn segments [S, 2, 3]."""
    chunks = [node for name, node in api.nodes.items() if name.startswith("/world/paths/")]
    return np.concatenate([node.args[0] for node in chunks]) if chunks else np.zeros((0, 2, 3))


def test_paths_are_the_coordinates_of_all_steps() -> None:
    session, scene, api = staged()
    steps = [session.coord]
    for _ in range(CHUNK + 3):
        session.step()
        scene.add_step()
        steps.append(session.coord)
    scene.show()
    expected = np.stack([steps[:-1], steps[1:]], axis=2).reshape(-1, 2, 2)
    np.testing.assert_allclose(path_of(api)[..., :2], expected, atol=1e-6)
    scene.restart()
    assert not len(path_of(api))


def test_a_path_is_interrupted_where_a_world_started_again() -> None:
    session, scene, api = staged()
    session.step()
    scene.add_step()
    session.joined[1] = False
    scene._last[1] += 5.0
    scene.add_step()
    scene.show()
    lengths = np.linalg.norm(np.diff(path_of(api), axis=1), axis=-1).max()
    assert lengths < 1.0


def test_bodies_have_the_colors_and_places_of_their_worlds() -> None:
    session, scene, _ = staged()
    session.step()
    scene.add_step()
    scene.show()
    (handle,) = scene.handles
    np.testing.assert_allclose(handle.batched_positions[:, :2], session.coord, atol=1e-6)
    assert handle.batched_colors.tolist() == linear(session.colors()).tolist()
    assert len(np.unique(session.colors(), axis=0)) == 3
    np.testing.assert_allclose(scene.knobs.batched_positions[:, :2], scene.dial_radius * session.skill, atol=1e-6)


def test_colors_are_converted_as_the_standard_says() -> None:
    shown = np.array([[0, 10, 128], [188, 254, 255]], np.uint8)
    assert linear(shown).tolist() == [[0, 1, 55], [128, 253, 255]]


def test_ghosts_are_faint_and_lanes_apart() -> None:
    _, scene, _ = staged()
    scene.layout = "ghosts"
    scene.select(1)
    opacities = scene.handles[0].batched_opacities
    assert scene.ring.visible
    assert opacities[1] == 1.0
    assert max(opacities[0], opacities[2]) < 1.0
    scene.layout = "side by side"
    scene.build()
    assert not scene.ring.visible
    assert not scene.knobs.visible
    places = scene.handles[0].batched_positions[:, :2]
    distances = [np.linalg.norm(places[i] - places[j]) for i in range(3) for j in range(i)]
    assert min(distances) >= 3 * scene.scale - 1e-6


def test_goals_are_drawn_where_they_are_until_they_are_removed() -> None:
    session, scene, api = staged()
    session.aim([0, 2], [0.5, 0.25])
    scene.show()
    np.testing.assert_allclose(api.nodes["/world/goals"].args[3][:, :2], [[0.5, 0.25]])
    assert len(api.nodes["/world/aims"].args[0]) == 2
    session.goals.clear([0, 1, 2])
    scene.show()
    assert not api.nodes["/world/goals"].visible
    assert not api.nodes["/world/aims"].visible


def test_the_scene_follows_the_selected_body() -> None:
    session, scene, _ = staged()
    scene.follow = True
    scene.select(2)
    for _ in range(5):
        session.step()
    scene.show()
    np.testing.assert_allclose(scene.root.position[:2], -session.coord[2], atol=1e-6)


def test_the_bodies_the_start_and_the_goals_are_in_view() -> None:
    session, scene, _ = staged()
    start = scene.in_view()
    for _ in range(5):
        session.step()
        scene.add_step()
        scene.show()
    session.aim([0], [3.0, -3.0])
    scene.show()
    points = scene.in_view()[:, :2]
    for place in (*session.coord, [0.0, 0.0], [3.0, -3.0]):
        assert (np.abs(points - place).max(1) < 1e-6).any(), place
    session.remove_goals([0])
    session.reset()
    scene.restart()
    assert np.ptp(scene.in_view()) > 2 * np.ptp(start), "where the bodies have been stays in view"
    scene.forget()
    assert not np.ptp(scene.in_view())


def test_of_robots_that_stay_the_scenery_is_in_view() -> None:
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=(1.0, 2.0, 0.1))
    arm = spec.worldbody.add_body(pos=(0, 0, 0.5))
    arm.add_joint(type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0, 1, 0))
    arm.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(0.2, 0, 0))
    _, scene, _ = staged(1)
    scene.bodies = Bodies(spec.compile())
    assert not scene.bodies.walks
    corners = {tuple(point) for point in scene.in_view().round(6)}
    assert corners == {(x, y, z) for x in (-1.0, 1.0) for y in (-2.0, 2.0) for z in (-0.1, 0.7)}
    assert scene.reach == 0.0


def test_a_body_that_is_far_away_does_not_make_the_others_invisible() -> None:
    _, scene, _ = staged()
    scene.frame.tracked[1] = 1e6
    scene._remember()
    assert np.abs(scene.in_view()).max() == FAR * scene.scale


def circles(svg: str) -> np.ndarray:
    return np.array(re.findall(r"<circle cx='([-\d.]+)' cy='([-\d.]+)'", svg), float)


def walked() -> tuple[Session, Phi]:
    """Three bodies after five steps, and the picture of their representation."""
    session = Session(Source(str(FORMATS / "csf"), CPU, 1), 3, 0)
    phi = Phi(session)
    phi.restart()
    for _ in range(5):
        session.step()
        phi.add()
    return session, phi


def test_the_plane_shows_where_the_representation_is() -> None:
    session, phi = walked()
    assert session.phi is not None
    shown = circles(phi.svg()) * (1, -1)
    drawn, true = shown - shown.mean(0), session.phi - session.phi.mean(0)
    scale = np.linalg.norm(drawn) / np.linalg.norm(true)
    np.testing.assert_allclose(drawn, scale * true, atol=0.2)


def test_principal_axes_show_the_plane_in_which_phi_varies() -> None:
    session = Session(Source(str(FORMATS / "csf"), CPU, 1), 3, 0)
    phi = Phi(session)
    phi.plane = "principal"
    paths = np.zeros((3, 4, 5))
    paths[..., 3] = 10 * np.random.default_rng(0).normal(size=(3, 4))
    paths[..., 1] = np.random.default_rng(1).normal(size=(3, 4))
    flat, _ = phi._project(paths, None)
    assert abs(np.corrcoef(flat[..., 0].ravel(), paths[..., 3].ravel())[0, 1]) > 0.99
    again, _ = phi._project(paths * 1.01, None)
    assert (flat * again).sum() > 0, "the axes keep their sign"


def test_the_plane_is_the_same_for_the_next_episode() -> None:
    """Otherwise the noise at the start of an episode, or a collapsed phi, fills the picture."""
    session, phi = walked()
    width = re.findall(r"width [-.\de]+", phi.svg())
    session.reset()
    phi.restart()
    assert re.findall(r"width [-.\de]+", phi.svg()) == width
    assert np.ptp(circles(phi.svg()), axis=0).max() < 1, "all bodies are where they start"
    phi.plane = "principal"
    assert re.findall(r"width [-.\de]+", phi.svg()) != width


def test_the_plane_keeps_a_bounded_number_of_steps() -> None:
    session = Session(Source(str(FORMATS / "csf"), CPU, 1), 2, 0)
    phi = Phi(session)
    for _ in range(KEPT + 100):
        phi.add()
    assert len(phi.svg()) < 20_000


def test_an_agent_without_a_representation_says_so() -> None:
    session = Session(Source(str(FORMATS / "policies/dads.safetensors"), CPU, 1), 2, 0)
    phi = Phi(session)
    phi.restart()
    assert "agent=dads has no representation phi" in phi.svg()


def test_worlds_without_a_picture_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from csf.errors import ConfigError

    source = Source(str(FORMATS / "csf"), CPU, 1)
    worlds = source.make(1)
    worlds.coord_dim = 0
    monkeypatch.setattr(source, "make", lambda count: worlds)
    with pytest.raises(ConfigError, match="env=point cannot be displayed: it has neither"):
        Session(source, 1, 0)


def test_coordinates_stand_for_poses_without_a_model() -> None:
    worlds = envs.make_vec("point", 2)
    np.testing.assert_array_equal(poses_of(worlds, np.ones((2, 1))), [[1.0, 0.0]] * 2)
    worlds.close()
