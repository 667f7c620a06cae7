"""Steps a batch of worlds with one skill per world; independent of the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from csf.core.device import one_thread
from csf.errors import ConfigError, SamplerError
from csf.evaluation.plots import skill_colors
from csf.hierarchy import choices, skills, visible
from csf.play.goals import Goals, why_off
from csf.play.skills import Repertoire
from csf.play.source import Source
from csf.types import obs_tensor
from csf.worlds import is_refusal

MOST = 32  # largest number of worlds
KEPT = 2000  # number of last steps that are kept in memory


class Session:
    """N worlds in which an agent acts, each with its own skill.

    Attributes:
        source: the agent and its worlds.
        repertoire: skills of the agent.
        deterministic: whether the policy's mode is taken instead of a sample; with a controller, of its policy.
        restarts: whether a new episode begins after the last step of an episode.
        worlds: the worlds.
        skill: [N, Z] skills that the user picked.
        used: [N, Z] skills of the last step, which differ from `skill` in worlds with a goal or a controller.
        goals: goals of the worlds.
        obs: current observations [N, *O].
        coord: current coordinates [N, C].
        phi: current representations [N, P]; None if the agent has none.
        target: [N, C] goals of a task, from its infos; None if there are none.
        joined: [N] bool, whether the last step continued the path of a world.
        time: number of steps since the last reset of all worlds.
        notice: the last event of the episode that the user should see; empty if there is none.
    """

    def __init__(self, source: Source, count: int, seed: int) -> None:
        """Create the worlds and start an episode with different skills.

        Raises:
            CsfError: the worlds cannot be created, or `count` is not accepted.
        """
        self.source, self.seed = source, seed
        self.repertoire = Repertoire(source.actor)
        self.deterministic, self.restarts, self.notice = True, True, ""
        torch.manual_seed(seed)
        self._open(count)
        self.skill = self.repertoire.spread(count)
        self.reset()

    def _open(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
            raise ConfigError(f"bodies is {count!r}; accepted: an integer of at least 1 and at most {MOST}")
        self.worlds = self.source.make(count)
        if self.worlds.model is None and self.worlds.coord_dim not in (1, 2):
            self.worlds.close()
            name = self.source.config["env"]["name"]
            raise ConfigError(f"env={name} cannot be displayed: it has neither a MuJoCo model nor 1 or 2 coordinates")
        self.goals = Goals(self.worlds, count)

    @property
    def count(self) -> int:
        """N, the number of worlds."""
        return self.worlds.num_envs

    @property
    def goals_off(self) -> str | None:
        """Why no goals can be set; None if they can."""
        return why_off(self.source.actor, self.worlds, self.source.controller is not None)

    @property
    def skills_off(self) -> str | None:
        """Why no skills can be picked; None if they can."""
        if self.source.controller is not None:
            return "the controller chooses the skills"
        return None if self.repertoire.dim else "this agent has no skills"

    @property
    def seconds_per_step(self) -> float:
        """Duration of a step at normal speed, in seconds."""
        return 1.0 / float(self.worlds.metadata.get("render_fps") or 20)

    @property
    def ended(self) -> bool:
        """Whether the episodes have reached their last step."""
        return bool(self._over.all()) or self.time >= self.worlds.max_steps

    def colors(self) -> np.ndarray:
        """Return the colors [N, 3] uint8 of the worlds, which are those of their skills in the CSF paper."""
        if not self.repertoire.dim:
            rows = skill_colors(np.eye(10, dtype=np.float32)[np.arange(self.count) % 10], one_hot=True)
        else:
            rows = skill_colors(self.used, self.repertoire.prior == "one_hot")
        return (255 * rows[:, :3]).round().astype(np.uint8)

    def resize(self, count: int) -> None:
        """Change the number of worlds; the skills are spread again and the goals removed.

        Raises:
            CsfError: as the constructor; the session is then unchanged.
        """
        old = self.worlds
        self._open(count)
        old.close()
        self.skill = self.repertoire.spread(count)
        self.reset()

    def open_epoch(self, epoch: int) -> None:
        """Continue with another checkpoint of the run, with the same skills and from the same initial states.

        Raises:
            CheckpointError: it cannot be used; the session is then unchanged.
        """
        self.source.open_epoch(epoch)
        self.repertoire = Repertoire(self.source.actor)
        self.reset(self.seed)

    def pick(self, ids: Sequence[int], values: Any) -> None:
        """Set the skill of some worlds, whose goals are removed.

        Raises:
            ConfigError: it is not a skill of this agent, or skills cannot be picked.
        """
        if self.skills_off:
            raise ConfigError(f"skills cannot be picked: {self.skills_off}")
        self._set(ids, np.tile(self.repertoire.checked(values), (len(ids), 1)))

    def spread(self) -> None:
        """Give all worlds different skills; see `Repertoire.spread`."""
        self._set(range(self.count), self.repertoire.spread(self.count))

    def sample(self, ids: Sequence[int]) -> None:
        """Sample skills of some worlds from the prior."""
        self._set(ids, self.repertoire.sample(len(ids)))

    def advance(self, ids: Sequence[int]) -> None:
        """Give some worlds the next skill; see `Repertoire.after`."""
        self._set(ids, np.stack([self.repertoire.after(self.skill[i]) for i in ids]))

    def _set(self, ids: Sequence[int], rows: np.ndarray) -> None:
        self.skill[list(ids)] = rows
        self.remove_goals(ids)

    def aim(self, ids: Sequence[int], goal: str | Sequence[float]) -> None:
        """Set the goal of some worlds: at every step they follow the skill that is inferred for it.

        Raises:
            ConfigError: the goal is not accepted, or goals cannot be set.
        """
        if self.goals_off:
            raise ConfigError(f"goals cannot be set: {self.goals_off}")
        self.goals.set(ids, goal, self.coord)
        self._infer()

    def remove_goals(self, ids: Sequence[int]) -> None:
        """Remove the goals of some worlds, which follow the skills that were picked for them again."""
        self.goals.clear(ids)
        self._infer()

    def _infer(self) -> None:
        """Use the picked skills, and in worlds with a goal those inferred from the current observations."""
        if self.source.controller is None:
            self.used = self.goals.skills(self.source.actor, self.obs, self.skill)

    def reset(self, seed: int | None = None) -> None:
        """Start new episodes in all worlds; goals are kept."""
        first = not hasattr(self, "obs")
        self.obs, infos = self.worlds.reset(seed=self.seed if first and seed is None else seed)
        self.time, self.notice = 0, ""
        self._age = np.zeros(self.count, np.int64)
        self._over = np.zeros(self.count, bool)
        self.used = self.skill.copy()
        self._observe(infos)
        self.joined = np.zeros(self.count, bool)
        self.goals.begin(range(self.count), self.coord)
        self._infer()

    def step(self) -> None:
        """Step all worlds once. A world that diverges starts a new episode, which `notice` reports.

        Raises:
            SamplerError: the simulation cannot continue.
        """
        with one_thread(self.source.device):
            self._choose()
            action = self._act()
        try:
            self.obs, _, terminated, truncated, infos = self.worlds.step(action)
        except Exception as error:
            if is_refusal(error):
                raise SamplerError(f"env={self.source.config['env']['name']}: {error}") from error
            raise
        self.time += 1
        self._age += 1
        self.joined = ~self._over
        self._over = terminated | truncated
        self._observe(infos)
        self.goals.moved(self.coord, KEPT)
        if (diverged := np.asarray(infos["diverged"])).any():
            self._restart(diverged)

    def _restart(self, diverged: np.ndarray) -> None:
        numbers = ", ".join(str(i + 1) for i in np.flatnonzero(diverged))
        self.notice = f"body {numbers}: the simulation diverged at step {self.time}, and a new episode was started"
        self.obs, infos = self.worlds.reset(options={"reset_mask": diverged})
        self._observe(infos)
        self._age[diverged], self._over[diverged], self.joined[diverged] = 0, False, False
        self.goals.begin(np.flatnonzero(diverged).tolist(), self.coord)

    def _choose(self) -> None:
        """Update the skills in use."""
        controller, source = self.source.controller, self.source
        if controller is None:
            self._infer()
            return
        due = self._age % source.hold == 0
        if due.any():
            seen = obs_tensor(self.obs, source.device)
            nothing = torch.zeros(self.count, controller.objective.cfg.skill_dim, device=source.device)
            action = controller.act(seen, nothing, self.deterministic).cpu().numpy()
            prior = self.repertoire.prior
            found = skills(choices(action, self.count, prior, self.repertoire.dim), prior)
            self.used = np.where(due[:, None], found, self.used)

    def _act(self) -> np.ndarray:
        source = self.source
        seen = obs_tensor(visible(self.obs, source.actor.spec), source.device)
        skill = torch.from_numpy(self.used).to(source.device)
        mode = self.deterministic or source.controller is not None
        return np.asarray(source.actor.act(seen, skill, mode).cpu().numpy())

    def _observe(self, infos: dict[str, Any]) -> None:
        self.coord = np.asarray(infos["coord"], np.float64)
        goal = infos.get("goal")
        self.target = None if goal is None else np.asarray(goal, np.float64)
        seen = obs_tensor(visible(self.obs, self.source.actor.spec), self.source.device)
        with torch.no_grad(), one_thread(self.source.device):
            phi = self.source.actor.objective.represent(seen)
        self.phi = None if phi is None else phi.cpu().numpy()

    def close(self) -> None:
        """Close the worlds."""
        self.worlds.close()
