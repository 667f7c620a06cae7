"""Collection of experience and learning, one file per learner; importing the package registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from csf.learners.base import EpochBudget, Learner, learners

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["EpochBudget", "Learner", "learners"]
