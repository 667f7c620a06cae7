"""A video of an agent's skills, in worlds made for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from csf.agents import Agent
from csf.controllers import worlds_of
from csf.evaluation import video, webm
from csf.hierarchy import SkillVectorEnv
from csf.sampling.rollout import RolloutSampler

CELL, SMALL_CELL = 200, 100  # pixels
FEW = 16  # skills that are shown large


def film(path: Path, agent: Agent, config: Mapping[str, Any], folder: Path, seed: int) -> np.ndarray:
    """Write a WebM of one deterministic episode of every skill that `video.video_skills` names; returns its frames.

    Args:
        path: of the file, .webm.
        agent: who acts; of a controller over skills, every step that a skill is held is to be seen.
        config: of the agent's run, plain.
        folder: of the run, where a controller's copy of its skills is.
        seed: of the worlds and of skills that are drawn.

    Raises:
        CsfError: the environment takes no pictures here, or the file cannot be written; one line says why.
    """
    skills, device = video.video_skills(agent, seed), agent.objective.device()
    filmed = {**config, "env": {**config["env"], "render_mode": "rgb_array"}}
    worlds = worlds_of(filmed, folder, len(skills), device)
    sampler = RolloutSampler(worlds, agent.spec, seed, device)
    holder = worlds if isinstance(worlds, SkillVectorEnv) else None
    height = CELL if len(skills) <= FEW else SMALL_CELL
    try:
        frames = video.record(agent, sampler, worlds.render, skills, seed, height, holder)
        webm.write(path, frames, worlds.metadata["render_fps"])
        return np.stack(frames)
    finally:
        sampler.close()
