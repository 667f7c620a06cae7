"""Videos show the skills they should, the episodes that those give, and are whole files or none."""

from __future__ import annotations

import errno
import math
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL, SPEC, configure, make
from torch import Tensor

import envs
from csf.agents import Agent
from csf.errors import ConfigError, MissingDependency, RunDirError, SamplerError
from csf.evaluation.film import GAP, grid, record, skill_labels, video_skills, write_webm
from csf.sampler import RolloutSampler
from csf.types import Episodes, Policy

HALF = math.sqrt(0.5)
ROSE = [[-HALF, HALF], [0, 1], [HALF, HALF], [-1, 0], [0, 0], [1, 0], [-HALF, -HALF], [0, -1], [HALF, -HALF]]


# Which skills


@pytest.mark.parametrize(("name", "length"), [("csf", 1.0), ("dads", 1.0), ("cic", 1.5)])
def test_skills_of_the_plane_lie_where_they_point(name: str, length: float) -> None:
    agent = make(name, "agent.skill_dim=2")
    assert torch.allclose(video_skills(agent, 0), length * torch.tensor(ROSE), atol=1e-6)


def test_one_hot_skills_are_all_shown() -> None:
    agent = make("diayn", "agent.skill_dim=5")
    assert torch.equal(video_skills(agent, 0), torch.eye(5))


def test_other_skills_are_drawn_from_the_prior() -> None:
    agent = make("csf", "agent.skill_dim=4")
    before = torch.get_rng_state()
    skills = video_skills(agent, 3)
    assert skills.shape == (9, 4)
    assert torch.allclose(skills.norm(dim=1), torch.ones(9))
    assert torch.equal(skills, video_skills(agent, 3))
    assert not torch.equal(skills, video_skills(agent, 4))
    assert torch.equal(before, torch.get_rng_state())


# Labels and layout


