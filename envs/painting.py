"""Pictures of many worlds of one model: every thread draws a share of them with a context of its own."""

from __future__ import annotations

import atexit
import copy
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

import mujoco
import numpy as np

from envs import gl
from envs.errors import WorldError
from envs.observations import Array
from envs.render import mark

Quality: TypeAlias = Literal["paper", "fast"]

FIRST_PICTURES = 120.0  # seconds, after which a driver is taken to be stuck
STOPPING = 5.0  # seconds that closing waits for a thread


def look(
    spec: mujoco.MjSpec, at: tuple[float, float, float], distance: float, elevation: float, azimuth: float
) -> None:
    """Adds the camera "eye" to a model.

    Args:
        spec: Of the model.
        at: x, y, z of what it looks at, in meters.
        distance: To it, in meters.
        elevation: Of the line of sight in degrees, negative from above.
        azimuth: Direction of the line of sight in degrees, 90 along y.
    """
    up, around = np.deg2rad(elevation), np.deg2rad(azimuth)
    ahead = np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    right = np.array([np.sin(around), -np.cos(around), 0.0])
    turn = np.stack((right, np.cross(right, ahead), -ahead), axis=1)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, turn.ravel())
    spec.worldbody.add_camera(name="eye", pos=np.array(at) - distance * ahead, quat=quaternion)


@dataclass(frozen=True)
class Marks:
    """Places on the ground that pictures show.

    Attributes:
        place: x, y [n, 2] of every world's, in meters.
        radius: In meters.
        body: Number of the body from which an arrow points there.
    """

    place: Array
    radius: float
    body: int


class Painter:
    """Draws worlds of one model as `mujoco.Renderer` does; belongs to the thread that made it."""

    def __init__(self, model: mujoco.MjModel, camera: str, size: int, quality: Quality) -> None:
        """Opens what draws.

        Args:
            model: Of the worlds; not changed.
            camera: Name of the camera of the model that sees them.
            size: Side of a picture in pixels.
            quality: "paper" as the model's file says; "fast" for coarse shadows, edges and round things.

        Raises:
            WorldError: If MUJOCO_GL names no library that can draw here.
            DependencyNotInstalled: If there is no OpenGL library.
        """
        self._model, self._size = _prepared(model, size, quality), size
        self._data = mujoco.MjData(self._model)
        self._eye, self._options = mujoco.MjvCamera(), mujoco.MjvOption()
        self._eye.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        self._eye.fixedcamid = self._model.camera(camera).id
        self._scene = mujoco.MjvScene(self._model, maxgeom=10_000)  # as many as mujoco.Renderer
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._context, self._drawer = gl.open_context(self._model, size)

    def paint(self, qpos: Array, marks: Marks | None = None) -> Array:
        """Positions of the joints [n, nq] -> pictures [n, size, size, 3] uint8."""
        pictures = np.empty((len(qpos), self._size, self._size, 3), np.uint8)
        self._context.make_current()
        for i, row in enumerate(qpos):
            self._data.qpos[:] = row
            mujoco.mj_fwdPosition(self._model, self._data)
            every = mujoco.mjtCatBit.mjCAT_ALL.value
            mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._eye, every, self._scene)
            if marks is not None:
                mark(self._scene, marks.place[i], marks.radius, self._data.xpos[marks.body])
            mujoco.mjr_render(self._rect, self._scene, self._drawer)
            mujoco.mjr_readPixels(pictures[i], None, self._rect, self._drawer)
            pictures[i] = pictures[i, ::-1].copy()  # OpenGL's first row is the lowest
        return pictures

    def close(self) -> None:
        """Frees what draws."""
        with suppress(Exception):  # at the end of the program the library may have been shut down before
            self._drawer.free()
            self._context.free()


