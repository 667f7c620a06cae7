"""The project's vocabulary of errors that a user can mend: one line, naming the thing and what is accepted."""

from __future__ import annotations

from typing import Any


class CsfError(RuntimeError):
    """Printed as one line by the entry points, which then exit with code 1."""


class ConfigError(CsfError):
    """A setting that cannot be used."""


class SamplerError(CsfError):
    """The worlds cannot go on."""


class ActionError(CsfError, ValueError):
    """An action that an environment over skills does not accept."""


class CheckpointError(CsfError):
    """A checkpoint that cannot be written, read or used here."""


class RunDirError(CsfError):
    """A run's folder that cannot be used."""


class ReportError(CsfError):
    """A page that cannot be made of these runs, or not be written."""


class MissingDependency(CsfError):
    """An optional package is not installed."""


class NonFiniteError(CsfError):
    """Training produced a number that is not finite; `evidence` holds what led to it, as tensors and plain data."""

    def __init__(self, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence or {}