def test_labels() -> None:
    assert skill_labels(np.eye(12), one_hot=True)[10:] == ["skill 10", "skill 11"]
    assert skill_labels(np.array(ROSE), one_hot=False)[:2] == ["-0.71, 0.71", "0.00, 1.00"]
    assert skill_labels(np.array([[-0.001, 0.5]]), one_hot=False) == ["0.00, 0.50"]
    assert skill_labels(np.full((1, 6), 0.125), one_hot=False) == ["0.12, 0.12, 0.12, 0.12, .."]
    assert skill_labels(np.zeros((2, 0)), one_hot=False) == ["episode 1", "episode 2"]


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (9, 3, 3), (10, 3, 4)])
def test_layout(count: int, rows: int, columns: int) -> None:
    """Row by row, with a gap between cells and nothing in those that are left over."""
    height, width = 40, 50
    pictures = [np.full((height, width, 3), 100 + i, np.uint8) for i in range(count)]
    frame = grid(pictures, [""] * count)
    assert frame.shape == (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    assert frame.dtype == np.uint8
    seen = np.zeros(frame.shape[:2], bool)
    for i in range(count):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        cell = slice(top, top + height), slice(left, left + width)
        assert (frame[cell] == 100 + i).all()
        seen[cell] = True
    assert (frame[~seen] < 50).all()


@pytest.mark.parametrize(
    ("label", "height"), [("0.71, -0.71", 200), ("a label that is far too long for this", 200), ("1", 64)]
)
def test_a_label_is_white_with_a_dark_rim_in_its_corner(label: str, height: int) -> None:
    gray = np.full((height, height, 3), 128, np.uint8)
    plain, labelled = grid([gray], [""]), grid([gray], [label])
    changed = (plain != labelled).any(2)
    row, column = np.argwhere(changed).T
    assert row.min() > 0.8 * height
    assert row.max() < height - 1
    assert 0 < column.min() < 0.1 * height
    assert column.max() < height - 1
    assert labelled.max() > 240
    assert labelled.min() < 40
    assert gray.min() == gray.max() == 128  # the picture itself is left alone


# Recording


def pointed() -> Agent:
    """An agent that fits the world `point`."""
    cfg = configure("agent=csf", *SMALL)
    return Agent(cfg.agent, cfg.backbone, replace(SPEC, obs_shape=(2,)))


def point(agent: Agent, count: int, **settings: Any) -> tuple[RolloutSampler, Any]:
    worlds: Any = envs.make_vec("point", count, **{"render_mode": "rgb_array", "render_size": 64, **settings})
    return RolloutSampler(worlds, agent.spec, 0, "cpu"), worlds


def test_frames_show_the_episodes_of_the_skills() -> None:
    """Where the deterministic policy takes each skill, there its cell shows the point, at every step."""
    agent = pointed()
    agent.train()
    sampler, worlds = point(agent, 4)
    skills, before = video_skills(agent, 0)[:3], torch.get_rng_state()
    frames = record(agent, sampler, worlds.render, skills, 5, height=64)
    assert torch.equal(before, torch.get_rng_state())
    assert agent.training
    assert sampler.rounds == 0
    found = RolloutSampler(worlds, agent.spec, 0, "cpu").collect(agent.eval().act, skills, True, 5)
    assert len(frames) == SPEC.max_steps + 1
    assert frames[0].shape == (2 * 64 + GAP, 2 * 64 + GAP, 3)
    for i in range(3):
        top, left = i // 2 * (64 + GAP), i % 2 * (64 + GAP)
        for t in (0, 7, SPEC.max_steps):
            x, y = found.coord[i, t].tolist()  # the cell shows [-2, 2]^2
            row, column = top + int((2 - y) * 16), left + int((x + 2) * 16)
            assert frames[t][row, column, 0] > 200
    assert not np.array_equal(frames[0], frames[-1])


def test_pictures_are_scaled_to_the_cells() -> None:
    agent = pointed()
    sampler, worlds = point(agent, 1)
    (first, *_) = record(agent, sampler, worlds.render, video_skills(agent, 0)[:1], 0, height=32)
    assert first.shape == (32, 32, 3)


class Counting:
    """Worlds and sampler in one: episodes of given lengths, pictures that show the number of steps so far."""

    spec = SPEC

    def __init__(self, *lengths: int, worlds: int = 4) -> None:
        self.lengths, self.worlds, self.steps = lengths, worlds, -1

    def render(self) -> Sequence[np.ndarray]:
        return [np.full((20, 30, 3), 10 * self.steps, np.uint8)] * self.worlds

    def collect(
        self, policy: Policy, skills: Tensor, mode: bool = False, seed: int | None = None, twins: bool = False
    ) -> Episodes:
        assert mode
        self.steps = 0
        while self.steps < max(self.lengths):
            policy(torch.zeros(self.worlds, *SPEC.obs_shape), torch.zeros(self.worlds, skills.shape[1]), mode)
            self.steps += 1
        none = torch.zeros(0)
        return Episodes(none, none, none, none, skills, torch.tensor(self.lengths), none)

    def close(self) -> None:
        pass


def test_who_has_ended_holds_the_last_picture() -> None:
    both, agent = Counting(2, 4, 0), make("diayn", "agent.skill_dim=3")
    frames = record(agent, both, both.render, video_skills(agent, 0), 0, height=20)
    shown = [[frame[0, 0, 0], frame[0, 30 + GAP, 0], frame[20 + GAP, 0, 0]] for frame in frames]
    assert shown == [[0, 0, 0], [10, 10, 0], [20, 20, 0], [20, 30, 0], [20, 40, 0]]


def test_every_skill_needs_a_world() -> None:
    both, agent = Counting(2, 2, 2, worlds=2), make("diayn", "agent.skill_dim=3")
    with pytest.raises(ValueError, match="the number of worlds is 2; accepted: at least 3, the number of skills"):
        record(agent, both, both.render, video_skills(agent, 0), 0)
    with pytest.raises(ValueError, match="skills has length 0; accepted: at least 1"):
        record(agent, both, both.render, torch.zeros(0, 3), 0)


def test_worlds_that_take_no_pictures() -> None:
    agent = pointed()
    sampler, worlds = point(agent, 9, render_mode=None)
    with pytest.raises(SamplerError) as error:
        record(agent, sampler, worlds.render, video_skills(agent, 0), 0)
    assert str(error.value) == (
        "env=test cannot be rendered: "
        "render_mode is None; create the environment with render_mode='rgb_array' to render it"
    )


def test_a_renderer_that_fails_is_told_in_one_line() -> None:
    def render() -> Sequence[np.ndarray]:
        raise RuntimeError("no such thing\nas this")

    agent = make("diayn", "agent.skill_dim=3")
    with pytest.raises(SamplerError, match=r"^env=test cannot be rendered: no such thing$"):
        record(agent, Counting(2), render, video_skills(agent, 0), 0)


# Files


def film(height: int = 48, width: int = 64, count: int = 12) -> list[np.ndarray]:
    """A square that walks to the right over a blue ground."""
    frames = []
    for t in range(count):
        frame = np.full((height, width, 3), (30, 60, 140), np.uint8)
        frame[16:32, 2 * t : 2 * t + 16] = (230, 140, 50)
        frames.append(frame)
    return frames


def read(path: Path) -> list[np.ndarray]:
    import cv2

    reader = cv2.VideoCapture(str(path))
    frames = []
    while (got := reader.read())[0]:
        frames.append(np.asarray(got[1])[..., ::-1])
    return frames


def test_a_video_reads_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import cv2

    path = tmp_path / "skills.webm"
    path.write_text("an older one")
    write_webm(path, film(), 20.0)
    found = read(path)
    assert len(found) == 12
    for frame, seen in zip(film(), found, strict=True):
        assert np.abs(frame.astype(int) - seen).mean() < 5  # colors lose half of their resolution
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(20.0, rel=0.01)
    assert path.read_bytes()[:4] == b"\x1a\x45\xdf\xa3"
    assert [p.name for p in tmp_path.iterdir()] == ["skills.webm"]
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_odd_sides_lose_nothing(tmp_path: Path) -> None:
    write_webm(tmp_path / "odd.webm", film(47, 63, 3), 5)
    found = read(tmp_path / "odd.webm")
    assert [frame.shape for frame in found] == [(48, 64, 3)] * 3
    assert np.abs(found[0][:47, :63].astype(int) - film(47, 63, 1)[0]).mean() < 5


def test_only_webm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the path of the video is .*skills\.avi; accepted: a name that ends in"):
        write_webm(tmp_path / "skills.avi", film(), 20)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=f"^cannot write .*none/a.webm: {os.strerror(errno.ENOENT)}$"):
        write_webm(tmp_path / "none/a.webm", film(), 20)
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match=f"^cannot write .*file/a.webm: {os.strerror(errno.ENOTDIR)}$"):
        write_webm(tmp_path / "file/a.webm", film(), 20)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "skills.webm"
    path.write_text("an older one")
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(
            RunDirError, match=r"^cannot write .*skills.webm: \d of 20 frames were written; is the disk full\?$"
        ):
            write_webm(path, list(noise), 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "an older one"
    assert [p.name for p in tmp_path.iterdir()] == ["skills.webm"]


def test_an_opencv_without_the_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *_: cv2.VideoWriter.fourcc(*"none"))
    with pytest.raises(RunDirError, match=r"cannot write .*: this OpenCV has no VP9 encoder"):
        write_webm(tmp_path / "a.webm", film(), 20)
    assert not list(tmp_path.iterdir())


