"""Policy optimizers, one file per backbone; importing the package registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from csf.backbones.base import Backbone, BackboneConfig, backbones

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Backbone", "BackboneConfig", "backbones"]
