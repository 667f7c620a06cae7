"""Render worlds of one model with OpenGL on several threads, each with its own context."""

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

FIRST_IMAGE = 120.0  # seconds to wait for the first image before the driver is considered stuck
STOPPING = 5.0  # seconds to wait for a thread when closing


def look(
    spec: mujoco.MjSpec, at: tuple[float, float, float], distance: float, elevation: float, azimuth: float
) -> None:
    """Add the camera "eye" to a model.

    Args:
        spec: Model to modify.
        at: Point that the camera looks at, x, y, z in meters.
        distance: Distance from the camera to the point in meters.
        elevation: Elevation of the viewing direction in degrees, negative if it points down.
        azimuth: Azimuth of the viewing direction in degrees; 90 is along y.
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
    """Goal marks on the ground, one per world.

    Attributes:
        place: Positions x, y [n, 2] in meters.
        radius: Radius of the marks in meters.
        body: ID of the body from which an arrow points to the mark.
    """

    place: Array
    radius: float
    body: int


class Painter:
    """Renders worlds of one model as `mujoco.Renderer` does. Must be used on the thread that created it only."""

    def __init__(self, model: mujoco.MjModel, camera: str, size: int, quality: Quality) -> None:
        """Create the OpenGL context and the scene.

        Args:
            model: Compiled model; not modified.
            camera: Name of the model's camera.
            size: Height and width of an image in pixels.
            quality: "paper" for the quality set by the model, or "fast" for coarser shadows, edges and curves.

        Raises:
            WorldError: If the library that MUJOCO_GL selects cannot render here.
            DependencyNotInstalled: If no OpenGL library is installed.
        """
        self._model, self._size = _prepared(model, size, quality), size
        self._data = mujoco.MjData(self._model)
        self._eye, self._options = mujoco.MjvCamera(), mujoco.MjvOption()
        self._eye.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        self._eye.fixedcamid = self._model.camera(camera).id
        self._scene = mujoco.MjvScene(self._model, maxgeom=10_000)  # the default of mujoco.Renderer
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._context, self._drawer = gl.open_context(self._model, size)

    def paint(self, qpos: Array, marks: Marks | None = None) -> Array:
        """Render the states qpos [n, nq]: images [n, size, size, 3] uint8."""
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
            pictures[i] = pictures[i, ::-1].copy()  # OpenGL's first row is the bottom one
        return pictures

    def close(self) -> None:
        """Free the OpenGL context."""
        with suppress(Exception):  # at interpreter exit, the OpenGL library may already have been shut down
            self._drawer.free()
            self._context.free()


class Painters:
    """Renders worlds of one model on several threads. May be used from any thread."""

    def __init__(self, model: mujoco.MjModel, camera: str, size: int, quality: Quality, threads: int) -> None:
        """Start the threads and create the context of the first, so that errors are raised here.

        Args:
            model: Compiled model; must not be modified afterwards.
            camera: Name of the model's camera.
            size: Height and width of an image in pixels.
            quality: See `Painter`.
            threads: Number of threads; each creates its context when it first renders.

        Raises:
            WorldError: If the library that MUJOCO_GL selects cannot render here, or does not render in time.
            DependencyNotInstalled: If no OpenGL library is installed.
        """
        self._workers = [_Worker(lambda: Painter(model, camera, size, quality)) for _ in range(threads)]
        self._close = weakref.finalize(self, _stop, self._workers)
        self._rendered = [False] * threads
        self._results([self._workers[0].submit(lambda painter: painter.paint(np.zeros((0, model.nq))))])
        gl.at_exit(self._close)

    def paint(self, qpos: Array, marks: Marks | None = None) -> Array:
        """Render the states qpos [n, nq]: images [n, size, size, 3] uint8."""
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
        """Stop the threads and free their contexts. May be called more than once."""
        self._close()
        atexit.unregister(self._close)

    def _results(self, jobs: list[Future[Array]]) -> list[Array]:
        results = []
        for i, job in enumerate(jobs):
            try:
                results.append(job.result(None if self._rendered[i] else FIRST_IMAGE))
            except TimeoutError as error:
                raise WorldError(
                    f"{gl.backend()} rendered no image within {FIRST_IMAGE:g} s with threads={len(self._workers)}; "
                    "try threads=1, renderer=warp, or MUJOCO_GL=osmesa to render on the CPU"
                ) from error
            self._rendered[i] = True
        return results


_Job: TypeAlias = tuple[Future[Array], Callable[[Painter], Array]]


class _Worker:
    """A thread with its own painter, which is created for the first job and closed on the same thread.

    It is a daemon thread, so that a blocked driver does not prevent the program from exiting.
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
        except BaseException as error:  # raised in the thread that waits for the result
            job.set_exception(error)
        del item, job, work  # release the references to the finished job
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
    """Return a copy of `model` configured to render images of `size` x `size` pixels."""
    model = copy.copy(model)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    if quality == "fast":
        model.vis.quality.shadowsize, model.vis.quality.offsamples = 256, 0
        model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 12, 8, 1
    return model
