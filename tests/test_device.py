"""How many CPU threads PyTorch uses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from csf.core.device import usable_cores, use_threads


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_zero_leaves_what_omp_num_threads_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    use_threads(0)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("value", [None, ""])
def test_zero_is_one_thread_per_usable_core_otherwise(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5}, raising=False)
    use_threads(0)
    assert torch.get_num_threads() == 2


def test_a_number_is_used_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    use_threads(2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("cores", "used"), [(6, 6), (None, 1)])
def test_a_system_that_knows_no_affinity_uses_all_cores(
    cores: int | None, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert usable_cores() == used
