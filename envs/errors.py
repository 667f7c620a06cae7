"""Errors of the environments: what they refuse, told apart from bugs in an environment's own code."""

from __future__ import annotations

import sys


class WorldError(ValueError):
    """A value that an environment does not accept, or a simulation that cannot continue; the message is one line.

    Any other exception that leaves an environment is a bug in it, and its traceback should be shown.
    """


def engine_errors() -> tuple[type[Exception], ...]:
    """MuJoCo's exceptions for a simulation that cannot continue; empty while MuJoCo is not imported."""
    kinds = (("mujoco", "FatalError"), ("mujoco.batch", "SimulationError"))
    return tuple(getattr(sys.modules[module], kind) for module, kind in kinds if module in sys.modules)
