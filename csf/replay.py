"""Uniform replay as a ring of transitions on the agent's device, in which every observation is stored once."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from csf.types import Batch, EnvSpec, Episodes


class ReplayBuffer:
    """The newest `capacity` transitions, kept as whole episodes but for the oldest, whose head may be gone.

    Row i of the ring holds obs, action, reward and terminal of one transition. Its next observation is that of row
    i + 1, but for the last step of an episode; what an episode has once, its final observation and its skill, lies in
    a smaller ring of `slots`, which grows if episodes turn out to be short.
    """

    def __init__(self, capacity: int, spec: EnvSpec, skill_dim: int, device: torch.device | str) -> None:
        """Allocate room for `capacity` transitions."""
        self.capacity, self.spec = capacity, spec
        self.slots = capacity // spec.max_steps + 2
        dtype = getattr(torch, spec.obs_dtype)
        # Final observations follow the ring in one tensor, so that one gather finds every next observation.
        self.obs = torch.zeros(capacity + self.slots, *spec.obs_shape, dtype=dtype, device=device)
        self.skill = torch.zeros(self.slots, skill_dim, device=device)
        self.action = torch.zeros(capacity, spec.action_dim, device=device)
        self.reward = torch.zeros(capacity, device=device)
        self.terminal = torch.zeros(capacity, device=device)
        self.slot = torch.zeros(capacity, dtype=torch.int32, device=device)  # of the row's episode
        self.last = torch.zeros(capacity, dtype=torch.bool, device=device)  # the row ends its episode
        self.cursor = self.size = 0
        self.first_slot = 0
        self.live: deque[int] = deque()  # rows left of each stored episode, oldest first

    def __len__(self) -> int:
        return self.size

    def add(self, episodes: Episodes) -> None:
        """Append the real steps of N episodes, overwriting the oldest transitions.

        Raises:
            ValueError: the episodes have more steps than the buffer has room.
        """
        rows = int(episodes.length.sum())
        if rows > self.capacity:
            raise ValueError(f"{rows} transitions do not fit in a replay buffer of {self.capacity}")
        keep = episodes.length > 0
        length = episodes.length[keep]
        self._free(self.size + rows - self.capacity)
        self._grow(len(self.live) + len(length))
        device = self.obs.device
        slot = (self.first_slot + len(self.live) + torch.arange(len(length))) % self.slots
        final = episodes.obs[keep, length]
        self.obs[self.capacity + slot.to(device)] = final.to(self.obs)
        self.skill[slot.to(device)] = episodes.skill[keep].to(self.skill)

        batch = episodes.transitions()
        index = ((self.cursor + torch.arange(rows)) % self.capacity).to(device)
        self.obs[index] = batch.obs.to(self.obs)
        self.action[index] = batch.action.to(self.action)
        self.reward[index] = batch.reward.to(self.reward)
        self.terminal[index] = batch.terminal.to(self.terminal)
        self.slot[index] = slot.repeat_interleave(length).to(self.slot)
        last = torch.zeros(rows, dtype=torch.bool)
        last[length.cumsum(0) - 1] = True
        self.last[index] = last.to(device)

        self.live.extend(length.tolist())
        self.cursor = (self.cursor + rows) % self.capacity
        self.size = min(self.size + rows, self.capacity)

    def sample_index(self, batch_size: int) -> Tensor:
        """Rows drawn uniformly with replacement, [batch_size] int64."""
        if not self.size:
            raise ValueError("the replay buffer is empty")
        return torch.randint(self.size, (batch_size,), device=self.obs.device)

    def gather(self, index: Tensor) -> Batch:
        """The transitions of rows [B]; copies, every field [B, ...]."""
        slot = self.slot[index]
        following = torch.where(self.last[index], self.capacity + slot, (index + 1) % self.capacity)
        return Batch(
            self.obs[index],
            self.action[index],
            self.obs[following],
            self.reward[index],
            self.terminal[index],
            self.skill[slot],
        )

    def sample(self, batch_size: int) -> Batch:
        """Transitions drawn uniformly with replacement, every field [batch_size, ...]."""
        return self.gather(self.sample_index(batch_size))

    def full_state(self) -> dict[str, Any]:
        """The filled part of every ring, and the counters."""
        used = slice(0, self.size)  # rows fill in order, so until the ring is full the rest is empty
        live = self._live_slots()
        return {
            "capacity": self.capacity,
            "slots": self.slots,
            "rows": {name: getattr(self, name)[used].clone() for name in ROWS},
            "final": self.obs[self.capacity + live].clone(),
            "skill": self.skill[live].clone(),
            "live": torch.tensor(self.live, dtype=torch.int32),
            "counters": {"cursor": self.cursor, "size": self.size, "first_slot": self.first_slot},
        }

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Take over what `full_state` returned.

        Raises:
            ValueError: the state is of a buffer of another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(f"a replay buffer of {state['capacity']} does not fit in one of {self.capacity}")
        self.live = deque()
        self._resize(state["slots"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        for name, rows in state["rows"].items():
            getattr(self, name)[: self.size] = rows.to(self.obs.device)
        self.live = deque(state["live"].tolist())
        live = self._live_slots()
        self.obs[self.capacity + live] = state["final"].to(self.obs.device)
        self.skill[live] = state["skill"].to(self.obs.device)

    def _live_slots(self) -> Tensor:
        """Slots of the stored episodes, oldest first."""
        order = torch.arange(len(self.live), device=self.obs.device)
        return (self.first_slot + order) % self.slots

    def _free(self, rows: int) -> None:
        """Forget the oldest `rows` transitions, and the slots of episodes of which none is left."""
        while rows > 0:
            gone = min(rows, self.live[0])
            self.live[0] -= gone
            rows -= gone
            if not self.live[0]:
                self.live.popleft()
                self.first_slot = (self.first_slot + 1) % self.slots

    def _grow(self, needed: int) -> None:
        """Make room for `needed` live episodes, at least doubling."""
        if needed > self.slots:
            self._resize(max(needed, 2 * self.slots))

    def _resize(self, slots: int) -> None:
        """Have `slots` of them; live ones move to the front."""
        live = self._live_slots()
        obs = self.obs.new_zeros(self.capacity + slots, *self.obs.shape[1:])
        obs[: self.capacity] = self.obs[: self.capacity]
        obs[self.capacity : self.capacity + len(live)] = self.obs[self.capacity + live]
        skill = self.skill.new_zeros(slots, self.skill.shape[1])
        skill[: len(live)] = self.skill[live]
        self.slot = (self.slot - self.first_slot) % self.slots
        self.obs, self.skill, self.slots, self.first_slot = obs, skill, slots, 0


ROWS = ("obs", "action", "reward", "terminal", "slot", "last")
