"""What a run says about the cost of learning from images."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import IMAGE, configure, make
from test_images import Pictures

from csf.config.compose import check
from csf.learners.cost import Cost, _about, image_seconds, update_cost
from csf.run import Run, run

PASS = 2 * 256 * (31**2 * 48 * 9 + 14**2 * 96 * 48 + 6**2 * 192 * 96 + 2**2 * 384 * 192) * 4 * 4  # of a batch, in flop


def test_an_update_of_the_papers_size_is_22_passes_of_the_convolutions() -> None:
    """Of 256 images forward; a backward pass counts twice, less the gradient of the pixels."""
    torch.manual_seed(0)
    agent = make("csf", spec=IMAGE)  # with small layers behind the convolutions
    before = torch.get_rng_state()
    cost = update_cost(agent, 256)
    assert torch.equal(torch.get_rng_state(), before)
    assert cost.flops / PASS == pytest.approx(22, rel=0.06)
    assert cost.seconds > 0


@pytest.mark.parametrize(("case", "passes"), [("csf encoder=shared", 6), ("task", 13), ("task agent/backbone=ppo", 6)])
def test_other_updates_cost_less(case: str, passes: float) -> None:
    cost = update_cost(make(*case.split(), spec=IMAGE), 256)
    assert cost.flops / PASS == pytest.approx(passes, rel=0.15)


def test_the_cost_is_proportional_to_the_batch() -> None:
    small, large = (update_cost(make("csf", "encoder.channels=[2,2]", spec=IMAGE), size) for size in (64, 128))
    assert large.flops == pytest.approx(2 * small.flops)


class Few(Pictures):
    """Episodes of six steps."""

    renderer, quality = "gl", "paper"
    goals: Any = None

    @property
    def has_goals(self) -> bool:
        return False

    def measure(self, coord: np.ndarray, length: np.ndarray) -> dict[str, float]:
        return {}


def started(tmp_path: Path, *words: str) -> Run:
    """A run on three worlds of six steps, with small networks, whose update costs what the paper's does."""
    small = ["agent.hidden=[8]", "agent.backbone.hidden=[8]", "encoder.channels=[2,2]", f"exp_dir={tmp_path}"]
    cfg = check(["env=quadruped", *small, *words, "device=cpu", "threads=1", "task.epochs=1", "task.replay_size=10000"])
    with mock.patch("csf.run.worlds_of", side_effect=lambda *_: Few("image")):
        return Run(cfg, torch.device("cpu"))


FASTER = r"fewer encoder\.channels, env\.quality=fast for rendering, env\.renderer=warp"


@pytest.mark.parametrize(
    ("words", "seconds", "per_image", "said"),
    [
        (
            [],
            1.5,
            1.1,
            r"about 5 minutes, and renders 56 images, about 62 seconds; an evaluation renders 336 images, "
            r"about 6 minutes; faster: device=cuda, encoder=shared, ",
        ),
        (
            ["encoder=shared"],
            0.1,
            0.004,
            r"about 20 seconds, and renders 56 images, about a second; an evaluation renders 336 images, "
            r"about a second; faster: device=cuda, ",
        ),
    ],
)
def test_a_run_on_the_cpu_says_what_an_epoch_costs(
    words: list[str],
    seconds: float,
    per_image: float,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three worlds evaluate 48 skills in 16 rounds; every episode has an image before its first step."""
    with (
        mock.patch("csf.run.update_cost", return_value=Cost(426e9, seconds)) as cost,
        mock.patch("csf.run.image_seconds", return_value=per_image),
        started(tmp_path, *words) as run,
    ):
        run._announce()
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "GFLOP" in line]
    start = r"learning from images on the CPU: an epoch makes 200 updates of 426 GFLOP, "
    assert re.fullmatch(f"{start}{said}{FASTER}", line), line
    assert cost.call_args.args[1] == 256


def test_a_finished_run_does_not_measure_what_it_would_cost(tmp_path: Path) -> None:
    with (
        mock.patch("csf.run.update_cost") as update,
        mock.patch("csf.run.image_seconds") as image,
        started(tmp_path) as run,
        mock.patch.object(run, "resume"),
    ):
        run.counters.epoch = 1
        assert run.train() == 0
    assert not update.called
    assert not image.called


def test_a_run_on_a_gpu_says_what_slow_rendering_costs(tmp_path: Path) -> None:
    with mock.patch("csf.run.update_cost", return_value=Cost(1, 1)), started(tmp_path) as run:
        run.device = torch.device("cuda")
        with mock.patch("csf.run.image_seconds", return_value=1.1):
            said = run._cost(run.agent.spec)
        assert re.fullmatch(
            r"an epoch renders 56 images, about 62 seconds; an evaluation renders 336 images, about 6 minutes; "
            r"faster: env\.quality=fast for rendering, env\.renderer=warp",
            said,
        )
        with mock.patch("csf.run.image_seconds", return_value=1.0):
            assert run._cost(run.agent.spec) == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "about a second"), (90, "about 90 seconds"), (91, "about 2 minutes"), (5401, "about 1.5 hours")],
)
def test_durations(seconds: float, said: str) -> None:
    assert _about(seconds) == said


def test_the_time_of_an_image_leaves_out_the_first_ones() -> None:
    class Slow(Few):
        resets = 0

        def reset(self, **options: Any) -> Any:
            time.sleep(0.06 if self.resets else 0.3)
            self.resets += 1
            return super().reset(**options)

    assert image_seconds(Slow("image")) == pytest.approx(0.06 / 3, rel=0.5)  # type: ignore[arg-type]


def test_a_run_on_vectors_says_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["device=cpu", "threads=1", f"exp_dir={tmp_path}"]
    with mock.patch("csf.run.Run.train", return_value=0):
        assert run(configure("agent=csf", *words)) == 0
    assert "GFLOP" not in capsys.readouterr().err
