"""Collection of experience and learning, one file per learner; importing the package registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from csf.learners.base import EpochBudget, Learner, learners
from csf.learners.epoch import Epoch, Overlapped, RunEpoch, in_turn
from csf.learners.replay import ReplayLearner

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Epoch", "EpochBudget", "Learner", "Overlapped", "ReplayLearner", "RunEpoch", "in_turn", "learners"]
