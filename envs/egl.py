"""Finds the EGL device of the GPU on which CUDA computes; EGL and CUDA number GPUs in different orders."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

_CUDA_DEVICE = 0x323A  # EGL_CUDA_DEVICE_NV
_MOST = 64  # devices


def cuda_device(number: int = 0) -> int | None:
    """Returns the index of the EGL device that is CUDA device `number`, counted as in CUDA_VISIBLE_DEVICES.

    Returns:
        The index, or None if no EGL device or several devices have this number; then there is no NVIDIA GPU, or its
        driver does not say.
    """
    found = [i for i, device in enumerate(_cuda_numbers()) if device == number]
    return found[0] if len(found) == 1 else None


def _cuda_numbers() -> list[int | None]:
    """Returns the CUDA number of every EGL device, None for devices that have none."""
    library = _library()
    if library is None:
        return []
    handles, count = (ctypes.c_void_p * _MOST)(), ctypes.c_int()
    query_devices = _function(library, "eglQueryDevicesEXT", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    query_attribute = _function(
        library, "eglQueryDeviceAttribEXT", ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
    )
    if not query_devices or not query_attribute or not query_devices(_MOST, handles, ctypes.byref(count)):
        return []
    numbers: list[int | None] = []
    for handle in handles[: count.value]:
        value = ctypes.c_ssize_t()
        known = query_attribute(handle, _CUDA_DEVICE, ctypes.byref(value))
        numbers.append(value.value if known else None)
    return numbers


def _library() -> Any:
    """Returns the EGL library, or None if it is not installed."""
    name = ctypes.util.find_library("EGL")
    try:
        return None if name is None else ctypes.CDLL(name)
    except OSError:
        return None


def _function(library: Any, name: str, *types: Any) -> Any:
    """Returns a function of an EGL extension, or None if the library does not have it."""
    library.eglGetProcAddress.restype = ctypes.c_void_p
    address = library.eglGetProcAddress(name.encode())
    return ctypes.CFUNCTYPE(ctypes.c_uint, *types)(address) if address else None
