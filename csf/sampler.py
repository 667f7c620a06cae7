"""Collection of complete episodes in a batch of worlds, with one policy call and one environment call per step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csf.core.device import one_thread
from csf.errors import SamplerError
from csf.types import EnvSpec, Episodes, ObsArray, Policy, Worlds, map_obs, obs_tensor
from csf.worlds import is_refusal

log = logging.getLogger(__name__)


class RolloutSampler:
    """Collects one episode per skill in N worlds.

    Every round of N episodes resets the worlds with seeds derived from (seed, number of rounds so far), so that this
    number is the only state that a checkpoint has to store.
    """

    def __init__(
        self, env: Worlds, spec: EnvSpec, seed: int, device: torch.device | str, terminal_at_limit: bool = False
    ) -> None:
        """Create the sampler, which closes the worlds in `close`.

        Args:
            env: N worlds.
            spec: description of the worlds.
            seed: base seed of all rounds.
            device: device of the policy.
            terminal_at_limit: whether a time limit counts as terminal, as in the released program.
        """
        self.env, self.spec, self.seed, self.device = env, spec, seed, torch.device(device)
        self.terminal_at_limit = terminal_at_limit
        self.rounds = 0

    @torch.no_grad()
    def collect(
        self, policy: Policy, skills: Tensor, mode: bool = False, seed: int | None = None, twins: bool = False
    ) -> Episodes:
        """Collect one episode per row of `skills` [n, Z], any n; some worlds may be unused in the last round.

        Args:
            policy: [N, *O], [N, Z] -> [N, A].
            skills: one row per episode, constant during the episode.
            mode: whether the policy returns its mode instead of a sample.
            seed: seeds the worlds instead of the sampler's own sequence, which it leaves unchanged.
            twins: whether worlds i and N / 2 + i have the same seed. All N worlds must be used, and N must be even.

        Raises:
            ValueError: with `twins`, n is not N, or N is odd.
            SamplerError: all worlds of a round diverged, or the environment rejected an action or cannot continue.
        """
        worlds = self.env.num_envs
        if twins and (len(skills) != worlds or worlds % 2):
            raise ValueError(f"there are {len(skills)} skills and {worlds} worlds; accepted with twins: equal and even")
        rounds = range(self.rounds, self.rounds + -(-len(skills) // worlds))
        if seed is None:
            self.rounds = rounds.stop
        else:
            rounds = range(len(rounds))
        entropy = self.seed if seed is None else seed
        parts = []
        with one_thread(self.device):
            for number, chunk in zip(rounds, skills.split(worlds), strict=True):
                words = np.random.SeedSequence((entropy, number)).generate_state(worlds)
                if twins:
                    words = np.tile(words[: worlds // 2], 2)
                parts.append(self._round(policy, chunk, mode, [int(word) >> 1 for word in words]))
        return Episodes(*(map_obs(lambda *rows: torch.cat(rows), *column) for column in zip(*parts, strict=True)))

    def _round(self, policy: Policy, skills: Tensor, mode: bool, seeds: list[int]) -> Episodes:
        """Collect up to N episodes at once."""
        n, worlds, steps = len(skills), self.env.num_envs, self.spec.max_steps
        skill = torch.cat([skills, skills[-1:].expand(worlds - n, -1)])  # unused worlds repeat the last skill
        rows = _Rows(worlds, steps, self.spec)
        obs, info = self._call_env(self.env.reset, seed=seeds)
        rows.start(obs, info)
        alive = np.ones(worlds, bool)
        lost = np.zeros(worlds, bool)
        for t in range(steps):
            action = policy(obs_tensor(obs, self.device), skill, mode).cpu().numpy()
            obs, reward, terminated, truncated, info = self._call_env(self.env.step, action)
            terminal = terminated | truncated if self.terminal_at_limit else terminated
            # A slice is faster than a mask, and in most steps all worlds are alive.
            rows.put(t, slice(None) if alive.all() else alive, action, obs, reward, terminal, info)
            over = terminated | truncated | info["diverged"]
            if not over.any():
                continue
            diverged = info["diverged"] & alive
            for world in np.flatnonzero(diverged[:n]):
                log.warning("world %d diverged at step %d; its episode is discarded", world, t)
            lost |= diverged
            alive &= ~over
            if not alive[:n].any():
                break
        if lost[:n].all():
            raise SamplerError(f"all {n} worlds of a round diverged; no episode is left")
        rows.length[lost] = rows.world_steps[lost] = 0
        return rows.episodes(n, skills)

    def _call_env(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except ValueError as error:
            if is_refusal(error):
                raise SamplerError(f"the environment {self.spec.id} failed: {error}") from error
            raise

    def full_state(self) -> dict[str, Any]:
        """The number of rounds; everything else is derived from the seed."""
        return {"rounds": self.rounds}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`."""
        self.rounds = state["rounds"]

    def close(self) -> None:
        """Close the worlds; idempotent, never raises."""
        try:
            self.env.close()
        except Exception as error:  # must not hide the error that ends the run
            log.debug("closing the worlds failed: %s", error)


class _Rows:
    """Preallocated arrays [N, T, ...] for one round, on the host."""

    def __init__(self, worlds: int, steps: int, spec: EnvSpec) -> None:
        self.obs: ObsArray = spec.build_obs(lambda shape, dtype: np.zeros((worlds, steps + 1, *shape), dtype))
        self.action = np.zeros((worlds, steps, spec.action_dim), np.float32)
        self.reward = np.zeros((worlds, steps), np.float32)
        self.terminal = np.zeros((worlds, steps), np.float32)
        self.coord = np.zeros((worlds, steps + 1, spec.coord_dim))
        self.length = np.zeros(worlds, np.int64)
        self.world_steps = np.zeros(worlds, np.int64)

    def start(self, obs: ObsArray, info: dict[str, Any]) -> None:
        self.put_obs(0, slice(None), obs)
        self.coord[:, 0] = info["coord"]

    def put_obs(self, t: int, alive: np.ndarray | slice, obs: ObsArray) -> None:
        def write(rows: np.ndarray, new: np.ndarray) -> None:
            rows[alive, t] = new[alive]

        map_obs(write, self.obs, obs)

    def put(
        self,
        t: int,
        alive: np.ndarray | slice,
        action: np.ndarray,
        obs: ObsArray,
        reward: np.ndarray,
        terminal: np.ndarray,
        info: dict[str, Any],
    ) -> None:
        self.put_obs(t + 1, alive, obs)
        self.action[alive, t] = action[alive]
        self.reward[alive, t], self.terminal[alive, t] = reward[alive], terminal[alive]
        self.coord[alive, t + 1] = info["coord"][alive]
        self.length[alive] = t + 1
        self.world_steps[alive] += info["world_steps"][alive] if "world_steps" in info else 1

    def episodes(self, n: int, skills: Tensor) -> Episodes:
        obs = map_obs(lambda rows: torch.from_numpy(rows[:n]), self.obs)
        action, reward, terminal = (torch.from_numpy(rows[:n]) for rows in (self.action, self.reward, self.terminal))
        length, coord, steps = (torch.from_numpy(rows[:n]) for rows in (self.length, self.coord, self.world_steps))
        return Episodes(obs, action, reward, terminal, skills.cpu(), length, coord, steps)
