"""Exceptions that distinguish invalid arguments from bugs in an environment."""

from __future__ import annotations

import sys


class WorldError(ValueError):
    """Raised for a value that an environment does not accept, or a simulation that cannot continue.

    The message is one line. Any other exception raised by an environment is a bug whose traceback should be shown.
    """


def engine_errors() -> tuple[type[Exception], ...]:
    """Returns MuJoCo's exceptions for a simulation that cannot continue; empty if MuJoCo is not imported."""
    kinds = (("mujoco", "FatalError"), ("mujoco.batch", "SimulationError"))
    return tuple(getattr(sys.modules[module], kind) for module, kind in kinds if module in sys.modules)
