"""Sweeps: many jobs in one of Hydra's launchers, which all stop when the sweep is signalled; failures are listed."""

from csf.sweep.jobs import KILLED, each, job, run
from csf.sweep.launchers import check, launcher

__all__ = ["KILLED", "check", "each", "job", "launcher", "run"]