class Painters:
    """Draws worlds of one model on several threads; may be called from any thread."""

    def __init__(self, model: mujoco.MjModel, camera: str, size: int, quality: Quality, threads: int) -> None:
        """Starts the threads, and opens what the first one draws with, so that errors are found here.

        Args:
            model: Of the worlds; not changed from now on.
            camera: Name of the camera of the model that sees them.
            size: Side of a picture in pixels.
            quality: See `Painter`.
            threads: Their number; each opens what it draws with when it draws first.

        Raises:
            WorldError: If MUJOCO_GL names no library that can draw here, or it does not begin to draw.
            DependencyNotInstalled: If there is no OpenGL library.
        """
        self._workers = [_Worker(lambda: Painter(model, camera, size, quality)) for _ in range(threads)]
        self._close = weakref.finalize(self, _stop, self._workers)
        self._drew = [False] * threads
        self._results([self._workers[0].submit(lambda painter: painter.paint(np.zeros((0, model.nq))))])
        gl.at_exit(self._close)

    def paint(self, qpos: Array, marks: Marks | None = None) -> Array:
        """Positions of the joints [n, nq] -> pictures [n, size, size, 3] uint8."""
        if len(qpos) <= 1 or len(self._workers) == 1:
            shares = [slice(None)]
        else:
            borders = np.linspace(0, len(qpos), min(len(self._workers), len(qpos)) + 1).astype(int)
            shares = [slice(a, b) for a, b in pairwise(borders)]
        jobs = [
            worker.submit(_share(qpos[rows].copy(), _marked(marks, rows)))
            for worker, rows in zip(self._workers, shares, strict=False)
        ]
        return np.concatenate(self._results(jobs))

    def close(self) -> None:
        """Frees what draws and ends the threads; idempotent."""
        self._close()
        atexit.unregister(self._close)

    def _results(self, jobs: list[Future[Array]]) -> list[Array]:
        results = []
        for i, job in enumerate(jobs):
            try:
                results.append(job.result(None if self._drew[i] else FIRST_PICTURES))
            except TimeoutError as error:
                raise WorldError(
                    f"{gl.backend()} drew nothing for {FIRST_PICTURES:g} s, threads={len(self._workers)}; "
                    "try threads=1, renderer=warp, or MUJOCO_GL=osmesa for the CPU"
                ) from error
            self._drew[i] = True
        return results


_Job: TypeAlias = tuple[Future[Array], Callable[[Painter], Array]]


class _Worker:
    """A thread with a painter of its own, made for the first job and closed there.

    It is a daemon, so that one that a driver holds does not hold the program too.
    """

    def __init__(self, make: Callable[[], Painter]) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._jobs, make), name="csf-painter", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Painter], Array]) -> Future[Array]:
        job: Future[Array] = Future()
        self._jobs.put((job, work))
        return job

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(timeout=STOPPING)


def _work(jobs: SimpleQueue[_Job | None], make: Callable[[], Painter]) -> None:
    painter: Painter | None = None
    while (item := jobs.get()) is not None:
        job, work = item
        try:
            painter = painter or make()
            job.set_result(work(painter))
        except BaseException as error:  # it belongs to the thread that waits for the result
            job.set_exception(error)
        del item, job, work  # nothing of a job outlives it
    if painter is not None:
        painter.close()


def _stop(workers: list[Any]) -> None:
    for worker in workers:
        worker.stop()


def _share(qpos: Array, marks: Marks | None) -> Callable[[Painter], Array]:
    return lambda painter: painter.paint(qpos, marks)


def _marked(marks: Marks | None, rows: slice) -> Marks | None:
    return marks and Marks(marks.place[rows], marks.radius, marks.body)


def _prepared(model: mujoco.MjModel, size: int, quality: Quality) -> mujoco.MjModel:
    """A copy of `model` for pictures with sides of `size` pixels."""
    model = copy.copy(model)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    if quality == "fast":
        model.vis.quality.shadowsize, model.vis.quality.offsamples = 256, 0
        model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 12, 8, 1
    return model
