"""How experience is collected and learned from, one file per learner; importing the package registers them all."""

from __future__ import annotations

import importlib
import pkgutil

from csf.learners.base import EpochBudget, Learner, learners

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["EpochBudget", "Learner", "learners"]
