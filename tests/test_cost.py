"""What a run on the CPU says about the cost of learning from images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import IMAGE, configure, make
from test_images import Pictures

from csf.config.compose import check
from csf.learners.cost import Cost, update_cost
from csf.run import run

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


@pytest.mark.parametrize(
    ("words", "seconds", "said"),
    [
        ([], 1.5, r"200 updates of 426 GFLOP, about 5 minutes; faster: device=cuda, encoder=shared, fewer "),
        (["encoder=shared"], 0.1, r"200 updates of 426 GFLOP, about 20 seconds; faster: device=cuda, fewer "),
    ],
)
def test_a_run_on_the_cpu_says_what_an_epoch_costs(
    words: list[str], seconds: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["agent.hidden=[8]", "agent.backbone.hidden=[8]", "encoder.channels=[2,2]", f"exp_dir={tmp_path}"]
    cfg = check(["env=quadruped", *small, *words, "device=cpu", "threads=1", "task.epochs=1", "task.replay_size=10000"])
    with (
        mock.patch("csf.run.update_cost", return_value=Cost(426e9, seconds)) as cost,
        mock.patch("csf.run.worlds_of", side_effect=lambda *_: Few("image")),
        mock.patch("csf.run.Run.train", return_value=0),
    ):
        assert run(cfg) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "GFLOP" in line]
    assert re.fullmatch(
        rf"learning from images on the CPU: an epoch makes {said}encoder\.channels, env\.quality=fast for rendering",
        line,
    )
    assert cost.call_args.args[1] == 256


def test_a_run_on_vectors_says_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["device=cpu", "threads=1", f"exp_dir={tmp_path}"]
    with mock.patch("csf.run.Run.train", return_value=0):
        assert run(configure("agent=csf", *words)) == 0
    assert "GFLOP" not in capsys.readouterr().err
