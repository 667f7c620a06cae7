"""Records videos of skills as a grid with one episode per skill."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.errors import ConfigError, RunDirError, SamplerError, optional
from csf.evaluation.rollouts import isolated
from csf.sampler import RolloutSampler
from csf.types import Sampler, SomeObs, Worlds

COUNT = 9  # number of skills drawn from a continuous prior
SHOWN = 4  # number of entries of a skill in its label
GAP = 2  # pixels between cells
BACKGROUND = RIM = (24, 28, 34)
TEXT = (255, 255, 255)

Shutter = Callable[[], None]
Render = Callable[[], Sequence[np.ndarray]]


class Holder(Protocol):
    """Worlds that take several steps per action, such as `csf.hierarchy.SkillVectorEnv`."""

    watch: Shutter | None  # called before every world step


def video_skills(agent: Agent, seed: int) -> Tensor:
    """Return the skills [n, Z] of a video, in row-major order of the grid.

    One-hot skills: all of them. Z = 2: eight directions around 0, each in the cell in its direction, of length 1 (1.5
    for a Gaussian prior). Otherwise nine skills drawn from the prior.
    """
    objective, dim = agent.objective, agent.objective.cfg.skill_dim
    if objective.prior == "one_hot":
        return torch.eye(dim, device=objective.device())
    if dim == 2:
        angle = torch.tensor([3, 2, 1, 4, 0, 0, 5, 6, 7], device=objective.device()) * (math.pi / 4)
        skills = torch.stack([angle.cos(), angle.sin()], 1)
        skills[4] = 0
        return 1.5 * skills if objective.prior == "gaussian" else skills
    with isolated(agent, seed):
        return agent.sample_skills(COUNT)


def record(
    agent: Agent,
    sampler: Sampler,
    render: Render,
    skills: Tensor,
    seed: int,
    height: int = 200,
    holder: Holder | None = None,
) -> list[np.ndarray]:
    """Record a deterministic episode of every skill as frames [H, W, 3] uint8 of a labeled grid.

    There is one frame for the start and one for every step of the longest episode; shorter ones keep their last frame.

    Args:
        agent: acts in the episodes.
        sampler: collects the episodes, on worlds created with `render_mode="rgb_array"`.
        render: the method `render` of these worlds, of which there must be at least n.
        skills: [n, Z].
        seed: seeds the worlds and PyTorch.
        height: height of a cell in pixels, to which images are scaled.
        holder: the worlds, if they take several steps per action, all of which are recorded.

    Raises:
        SamplerError: the worlds cannot be rendered; the message contains the reason.
        MissingDependency: OpenCV is not installed.
    """
    if not len(skills):
        raise ValueError("skills has length 0; accepted: at least 1")
    opencv()  # raises before the episodes if it is missing
    shots: list[list[np.ndarray]] = []

    def shoot() -> None:
        try:
            pictures = render()
        except Exception as error:  # environments of other packages may raise anything
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise SamplerError(f"env={sampler.spec.id} cannot be rendered: {reason}") from error
        if len(pictures) < len(skills):
            raise ValueError(
                f"the number of worlds is {len(pictures)}; accepted: at least {len(skills)}, the number of skills"
            )
        shots.append([_scaled(picture, height) for picture in pictures[: len(skills)]])

    def act(obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        if holder is None:
            shoot()
        return agent.act(obs, skill, mode)

    if holder is not None:
        holder.watch = shoot
    with isolated(agent, seed):
        found = sampler.collect(act, skills, True, seed)
    shoot()
    labels = skill_labels(skills.cpu().numpy(), agent.objective.prior == "one_hot")
    steps = (len(shots) - 1) / int(found.length.max())  # world steps per step; more than 1 with a holder
    last = (found.length * steps).round().int().tolist()
    return [grid([shots[min(t, end)][i] for i, end in enumerate(last)], labels) for t in range(len(shots))]


def skill_labels(skills: np.ndarray, one_hot: bool) -> list[str]:
    """Return the labels of skills [n, Z]: the index of a one-hot skill, otherwise its first entries.

    For an agent without skills, the episodes are numbered.
    """
    if not skills.shape[1]:
        return [f"episode {number}" for number in range(1, len(skills) + 1)]
    if one_hot:
        return [f"skill {index}" for index in skills.argmax(1)]
    more = ", .." if skills.shape[1] > SHOWN else ""
    rounded = skills[:, :SHOWN].round(2) + 0.0  # avoids -0.00
    return [", ".join(f"{value:.2f}" for value in skill) + more for skill in rounded]


def grid(pictures: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Arrange labeled images [h, w, 3] uint8 in row-major order in a nearly square grid [H, W, 3] uint8."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    frame = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), BACKGROUND, np.uint8)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        frame[top : top + height, left : left + width] = _labeled(picture, label)
    return frame


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    if len(picture) == height:
        return picture
    width = round(picture.shape[1] * height / len(picture))
    cv2 = opencv()
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def _labeled(picture: np.ndarray, label: str) -> np.ndarray:
    """Write white text with a dark outline into the lower left corner, scaled to fit."""
    cv2 = opencv()
    height, width, _ = picture.shape
    font, margin = cv2.FONT_HERSHEY_SIMPLEX, height // 25
    (length, _), _ = cv2.getTextSize(label, font, 1.0, 1)
    scale = min(max(0.4, height / 400), (width - 2 * margin) / max(length, 1))
    picture = picture.copy()
    x, y = margin, height - margin
    for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        cv2.putText(picture, label, (x + dx, y + dy), font, scale, RIM, 1, cv2.LINE_AA)
    cv2.putText(picture, label, (x, y), font, scale, TEXT, 1, cv2.LINE_AA)
    return picture


CELL, SMALL_CELL = 200, 100  # pixels
FEW = 16  # largest number of skills shown in cells of CELL pixels


def film(path: Path, agent: Agent, make: Callable[[int], Worlds], seed: int) -> np.ndarray:
    """Write a WebM video of a deterministic episode of every skill of `video_skills`; return its frames.

    Args:
        path: path of the .webm file.
        agent: acts in the episodes; for a controller over skills, every world step is recorded.
        make: creates N worlds with rendering enabled and the agent's observations and actions.
        seed: seeds the worlds and the drawing of skills.

    Raises:
        CsfError: the environment cannot be rendered, or the file cannot be written.
    """
    skills, device = video_skills(agent, seed), agent.objective.device()
    worlds = make(len(skills))
    sampler = RolloutSampler(worlds, agent.spec, seed, device)
    holder = cast(Holder, worlds) if hasattr(worlds, "watch") else None
    height = CELL if len(skills) <= FEW else SMALL_CELL
    try:
        frames = record(agent, sampler, worlds.render, skills, seed, height, holder)
        write_webm(path, frames, worlds.metadata["render_fps"])
        return np.stack(frames)
    finally:
        sampler.close()


def write_webm(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames [H, W, 3] uint8 of one size atomically as a VP9 video in a WebM file.

    The last row or column is repeated if a side is odd, because the codec requires even sides.

    Raises:
        ConfigError: the file name does not end in .webm.
        RunDirError: the file cannot be written; an existing file is left unchanged.
        MissingDependency: OpenCV is not installed.
    """
    if path.suffix != ".webm":
        raise ConfigError(f"the path of the video is {path}; accepted: a name that ends in .webm")
    partial = path.with_name(
        f"{path.stem}.{platform.node()}.{os.getpid()}.partial.webm"
    )  # OpenCV selects the format by the suffix
    try:
        if not _is_utf8(partial):
            raise OSError("the path is not UTF-8 under this locale; accepted: a name in UTF-8, or PYTHONUTF8=1")
        partial.open("wb").close()  # raises with a reason, unlike OpenCV, if the path is not writable
        _encode(partial, frames, fps)
        os.replace(partial, path)
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _is_utf8(path: Path) -> bool:
    """Return whether the path can be encoded as UTF-8; any other path makes OpenCV abort the process."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    cv2 = opencv()
    height, width, _ = frames[0].shape
    rim = ((0, height % 2), (0, width % 2), (0, 0))
    with _quiet():
        codec, size = cv2.VideoWriter_fourcc(*"VP90"), (width + width % 2, height + height % 2)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, size)
        if not writer.isOpened():
            raise OSError("this OpenCV has no VP9 encoder")
        for frame in frames:
            writer.write(np.pad(frame[..., ::-1], rim, mode="edge"))
        writer.release()
        if (kept := _count(path)) != len(frames):  # the writer does not report errors
            raise OSError(f"{kept} of {len(frames)} frames were written; is the disk full?")


def _count(path: Path) -> int:
    """Return the number of frames that can be read from a video."""
    reader = opencv().VideoCapture(str(path))
    count = 0
    while reader.grab():
        count += 1
    reader.release()
    return count


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress output to stderr, where OpenCV warns about a codec tag that WebM does not have."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def opencv() -> Any:
    """Import OpenCV, which only videos need.

    Raises:
        MissingDependency: OpenCV is not installed.
    """
    return optional("cv2", "a video needs OpenCV: pip install opencv-python-headless")
