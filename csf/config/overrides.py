"""Command-line overrides: quotes names and paths literally, and expands the values of a sweep."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from csf.errors import ConfigError

FORMER = {"task=quick": "task=fast"}  # overrides of earlier versions that are still accepted
PATHS = ("cp_path", "exp_dir", "run_name")  # settings that are taken literally
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


def literal(words: Sequence[str], sweep: bool = False) -> list[str]:
    """Quote overrides for Hydra.

    Paths and names are literal: 1e5, commas and quotation marks have no special meaning, and ~ is the home folder.
    Values in quotes and, in a sweep, cp_path='choice(a,b)' are left to Hydra. Former names are replaced. Arguments of
    the environment need no +, although no yaml file lists them.

    Raises:
        ConfigError: if an override is not UTF-8, or a name is empty.
    """
    return [_literal(FORMER.get(word, word), sweep) for word in words]


def _literal(word: str, sweep: bool) -> str:
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{word!r} is not UTF-8; accepted: names of files and folders in UTF-8") from error
    key, sign, value = word.partition("=")
    if sign and key.startswith("env."):
        return f"++{word}"
    key = key.lstrip("+")
    if not sign or key not in PATHS or (sweep and value.startswith("choice(")):
        return word
    if not value.strip() and key != "cp_path":
        raise ConfigError(f"{key} is empty; accepted: the name of a folder")
    if QUOTED.fullmatch(value):
        return word
    if key == "cp_path" and value in ("", "null"):
        return f"{key}=null"
    if value.startswith("~") and key != "run_name":
        value = os.path.expanduser(value)
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def key_of(override: Override) -> str:
    """Return the key or the group of an override."""
    return override.get_key_element().lstrip("+~")


def values(word: str, choices: Callable[[str], Sequence[str]]) -> list[str]:
    """Expand an override of a sweep to single overrides, of seeds to two; empty for syntax of other sweepers alone.

    Args:
        word: an override.
        choices: returns the names of the files in a group, for glob(*).

    Raises:
        ConfigError: if `word` is not an override.
    """
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(not_understood(word)) from error
    if not override.is_sweep_override():
        return [word]
    key, value = override.get_key_element(), override.value()
    if isinstance(value, Glob):
        return [f"{key}={name}" for name in value.filter([*choices(key)])]
    found = [f"{key}={each}" for each in override.sweep_string_iterator()] if override.is_discrete_sweep() else []
    return found[:2] if key_of(override) == "seed" else found


def not_understood(word: str) -> str:
    """Return the message for a word that Hydra's parser refuses."""
    return f"{word!r} is not understood; accepted: key=value, with quotes around values with punctuation"
