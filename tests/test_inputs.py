"""What callers of an agent may hand over: tensors and arrays of any numbers, or one line that says what is accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SPEC, make
from torch import Tensor

from csf.core.inputs import rows

OBS, SKILL = torch.randn(4, 3), torch.randn(4, 2)
CONVERTED: list[Callable[[Tensor], Any]] = [
    lambda tensor: tensor.numpy(),
    lambda tensor: tensor.double(),
    lambda tensor: tensor.double().numpy(),
    lambda tensor: np.asfortranarray(tensor.double().numpy()),
    lambda tensor: np.flip(np.flip(tensor.numpy(), 0), 0),  # negative strides
]


@pytest.mark.parametrize("convert", CONVERTED)
def test_arrays_and_double_precision_are_converted(convert: Callable[[Tensor], Any]) -> None:
    agent = make("metra")
    want = agent.act(OBS, SKILL, True)
    for obs, skill in ((convert(OBS), SKILL), (OBS, convert(SKILL)), (convert(OBS), convert(SKILL))):
        assert torch.equal(agent.act(obs, skill, True), want)
    skill = agent.goal_skill(OBS, OBS + 1)
    assert skill is not None
    found = agent.goal_skill(convert(OBS), convert(OBS + 1))
    assert found is not None
    assert torch.equal(found, skill)


def test_whole_numbers_are_converted() -> None:
    agent = make("csf")
    obs = np.arange(6).reshape(2, 3)
    want = agent.act(torch.from_numpy(obs).float(), torch.ones(2, 2), True)
    assert torch.equal(agent.act(obs, np.ones((2, 2), int), True), want)


def test_a_tensor_that_fits_is_handed_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    agent: Any = make("csf")
    seen: list[Any] = []

    def noted(*args: Any) -> Any:
        seen.extend(args)
        return args[0]

    monkeypatch.setattr(agent.backbone, "act", noted)
    agent.act(OBS, SKILL)
    assert seen[0] is OBS
    assert seen[1] is SKILL


ACCEPTED = r"accepted: a tensor or a NumPy array of float32 \[N, 3\]"


@pytest.mark.parametrize(
    ("obs", "kind", "message"),
    [
        ([[0.0, 0.0, 0.0]], TypeError, "obs is of type list; " + ACCEPTED),
        (None, TypeError, "obs is of type NoneType; " + ACCEPTED),
        (np.array([["a", "b", "c"]]), TypeError, "obs is of <U1; " + ACCEPTED),
        (np.array([[{}, {}, {}]]), TypeError, "obs is of object; " + ACCEPTED),
        (torch.zeros(1, 3, dtype=torch.complex64), TypeError, "obs is of complex64; " + ACCEPTED),
        (np.zeros(3), ValueError, r"obs has shape \[3\]; " + ACCEPTED),
        (np.zeros((4, 5)), ValueError, r"obs has shape \[4, 5\]; " + ACCEPTED),
    ],
)
def test_other_observations_are_refused_in_one_line(obs: Any, kind: type[Exception], message: str) -> None:
    agent = make("csf")
    with pytest.raises(kind, match=f"^{message}$"):
        agent.act(obs, SKILL)
    with pytest.raises(kind, match=f"^{message}$"):
        agent.goal_skill(obs, OBS)


def test_a_skill_and_a_goal_are_named() -> None:
    agent: Any = make("csf")
    with pytest.raises(ValueError, match=r"^skill has shape \[4, 3\]; accepted: .* of float32 \[N, 2\]$"):
        agent.act(OBS, np.zeros((4, 3)))
    with pytest.raises(TypeError, match=r"^goal is of type str; "):
        agent.goal_skill(OBS, "home")


def test_pictures_are_not_made_of_fractions() -> None:
    device = torch.device("cpu")
    assert rows(np.full((1, 2, 2, 3), 255, np.uint8), "obs", (2, 2, 3), torch.uint8, device).max() == 255
    with pytest.raises(TypeError, match=r"^obs is of float32; accepted: .* of uint8 \[N, 2, 2, 3\]$"):
        rows(np.ones((1, 2, 2, 3), np.float32), "obs", (2, 2, 3), torch.uint8, device)


@pytest.mark.parametrize("n", [2.0, "3", None, -1, True])
def test_a_number_of_skills_is_a_whole_number(n: Any) -> None:
    with pytest.raises(ValueError, match=rf"^n is {n!r}; accepted: an integer of at least 0$"):
        make("csf").sample_skills(n)


@pytest.mark.parametrize("n", [0, 3, np.int64(3), torch.tensor(3)])
def test_counts_of_other_libraries_are_numbers(n: Any) -> None:
    assert make("csf").sample_skills(n).shape == (int(n), 2)


def test_an_agent_without_skills_takes_arrays_too() -> None:
    assert make("task").act(OBS.numpy(), np.zeros((4, 0)), True).shape == (4, SPEC.action_dim)
