"""Hydra's launchers and its sweeper of searches: whether each is installed, and settings that fit runs of csf."""

from __future__ import annotations

import os
from collections.abc import Sequence

from csf.errors import ConfigError, optional

PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "ray": "hydra_ray_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "optuna": "hydra_optuna_sweeper",
}
GROUPS = ("hydra/launcher", "hydra/sweeper")
ADDRESS = "hydra.launcher.ray.init.address"
# Settings unless the user gives others.
SETTINGS = {
    # A worker that is killed is started again and resumes its run; csf.sweep.record limits how often.
    "ray": ["+hydra.launcher.ray.remote.max_retries=-1"],
    # It starts all jobs at once, and would end each after an hour.
    "submitit_local": ["hydra.launcher.timeout_min=525600", "+hydra.job.env_set.OMP_NUM_THREADS=1"],
    # A job whose time is over is queued again and resumes its run.
    "submitit_slurm": ["hydra.launcher.max_num_timeout=1000"],
    # The search goes on after a failed job.
    "optuna": ["hydra.sweeper.direction=maximize", "hydra.sweeper.max_failure_rate=1"],
}


def chosen(words: Sequence[str]) -> list[str]:
    """The names of the launcher and the sweeper among a command's arguments."""
    last = dict(word.split("=", 1) for word in words if word.split("=", 1)[0] in GROUPS and "=" in word)
    return list(last.values())


def launcher(words: Sequence[str]) -> str | None:
    """The first argument of a command that chooses a launcher or a sweeper; None if there is none."""
    return next((word for word in words if word.partition("=")[0] in GROUPS), None)


def check(words: Sequence[str]) -> None:
    """Check what Hydra would report in many lines.

    Raises:
        ConfigError: the launcher cannot run so many jobs.
        MissingDependency: the plugin of a launcher or sweeper is not installed.
    """
    if "hydra.launcher.n_jobs=0" in words:
        raise ConfigError("hydra.launcher.n_jobs is 0; accepted: a positive number, or -1 for one job per core")
    for plugin in (PLUGINS[name] for name in chosen(words) if name in PLUGINS):
        package = plugin.replace("_", "-")
        optional(f"hydra_plugins.{plugin}", f"{package} is not installed: pip install 'csf-skills[sweep]'")


def settings(words: Sequence[str]) -> list[str]:
    """Settings that the arguments of a command need besides."""
    names = chosen(words)
    found = [word for name in names for word in SETTINGS.get(name, [])]
    if "ray" in names:
        found += _of_ray(words)
        os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # it would end the sweep's process at SIGTERM
    keys = {word.partition("=")[0].lstrip("+") for word in words}
    keys |= {"hydra.job.env_set.OMP_NUM_THREADS"} if os.environ.get("OMP_NUM_THREADS") else set()
    return [word for word in found if word.partition("=")[0].lstrip("+") not in keys]


def _of_ray(words: Sequence[str]) -> list[str]:
    """What differs between a cluster that runs already and one that Ray starts for the sweep."""
    address = dict(word.lstrip("+").partition("=")[::2] for word in words).get(ADDRESS, "local")
    if address == "local" and not os.environ.get("RAY_ADDRESS"):
        return [f"{ADDRESS}=local", "+hydra.launcher.ray.init.include_dashboard=false"]
    # The launcher would give the memory of the cluster a size, which only who starts it may do.
    return ["+hydra.launcher.ray.init.object_store_memory=null"]
