"""Arguments of the commands that train many runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from csf.config import compose
from csf.config import help as usage
from csf.config.compose import GROUPS
from csf.errors import ConfigError, CsfError


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


def listed(text: str | None) -> tuple[str, ...]:
    """Names that are separated by commas; none for null."""
    return tuple(filter(None, (text or "").split(",")))


def run_command(cls: type, name: str, places: Sequence[str], head: str, run: Callable[..., object]) -> None:
    """Run a command as `csf.config.help.run_command` does; `run` also takes settings of runs and of the launcher."""
    compose.register_resolvers()
    try:
        own, training, launcher = split(sys.argv[1:])
    except CsfError as error:
        sys.exit(f"error: {error}")
    sys.argv[1:] = own
    usage.run_command(cls, name, places, head, partial(run, training=training, launcher=launcher))
