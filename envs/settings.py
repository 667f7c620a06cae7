"""Reads the settings of an environment from the signature and docstring of its constructor."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

# Chosen by the calling program, not by a configuration.
_CHOSEN_BY_CALLER = ("num_envs", "render_mode")


@dataclass(frozen=True)
class Setting:
    """One keyword argument of an environment.

    Attributes:
        name: Name of the argument.
        type: Its type, such as `int`, `float` or `Literal["preset", "off"]`.
        default: Its default value.
        help: The first sentence of its description.
    """

    name: str
    type: Any
    default: Any
    help: str


def settings(kind: type) -> dict[str, Setting]:
    """Returns the settings of an environment class, in the order of the constructor's arguments."""
    init: Callable[..., Any] = kind.__init__  # type: ignore[misc]
    types, texts = get_type_hints(init), _descriptions(init)
    return {
        name: Setting(name, types[name], parameter.default, texts[name])
        for name, parameter in inspect.signature(kind).parameters.items()
        if name not in _CHOSEN_BY_CALLER
    }


def _descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the first sentence of each argument's description in the "Args" section of a docstring."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section, re.MULTILINE)
    return {name: re.split(r"(?<=\.)\s", " ".join(text.split()))[0] for name, text in entries}
