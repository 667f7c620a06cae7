"""A video of an agent's skills, in worlds made for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csf.agents import Agent
from csf.evaluation import video, webm
from csf.sampling.rollout import RolloutSampler
from csf.types import EnvSpec
from csf.worlds import make_worlds

CELL, SMALL_CELL = 200, 100  # pixels
FEW = 16  # skills that are shown large


def film(path: Path, agent: Agent, spec: EnvSpec, env: Mapping[str, Any], seed: int) -> None:
    """Write a WebM of one deterministic episode of every skill that `video.video_skills` names.

    Args:
        path: of the file, .webm.
        agent: who acts.
        spec: of the environment.
        env: the section env of a configuration.
        seed: of the worlds and of skills that are drawn.

    Raises:
        CsfError: the environment takes no pictures here, or the file cannot be written; one line says why.
    """
    skills = video.video_skills(agent, seed)
    worlds = make_worlds({**env, "render_mode": "rgb_array"}, len(skills))
    sampler = RolloutSampler(worlds, spec, seed, agent.objective.device())
    try:
        frames = video.record(agent, sampler, worlds.render, skills, seed, CELL if len(skills) <= FEW else SMALL_CELL)
        webm.write(path, frames, worlds.metadata["render_fps"])
    finally:
        sampler.close()
