"""Pictures of worlds show what is there, cost the physics nothing, and say in one line what they lack."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from conftest import ROOT
from gymnasium.error import ClosedEnvironmentError, DependencyNotInstalled, ResetNeeded

import envs
from envs import egl, gl, plane
from envs.observations import Array
from envs.plane import BODY, FLOOR, GOAL

SIZE = 64
PLANE = ["point", "point_two_goals"]
MUJOCO = ["ant", "half_cheetah", "ant_multi_goal", "half_cheetah_goal", "half_cheetah_hurdle"]


@pytest.fixture(scope="module")
def drawn() -> None:
    """Skips where no OpenGL library is."""
    try:
        worlds = make("ant", 1)
        worlds.reset(seed=0)
        worlds.render()
        worlds.close()
    except DependencyNotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture
def worlds_of() -> Iterator[Callable[..., Any]]:
    """Makes worlds and closes them."""
    made: list[Any] = []

    def make_one(*args: Any, **settings: Any) -> Any:
        made.append(make(*args, **settings))
        return made[-1]

    yield make_one
    for worlds in made:
        worlds.close()


def make(name: str, count: int, **settings: Any) -> Any:
    return envs.make_vec(name, count, **{"render_mode": "rgb_array", "render_size": SIZE, **settings})


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a program of its own, without this one's MUJOCO_GL."""
    kept = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    env = {**kept, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def like(picture: Array, color: tuple[float, ...], sharpness: float = 0.9) -> Array:
    """Which pixels [H, W] have the hue of a color, however lit."""
    color = np.array(color) - np.mean(color)
    pixels = picture.astype(float) - picture.mean(2, keepdims=True)
    length = np.linalg.norm(pixels, axis=2)
    return (pixels @ color > sharpness * length * np.linalg.norm(color)) & (length > 25)


def middle(mask: Array) -> Array:
    """Mean row and column of the pixels in a mask, as fractions of the sides."""
    assert mask.any()
    return np.argwhere(mask).mean(0) / mask.shape


# What pictures show


def looks(worlds: Any) -> None:
    """Pictures of three worlds are apart, stay as long as nothing moves, and change when it does."""
    worlds.reset(seed=0)
    worlds.step(np.random.default_rng(0).uniform(-1, 1, worlds.action_space.shape))
    first, again = worlds.render(), worlds.render()
    assert isinstance(first, tuple)
    assert [(p.shape, p.dtype) for p in first] == [((SIZE, SIZE, 3), np.uint8)] * 3
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    for _ in range(3):
        worlds.step(np.ones(worlds.action_space.shape))
    assert not any(np.array_equal(*pair) for pair in zip(first, worlds.render(), strict=True))
    assert all(like(picture, BODY).any() for picture in first)


@pytest.mark.parametrize("name", PLANE)
def test_points_are_drawn(name: str, worlds_of: Callable[..., Any]) -> None:
    looks(worlds_of(name, 3))


@pytest.mark.parametrize("name", MUJOCO)
def test_mujoco_worlds_are_drawn(name: str, worlds_of: Callable[..., Any], drawn: None) -> None:
    looks(worlds_of(name, 3))


def test_the_camera_follows_the_body_over_a_floor_that_stays(worlds_of: Callable[..., Any], drawn: None) -> None:
    worlds = worlds_of("ant", 4)
    qpos = np.tile(worlds.model.qpos0, (4, 1))
    qpos[:, 2] = 0.6
    qpos[1:, :2] = (0.5, 0.0), (10.0, -30.0), (40.5, 20.0)
    worlds.reset(options={"state": (qpos, np.zeros((4, worlds.model.nv)))})
    at_origin, half, tens, far = (picture.astype(int) for picture in worlds.render())
    for picture in (at_origin, half, tens, far):
        assert np.abs(middle(like(picture, BODY)) - (0.5, 0.5)).max() < 0.1
    # The floor repeats itself after ten meters, not before.
    assert np.abs(half - at_origin).mean() > 5
    assert np.abs(tens - at_origin).mean() < 2
    assert np.abs(far - half).mean() < 2


@pytest.mark.parametrize(("goal", "axis", "side"), [((6, 0), 1, 1), ((-6, 0), 1, -1), ((0, 6), 0, -1)])
def test_a_goal_is_seen_where_it_is(
    goal: tuple[int, int], axis: int, side: int, worlds_of: Callable[..., Any], drawn: None
) -> None:
    """x to the right, y away from the viewer, and so upwards; an arrow shows the way to what lies outside."""
    worlds = worlds_of("ant_multi_goal", 1)
    worlds.reset(seed=0, options={"goals": np.tile(goal, (worlds.num_goals, 1))})
    green = like(worlds.render()[0], GOAL)
    assert side * (middle(green)[axis] - 0.5) > 0.05


def test_who_is_at_the_goal_needs_no_arrow(worlds_of: Callable[..., Any], drawn: None) -> None:
    worlds = worlds_of("half_cheetah_goal", 2)
    worlds.reset(seed=0, options={"goals": np.array([[[1.5]], [[90.0]]])})
    near, far = (like(picture, GOAL) for picture in worlds.render())
    assert near[SIZE // 2 :].sum() > 500  # stands on the disc
    assert far[SIZE // 2 :].sum() == 0
    assert 0 < far[: SIZE // 2].sum() < 60  # the arrow alone
    assert middle(far)[1] > 0.5


def test_a_point_is_a_disc_on_tiles() -> None:
    picture = plane.Canvas(100, 2.0).draw(np.array([1.0, 1.0]), 0.1, np.array([-1.0, 1.0]), 0.3)
    assert picture[25, 75].tolist() == [round(255 * c) for c in BODY]
    assert picture[25, 25].tolist() == [round(255 * (0.5 * g + 0.5 * f)) for g, f in zip(GOAL, FLOOR[1], strict=True)]
    assert like(picture, BODY).sum() == pytest.approx(np.pi * 2.5**2, rel=0.3)
    tiles = {tuple(picture[row, column]) for row in (56, 69) for column in (56, 69)}
    assert tiles == {tuple(round(255 * c) for c in color) for color in FLOOR}


# What pictures leave alone


@pytest.mark.parametrize("name", ["ant", "half_cheetah_goal"])
def test_physics_is_bit_identical(name: str, worlds_of: Callable[..., Any], drawn: None) -> None:
    watched, unwatched = worlds_of(name, 2), worlds_of(name, 2, render_mode=None)
    below = [getattr(worlds, "_worlds", worlds) for worlds in (watched, unwatched)]
    models = [content(each.model) for each in below]
    for worlds in (watched, unwatched):
        worlds.reset(seed=3)
    for action in np.random.default_rng(0).uniform(-1, 1, (30, *watched.action_space.shape)):
        watched.render()
        results = [worlds.step(action) for worlds in (watched, unwatched)]
        assert all(np.array_equal(a, b) for a, b in zip(results[0][:4], results[1][:4], strict=True))
    assert np.array_equal(below[0]._batch.state, below[1]._batch.state)
    assert models == [content(each.model) for each in below]
    assert models[0] == models[1]


def content(model: mujoco.MjModel) -> bytes:
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def test_nothing_is_loaded_before_the_first_picture() -> None:
    code = (
        "import envs, numpy, sys\n"
        "for name in ('ant', 'point'):\n"
        "    worlds = envs.make_vec(name, 1, render_mode='rgb_array')\n"
        "    worlds.reset(seed=0)\n"
        "    worlds.step(numpy.zeros(worlds.action_space.shape))\n"
        "worlds.render()\n"
        "print(sorted({'OpenGL', 'cv2', 'mujoco.egl', 'mujoco.osmesa'} & set(sys.modules)))"
    )
    done = python(code)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


# Gymnasium's interface


def test_pictures_have_to_be_asked_for(worlds_of: Callable[..., Any]) -> None:
    worlds = worlds_of("point", 1, render_mode=None)
    worlds.reset(seed=0)
    with pytest.raises(ValueError, match=r"render_mode is None; create the environment with render_mode='rgb_array'"):
        worlds.render()
    with pytest.raises(ValueError, match=r"render_mode is 'human'; accepted: None, 'rgb_array'"):
        make("half_cheetah", 1, render_mode="human")
    with pytest.raises(ValueError, match=r"render_size is 8; accepted: an integer of at least 16"):
        make("point", 1, render_size=8)


def test_only_begun_and_open_worlds_have_pictures() -> None:
    worlds = make("point_two_goals", 2)
    assert worlds.metadata == {**worlds.metadata, "render_modes": ["rgb_array"], "render_fps": 10}
    with pytest.raises(ResetNeeded, match=r"worlds \[0, 1\] have not been reset"):
        worlds.render()
    worlds.reset(seed=0)
    worlds.close()
    with pytest.raises(ClosedEnvironmentError):
        worlds.render()


def test_one_world_through_gymnasium() -> None:
    env = gymnasium.make("csf/Point-v0", render_mode="rgb_array", render_size=32)
    env.reset(seed=0)
    before = env.render()
    env.step(np.ones(2, np.float32))
    after = env.render()
    assert isinstance(before, np.ndarray)
    assert isinstance(after, np.ndarray)
    assert before.shape == (32, 32, 3)
    assert middle(like(after, BODY))[1] > middle(like(before, BODY))[1]
    env.close()


class Dial(gymnasium.Env[Array, Array]):
    """Draws its count of steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self) -> Array:
        return np.full((10, 20, 3), self.count, np.uint8)


def test_gymnasiums_worlds_draw_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")  # is put back as it was
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(gl, "_loads", ("OSMesa",).__contains__)
    gymnasium.register("csf_test/Dial-v0", lambda **settings: Dial(**settings), max_episode_steps=5)
    worlds: Any = envs.make_vec("csf_test/Dial-v0", 2, render_mode="rgb_array")
    worlds.reset(seed=0)
    worlds.step(np.zeros((2, 1)))
    pictures = worlds.render()
    assert [picture.shape for picture in pictures] == [(10, 20, 3)] * 2
    assert [picture.max() for picture in pictures] == [1, 1]
    assert worlds.metadata["render_fps"] == 7
    assert os.environ["MUJOCO_GL"] == "osmesa"  # without it Gymnasium's MuJoCo looks for a screen
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(gl, "_loads", ().__contains__)
    worlds.render()  # draws without OpenGL
    blind: Any = envs.make_vec("csf_test/Dial-v0", 2)
    with pytest.raises(ValueError, match="render_mode is None"):
        blind.render()


# What draws


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [
        ("", ("EGL", "OSMesa"), "egl"),
        ("", ("OSMesa",), "osmesa"),
        ("on", ("EGL",), "egl"),
        (" EGL ", (), "egl"),
        ("osmesa", ("EGL",), "osmesa"),
        ("glfw", ("EGL",), "glfw"),
    ],
)
def test_choice_of_the_library(
    asked: str, there: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", asked)
    monkeypatch.setattr(gl, "_loads", there.__contains__)
    assert gl.backend() == chosen


def test_no_library_is_told_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    worlds = make("ant", 1)
    worlds.reset(seed=0)
    with pytest.raises(DependencyNotInstalled) as error:
        worlds.render()
    assert str(error.value) == (
        "rendering needs an OpenGL library, and none is installed: "
        "apt install libegl1 libopengl0 libgl1-mesa-dri, or libosmesa6 (Debian, Ubuntu)"
    )
    worlds.close()


def test_a_library_that_fails_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> None:
        raise AttributeError("'NoneType' object has no attribute 'glGetError'\nand more")

    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", SimpleNamespace(GLContext=fail))
    worlds = make("ant", 1)
    worlds.reset(seed=0)
    with pytest.raises(DependencyNotInstalled) as error:
        worlds.render()
    assert str(error.value).startswith(
        "osmesa cannot render here ('NoneType' object has no attribute 'glGetError'): unset MUJOCO_GL, apt install"
    )
    assert "\n" not in str(error.value)
    worlds.close()


def test_a_word_in_mujoco_gl_that_names_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(ValueError, match=r"MUJOCO_GL is 'off'; accepted for rendering: egl, osmesa, glfw, or unset"):
        gl.backend()
    # Any other word keeps mujoco itself from being imported, whether or not pictures are wanted.
    code = "import envs\ntry:\n    envs.make_vec('ant', 1)\nexcept ValueError as error:\n    print(error)"
    said = python(code, MUJOCO_GL="nonsense").stdout.strip()
    assert said.startswith("MUJOCO_GL is 'nonsense', which prevents mujoco from being imported (invalid value")
    assert said.endswith(f"unset it, or {gl.PACKAGES}")


def test_a_camera_keeps_to_its_thread(worlds_of: Callable[..., Any], drawn: None) -> None:
    here, there = worlds_of("half_cheetah", 1), worlds_of("half_cheetah", 1)
    here.reset(seed=0)
    there.reset(seed=0)
    first = here.render()[0]
    found: list[Any] = []

    def draw() -> None:
        try:
            here.render()
        except RuntimeError as error:
            found.append(str(error))
        found.append(there.render()[0])
        there.close()

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert (
        found[0]
        == "this environment was first rendered in another thread; OpenGL requires all rendering in that thread"
    )
    assert np.array_equal(found[1], first)
    assert np.array_equal(here.render()[0], first)


def test_worlds_left_open_end_in_silence(drawn: None) -> None:
    code = (
        "import envs\n"
        "worlds = envs.make_vec('ant', 1, render_mode='rgb_array', render_size=32)\n"
        "worlds.reset(seed=0)\n"
        "print(len(worlds.render()))"
    )
    done = python(code)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


# The GPU that renders


class Library:
    """An EGL library with devices of these CUDA numbers; None: not a CUDA device."""

    def __init__(self, numbers: list[int | None], functions: tuple[str, ...] = ("Devices", "DeviceAttrib")) -> None:
        self.numbers = numbers
        kinds = {
            "Devices": ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self.devices),
            "DeviceAttrib": ctypes.CFUNCTYPE(
                ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
            )(self.attribute),
        }
        self.addresses = {f"eglQuery{name}EXT".encode(): kinds[name] for name in functions}

    class Address:
        restype: Any = None

        def __init__(self, addresses: dict[bytes, Any]) -> None:
            self.addresses = addresses

        def __call__(self, name: bytes) -> int | None:
            found = self.addresses.get(name)
            return found and ctypes.cast(found, ctypes.c_void_p).value

    @property
    def eglGetProcAddress(self) -> Any:
        return self.Address(self.addresses)

    def devices(self, most: int, handles: int, count: int) -> int:
        for i in range(len(self.numbers)):
            ctypes.c_void_p.from_address(handles + i * ctypes.sizeof(ctypes.c_void_p)).value = i + 1
        ctypes.c_int.from_address(count).value = len(self.numbers)
        return int(most >= len(self.numbers))

    def attribute(self, handle: int, name: int, value: Any) -> int:
        assert name == 0x323A  # EGL_CUDA_DEVICE_NV
        number = self.numbers[handle - 1]
        value[0] = 0 if number is None else number
        return int(number is not None)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([0], 0), ([2, 1, 0, None], 2), ([None, 0], 1), ([None], None), ([], None), ([0, 0], None), ([1, 2], None)],
)
def test_egl_renders_on_the_first_visible_cuda_device(
    numbers: list[int | None], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EGL's numbers of GPUs are not CUDA's. Where no device or several have the number, the choice is left to EGL."""
    monkeypatch.setattr(egl, "_library", lambda: Library(numbers))
    assert egl.cuda_device() == expected


@pytest.mark.parametrize("functions", [(), ("Devices",), ("DeviceAttrib",)])
def test_an_egl_that_does_not_know_cuda_is_left_alone(
    functions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egl, "_library", lambda: Library([0], functions))
    assert egl.cuda_device() is None
    monkeypatch.setattr(egl, "_library", lambda: None)
    assert egl.cuda_device() is None


@pytest.mark.parametrize(
    ("backend", "named", "expected"), [("egl", None, "3"), ("egl", "1", "1"), ("osmesa", None, None)]
)
def test_mujoco_is_told_which_device_renders(
    backend: str, named: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "")  # restored after the test
    monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID")
    if named is not None:
        monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", named)
    monkeypatch.setattr(gl, "backend", lambda: backend)
    monkeypatch.setattr(gl, "cuda_device", lambda: 3)
    seen: list[str | None] = []

    def no_context(*_: int) -> None:
        seen.append(os.environ.get("MUJOCO_EGL_DEVICE_ID"))
        raise ImportError("no driver")

    module = SimpleNamespace(GLContext=no_context)
    monkeypatch.setattr("importlib.import_module", lambda name: module)
    with pytest.raises(DependencyNotInstalled, match="no driver"):
        gl.open_context(mujoco.MjSpec().compile(), 16)
    assert seen == [expected]
