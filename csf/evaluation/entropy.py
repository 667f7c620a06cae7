"""Entropy of the visited states, the measure of coverage in environments without coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from csf.mi.entropy import neighbor_entropy
from csf.types import EnvSpec, Episodes, Policy, Sampler, SomeObs

NEIGHBORS = 3
STATES = 2_000  # number of states of an estimate, sampled from those visited; fixed, because the bias depends on it


class StateEntropy:
    """Entropy of visited states, in units of the standard deviations that uniformly random actions give.

    These units are the same for every agent with the same seed, unlike the standard deviations of the agent's own
    states, which would hide how far its skills go. Entries that random actions leave constant are not counted.
    """

    def __init__(self, seed: int) -> None:
        """Every estimate with the same seed has the same random actions and samples states in the same way."""
        self.seed = seed
        self._scale: Tensor | None = None

    def __call__(self, sampler: Sampler, episodes: Episodes) -> dict[str, float]:
        """Return `eval/state_entropy` in nats; empty if there are coordinates, images, or too few states."""
        if sampler.spec.coord_dim or sampler.spec.has_image:
            return {}
        states = self.scaled(sampler, episodes)
        if len(states) <= NEIGHBORS or not states.shape[1]:
            return {}
        return {"eval/state_entropy": neighbor_entropy(states, NEIGHBORS).item()}

    def scaled(self, sampler: Sampler, episodes: Episodes) -> Tensor:
        """A sample of at most `STATES` visited states [M, D] float64 in these units, without the constant entries.

        The observations must be vectors.
        """
        if self._scale is None:
            policy = random_policy(sampler.spec, self.seed)
            random = sampler.collect(policy, episodes.skill, False, self.seed)
            self._scale = _states(random).std(0, correction=0)
        moving = self._scale > 1e-6
        states = _states(episodes)
        order = torch.randperm(len(states), generator=torch.Generator().manual_seed(self.seed))
        return states[order[:STATES]][:, moving] / self._scale[moving]


def _states(episodes: Episodes) -> Tensor:
    """Vector observations before every step, [sum(length), O] float64."""
    before = episodes.before()
    assert isinstance(before, Tensor)
    return before.double()


def random_policy(spec: EnvSpec, seed: int) -> Policy:
    """Return a policy with uniform actions [N, A], in [-1, 1] or one-hot, that ignores observation and skill."""
    generator = torch.Generator().manual_seed(seed)  # of its own: the caller's random numbers stay as they are

    def act(obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        return spec.random_actions(len(skill), generator=generator)

    return act
