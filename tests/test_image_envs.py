"""Tests of the image environments: models, images, stacks and success conditions."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import yaml
from conftest import ROOT
from env_rules import assert_gymnasium_accepts, assert_same_step
from gymnasium.error import DependencyNotInstalled
from image_rules import MODELS, need

import envs
from envs import assets, gl, kitchen, painting
from envs.assets import asset
from envs.errors import WorldError
from envs.kitchen_goals import COLUMNS
from envs.observations import Array
from envs.painting import Painter, Painters
from envs.pixels import PixelVectorEnv

WORLDS = ["quadruped", "humanoid", "kitchen", "robobin"]
ACTIONS = {"quadruped": 12, "humanoid": 21, "kitchen": 7, "robobin": 4}
STEPS = {"quadruped": 200, "humanoid": 200, "kitchen": 50, "robobin": 200}
# nq, nv, na, nu, bodies, geoms, meshes, textures, equalities
SIZES = {
    "quadruped": (23, 22, 12, 12, 18, 20, 0, 4, 4),
    "humanoid": (28, 27, 0, 21, 17, 20, 0, 3, 0),
    "kitchen": (30, 29, 0, 9, 45, 240, 43, 14, 6),
    "robobin": (23, 21, 0, 2, 35, 49, 11, 2, 1),
}
# Mean red, green and blue of the picture after a reset with seed 0, at quality "paper".
MEANS = {
    "quadruped": (134.5, 122.9, 122.8),
    "humanoid": (114.7, 132.9, 116.8),
    "kitchen": (98.8, 100.2, 102.4),
    "robobin": (138.8, 118.8, 120.5),
}


def model_of(name: str) -> mujoco.MjModel:
    module = importlib.import_module("envs." + (f"{name}_model" if name in ("kitchen", "robobin") else name))
    return getattr(module, f"{name}_model")()


def make(name: str, count: int = 1, **settings: Any) -> Any:
    need(name, settings.get("renderer", "gl"))
    return envs.make_vec(name, count, **{"quality": "fast", "threads": 2, **settings})


@pytest.fixture(scope="module", params=WORLDS)
def three(request: pytest.FixtureRequest) -> Iterator[PixelVectorEnv]:
    """Three worlds per environment; tests must reset them first."""
    worlds = make(request.param, 3, max_steps=4)
    yield worlds
    worlds.close()


@pytest.fixture(scope="module")
def bins() -> Iterator[Any]:
    worlds = make("robobin", 2)
    yield worlds
    worlds.close()


@pytest.fixture(scope="module")
def kitchens() -> Iterator[Any]:
    worlds = make("kitchen", 2)
    yield worlds
    worlds.close()


def actions(worlds: Any, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (worlds.num_envs, worlds.single_action_space.shape[0]))


# The models


@pytest.mark.parametrize("name", WORLDS)
def test_a_model_has_the_expected_sizes(name: str) -> None:
    need(name)
    m = model_of(name)
    assert (m.nq, m.nv, m.na, m.nu, m.nbody, m.ngeom, m.nmesh, m.ntex, m.neq) == SIZES[name]


def test_models_have_the_expected_physics() -> None:
    """Time steps, margins, welds and masses, to detect another version of a package."""
    for name in WORLDS:
        need(name)
    found = {name: model_of(name) for name in WORLDS}
    assert {name: m.opt.timestep for name, m in found.items()} == {
        "quadruped": 0.005,
        "humanoid": 0.005,
        "kitchen": 0.002,
        "robobin": 0.0025,
    }
    margins = {name: sorted(set(m.geom_margin.round(6))) for name, m in found.items()}
    assert margins == {"quadruped": [0], "humanoid": [0], "kitchen": [0, 0.001], "robobin": [0, 0.001]}
    weld = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 20, 0]
    for name, hand in (("kitchen", "panda0_link7"), ("robobin", "hand")):
        m = found[name]
        (row,) = np.flatnonzero(m.eq_type == int(mujoco.mjtEq.mjEQ_WELD))
        assert m.eq_data[row].tolist() == weld
        assert (m.eq_obj1id[row], m.eq_obj2id[row]) == (m.body("mocap").id, m.body(hand).id)
    assert found["quadruped"].actuator_ctrlrange[:3].tolist() == [[-1, 1], [-1, 1.1], [-0.8, 0.8]]
    bins = found["robobin"]
    np.testing.assert_allclose(bins.body("obj").mass, 0.01)
    np.testing.assert_allclose(bins.body("obj2").inertia, 1e5)
    assert bins.dof_armature[:9].tolist() == [0.1] * 7 + [100.0] * 2
    assert (bins.opt.iterations, bins.opt.tolerance) == (50, 1e-10)


def test_the_floor_tells_the_place_by_its_color() -> None:
    need("quadruped")
    for m in (model_of("quadruped"), model_of("humanoid")):
        material = m.geom("floor").matid[0]
        texture = m.mat_texid[material][int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]
        size, start = m.tex_height[texture], m.tex_adr[texture]
        assert size == 300
        pixels = m.tex_data[start : start + size * size * 3].reshape(size, size, 3)
        assert pixels[0, 0].tolist() == [0, 0, 128]
        assert pixels[100, 250].tolist() == [85, 212, 128]
        np.testing.assert_allclose(m.geom("floor").size[:2], 15)
        np.testing.assert_allclose(m.mat_texrepeat, 1)
        assert m.mat_reflectance[material] == pytest.approx(0.2)


def test_a_missing_package_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "find_spec", lambda name: None)
    with pytest.raises(DependencyNotInstalled, match=r"^metaworld is not installed: pip install --no-deps metaworld=="):
        asset("metaworld", "assets/x.xml")


def test_a_package_without_the_file_is_told_with_its_version() -> None:
    need("kitchen")
    message = r"gymnasium_robotics is installed but has no file x.xml: pip install --no-deps gymnasium-robotics==1.4.2"
    with pytest.raises(DependencyNotInstalled, match=message):
        asset("gymnasium_robotics", "x.xml")


def test_a_camera_looks_as_mujocos_free_camera_does() -> None:
    at, distance, elevation, azimuth = (0.1, 0.5, 0.2), 1.3, -35.0, 250.0
    spec = mujoco.MjSpec()
    painting.look(spec, at, distance, elevation, azimuth)
    model = spec.compile()
    data, scene = mujoco.MjData(model), mujoco.MjvScene(model, 10)
    mujoco.mj_forward(model, data)
    free, fixed = mujoco.MjvCamera(), mujoco.MjvCamera()
    free.lookat[:], free.distance, free.elevation, free.azimuth = at, distance, elevation, azimuth
    fixed.type, fixed.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, 0
    views = []
    for eye in (free, fixed):
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, eye, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
        views.append([np.array(v) for v in (scene.camera[0].pos, scene.camera[0].forward, scene.camera[0].up)])
    np.testing.assert_allclose(views[0], views[1], atol=1e-6)


# Pictures


@pytest.mark.parametrize("name", WORLDS)
def test_the_first_picture_has_the_expected_colors(name: str) -> None:
    worlds = make(name, 1, quality="paper")
    obs, _ = worlds.reset(seed=0)
    worlds.close()
    np.testing.assert_allclose(obs[0, ..., :3].mean((0, 1)), MEANS[name], atol=2.0)


def test_pictures_are_those_of_mujocos_renderer(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three worlds on two threads."""
    library = importlib.import_module(f"mujoco.{gl.backend()}")  # without MUJOCO_GL, MuJoCo takes one with a screen
    monkeypatch.setattr("mujoco.rendering.classic.gl_context.GLContext", library.GLContext)
    obs, _ = three.reset(seed=1)
    for seed in range(2):
        obs, *_ = three.step(actions(three, seed))
    model = painting._prepared(three.model, 64, "fast")
    data = mujoco.MjData(model)
    with mujoco.Renderer(model, 64, 64) as renderer:
        for qpos, stack in zip(three._qpos, obs, strict=True):
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, three.camera)
            np.testing.assert_array_equal(renderer.render(), stack[..., -3:])
    assert not np.array_equal(obs[0], obs[1])


