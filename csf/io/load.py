"""An agent, or what is known of it, from any file that training leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import checkpoint, policy
from csf.io.locate import find

FULL = Path(checkpoint.FULL).suffix


def load(cp_path: str | Path, device: torch.device | str = "cpu") -> Agent:
    """A trained agent, ready to act; no code in the file can run, and neither Hydra nor the environment is needed.

    The agent has `act(obs, skill)`, `sample_skills(n)`, `goal_skill(obs, goal)` and `spec`, what it knows of its
    environment. Observations are as the environment of this package gives them: normalized, where `spec.obs_mean` and
    `spec.obs_std` say so.

    Args:
        cp_path: a run's folder, a policy file, a full checkpoint, or a pattern: see `csf.io.locate.find`.
        device: where the agent computes.

    Raises:
        CheckpointError: no such file, a damaged or foreign one, or another format.
    """
    path = find(cp_path)
    if path.suffix != FULL:
        return policy.load(path).to(device)
    state = checkpoint.load(path)
    try:
        agent = policy.rebuild(state)
        agent.load_state_dict(state["parts"]["agent"]["modules"])
    except policy.MISFITS as error:
        raise CheckpointError(f"{path} does not fit this version: {str(error).splitlines()[0]}") from error
    return agent.eval().to(device)


def about(path: Path) -> dict[str, Any]:
    """What a policy file or a full checkpoint says of itself: epoch, env_steps, results, config, spec, versions.

    Raises:
        CheckpointError: as `load`.
    """
    state = policy.describe(path) if path.suffix != FULL else checkpoint.load(path)
    told = {key: value for key, value in state.items() if key not in ("parts", "rng")}
    try:
        told["config"]["agent"]["name"], told["config"]["env"]["name"]
    except (LookupError, TypeError) as error:
        raise CheckpointError(f"{path} does not say by which agent and on which environment it was made") from error
    return told
