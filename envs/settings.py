"""The settings of an environment, as its constructor declares and documents them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

# Chosen by the program that uses the worlds, not by a user's configuration.
_NOT_FOR_USERS = ("num_envs", "render_mode")


@dataclass(frozen=True)
class Setting:
    """One keyword argument of an environment.

    Attributes:
        name: Of the argument.
        type: Such as `int`, `float` or `Literal["preset", "off"]`.
        default: Its value if it is not given.
        help: The first sentence of its description.
    """

    name: str
    type: Any
    default: Any
    help: str


def settings(kind: type) -> dict[str, Setting]:
    """The settings of the environments of this class, in the order of its constructor's arguments."""
    init: Callable[..., Any] = kind.__init__  # type: ignore[misc]
    types, texts = get_type_hints(init), _described(init)
    return {
        name: Setting(name, types[name], parameter.default, texts[name])
        for name, parameter in inspect.signature(kind).parameters.items()
        if name not in _NOT_FOR_USERS
    }


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """The first sentence of every argument in the section "Args" of a docstring."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section, re.MULTILINE)
    return {name: re.split(r"(?<=\.)\s", " ".join(text.split()))[0] for name, text in entries}
