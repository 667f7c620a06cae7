"""Opens what is played: an agent, its checkpoints, and worlds that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from csf.agents import Agent
from csf.errors import CheckpointError, ConfigError, CsfError
from csf.hierarchy import check_fit
from csf.io import checkpoint
from csf.io.load import open_newest, read, run_of
from csf.pretrained import Skills, skills_of
from csf.types import Worlds
from csf.worlds import OBSERVED, check_same, describe, make_worlds


class Posed(Worlds, Protocol):
    """Worlds whose states can be displayed."""

    model: Any  # MuJoCo model; None if there is none

    def poses(self) -> np.ndarray:
        """Return the joint positions [N, nq]."""
        ...


class Source:
    """An agent with its worlds and checkpoints.

    Attributes:
        actor: agent that acts in the worlds. In a controller's run, these are the frozen skills.
        controller: agent that chooses the skills of `actor`; None if the user chooses them.
        config: plain configuration of the run.
        path: file of the agent.
        epoch: epoch of the agent; None if its file does not contain it.
    """

    def __init__(self, cp_path: str, device: torch.device, threads: int) -> None:
        """Load the agent that `cp_path` names.

        Args:
            cp_path: see `csf.io.load.find`.
            device: device of the networks.
            threads: number of threads that step the worlds; 0: one per usable core.

        Raises:
            CsfError: there is no such checkpoint, or it cannot be used.
        """
        self.device, self.threads = device, threads
        self.path, about, agent = open_newest(cp_path, device)
        self.config: Mapping[str, Any] = about["config"]
        self.skills: Skills | None = skills_of(self.config, run_of(self.path))
        if self.skills is not None:
            self.skills.agent.to(device)
        self._use(about, agent)

    def _use(self, about: Mapping[str, Any], agent: Agent) -> None:
        epoch = about.get("epoch")
        self.epoch = None if epoch is None else int(epoch)
        self.actor = agent if self.skills is None else self.skills.agent
        self.controller = None if self.skills is None else agent

    @property
    def hold(self) -> int:
        """Number of world steps for which a controller holds a skill."""
        return int(self.config["hold"]) if self.controller else 1

    @property
    def title(self) -> str:
        """Text that names method and environment."""
        method, env = self.config["agent"]["name"], self.config["env"]["name"]
        return f"controller of {self.config['skills']} on {env}" if self.controller else f"{method} on {env}"

    def kept(self) -> dict[int, Path]:
        """Return the checkpoint files of the run by epoch, oldest first; policy files are preferred."""
        full = checkpoint.found(self.path.parent, checkpoint.FULL)
        found = full | checkpoint.found(self.path.parent, checkpoint.POLICY)
        return dict(sorted(found.items()))

    def open_epoch(self, epoch: int) -> None:
        """Replace the agent by that of another checkpoint of the run.

        Raises:
            CheckpointError: there is no such checkpoint, or it has other observations, actions or skills.
        """
        kept = self.kept()
        if epoch not in kept:
            raise CheckpointError(f"epoch {epoch} has no checkpoint; accepted: {', '.join(map(str, kept)) or 'none'}")
        about, agent = read(kept[epoch], self.device)
        old = self.controller or self.actor
        if (agent.spec, agent.objective.cfg.skill_dim) != (old.spec, old.objective.cfg.skill_dim):
            raise CheckpointError(f"{kept[epoch]} has other observations, actions or skills than {self.path}")
        self.path = kept[epoch]
        self._use(about, agent)

    def make(self, count: int) -> Posed:
        """Create N worlds.

        Raises:
            CheckpointError: the agent was trained with other observations or actions.
        ConfigError: the environment or a setting is not accepted, or the skills do not fit the environment.
            MissingDependency: the environment needs a package that is not installed.
        """
        env = dict(self.config["env"])
        if "threads" in env:
            env["threads"] = self.threads
        worlds = cast(Posed, make_worlds(env, count))
        try:
            self._check(worlds)
        except CsfError:
            worlds.close()
            raise
        return worlds

    def _check(self, worlds: Posed) -> None:
        here = describe(worlds, str(self.config["env"]["name"]))
        if self.controller is None:
            check_same(self.actor.spec, here)
            return
        check_same(self.controller.spec, here, OBSERVED)
        try:
            check_fit(worlds, self.actor)
        except ValueError as error:
            raise ConfigError(f"{self.config['cp_path']}: {error}") from error
