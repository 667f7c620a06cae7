"""Learners with and without recorded steps, and the same episodes for both, on any device."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from conftest import BOTH, IMAGE, NAMES, SPEC, make, observe
from tape import record
from torch import Tensor

from csf.agents import Agent
from csf.learners import EpochBudget, Learner, learners
from csf.learners.captured import CapturedSteps
from csf.types import Episodes

DISCRETE = {"spec": dataclasses.replace(SPEC, discrete=True)}
# Methods with their yaml's backbone, and every other backbone with a method that runs on it.
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    **{name: ((name,), {}) for name in NAMES},
    "sac": (("csf", "agent/backbone=sac"), {}),
    "discrete_sac": (("task", "agent/backbone=discrete_sac"), DISCRETE),
    "pets": (("metra", "agent/backbone=pets", "agent.backbone.candidates=9", "agent.backbone.horizon=3"), {}),
    "ppo": (("metra", "agent/backbone=ppo"), {}),
    "ppo on one-hot actions": (("task", "agent/backbone=ppo"), DISCRETE),
    "images": (("csf", "encoder.channels=[2,3]"), {"spec": IMAGE}),
    "shared encoder": (("metra", "encoder=shared", "encoder.channels=[2,3]"), {"spec": BOTH}),
}
Rng = list[Tensor]
BUDGET = EpochBudget(episodes_per_epoch=3, updates_per_epoch=6, batch_size=16, replay_size=100, min_replay_size=1)
RNG: dict[Learner, Rng] = {}  # each learner's random states, as if it were alone in its process


def build(case: str, on_graph: bool, device: str = "cpu") -> Learner:
    """A learner; with `on_graph`, steps and acting are recorded and replayed: on a tape, or on CUDA as graphs."""
    torch.manual_seed(0)
    words, settings = CASES[case]
    agent = make(*words, **settings).to(device)
    learner = learners[agent.backbone.learner](agent, BUDGET, device)
    if hasattr(learner, "rollouts"):
        learner.rollouts.stays = True
    if on_graph and device == "cpu":
        learner.make_steps = CapturedSteps(agent, record)
        agent.capture(record)
    elif on_graph:
        learner.capture()
        agent.capture()
    RNG[learner] = get_rng(device)
    return learner


def get_rng(device: str | torch.device) -> Rng:
    """Random states of the CPU and of a CUDA device."""
    device = torch.device(device)
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_rng(states: Rng) -> None:
    """Put them back; one that is not there stays as it is."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


def collected(agent: Agent, seed: int, lengths: tuple[int, ...] = (20, 20, 7)) -> Episodes:
    """Episodes of noise, the same for the same seed whatever was drawn before."""
    n, steps = len(lengths), SPEC.max_steps
    device = agent.objective.device()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        skill = agent.objective.sample_skills(n).cpu()
        action = torch.rand(n, steps, SPEC.action_dim) * 2 - 1
        if agent.spec.discrete:
            action = torch.nn.functional.one_hot(action.argmax(-1), SPEC.action_dim).float()
        obs, reward = observe(agent.spec, n, steps + 1), torch.randn(n, steps)
    coord = torch.zeros(n, steps + 1, SPEC.coord_dim)
    return Episodes(obs, action, reward, torch.zeros(n, steps), skill, torch.tensor(lengths), coord)


def learn(learner: Learner, epochs: range) -> list[dict[str, float]]:
    """The metrics of epochs whose episodes follow from the number alone; lengths vary, so that sizes do."""
    set_rng(RNG[learner])
    found = [learner.learn(collected(learner.agent, epoch, (20, 20 - epoch, 7 + epoch))) for epoch in epochs]
    RNG[learner] = get_rng(learner.device)
    return found


def state(learner: Learner) -> dict[str, Any]:
    parts = {name: part.full_state() for name, part in learner.parts().items()}
    return {"agent": learner.agent.full_state(), **parts, "rng": RNG[learner]}
