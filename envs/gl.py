"""Selects an OpenGL library for rendering without a display, when the first image is rendered."""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import importlib
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

from envs.egl import cuda_device
from envs.errors import WorldError

if TYPE_CHECKING:
    import mujoco

# MuJoCo's module for each kind of context -> the library it needs, in the order in which they are tried on Linux.
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
ACCEPTED = (*LIBRARIES, "glfw")
PACKAGES = "apt install libegl1 libopengl0 libgl1-mesa-dri, or libosmesa6 (Debian, Ubuntu)"


def backend() -> str:
    """Returns the name of the rendering backend: the value of MUJOCO_GL if set, else EGL, else OSMesa.

    MuJoCo itself reads MUJOCO_GL when it is imported, and defaults to a backend that needs a display.

    Raises:
        WorldError: If the value of MUJOCO_GL is not accepted.
        DependencyNotInstalled: If MUJOCO_GL is not set and no library is found.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ACCEPTED:
        return asked
    if asked not in ("", "enable", "enabled", "on", "true", "1"):
        raise WorldError(f"MUJOCO_GL is {asked!r}; accepted for rendering: {', '.join(ACCEPTED)}, or unset")
    if platform.system() != "Linux":
        return "glfw"  # renders into a hidden window
    # PyOpenGL selects its library at the first import, so only one backend can be tried by importing it.
    for name, library in LIBRARIES.items():
        if _loads(library):
            return name
    raise DependencyNotInstalled(f"rendering needs an OpenGL library, and none is installed: {PACKAGES}")


def set_default_backend() -> None:
    """Sets MUJOCO_GL if it is unset: Gymnasium's own MuJoCo environments default to a backend that needs a display."""
    with suppress(DependencyNotInstalled, ValueError):
        os.environ.setdefault("MUJOCO_GL", backend())


def open_context(model: mujoco.MjModel, size: int) -> tuple[Any, mujoco.MjrContext]:
    """Creates a rendering context for images of `model` of up to `size` pixels per side, current in this thread.

    Returns:
        The OpenGL context and MuJoCo's context on it. Free both in this thread with `free`, MuJoCo's first.

    Raises:
        WorldError: If the value of MUJOCO_GL is not accepted.
        DependencyNotInstalled: If the library is missing or cannot create a context.
    """
    import mujoco  # imported here so that this module can be used when mujoco cannot be imported

    name = backend()
    os.environ.setdefault("LP_NUM_THREADS", "0")  # makes Mesa's software renderer work in the calling thread
    if name == "egl" and "MUJOCO_EGL_DEVICE_ID" not in os.environ and (device := cuda_device()) is not None:
        os.environ["MUJOCO_EGL_DEVICE_ID"] = str(device)  # MuJoCo takes EGL's first device, maybe another GPU
    try:
        context = importlib.import_module(f"mujoco.{name}").GLContext(size, size)
        context.make_current()
        drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except Exception as error:  # without its library, PyOpenGL raises exceptions of various types
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DependencyNotInstalled(f"{name} cannot render here ({reason}): unset MUJOCO_GL, {PACKAGES}") from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, drawer)
    return context, drawer


def renderer() -> str:
    """Renders an image of a ball and returns what rendered it: the backend and the name of its driver or device.

    Raises:
        WorldError: If the image is empty, or the value of MUJOCO_GL is not accepted.
        DependencyNotInstalled: If the library is missing or cannot create a context.
    """
    import mujoco
    import numpy as np

    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>"
    )
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    mujoco.mj_forward(model, data)
    mujoco.mjv_defaultFreeCamera(model, camera)
    context, drawer = open_context(model, 64)
    from OpenGL import GL

    scene, every = mujoco.MjvScene(model, maxgeom=10), mujoco.mjtCatBit.mjCAT_ALL.value
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, every, scene)
    rect, pixels = mujoco.MjrRect(0, 0, 64, 64), np.zeros((64, 64, 3), np.uint8)
    mujoco.mjr_render(rect, scene, drawer)
    mujoco.mjr_readPixels(pixels, None, rect, drawer)
    name = GL.glGetString(GL.GL_RENDERER).decode()
    drawer.free()
    context.free()
    if pixels.min() == pixels.max():
        raise WorldError(f"{backend()} renders empty images ({name})")
    return f"{backend()}: {name}"


def at_exit(free: Callable[[], Any]) -> None:
    """Calls `free` when the program ends; to be called after a context was opened.

    What is registered last is called first, so that the context is still there. MuJoCo shuts EGL down at the end, and
    a context that is freed after that makes PyOpenGL complain.
    """
    atexit.register(free)


def _loads(library: str) -> bool:
    name = ctypes.util.find_library(library)
    try:
        return name is not None and ctypes.CDLL(name) is not None
    except OSError:
        return False
