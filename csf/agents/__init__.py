"""Skill-discovery methods, one file per method; importing the package registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from csf.agents.agent import Agent
from csf.agents.base import Objective, ObjectiveConfig, objectives
from csf.nets.encoder import OWN, EncoderConfig

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["OWN", "Agent", "EncoderConfig", "Objective", "ObjectiveConfig", "objectives"]
