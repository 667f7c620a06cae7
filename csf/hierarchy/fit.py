"""Whether an agent's skills can be used in given worlds."""

from __future__ import annotations

from csf.agents import Agent
from csf.types import Worlds


def check_fit(worlds: Worlds, agent: Agent) -> None:
    """Refuse worlds in which the agent would not see, or do, what it was trained with.

    A task says by `base` whose skills fit, and by `goal_dim` how many columns it adds to their observations; other
    worlds take skills of their own.

    Raises:
        ValueError: the agent has no skills, or was trained on other observations or actions.
    """
    spec, base, added = agent.spec, getattr(worlds, "base", None), int(getattr(worlds, "goal_dim", 0))
    if not agent.objective.cfg.skill_dim:
        raise ValueError(f"agent={agent.objective.cfg.name} has no skills that could be actions")
    if base not in (None, spec.id):
        raise ValueError(f"skills of environment {spec.id!r} do not fit; accepted here: those of {base!r}")
    first, *rest = worlds.single_observation_space.shape
    seen = (first - added, *rest)
    if spec.obs_shape != seen:
        raise ValueError(f"skills were trained on observations of shape {spec.obs_shape}; here they have {seen}")
    if spec.action_dim != worlds.single_action_space.shape[0] or spec.discrete:
        raise ValueError(f"skills were trained with {spec.action_dim} actions; here is {worlds.single_action_space}")
    for there, here in ((spec.obs_mean, worlds.obs_mean), (spec.obs_std, worlds.obs_std)):
        if there != (None if here is None else tuple(map(float, here[: first - added]))):
            raise ValueError(
                "skills were trained on observations normalized otherwise; set normalizer as their run did"
            )
