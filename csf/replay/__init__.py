"""The replay buffer of off-policy learners."""

from __future__ import annotations

from csf.replay.buffer import ReplayBuffer
from csf.replay.draws import random_rows, rows_below

__all__ = ["ReplayBuffer", "random_rows", "rows_below"]
