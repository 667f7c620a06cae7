"""Where pictures are drawn without a screen: the choice of an OpenGL library, made when the first picture is taken."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import os
import platform
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

from envs.errors import WorldError

if TYPE_CHECKING:
    import mujoco

# MuJoCo's modules that open a context, and the library below each; in the order in which Linux is searched.
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
ACCEPTED = (*LIBRARIES, "glfw")
PACKAGES = "apt install libegl1 libopengl0 libgl1-mesa-dri, or libosmesa6 (Debian, Ubuntu)"


def backend() -> str:
    """Name of the library to draw with: what MUJOCO_GL says, else EGL, else OSMesa.

    MuJoCo reads MUJOCO_GL when it is imported, and without it takes one that needs a screen; this asks anew.

    Raises:
        WorldError: If MUJOCO_GL names none that can draw here.
        DependencyNotInstalled: If MUJOCO_GL names none, and none is there.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ACCEPTED:
        return asked
    if asked not in ("", "enable", "enabled", "on", "true", "1"):
        raise WorldError(f"MUJOCO_GL is {asked!r}; accepted for pictures: {', '.join(ACCEPTED)}, or leave it unset")
    if platform.system() != "Linux":
        return "glfw"  # draws into a hidden window
    # PyOpenGL settles on a library at its first import, so that only one can be tried by using it.
    for name, library in LIBRARIES.items():
        if _loads(library):
            return name
    raise DependencyNotInstalled(f"pictures need an OpenGL library, and there is none: {PACKAGES}")


def settle() -> None:
    """Sets MUJOCO_GL if it is not set, for Gymnasium's own MuJoCo worlds: left alone they take what needs a screen."""
    with suppress(DependencyNotInstalled, ValueError):
        os.environ.setdefault("MUJOCO_GL", backend())


def open_context(model: mujoco.MjModel, size: int) -> tuple[Any, mujoco.MjrContext]:
    """Opens what draws pictures of `model` with sides up to `size`, current in this thread.

    Returns:
        The OpenGL context and MuJoCo's on it; both have `free`, to be called in this thread, MuJoCo's first.

    Raises:
        WorldError: If MUJOCO_GL names no library that can draw here.
        DependencyNotInstalled: If the library is absent, or finds nothing to draw with.
    """
    import mujoco  # late, so that why it cannot be imported can be told with this module

    name = backend()
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software renderer draws in the caller's thread, not its own
    try:
        context = importlib.import_module(f"mujoco.{name}").GLContext(size, size)
        context.make_current()
        drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except Exception as error:  # PyOpenGL without its library fails in whatever it touches first
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DependencyNotInstalled(
            f"{name} takes no pictures here ({reason}): unset MUJOCO_GL, {PACKAGES}"
        ) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, drawer)
    return context, drawer


def _loads(library: str) -> bool:
    name = ctypes.util.find_library(library)
    try:
        return name is not None and ctypes.CDLL(name) is not None
    except OSError:
        return False
