"""User errors: each has a one-line message that names the cause and what is accepted."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class CsfError(RuntimeError):
    """Base class of user errors; entry points print it as one line and exit with code 1."""


class ConfigError(CsfError):
    """A setting is invalid."""


class SamplerError(CsfError):
    """Episodes cannot be collected."""


class ActionError(CsfError, ValueError):
    """An environment over skills does not accept the action."""


class CheckpointError(CsfError):
    """A checkpoint cannot be written, read or used."""


class RunDirError(CsfError):
    """The folder of a run cannot be used."""


class ReportError(CsfError):
    """A report cannot be made from these runs, or cannot be written."""


class StudyError(CsfError):
    """A study has rows without a result, or a result cannot be used."""


class MemoryLack(CsfError):
    """A run needs more memory than there is."""


NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "bad_alloc")  # in errors of PyTorch, on the CPU and on the GPU


def lacks_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory could not be allocated."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in NO_MEMORY)


class MissingDependency(CsfError):
    """An optional package is not installed."""


def optional(module: str, message: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingDependency: it is not installed; `message` says what needs it, and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependency(message) from error


class NonFiniteError(CsfError):
    """Training produced NaN or infinity; `evidence` holds the batch and the metrics up to that step."""

    def __init__(self, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence or {}
