"""Videos of skills: every skill acts in a world of its own, and a cell of a grid shows it."""

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
from csf.errors import ConfigError, MissingDependency, RunDirError, SamplerError
from csf.evaluation.rollouts import isolated
from csf.sampler import RolloutSampler
from csf.types import Sampler, SomeObs, Worlds

COUNT = 9  # skills of a prior that has too many to show all
SHOWN = 4  # entries of a skill that its label has room for
GAP = 2  # pixels between cells
BACKGROUND = RIM = (24, 28, 34)
TEXT = (255, 255, 255)

Shutter = Callable[[], None]
Render = Callable[[], Sequence[np.ndarray]]


class Holder(Protocol):
    """Worlds that make many steps of one action, such as `csf.hierarchy.SkillVectorEnv`."""

    watch: Shutter | None  # called before every step


def video_skills(agent: Agent, seed: int) -> Tensor:
    """The skills [n, Z] that a video shows, in the order of the grid's rows.

    All one-hot skills. In the plane eight directions around 0, each where it points; their length is 1, or 1.5 under a
    Gaussian prior. Else nine skills drawn from the prior.
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
    """An episode of every skill, by the policy's modes, as frames [H, W, 3] uint8 of a labelled grid.

    There is a frame for the start and for every step of the longest episode; one that ended before keeps its last.

    Args:
        agent: who acts.
        sampler: runs the episodes, on worlds made with `render_mode="rgb_array"`.
        render: the method of these worlds; there must be at least as many of them as skills.
        skills: [n, Z].
        seed: of the worlds and of all that is drawn.
        height: of a cell in pixels; pictures are scaled to it.
        holder: worlds that make many steps of one action, all of which are to be seen.

    Raises:
        SamplerError: the worlds take no pictures; the message says what is missing.
        MissingDependency: OpenCV is not installed.
    """
    if not len(skills):
        raise ValueError("a video of no skills")
    opencv()  # if it is missing, that is told before the episodes
    shots: list[list[np.ndarray]] = []

    def shoot() -> None:
        try:
            pictures = render()
        except Exception as error:  # environments of others draw with anything, which may fail anyhow
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise SamplerError(f"the environment {sampler.spec.id} takes no pictures: {reason}") from error
        if len(pictures) < len(skills):
            raise ValueError(f"{len(skills)} skills need as many worlds; there are {len(pictures)}")
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
    steps = (len(shots) - 1) / int(found.length.max())  # more than 1 under a holder
    last = (found.length * steps).round().int().tolist()
    return [grid([shots[min(t, end)][i] for i, end in enumerate(last)], labels) for t in range(len(shots))]


def skill_labels(skills: np.ndarray, one_hot: bool) -> list[str]:
    """What is written on the cells of skills [n, Z]: the number of a one-hot skill, else its first entries.

    Episodes of an agent without skills are counted.
    """
    if not skills.shape[1]:
        return [f"episode {number}" for number in range(1, len(skills) + 1)]
    if one_hot:
        return [f"skill {index}" for index in skills.argmax(1)]
    more = ", .." if skills.shape[1] > SHOWN else ""
    rounded = skills[:, :SHOWN].round(2) + 0.0  # no -0.00
    return [", ".join(f"{value:.2f}" for value in skill) + more for skill in rounded]


def grid(pictures: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Pictures [h, w, 3] uint8 with labels, row by row in a grid as square as can be, [H, W, 3] uint8."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    frame = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), BACKGROUND, np.uint8)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        frame[top : top + height, left : left + width] = _labelled(picture, label)
    return frame


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    if len(picture) == height:
        return picture
    width = round(picture.shape[1] * height / len(picture))
    cv2 = opencv()
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def _labelled(picture: np.ndarray, label: str) -> np.ndarray:
    """White text with a dark rim in the lower left corner, small enough to fit."""
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
FEW = 16  # skills that are shown large


def film(path: Path, agent: Agent, make: Callable[[int], Worlds], seed: int) -> np.ndarray:
    """Write a WebM of one deterministic episode of every skill that `video_skills` names; returns its frames.

    Args:
        path: of the file, .webm.
        agent: who acts; of a controller over skills, every step that a skill is held is to be seen.
        make: makes N worlds that take pictures, with the agent's observations and actions.
        seed: of the worlds and of skills that are drawn.

    Raises:
        CsfError: the environment takes no pictures here, or the file cannot be written; one line says why.
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
    """Write frames [H, W, 3] uint8, all of one size, as a VP9 video in a WebM file, whole or not at all.

    A row or column is repeated where a side is odd, which the codec does not know.

    Raises:
        ConfigError: the file's name does not end in .webm.
        RunDirError: the file cannot be written; what was there before is untouched.
        MissingDependency: OpenCV is not installed.
    """
    if path.suffix != ".webm":
        raise ConfigError(f"a video is asked for as {path}; accepted: a name that ends in .webm")
    partial = path.with_name(
        f"{path.stem}.{platform.node()}.{os.getpid()}.partial.webm"
    )  # the ending tells OpenCV the format
    try:
        if not _is_utf8(partial):
            raise OSError("the path is not UTF-8 under this locale; accepted: a name in UTF-8, or PYTHONUTF8=1")
        partial.open("wb").close()  # says why it cannot be written, which OpenCV does not
        _encode(partial, frames, fps)
        os.replace(partial, path)
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _is_utf8(path: Path) -> bool:
    """Whether OpenCV can be given the path: another ends the process."""
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
        if (kept := _count(path)) != len(frames):  # the writer does not tell
            raise OSError(f"{kept} of {len(frames)} frames fit; is the disk full?")


def _count(path: Path) -> int:
    """Frames that can be read back."""
    reader = opencv().VideoCapture(str(path))
    count = 0
    while reader.grab():
        count += 1
    reader.release()
    return count


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, nothing that libraries print to stderr is seen: OpenCV warns of a tag that WebM files do not have."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def opencv() -> Any:
    """OpenCV, which nothing but videos needs.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency("a video needs OpenCV: pip install opencv-python-headless") from error
    return cv2
