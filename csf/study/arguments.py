"""Arguments of the commands that train many runs."""

from __future__ import annotations

from collections.abc import Sequence

from csf.config.compose import GROUPS
from csf.errors import ConfigError


def split(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Split arguments into those of the command, of every pretraining run, and of Hydra's launcher."""
    own: list[str] = []
    training: list[str] = []
    launcher: list[str] = []
    for word in words:
        key, sign, _ = word.partition("=")
        if key.lstrip("+~").startswith(("hydra/", "hydra.")):
            launcher.append(word)
        elif sign and not word.startswith("-") and ("." in key or "/" in key):
            training.append(word)
        elif key in GROUPS:
            raise ConfigError(f"{word} is not understood; accepted: envs=NAME, settings such as agent.skill_dim=5")
        else:
            own.append(word)
    return own, training, launcher
