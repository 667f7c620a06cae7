"""Uniform replay buffer: a ring of transitions that stores every observation, and every image of stacks, once."""

from __future__ import annotations

from collections import deque
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from csf.errors import CheckpointError
from csf.replay.draws import random_rows
from csf.replay.episodes import places, segmented
from csf.replay.stacks import check_stacks, frames_of, newest, stacked, window
from csf.replay.upload import Upload
from csf.types import Batch, EnvSpec, Episodes, Obs, SomeObs, map_obs

ROWS = ("obs", "action", "reward", "terminal")  # arrays with one row per transition that are saved


class ReplayBuffer:
    """Holds the newest `capacity` transitions; the first steps of the oldest episode may have been overwritten.

    A row of the ring holds obs, action, reward and terminal of one transition: the transition number i, counted from
    the first one that was ever added, is in row i % ring. Its next observation is the observation of the next row,
    except for the last step of an episode. The final observation and the skill of each episode are stored in a smaller
    ring of `slots`, which grows if episodes are short.

    Of stacked images, a row holds the newest one, and stacks are gathered from the rows before. The ring then has
    `spare` more rows than the capacity, which hold the images before the oldest transition.

    Attributes:
        layout: number of times that tensors were replaced; while it is unchanged, `gather` reads the same memory.
        count: number of transitions, [] int64 on the storage device.
        storage: device of the stored transitions; batches are on `device`.
        total: number of transitions ever added.
    """

    def __init__(
        self,
        capacity: int,
        spec: EnvSpec,
        skill_dim: int,
        device: torch.device | str,
        storage: torch.device | str | None = None,
    ) -> None:
        """Allocate memory for `capacity` transitions on `storage`, by default the device of the batches."""
        self.capacity, self.spec, self.device = capacity, spec, torch.device(device)
        self.storage = self.device if storage is None else torch.device(storage)
        self.upload = None if self.storage == self.device else Upload(self.device)
        self.frames = frames_of(spec)
        self.most_frames = max(self.frames.values()) if isinstance(self.frames, dict) else self.frames
        self.spare = self.most_frames - 1
        self.ring = capacity + self.spare
        self.slots = slots = capacity // spec.max_steps + 2

        def rows(shape: tuple[int, ...], dtype: str) -> Tensor:
            if dtype == "uint8":
                shape = (*shape[:-1], shape[-1] // self.most_frames)
            return torch.zeros(self.ring + slots, *shape, dtype=getattr(torch, dtype), device=self.storage)

        # Final observations follow the ring in the same tensor, so that one gather reads all next observations.
        self.obs: SomeObs = spec.build_obs(rows)
        self.skill = torch.zeros(self.slots, skill_dim, device=self.storage)
        self.action = torch.zeros(self.ring, spec.action_dim, device=self.storage)
        self.reward = torch.zeros(self.ring, device=self.storage)
        self.terminal = torch.zeros(self.ring, device=self.storage)
        self.slot = torch.zeros(self.ring, dtype=torch.int32, device=self.storage)  # slot of the row's episode
        self.step = torch.zeros(self.ring, dtype=torch.int32, device=self.storage)  # number of earlier steps
        self.last = torch.zeros(self.ring, dtype=torch.bool, device=self.storage)  # whether the row ends its episode
        self.total = self.size = self.layout = 0
        self.count = torch.zeros((), dtype=torch.int64, device=self.storage)
        self.oldest = torch.zeros((), dtype=torch.int64, device=self.storage)  # number of the oldest transition
        self.first_slot = 0
        self.live: deque[int] = deque()  # number of remaining rows of each stored episode, oldest first

    def __len__(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        """Size of the stored transitions in bytes, when the buffer is full."""
        arrays = [self.obs, self.skill, self.action, self.reward, self.terminal, self.slot, self.step, self.last]
        parts = [part for each in arrays for part in (each.values() if isinstance(each, dict) else [each])]
        return sum(part.numel() * part.element_size() for part in parts)

    def add(self, episodes: Episodes) -> None:
        """Append the real steps of N episodes, overwriting the oldest transitions.

        Raises:
            ValueError: the episodes have more steps than the capacity, or the images are not stacked as `spec` says.
        """
        rows = int(episodes.length.sum())
        if rows > self.capacity:
            raise ValueError(f"{rows} transitions do not fit in a replay buffer of {self.capacity}")
        if not self.total:  # once is enough, since all come from the same environment
            check_stacks(self.frames, episodes.obs, episodes.length, self.spec.id)
        keep, real = episodes.length > 0, episodes.steps()
        length = episodes.length[keep]
        obs = newest(self.frames, episodes.obs)
        self._append(
            {
                "obs": map_obs(lambda rows: rows[:, :-1][real], obs),
                "action": episodes.action[real],
                "reward": episodes.reward[real],
                "terminal": episodes.terminal[real],
            },
            length,
            map_obs(lambda rows: rows[keep, length], obs),
            episodes.skill[keep],
        )

    def _append(self, rows: dict[str, SomeObs], length: Tensor, final: Obs, skill: Tensor, skipped: int = 0) -> None:
        """Append consecutive transitions of E episodes, overwriting the oldest ones.

        Args:
            rows: arrays [R, ...] by the names in `ROWS`; of stacked images, the newest ones.
            length: number of rows of each episode [E], all above 0.
            final: final observations [E, *O].
            skill: [E, Z].
            skipped: number of earlier steps of the first episode.
        """
        count = int(length.sum())
        self._free(min(self.size + count - self.capacity, self.size))
        self._grow(len(self.live) + len(length))
        slot = (self.first_slot + len(self.live) + torch.arange(len(length))) % self.slots
        self._put_obs(self.ring + slot.to(self.storage), final)
        self.skill[slot.to(self.storage)] = skill.to(self.skill)
        index = ((self.total + torch.arange(count)) % self.ring).to(self.storage)
        self._put_obs(index, rows["obs"])
        last, step = places(length, skipped)
        new = {**rows, "slot": slot.repeat_interleave(length), "last": last, "step": step}
        for name in (*ROWS[1:], "slot", "last", "step"):
            own = getattr(self, name)
            own[index] = new[name].to(own)
        self.live.extend(length.tolist())
        self._free(count - self.capacity)  # of a saved state with spare rows
        self.total += count
        self._resized_to(min(self.size + count, self.capacity))

    def _resized_to(self, size: int) -> None:
        """Set the number of transitions, here and in the tensors that a CUDA graph reads."""
        self.size = size
        self.count.fill_(size)
        self.oldest.fill_(self.total - size)

    def sample_index(self, batch_size: int) -> Tensor:
        """Sample row indices uniformly with replacement, [batch_size] int64."""
        if not self.size:
            raise ValueError("the replay buffer is empty")
        return self.rows(random_rows(self.size, self.count, batch_size))

    def rows(self, order: Tensor) -> Tensor:
        """Row indices of transitions [B], numbered from 0; without spare rows all rows hold one, in any order."""
        return (self.oldest + order) % self.ring if self.spare else order

    def gather(self, index: Tensor) -> Batch:
        """Transitions at row indices [B], as copies on `device`; every field is [B, ...]."""
        slot = self.slot[index]
        following = torch.where(self.last[index], self.ring + slot, (index + 1) % self.ring)
        obs, next_obs = self._gather_obs(index, following)
        batch = Batch(obs, self.action[index], next_obs, self.reward[index], self.terminal[index], self.skill[slot])
        return batch if self.upload is None else self.upload(batch)

    def _gather_obs(self, index: Tensor, following: Tensor) -> tuple[SomeObs, SomeObs]:
        """Observations at rows [B] of the ring, and those at the rows `following` [B]."""
        if not self.spare:
            return map_obs(lambda rows: rows[index], self.obs), map_obs(lambda rows: rows[following], self.obs)
        images_at = window(index, self.step[index], following, self.most_frames, self.ring)

        def pair(frames: int, rows: Tensor) -> tuple[Tensor, Tensor]:
            if frames == 1:
                return rows[index], rows[following]
            images = rows[images_at]
            return stacked(images[:, :-1]), stacked(images[:, 1:])

        pairs = map_obs(pair, self.frames, self.obs)
        return map_obs(lambda both: both[0], pairs), map_obs(lambda both: both[1], pairs)

    def sample(self, batch_size: int) -> Batch:
        """Sample transitions uniformly with replacement; every field is [batch_size, ...]."""
        return self.gather(self.sample_index(batch_size))

    def start(self) -> int:
        """Number of the first transition to save: the oldest one, or the first one whose image its stack shows."""
        oldest = self.total - self.size
        if not self.size or not self.spare:
            return oldest
        return oldest - min(self.spare, int(self.step[oldest % self.ring]))

    def ends(self) -> list[int]:
        """For each stored episode, oldest first, the number of the transition after it."""
        return list(accumulate(self.live, initial=self.total - self.size))[1:]

    def take(self, begin: int, end: int) -> dict[str, Any]:
        """Copies of the transitions from number `begin` to before `end` in host memory, as plain data for a file.

        `begin` is `start()` or the end of an episode, and `end` is the end of a later episode.
        """
        index = (torch.arange(begin, end) % self.ring).to(self.storage)
        ends = [(place, number) for place, number in enumerate(self.ends()) if begin < number <= end]
        slot = torch.tensor([(self.first_slot + place) % self.slots for place, _ in ends], device=self.storage)
        return {
            "begin": begin,
            "skipped": int(self.step[begin % self.ring]),
            "length": torch.tensor([begin, *(number for _, number in ends)]).diff(),
            "rows": {name: map_obs(lambda rows: rows[index].cpu(), getattr(self, name)) for name in ROWS},
            "final": map_obs(lambda rows: rows[self.ring + slot].cpu(), self.obs),
            "skill": self.skill[slot].cpu(),
        }

    def head_state(self) -> dict[str, Any]:
        """The state without the transitions."""
        return {"capacity": self.capacity, "total": self.total}

    def full_state(self) -> dict[str, Any]:
        """The head state and the stored transitions, in one segment."""
        return {**self.head_state(), "segments": [self.take(self.start(), self.total)] if self.size else []}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`, in any number of segments, or by versions without segments.

        Segments may begin with transitions that were overwritten later. They are read one by one.

        Raises:
            ValueError: the state comes from a buffer of another capacity.
            CheckpointError: versions without segments stored stacks of images, which are not converted.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(f"a replay buffer of {state['capacity']} does not fit in one of {self.capacity}")
        if "rows" in state:
            if self.spare:
                raise CheckpointError("a replay buffer with images of an earlier version cannot be resumed")
            state = segmented(state)
        self.live, self.first_slot, self.total = deque(), 0, state["total"]
        self._resized_to(0)
        for segment in state["segments"]:
            if not self.size:
                self.total = segment["begin"]
            self._append(*(segment[name] for name in ("rows", "length", "final", "skill", "skipped")))

    def _put_obs(self, index: Tensor, new: Obs) -> None:
        """Write observations [B, *O], of stacked images the newest ones, to row indices [B]."""
        map_obs(lambda to, of: to.index_put_((index,), of.to(to)), self.obs, new)

    def _live_slots(self) -> Tensor:
        """Slots of the stored episodes, oldest first."""
        order = torch.arange(len(self.live), device=self.storage)
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
            new = old.new_zeros(self.ring + slots, *old.shape[1:])
            new[: self.ring] = old[: self.ring]
            new[self.ring : self.ring + len(live)] = old[self.ring + live]
            return new

        obs = map_obs(resized, self.obs)
        skill = self.skill.new_zeros(slots, self.skill.shape[1])
        skill[: len(live)] = self.skill[live]
        self.slot = (self.slot - self.first_slot) % self.slots
        self.obs, self.skill, self.slots, self.first_slot = obs, skill, slots, 0
        self.layout += 1
