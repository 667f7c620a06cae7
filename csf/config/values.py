"""Converts plain trees to frozen dataclasses and validates every key, type and range."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csf.config.ranges import Range
from csf.errors import ConfigError
from csf.registry import nearest


def typed(cls: type, node: dict[str, Any], where: str) -> Any:
    """Build a frozen dataclass from a plain tree.

    Raises:
        ConfigError: if a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    values = checked(cls, node, where)
    prefix = f"{where}." if where else ""
    if missing := [prefix + field.name for field in dataclasses.fields(cls) if field.name not in values]:
        raise ConfigError(f"{missing[0]}: Missing mandatory value")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return cls(
        **{key: Path(os.path.expanduser(value)) if isinstance(value, Path) else value for key, value in values.items()}
    )


def checked(cls: type, node: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Convert the values of a plain tree to the types of a dataclass; fields that the tree lacks are left out.

    Raises:
        ConfigError: as `typed`, except for missing keys.
    """
    prefix = f"{where}." if where else ""
    hints = {field.name: get_type_hints(cls)[field.name] for field in dataclasses.fields(cls)}
    accepted = {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}
    # OmegaConf checks types, but does not support Literal: it checks that these are strings.
    fields = [(key, str if key in accepted else hint) for key, hint in hints.items() if key in node]
    schema = OmegaConf.structured(dataclasses.make_dataclass(cls.__name__, fields))
    try:
        values = OmegaConf.to_container(OmegaConf.merge(schema, node), throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key or "")
        name = key.partition("[")[0]
        if name not in hints:
            raise ConfigError(not_accepted(prefix + key, key, list(hints))) from error
        if get_origin(hints[name]) in (list, tuple) and not isinstance(node[name], list):
            raise ConfigError(f"{prefix}{key} is {node[name]}; accepted: a list such as [256,256]") from error
        raise ConfigError(f"{prefix}{key}: {str(error.msg).splitlines()[0]}") from error
    found: dict[str, Any] = {str(key): value for key, value in dict(values).items()}  # type: ignore[arg-type]
    for key, options in accepted.items():
        if key in found:
            one_of(prefix + key, found[key], options)
    for key, hint in get_type_hints(cls, include_extras=True).items():
        if key in found:
            _within(prefix + key, found[key], hint)
    return found


def _within(key: str, value: Any, hint: Any) -> None:
    """Check that a number, or each number of a list, is in the range of its type."""
    if isinstance(value, list):
        inner = get_args(hint)[0]
        if get_origin(hint) is Annotated:  # of a list with a `Before`
            inner = get_args(inner)[0]
        for each in value:
            _within(key, each, inner)
        return
    for extent in getattr(hint, "__metadata__", ()):
        if isinstance(extent, Range) and value is not None and value not in extent:
            kind = "an integer" if isinstance(value, int) else "a number"
            null = ", or null" if type(None) in get_args(get_args(hint)[0]) else ""
            raise ConfigError(f"{key} is {value}; accepted: {kind} {extent}{null}")


def one_of(key: str, value: str, accepted: Sequence[str]) -> None:
    """Check that a value is one of those accepted.

    Raises:
        ConfigError: if it is not.
    """
    if value not in accepted:
        raise ConfigError(f"{key} is {value!r}; accepted: {', '.join(accepted)}{nearest(value, accepted)}")


def not_accepted(what: str, word: str, accepted: Sequence[str]) -> str:
    """Return the message for an unknown name, with the accepted names and the nearest of them."""
    return f"{what} is not known; accepted: {', '.join(accepted)}{nearest(word, accepted)}"
