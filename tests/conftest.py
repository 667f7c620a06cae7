"""What every test may use: the repository's root, the methods' names, agents built from their own yaml."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from csf.agents import Agent
from csf.config.compose import check
from csf.config.schema import Config
from csf.types import Batch, EnvSpec, SomeObs

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "configs/agent").glob("*.yaml"))
SPEC = EnvSpec("test", "0", (3,), "float32", 2, False, 20, 2, (0.3,), 0.25, None, None)
IMAGE = dataclasses.replace(SPEC, obs_shape=(64, 64, 9), obs_dtype="uint8")
BOTH = dataclasses.replace(IMAGE, vector_dim=3)
SMALL = ("agent.hidden=[16,16]", "agent.backbone.hidden=[16,16]")


def pytest_configure(config: pytest.Config) -> None:
    """Register markers; one thread, since a test's products are small and tests run side by side."""
    config.addinivalue_line("markers", "slow: trains or compiles; many seconds")
    config.addinivalue_line("markers", "long: takes minutes; run only by -m long, or by its name")
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that take long, unless -m speaks of them or they are named as file::test."""
    if "long" in config.option.markexpr or any("::" in word for word in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def configure(*overrides: str) -> Config:
    """A checked configuration."""
    return check(["env=point", *overrides])


def make(name: str, *overrides: str, spec: EnvSpec = SPEC) -> Agent:
    """A small agent of a method."""
    cfg = configure(f"agent={name}", *SMALL, *overrides)
    return Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)


def observe(spec: EnvSpec, *lead: int) -> SomeObs:
    """Random observations [*lead, *O]."""

    def rows(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        whole = (*lead, *shape)
        return torch.randn(whole) if dtype == "float32" else torch.randint(256, whole, dtype=torch.uint8)

    return spec.build_obs(rows)


def batch(agent: Agent, size: int = 32) -> Batch:
    """A random minibatch that fits the agent's environment."""
    return Batch(
        observe(agent.spec, size),
        torch.rand(size, agent.spec.action_dim) * 2 - 1,
        observe(agent.spec, size),
        torch.randn(size),
        (torch.rand(size) < 0.1).float(),
        agent.objective.sample_skills(size),
    )