def test_fast_pictures_show_nearly_the_same() -> None:
    fast, paper = (make("robobin", 1, quality=quality) for quality in ("fast", "paper"))
    a, b = (worlds.reset(seed=0)[0].astype(float) for worlds in (fast, paper))
    assert 0 < np.abs(a - b).mean() < 5.0
    assert ", gl, fast" in fast.version
    assert ", gl, paper" in paper.version
    fast.close()
    paper.close()


def test_a_stack_holds_the_last_three_pictures_the_oldest_first(three: Any) -> None:
    frames = []
    obs, _ = three.reset(seed=0)
    assert obs in three.observation_space
    assert obs.shape == (3, 64, 64, 9)
    for i in (0, 3):
        np.testing.assert_array_equal(obs[..., i : i + 3], obs[..., 6:])
    frames += [obs[..., 6:]] * 3
    for seed in range(4):
        obs, *_ = three.step(actions(three, seed))
        frames.append(obs[..., 6:])
        np.testing.assert_array_equal(obs, np.concatenate(frames[-3:], axis=-1))
    assert not np.array_equal(frames[-1], frames[-2])


def test_a_stack_never_reaches_across_a_reset(three: Any) -> None:
    first, _ = three.reset(seed=0)
    for seed in range(3):
        before, *_ = three.step(actions(three, seed))
    obs, _ = three.reset(seed=[7, 0, 7], options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(obs[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(obs[1, ..., :3], obs[1, ..., 6:])
    np.testing.assert_array_equal(obs[1, ..., :3], obs[1, ..., 3:6])
    if three.goal_names:
        np.testing.assert_array_equal(obs[1], first[1])  # every episode starts in the same state


def test_a_diverged_world_stands_in_a_fresh_stack(three: Any) -> None:
    three.reset(seed=0)
    three.step(actions(three, 0))
    if isinstance(three, kitchen.KitchenVectorEnv):
        three._data[1].qpos[0] = np.nan
    else:
        three._qpos[1, 0] = np.nan
    obs, *_, infos = three.step(actions(three, 1))
    assert infos["diverged"].tolist() == [False, True, False]
    np.testing.assert_array_equal(obs[1, ..., :3], obs[1, ..., 6:])
    assert not np.array_equal(obs[0, ..., :3], obs[0, ..., 6:])
    assert np.isfinite(infos["coord"]).all()
    if three.goal_names:
        np.testing.assert_array_equal(infos["coord"][1], three.reset(seed=0)[1]["coord"][1])


def test_seeds_decide_everything(three: Any) -> None:
    runs = []
    for _ in range(2):
        three.reset(seed=5)
        runs.append([three.step(actions(three, seed)) for seed in range(2)])
    for mine, other in zip(*runs, strict=True):
        assert_same_step(mine, other)


@pytest.mark.parametrize("name", MODELS)
def test_one_world_is_an_ordinary_environment(name: str) -> None:
    need(name)
    assert_gymnasium_accepts(envs._IDS[name], quality="fast", threads=1)


@pytest.mark.parametrize("name", [*WORLDS, "quadruped_goal"])
def test_one_world_is_a_batch_of_one(name: str) -> None:
    batch = make(name, 2)
    one = gymnasium.make(envs._IDS[name], quality="fast", threads=1)
    rows, _ = batch.reset(seed=3)
    obs, _ = one.reset(seed=4)
    for seed in range(3):
        image, images = (o["image"] if isinstance(o, dict) else o for o in (obs, rows))
        np.testing.assert_array_equal(image, images[1])
        action = actions(batch, seed)
        rows, *_, infos = batch.step(action)
        obs, *_, info = one.step(action[1])
        np.testing.assert_array_equal(info["coord"], infos["coord"][1])
    batch.close()
    one.close()


@pytest.mark.parametrize("name", WORLDS)
def test_facts_of_the_paper(name: str) -> None:
    found = envs.settings_of(name)
    assert found["max_steps"].default == STEPS[name]
    assert found["quality"].default == "paper"
    worlds = make(name)
    assert worlds.single_action_space.shape == (ACTIONS[name],)
    assert worlds.dt == pytest.approx({"quadruped": 0.04, "humanoid": 0.05, "kitchen": 0.08, "robobin": 0.0125}[name])
    worlds.close()


@pytest.mark.parametrize("name", MODELS)
def test_configurations_have_the_defaults(name: str) -> None:
    """Except for settings that a whole run shares."""
    written = yaml.safe_load((ROOT / "configs/env" / f"{name}.yaml").read_text())
    defaults = {key: setting.default for key, setting in envs.settings_of(name).items()}
    assert written.pop("name") == name
    assert written.pop("threads") == "${threads}"
    del written["plot_range"], defaults["threads"]
    assert written == {key: value for key, value in defaults.items() if key not in ("max_steps", "render_size")}


def test_films_are_of_another_size_and_leave_observations_alone() -> None:
    worlds = make("quadruped_goal", 2, render_mode="rgb_array", render_size=48)
    plain = make("quadruped_goal", 2)
    obs, _ = worlds.reset(seed=0, options={"goals": np.array([[0.0, -3.0]])})
    others, _ = plain.reset(seed=0, options={"goals": np.array([[0.0, -3.0]])})
    pictures = worlds.render()
    assert [each.shape for each in pictures] == [(48, 48, 3)] * 2
    np.testing.assert_array_equal(worlds.render()[0], pictures[0])
    np.testing.assert_array_equal(obs["image"], others["image"])
    worlds.reset(seed=0, options={"goals": np.array([[0.0, 60.0]])})
    assert np.abs(worlds.render()[0].astype(float) - pictures[0]).max() > 50  # the mark is behind the camera now
    after, *_ = worlds.step(actions(worlds, 0))
    np.testing.assert_array_equal(after["image"], plain.step(actions(worlds, 0))[0]["image"])
    worlds.close()
    plain.close()


def test_films_have_the_quality_of_the_observations() -> None:
    pictures = []
    for quality in ("fast", "paper"):
        worlds = make("quadruped", 1, quality=quality, render_mode="rgb_array", render_size=48)
        worlds.reset(seed=0)
        pictures.append(worlds.render()[0].astype(float))
        worlds.close()
    assert 0.2 < np.abs(pictures[0] - pictures[1]).mean() < 5


# Threads and contexts


def test_closing_frees_every_context_and_ends_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    need("quadruped")
    before = set(threading.enumerate())
    opened: list[int] = []
    freed: list[int] = []

    class Watched(Painter):
        def close(self) -> None:
            freed.append(threading.get_ident())
            super().close()

    monkeypatch.setattr(gl, "open_context", _spy(gl.open_context, opened))
    monkeypatch.setattr(painting, "Painter", Watched)
    worlds = make("quadruped", 3, render_mode="rgb_array", render_size=32)
    worlds.reset(seed=0)
    worlds.render()
    assert len(opened) == 3  # two threads and the film
    worlds.close()
    assert sorted(freed) == sorted(opened)  # each by the thread that opened it
    assert set(threading.enumerate()) <= before
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        worlds.reset()


def _spy(function: Any, threads: list[int]) -> Any:
    def call(*args: Any) -> Any:
        threads.append(threading.get_ident())
        return function(*args)

    return call


def test_worlds_left_open_end_in_silence() -> None:
    need("quadruped")
    code = (
        "import weakref, envs\n"
        "class Held: pass\n"
        "held = Held(); weakref.finalize(held, int)\n"  # its hook is older than that of EGL
        "worlds = envs.make_vec('quadruped', 2, quality='fast', threads=2, render_mode='rgb_array')\n"
        "worlds.reset(seed=0); worlds.render()\n"
        "ants = envs.make_vec('ant', 1, render_mode='rgb_array')\n"
        "ants.reset(seed=0); ants.render()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_driver_that_does_not_draw_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    need("quadruped")
    stuck = threading.Event()

    class Stuck(Painter):
        def __init__(self, *args: Any) -> None:
            stuck.wait()
            raise RuntimeError

    monkeypatch.setattr(painting, "FIRST_IMAGE", 0.1)
    monkeypatch.setattr(painting, "STOPPING", 0.1)
    monkeypatch.setattr(painting, "Painter", Stuck)
    with pytest.raises(WorldError, match=r"rendered no image within 0.1 s with threads=2; try threads=1, rend"):
        Painters(model_of("quadruped"), "y", 16, "fast", 2)
    stuck.set()


def test_what_goes_wrong_on_a_thread_is_raised_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(*args: Any) -> Any:
        raise DependencyNotInstalled("nothing draws here")

    need("quadruped")
    monkeypatch.setattr(gl, "open_context", no_library)
    with pytest.raises(DependencyNotInstalled, match="nothing draws here"):
        envs.make_vec("quadruped", 1)


@pytest.mark.parametrize("setting", [{"quality": "best"}, {"renderer": "vulkan"}])
def test_settings_that_are_not_accepted(setting: dict[str, str]) -> None:
    need("quadruped")
    (name, value), *_ = setting.items()
    with pytest.raises(WorldError, match=f"{name} is '{value}'; accepted: "):
        envs.make_vec("quadruped", 1, **setting)


# MuJoCo Warp


@pytest.mark.parametrize(("name", "difference"), [("quadruped", 4), ("humanoid", 4), ("robobin", 5), ("kitchen", 32)])
def test_rays_show_nearly_what_opengl_shows(name: str, difference: float) -> None:
    """MuJoCo Warp renders no reflections, and lights the kitchen differently."""
    rays, paper = make(name, 2, renderer="warp"), make(name, 2, quality="paper")
    assert rays.version.endswith(", warp, fast")
    traced, drawn = rays.reset(seed=0)[0], paper.reset(seed=0)[0]
    assert traced in rays.observation_space
    assert 0.1 < np.abs(traced.astype(float) - drawn).mean() < difference
    turned = np.abs(traced[..., ::-1, :].astype(float) - drawn).mean()
    assert turned > np.abs(traced.astype(float) - drawn).mean() + 0.5
    action = actions(rays, 0)
    after, *_ = rays.step(action)
    np.testing.assert_array_equal(after[..., :6], traced[..., 3:])
    np.testing.assert_array_equal(paper.step(action)[4]["coord"], rays._coord())
    rays.close()
    paper.close()


def test_rays_draw_any_number_of_worlds() -> None:
    worlds = make("quadruped", 2, renderer="warp", quality="paper")
    places = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    several, _ = worlds.goal_at(places)
    for place, obs in zip(places, several, strict=True):
        np.testing.assert_array_equal(worlds.goal_at(place)[0], obs)
    assert worlds.goals(0, np.random.default_rng(0))[0].shape == (0, 64, 64, 9)
    worlds.close()


def test_rays_need_no_opengl_and_do_not_report_what_they_compile() -> None:
    need("quadruped", "warp")
    code = (
        "import envs\n"
        "worlds = envs.make_vec('quadruped', 2, renderer='warp')\n"
        "worlds.reset(seed=0)\n"
        "import sys; print([name for name in sys.modules if name.startswith('OpenGL')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert [line for line in done.stderr.splitlines() if "CUDA driver" not in line] == []


def test_warp_that_is_missing_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    need("quadruped", "none")
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(DependencyNotInstalled, match=r"renderer 'warp' needs 'warp', .*: pip install mujoco-warp==3"):
        envs.make_vec("quadruped", 1, renderer="warp")


# Quadruped and Humanoid


@pytest.mark.parametrize("name", ["quadruped", "humanoid"])
def test_robots_move_as_in_a_plain_loop(name: str) -> None:
    worlds = make(name, 2)
    worlds.reset(seed=0)
    model, substeps = worlds.model, {"quadruped": 8, "humanoid": 10}[name]
    plain = mujoco.MjData(model)
    plain.qpos[:] = worlds._qpos[1]
    low, high = model.actuator_ctrlrange.T
    for seed in range(3):
        action = actions(worlds, seed)
        *_, infos = worlds.step(action)
        plain.ctrl[:] = low + (action[1] + 1) / 2 * (high - low)
        mujoco.mj_step(model, plain, substeps)
    np.testing.assert_array_equal(worlds._qpos[1], plain.qpos)
    mujoco.mj_kinematics(model, plain)
    np.testing.assert_allclose(infos["coord"][1], plain.geom("torso").xpos[:2], atol=1e-12)
    worlds.close()


def test_a_quadruped_starts_as_low_as_it_can() -> None:
    worlds = make("quadruped", 2)
    worlds.reset(seed=0)
    for qpos in worlds._qpos.copy():
        assert not worlds._touches(qpos)
        assert worlds._touches(qpos - 0.01 * (np.arange(23) == 2))
        assert 0.5 < qpos[2] < 0.62
        np.testing.assert_allclose(np.linalg.norm(qpos[3:7]), 1.0)
        assert 0.97 < qpos[3] < 1.0
        np.testing.assert_array_equal(qpos[[0, 1, *range(7, 23)]], 0)
    assert not np.array_equal(worlds._qpos[0], worlds._qpos[1])
    worlds.close()


def test_a_humanoid_starts_in_the_air_within_its_limits() -> None:
    worlds = make("humanoid", 3)
    worlds.reset(seed=0)
    low, high = worlds.model.jnt_range[1:].T
    for qpos in worlds._qpos.copy():
        assert not worlds._touches(qpos)
        np.testing.assert_array_equal(qpos[:3], [0, 0, 1.5])
        assert (qpos[3:7] > 0).all()
        assert ((low <= qpos[7:]) & (qpos[7:] <= high)).all()
    worlds.close()


@pytest.mark.parametrize("name", ["quadruped", "humanoid"])
def test_goals_are_pictures_of_robots_that_stand_there(name: str) -> None:
    worlds = make(name, 1)
    place = np.array([[10.0, 10.0], [-10.0, -10.0]])
    obs, same = worlds.goal_at(place)
    np.testing.assert_array_equal(same, place)
    assert obs.shape == (2, 64, 64, 9)
    np.testing.assert_array_equal(obs[..., :3], obs[..., 6:])
    near, far = obs[:, 50:, :, :3].mean((1, 2))  # the ground before the robot
    assert near[1] > far[1] + 80  # green grows with x
    assert near[0] < far[0] - 80  # red falls with y
    drawn, places = worlds.goals(4, np.random.default_rng(0))
    again, _ = worlds.goals(4, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)
    assert drawn.dtype == np.uint8
    assert np.abs(places).max() <= worlds.goal_range
    poses = worlds._settled(np.tile(worlds._upright(), (2, 1)), place)
    assert np.linalg.norm(poses[:, :2] - place, axis=1).max() < (0.1 if name == "quadruped" else 2.0)
    worlds.close()


@pytest.mark.parametrize("name", ["quadruped", "humanoid"])
def test_a_goal_is_what_is_seen_there_after_steps_without_action(name: str) -> None:
    worlds = make(name, 1)
    qpos = worlds._upright()
    qpos[:2] = -3.0, 4.0
    state = [qpos, np.zeros(worlds.model.nv), np.zeros(worlds.model.na)][: len(worlds.parts)]
    worlds.reset(options={"state": tuple(part[None] for part in state)})
    for _ in range({"quadruped": 1, "humanoid": 50}[name]):
        obs, *_ = worlds.step(np.zeros((1, ACTIONS[name])))
    np.testing.assert_array_equal(worlds.goal_at([-3.0, 4.0])[0][..., 6:], obs[0, ..., 6:])
    worlds.close()


def test_a_goal_task_shows_the_picture_and_the_goal() -> None:
    worlds = make("quadruped_goal", 2, max_steps=3)
    obs, infos = worlds.reset(seed=0, options={"goals": np.array([[[0.0, 1.0]], [[0.0, 5.0]]])})
    assert obs in worlds.observation_space
    np.testing.assert_array_equal(obs["vector"], [[0, 1], [0, 5]])
    rewards = [worlds.step(np.zeros((2, 12)))[1].tolist() for _ in range(3)]
    assert rewards == [[0, 0], [1, 0], [1, 0]]
    assert worlds._worlds._marks(infos["goal"]).radius == 1.5
    worlds.close()
    assert envs.settings_of("quadruped_goal")["goal_range"].default == 7.5
    assert envs.settings_of("humanoid_goal")["goal_range"].default == 5.0
    assert envs.base_of("humanoid_goal") == "humanoid"


# Kitchen


def test_the_hand_follows_the_action(kitchens: Any) -> None:
    for axis in range(3):
        for sign in (1, -1):
            kitchens.reset(seed=0)
            begin = kitchens._data[0].xpos[kitchens._hand].copy()
            action = np.zeros((2, 7))
            action[0, axis] = sign
            for _ in range(3):
                kitchens._move(action)
            still, moved = (data.xpos[kitchens._hand] for data in kitchens._data[::-1])
            assert sign * (moved - still)[axis] > 0.05
            assert np.abs(np.delete(moved - still, axis)).max() < 0.1
    assert np.linalg.norm(still - begin) < 0.1


def test_kitchens_move_as_in_a_plain_loop(kitchens: Any) -> None:
    """The mocap body is set from the hand before each substep and takes effect in the next."""
    kitchens.reset(seed=0)
    model, data = kitchens.model, mujoco.MjData(kitchens.model)
    data.qpos[:] = kitchens._qpos[1]
    mujoco.mj_forward(model, data)
    hand = data.body("panda0_link7")
    data.mocap_pos[0], data.mocap_quat[0] = hand.xpos, hand.xquat
    mujoco.mj_forward(model, data)
    for seed in range(4):
        action = actions(kitchens, seed)
        kitchens._move(action)
        target = kitchen._quaternion(kitchen._euler(hand.xquat) - action[1, 3:6])
        data.ctrl[:] = [0.0] * 7 + [action[1, 6], -action[1, 6]]
        for _ in range(40):
            data.mocap_pos[0] = hand.xpos + 0.05 * action[1, :3]
            data.mocap_quat[0] = hand.xquat + 0.05 * (target - hand.xquat)
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)
    np.testing.assert_array_equal(kitchens._qpos[1], data.qpos)


def test_an_exact_state_is_kept(three: Any) -> None:
    three.reset(seed=0)
    obs, *_ = three.step(actions(three, 0))
    qpos = three._qpos.copy()
    state = [qpos, np.zeros((3, three.model.nv))]
    if len(getattr(three, "parts", ())) == 3:
        state.append(three._batch.bind(three.parts[2]).copy())
    again, infos = three.reset(options={"state": tuple(state)})
    np.testing.assert_array_equal(three._qpos, qpos)
    for i in range(0, 9, 3):
        np.testing.assert_array_equal(again[..., i : i + 3], obs[..., 6:])
    assert infos["coord"].shape == (3, three.coord_dim)


def test_one_finger_opens_while_the_other_closes(kitchens: Any) -> None:
    kitchens.reset(seed=0)
    for _ in range(8):
        kitchens._move(np.array([[0.0, 0, 0, 0, 0, 0, 1], [0.0, 0, 0, 0, 0, 0, -1]]))
    np.testing.assert_allclose(kitchens._qpos[:, 7:9], [[0.04, 0.0], [0.0, 0.04]], atol=5e-3)


def test_angles_are_about_z_y_and_z_again() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        quaternion = rng.standard_normal(4)
        quaternion /= np.linalg.norm(quaternion)
        angles = kitchen._euler(quaternion)
        np.testing.assert_allclose(kitchen._quaternion(angles), quaternion, atol=1e-12)
        product = np.array([1.0, 0, 0, 0])
        for angle, axis in zip(angles, (2, 1, 2), strict=True):
            turn, result = np.zeros(4), np.zeros(4)
            mujoco.mju_axisAngle2Quat(turn, np.eye(3)[axis], angle)
            mujoco.mju_mulQuat(result, product, turn)
            product = result
        np.testing.assert_allclose(product, quaternion, atol=1e-12)


def test_kitchens_do_not_depend_on_the_number_of_threads() -> None:
    ends = []
    for threads in (1, 2):
        worlds = make("kitchen", 3, threads=threads)
        worlds.reset(seed=0)
        for seed in range(3):
            worlds._move(actions(worlds, seed))
        ends.append(worlds._qpos.copy())
        worlds.close()
    np.testing.assert_array_equal(*ends)
    assert not np.array_equal(ends[0][0], ends[0][1])


KITCHEN_GOALS = ("bottom_burner", "light_switch", "slide_cabinet", "hinge_cabinet", "microwave", "kettle")


def test_goals_of_the_kitchen_are_reached_at_the_goal_and_nowhere_else(kitchens: Any) -> None:
    assert kitchens.goal_names == KITCHEN_GOALS
    kitchens.reset(seed=0)
    start = kitchens._coord()[0]
    rows = np.array([kitchens.goal_at(name)[1] for name in KITCHEN_GOALS])
    at_goals = kitchens._goal_poses(rows)[:, COLUMNS]
    for i, name in enumerate(KITCHEN_GOALS):
        coord = np.stack([np.tile(start, (6, 1)), np.tile(start, (6, 1)), at_goals], axis=1)
        found = kitchens.success(coord, np.full(6, 2), np.tile(rows[i], (6, 1)))
        assert found["hit"].tolist() == [j == i for j in range(6)], name
        assert found["end"].tolist() == found["hit"].tolist()
        assert found["staying"].tolist() == [0.5 * (j == i) for j in range(6)]
        np.testing.assert_array_equal(found[f"hit_{name}"], found["hit"])
        others = set(KITCHEN_GOALS) - {name}
        assert all(np.isnan(found[f"hit_{other}"]).all() for other in others)


@pytest.mark.parametrize(
    ("name", "coord", "expected"),
    [  # knob, switch, sliding, hinged, microwave, kettle x, y
        ("bottom_burner", [-0.37, 0, 0, 0, 0, 0, 0], False),
        ("bottom_burner", [-0.39, 0, 0, 0, 0, 0, 0], True),
        ("light_switch", [0, -0.24, 0, 0, 0, 0, 0], False),
        ("light_switch", [0, -0.26, 0, 0, 0, 0, 0], True),
        ("slide_cabinet", [0, 0, 0.26, 0, 0, 0, 0], False),
        ("slide_cabinet", [0, 0, 0.28, 0, 0, 0, 0], True),
        ("slide_cabinet", [0, 0, 0.48, 0, 0, 0, 0], False),
        ("hinge_cabinet", [0, 0, 0, 0.29, 0, 0, 0], False),
        ("hinge_cabinet", [0, 0, 0, 0.31, 0, 0, 0], True),
        ("microwave", [0, 0, 0, 0, -0.29, 0, 0], False),
        ("microwave", [0, 0, 0, 0, -0.31, 0, 0], True),
        ("kettle", [0, 0, 0, 0, 0, -0.23, 0.56], True),
        ("kettle", [0, 0, 0, 0, 0, -0.08, 0.60], False),  # 0.15 m off in either direction
    ],
)
def test_borders_of_the_kitchens_goals(kitchens: Any, name: str, coord: list[float], expected: bool) -> None:
    path = np.array([[[0.0] * 7, coord]])
    assert kitchens.success(path, np.array([1]), kitchens.goal_at(name)[1][None])["hit"].tolist() == [expected]
    measured = kitchens.measure(path, np.array([1]))
    assert measured[f"reached_{name}"] == measured["goals_reached"] == float(expected)


def test_steps_behind_an_episodes_end_do_not_count(kitchens: Any) -> None:
    path = np.zeros((1, 4, 7))
    path[0, 3, 4] = -0.5
    place = kitchens.goal_at("microwave")[1][None]
    for length, hit in ((2, False), (3, True)):
        assert kitchens.success(path, np.array([length]), place)["hit"].tolist() == [hit]
        assert kitchens.measure(path, np.array([length]))["goals_reached"] == hit


def test_pictures_of_named_goals_differ_and_are_drawn_from(kitchens: Any) -> None:
    obs = np.stack([kitchens.goal_at(name)[0] for name in KITCHEN_GOALS]).astype(int)
    kitchens.reset(seed=0)
    reset = kitchens._obs()[0].astype(int)
    assert (np.abs(obs - reset).max((1, 2, 3)) > 60).all()
    np.testing.assert_array_equal(obs[..., :3], obs[..., 6:])
    red, green, _ = obs[0, 42:46, 49:53, :3].mean((0, 1))
    assert red > green + 100  # the burner glows
    drawn, place = kitchens.goals(20, np.random.default_rng(0))
    rows = np.array(list(kitchens.named_goals.values()))
    number = [int(np.flatnonzero([np.array_equal(each, row, equal_nan=True) for row in rows])[0]) for each in place]
    assert len(set(number)) > 3
    np.testing.assert_array_equal(drawn, obs[number])


# Robobin


def test_the_hand_is_where_the_point_is(bins: Any) -> None:
    _, infos = bins.reset(seed=0)
    np.testing.assert_allclose(infos["coord"][0, :3], [0.030, 0.597, 0.202], atol=1e-3)
    np.testing.assert_allclose(infos["coord"][0, 3:], [-0.1, 0.7, 0.04, 0.1, 0.7, 0.04], atol=1e-9)
    for _ in range(60):
        *_, infos = bins.step([[1.0, 1.0, -1.0, 0.0], [-1.0, -1.0, 1.0, 0.0]])
    np.testing.assert_allclose(bins._mocap[:, 0], [[0.5, 0.8, 0.07], [-0.5, 0.4, 0.5]])
    # The arm does not reach into every corner.
    assert np.linalg.norm(infos["coord"][:, :3] - bins._mocap[:, 0], axis=1).max() < 0.25


def test_robobin_is_a_plain_loop_from_its_state(bins: Any) -> None:
    bins.reset(seed=0)
    model, data = bins.model, mujoco.MjData(bins.model)
    bins._batch.get_data(1, data)
    for seed in range(20):
        action = actions(bins, seed)
        bins._move(action)
        data.mocap_pos[0] = np.clip(data.mocap_pos[0] + 0.01 * action[1, :3], [-0.5, 0.4, 0.07], [0.5, 0.8, 0.5])
        data.ctrl[:] = action[1, 3], -action[1, 3]
        mujoco.mj_step(model, data, 5)
    np.testing.assert_array_equal(bins._qpos[1], data.qpos)


ROBOBIN_GOALS = ("reach_left", "reach_right", "push_front", "push_back")


def test_goal_poses_of_robobin(bins: Any) -> None:
    assert bins.goal_names == ROBOBIN_GOALS
    poses = bins._goal_poses(np.array(list(bins.named_goals.values())))
    data, hands = mujoco.MjData(bins.model), []
    for qpos in poses:
        data.qpos[:] = qpos
        mujoco.mj_kinematics(bins.model, data)
        hands.append(data.xpos[bins._hand].copy())
    np.testing.assert_allclose(hands[0], [0.119, 0.747, 0.101], atol=1e-3)
    np.testing.assert_allclose(hands[1], [-0.097, 0.829, 0.103], atol=1e-3)
    np.testing.assert_allclose(hands[2:], [[0.0, 0.65, 0.2]] * 2, atol=5e-3)
    np.testing.assert_allclose(poses[2, [9, 10, 16, 17]], [-0.1, 0.7, 0.1, 0.85], atol=1e-3)
    np.testing.assert_allclose(poses[3, [9, 10, 16, 17]], [-0.1, 0.55, 0.1, 0.7], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "coord", "own", "released"),
    [
        ("reach_left", [0.12, 0.75, 0.1, 9, 9, 9, 9, 9, 9], True, True),
        ("reach_left", [0.12, 0.75, 0.21, 9, 9, 9, 9, 9, 9], False, False),
        ("reach_right", [-0.1, 0.85, 0.19, 9, 9, 9, 9, 9, 9], True, False),
        ("reach_right", [0.12, 0.75, 0.1, 9, 9, 9, 9, 9, 9], False, True),
        ("push_front", [9, 9, 9, -0.1, 0.7, 0.04, 0.1, 0.85, 0.04], True, False),
        ("push_front", [0.12, 0.75, 0.1, -0.1, 0.7, 0.04, 0.1, 0.7, 0.04], False, True),
        ("push_back", [9, 9, 9, -0.1, 0.64, 0.04, 0.1, 0.7, 0.04], True, False),
        ("push_back", [9, 9, 9, -0.1, 0.55, 0.04, 0.3, 0.7, 0.04], False, False),
    ],
)
def test_rules_of_robobins_goals(bins: Any, name: str, coord: list[float], own: bool, released: bool) -> None:
    path = np.array([[[9.0] * 9, coord]])
    place = np.array([bins.named_goals[name]])
    for rule, expected in (("own", own), ("released", released)):
        bins.success_rule = rule
        found = bins.success(path, np.array([1]), place)
        assert found["hit"].tolist() == [expected]
        assert found[f"hit_{name}"].tolist() == [expected]
        assert sum(not np.isnan(row).any() for key, row in found.items() if key.startswith("hit_")) == 1
    bins.success_rule = "own"


def test_the_rule_of_robobin_is_a_setting() -> None:
    worlds = make("robobin", 1, success_rule="released")
    assert worlds.success_rule == "released"
    worlds.close()
    with pytest.raises(WorldError, match="success_rule is 'goal'; accepted: 'own', 'released'"):
        make("robobin", 1, success_rule="goal")


def test_coverage_of_robobin_is_counted_in_centimeters(bins: Any) -> None:
    path = np.zeros((2, 3, 9))
    path[0, 1, 0], path[0, 2, 0] = 0.004, 0.006  # the same centimeter, and the next
    path[1, 1, 8], path[1, 2, 8] = -0.004, 0.5
    assert bins.measure(path, np.array([2, 1])) == {"coverage": 2.0}
    assert bins.measure(path, np.array([2, 2])) == {"coverage": 3.0}
