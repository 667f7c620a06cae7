"""Uniform replay buffer: a ring of transitions on the agent's device that stores every observation once."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from csf.types import Batch, EnvSpec, Episodes, Obs, SomeObs, map_obs

WIDE = 2**62  # range of draws before the modulo; its bias is negligible for any buffer that fits into memory


def random_rows(size: int, count: Tensor, n: int) -> Tensor:
    """Sample row indices below `size` uniformly with replacement, [n] int64, on the device of `count` [].

    `count` holds `size` on the device, where a CUDA graph reads its current value; it is the bound except on the CPU.
    """
    return torch.randint(size, (n,)) if count.device.type == "cpu" else rows_below(count, n)


def rows_below(count: Tensor, n: int) -> Tensor:
    """Sample as `random_rows` does, with a bound [] that is read on the device."""
    return torch.randint(WIDE, (n,), device=count.device) % count


class ReplayBuffer:
    """Holds the newest `capacity` transitions; the first steps of the oldest episode may have been overwritten.

    Row i of the ring holds obs, action, reward and terminal of one transition. Its next observation is the observation
    of row i + 1, except for the last step of an episode. The final observation and the skill of each episode are stored
    in a smaller ring of `slots`, which grows if episodes are short.

    Attributes:
        layout: number of times that tensors were replaced; while it is unchanged, `gather` reads the same memory.
        count: number of transitions, [] int64 on the device.
    """

    def __init__(self, capacity: int, spec: EnvSpec, skill_dim: int, device: torch.device | str) -> None:
        """Allocate memory for `capacity` transitions."""
        self.capacity, self.spec, self.device = capacity, spec, torch.device(device)
        self.slots = slots = capacity // spec.max_steps + 2

        def rows(shape: tuple[int, ...], dtype: str) -> Tensor:
            return torch.zeros(capacity + slots, *shape, dtype=getattr(torch, dtype), device=device)

        # Final observations follow the ring in the same tensor, so that one gather reads all next observations.
        self.obs: SomeObs = spec.build_obs(rows)
        self.skill = torch.zeros(self.slots, skill_dim, device=device)
        self.action = torch.zeros(capacity, spec.action_dim, device=device)
        self.reward = torch.zeros(capacity, device=device)
        self.terminal = torch.zeros(capacity, device=device)
        self.slot = torch.zeros(capacity, dtype=torch.int32, device=device)  # slot of the row's episode
        self.last = torch.zeros(capacity, dtype=torch.bool, device=device)  # whether the row ends its episode
        self.cursor = self.size = self.layout = 0
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        self.first_slot = 0
        self.live: deque[int] = deque()  # number of remaining rows of each stored episode, oldest first

    def __len__(self) -> int:
        return self.size

    def add(self, episodes: Episodes) -> None:
        """Append the real steps of N episodes, overwriting the oldest transitions.

        Raises:
            ValueError: the episodes have more steps than the capacity.
        """
        rows = int(episodes.length.sum())
        if rows > self.capacity:
            raise ValueError(f"{rows} transitions do not fit in a replay buffer of {self.capacity}")
        keep = episodes.length > 0
        length = episodes.length[keep]
        self._free(self.size + rows - self.capacity)
        self._grow(len(self.live) + len(length))
        device = self.device
        slot = (self.first_slot + len(self.live) + torch.arange(len(length))) % self.slots
        self._put_obs(self.capacity + slot.to(device), map_obs(lambda rows: rows[keep, length], episodes.obs))
        self.skill[slot.to(device)] = episodes.skill[keep].to(self.skill)

        index, real = ((self.cursor + torch.arange(rows)) % self.capacity).to(device), episodes.steps()
        self._put_obs(index, episodes.before())
        self.action[index] = episodes.action[real].to(self.action)
        self.reward[index] = episodes.reward[real].to(self.reward)
        self.terminal[index] = episodes.terminal[real].to(self.terminal)
        self.slot[index] = slot.repeat_interleave(length).to(self.slot)
        last = torch.zeros(rows, dtype=torch.bool)
        last[length.cumsum(0) - 1] = True
        self.last[index] = last.to(device)

        self.live.extend(length.tolist())
        self.cursor = (self.cursor + rows) % self.capacity
        self.size = min(self.size + rows, self.capacity)
        self.count.fill_(self.size)

    def sample_index(self, batch_size: int) -> Tensor:
        """Sample row indices uniformly with replacement, [batch_size] int64."""
        if not self.size:
            raise ValueError("the replay buffer is empty")
        return random_rows(self.size, self.count, batch_size)

    def gather(self, index: Tensor) -> Batch:
        """Transitions at row indices [B], as copies; every field is [B, ...]."""
        slot = self.slot[index]
        following = torch.where(self.last[index], self.capacity + slot, (index + 1) % self.capacity)
        return Batch(
            map_obs(lambda rows: rows[index], self.obs),
            self.action[index],
            map_obs(lambda rows: rows[following], self.obs),
            self.reward[index],
            self.terminal[index],
            self.skill[slot],
        )

    def sample(self, batch_size: int) -> Batch:
        """Sample transitions uniformly with replacement; every field is [batch_size, ...]."""
        return self.gather(self.sample_index(batch_size))

    def full_state(self) -> dict[str, Any]:
        """The filled part of every ring, and the counters."""
        used = slice(0, self.size)  # rows are filled in order, so the rest is unused
        live = self._live_slots()
        return {
            "capacity": self.capacity,
            "slots": self.slots,
            "rows": {name: map_obs(lambda rows: rows[used].clone(), getattr(self, name)) for name in ROWS},
            "final": map_obs(lambda rows: rows[self.capacity + live], self.obs),
            "skill": self.skill[live].clone(),
            "live": torch.tensor(self.live, dtype=torch.int32),
            "counters": {"cursor": self.cursor, "size": self.size, "first_slot": self.first_slot},
        }

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`.

        Raises:
            ValueError: the state comes from a buffer of another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(f"a replay buffer of {state['capacity']} does not fit in one of {self.capacity}")
        self.live = deque()
        self._resize(state["slots"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self.count.fill_(self.size)
        for name, rows in state["rows"].items():
            map_obs(lambda to, of: to[: self.size].copy_(of), getattr(self, name), rows)
        self.live = deque(state["live"].tolist())
        live = self._live_slots()
        self._put_obs(self.capacity + live, state["final"])
        self.skill[live] = state["skill"].to(self.device)

    def _put_obs(self, index: Tensor, new: Obs) -> None:
        """Write observations [B, *O] to row indices [B]."""
        map_obs(lambda to, of: to.index_put_((index,), of.to(to)), self.obs, new)

    def _live_slots(self) -> Tensor:
        """Slots of the stored episodes, oldest first."""
        order = torch.arange(len(self.live), device=self.device)
        return (self.first_slot + order) % self.slots

    def _free(self, rows: int) -> None:
        """Discard the oldest `rows` transitions, and the slots of episodes without remaining rows."""
        while rows > 0:
            gone = min(rows, self.live[0])
            self.live[0] -= gone
            rows -= gone
            if not self.live[0]:
                self.live.popleft()
                self.first_slot = (self.first_slot + 1) % self.slots

    def _grow(self, needed: int) -> None:
        """Increase the number of slots to at least `needed`, at least doubling it."""
        if needed > self.slots:
            self._resize(max(needed, 2 * self.slots))

    def _resize(self, slots: int) -> None:
        """Reallocate with `slots` slots; used ones move to the front."""
        live = self._live_slots()

        def resized(old: Tensor) -> Tensor:
            new = old.new_zeros(self.capacity + slots, *old.shape[1:])
            new[: self.capacity] = old[: self.capacity]
            new[self.capacity : self.capacity + len(live)] = old[self.capacity + live]
            return new

        obs = map_obs(resized, self.obs)
        skill = self.skill.new_zeros(slots, self.skill.shape[1])
        skill[: len(live)] = self.skill[live]
        self.slot = (self.slot - self.first_slot) % self.slots
        self.obs, self.skill, self.slots, self.first_slot = obs, skill, slots, 0
        self.layout += 1


ROWS = ("obs", "action", "reward", "terminal", "slot", "last")