def test_without_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependency, match="a video needs OpenCV: pip install opencv-python-headless"):
        write_webm(tmp_path / "a.webm", film(), 20)
    assert not list(tmp_path.iterdir())
    both, agent = Counting(2), make("csf")
    with pytest.raises(MissingDependency):
        record(agent, both, both.render, video_skills(agent, 0), 0)
    assert both.steps == -1  # no episode was begun


def test_a_video_is_as_readable_as_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_webm(tmp_path / "a.webm", film(count=1), 20)
    assert stat.S_IMODE((tmp_path / "a.webm").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_path_that_opencv_cannot_be_given_is_told(tmp_path: Path) -> None:
    """It would end the process: a name that is not UTF-8, and any but ASCII under a locale that knows nothing else."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(RunDirError, match=r"^cannot write .*: the path is not UTF-8 under this locale; accepted: "):
        write_webm(folder / "a.webm", film(count=2), 20)
    assert not list(folder.iterdir())
    (tmp_path / "\u00e9").mkdir()
    code = (
        "import numpy as np, os, pathlib; from csf.evaluation.film import write_webm\n"
        f"path = pathlib.Path(os.fsdecode({os.fsencode(tmp_path)!r} + b'/\\xc3\\xa9/a.webm'))\n"
        "write_webm(path, [np.zeros((16, 16, 3), np.uint8)], 20)"
    )
    for forced in ({"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}):
        env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], **forced}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
        if "PYTHONUTF8" in forced:
            assert done.returncode == 1
            assert "RunDirError: cannot write " in done.stderr
        else:
            assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "\u00e9").iterdir()] == ["a.webm"]
