"""Agents and transitions of Quadruped's size from random images, without an environment, for benchmarks."""

from __future__ import annotations

import torch

from csf.agents import Agent
from csf.config.compose import check
from csf.config.schema import Config
from csf.core.precision import Precision
from csf.replay import ReplayBuffer
from csf.types import Batch, EnvSpec, Episodes

SPEC = EnvSpec("quadruped", "", (64, 64, 9), "uint8", 12, False, 200, 2, (3.0, 1.0), 1.0, None, None, frames=3)


def config(*words: str) -> Config:
    """The paper's settings of CSF on Quadruped, with changes."""
    return check(["agent=csf", "env=quadruped", "task=pretrain", *words])


def make_agent(cfg: Config, precision: Precision, device: torch.device | str = "cpu") -> Agent:
    """An agent with the same initial values at every call."""
    torch.manual_seed(0)
    agent = Agent(cfg.agent, cfg.backbone, SPEC, cfg.encoder).to(device)
    agent.use_precision(precision)
    return agent


def random_episodes(agent: Agent, count: int, steps: int = SPEC.max_steps) -> Episodes:
    """Whole episodes of noise; every image is in three stacks, as those of worlds are."""
    height, width, channels = SPEC.obs_shape
    frames = torch.randint(256, (count, steps + SPEC.frames, height, width, channels // SPEC.frames), dtype=torch.uint8)
    frames[:, : SPEC.frames] = frames[:, :1]  # the first stack repeats the first image
    obs = torch.cat([frames[:, i : i + steps + 1] for i in range(SPEC.frames)], -1)
    nothing, skill = torch.zeros(count, steps), agent.objective.sample_skills(count).cpu()
    action = torch.rand(count, steps, SPEC.action_dim) * 2 - 1
    coord = torch.zeros(count, steps + 1, SPEC.coord_dim)
    return Episodes(obs, action, nothing, nothing, skill, torch.full((count,), steps), coord)


def random_batch(agent: Agent, size: int) -> Batch:
    """A minibatch of noise on the agent's device."""
    rows = random_episodes(agent, size, 1).transitions()
    return Batch(*(field.to(agent.objective.device()) for field in rows))


def fill(replay: ReplayBuffer, episodes: Episodes) -> None:
    """Add the same episodes until the buffer is full."""
    while len(replay) < replay.capacity:
        replay.add(episodes)
