"""Registries of classes by name; the error for an unknown name lists the known ones and the closest match."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=type)


class UnknownName(KeyError):
    """No class is registered under this name."""

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' if a known name is similar, else an empty string."""
    match = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {match[0]!r}?)" if match and match[0] != name else ""


class Registry(Generic[T]):
    """A decorator that registers classes by name, and a mapping from names to classes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def __call__(self, name: str) -> Callable[[T], T]:
        """Register the decorated class under `name`."""

        def add(cls: T) -> T:
            if self._items.setdefault(name, cls) is not cls:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            return cls

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            known = ", ".join(self.names())
            raise UnknownName(f"unknown {self.kind} {name!r}; known: {known}{nearest(name, self._items)}")
        return self._items[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._items)
