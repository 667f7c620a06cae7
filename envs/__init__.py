"""Batched environments: `make_vec` creates them by name, and their ids are registered with Gymnasium."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, cast

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled, Error
from gymnasium.vector import AutoresetMode

from envs.base import WorldsEnv, at_least
from envs.errors import WorldError
from envs.gl import PACKAGES
from envs.settings import Setting, settings
from envs.wrappers import GymnasiumWorlds, adapted

__all__ = ["Setting", "WorldError", "base_of", "make_vec", "settings_of"]

# Name -> module below `envs`, and stem of the class name.
_MODULES = {
    "ant": ("ant", "Ant"),
    "half_cheetah": ("half_cheetah", "HalfCheetah"),
    "humanoid": ("humanoid", "Humanoid"),
    "kitchen": ("kitchen", "Kitchen"),
    "point": ("point", "Point"),
    "point_pixels": ("point_pixels", "PointPixels"),
    "quadruped": ("quadruped", "Quadruped"),
    "robobin": ("robobin", "Robobin"),
    "ant_multi_goal": ("tasks.ant_multi_goal", "AntMultiGoal"),
    "half_cheetah_goal": ("tasks.half_cheetah_goal", "HalfCheetahGoal"),
    "half_cheetah_hurdle": ("tasks.half_cheetah_hurdle", "HalfCheetahHurdle"),
    "humanoid_goal": ("tasks.humanoid_goal", "HumanoidGoal"),
    "point_two_goals": ("tasks.point_two_goals", "PointTwoGoals"),
    "quadruped_goal": ("tasks.quadruped_goal", "QuadrupedGoal"),
}
_IDS = {name: f"csf/{stem}-v0" for name, (_, stem) in _MODULES.items()}
_CLASSES = {name: f"envs.{module}:{stem}VectorEnv" for name, (module, stem) in _MODULES.items()}
# Arguments of `gymnasium.make` itself, accepted besides those of the environment.
_MAKE_ARGUMENTS = {"max_episode_steps", "render_mode", "disable_env_checker"}
# Pinned because contacts and integrators differ between versions of MuJoCo, and so do results.
_PINS = {"mujoco": "mujoco==3.17.0"}

for _name, _id in _IDS.items():
    # No max_episode_steps: the environments count their own steps, so Gymnasium must not truncate as well.
    gymnasium.register(
        _id,
        entry_point=f"envs.{_MODULES[_name][0]}:make_{_name}",
        vector_entry_point=_CLASSES[_name],
    )


def make_vec(name: str, num_envs: int, **settings: Any) -> WorldsEnv | GymnasiumWorlds:
    """Creates a vector environment without autoreset, with the attributes of `envs.base.WorldsEnv`.

    Args:
        name: An environment ("ant", "half_cheetah", "point"; with image observations: "point_pixels",
            "quadruped", "humanoid", "kitchen", "robobin"), a task on one of them ("ant_multi_goal",
            "half_cheetah_goal", "half_cheetah_hurdle", "humanoid_goal", "point_two_goals", "quadruped_goal"), or any
            Gymnasium id, such as "Pendulum-v1".
        num_envs: N, the number of worlds.
        **settings: Arguments of the environment; for a Gymnasium id also `max_steps`, which replaces its time limit.

    Returns:
        The environment, with observations as described by `envs.base.WorldsEnv` and actions [N, A] in [-1, 1], or
        one-hot for a Gymnasium id with discrete actions.

    Raises:
        WorldError: If the name, a setting or a value is not accepted. Exceptions raised inside an environment of
            another package are not converted.
        DependencyNotInstalled: If a package is missing; the message contains the command that installs it.
    """
    own = {identifier: known for known, identifier in _IDS.items()}.get(name, name)
    try:
        if own in _IDS:
            return _make_own(own, num_envs, settings)
        return _make_other(name, num_envs, dict(settings))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise DependencyNotInstalled(
            f"environment {name!r} needs {error.name!r}, which is not installed: "
            f"pip install {_PINS.get(package, package)}"
        ) from error
    except ImportError as error:
        if not _raised_by_gymnasium(error):
            raise
        raise WorldError(f"environment {name!r} cannot be used: {error}") from error  # listed, but removed
    except (AttributeError, RuntimeError) as error:
        if not _raised_by_mujoco_import(error):
            raise
        # MuJoCo loads the library named by MUJOCO_GL when it is imported.
        raise WorldError(
            f"MUJOCO_GL is {os.environ.get('MUJOCO_GL')!r}, which prevents mujoco from being imported "
            f"({str(error).splitlines()[0]}); unset it, or {PACKAGES}"
        ) from error


def settings_of(name: str) -> dict[str, Setting]:
    """Returns the settings that `make_vec` accepts for an environment of this package, by name.

    `num_envs` and `render_mode` are omitted: they are chosen by the calling program, not by a configuration.

    Raises:
        WorldError: If the environment is unknown.
    """
    if name not in _CLASSES:
        raise WorldError(f"environment {name!r} is unknown; accepted: {', '.join(_CLASSES)}")
    return settings(cast(type, load_env_creator(_CLASSES[name])))


def base_of(name: str) -> str:
    """Returns the name of the environment that a task is built on; for any other environment, its own name."""
    return str(getattr(load_env_creator(_CLASSES[name]), "base", name)) if name in _CLASSES else name


def _make_own(name: str, num_envs: int, settings: dict[str, Any]) -> WorldsEnv:
    _check_settings(name, load_env_creator(_CLASSES[name]), settings, set())
    made = gymnasium.make_vec(_IDS[name], num_envs, vectorization_mode="vector_entry_point", **settings)
    return cast(WorldsEnv, made)


def _make_other(name: str, num_envs: int, settings: dict[str, Any]) -> GymnasiumWorlds:
    at_least("num_envs", num_envs, 1)
    if "max_steps" in settings:
        settings["max_episode_steps"] = at_least("max_steps", settings.pop("max_steps"), 1)
    module, separator, identifier = name.rpartition(":")
    try:
        if separator:  # "module:id": importing the module registers the id
            _import(module)
        spec = gymnasium.spec(identifier)
    except Error as error:
        nearest = difflib.get_close_matches(name, [*_IDS, *gymnasium.registry], n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(map(repr, nearest))}?)" if nearest else ""
        raise WorldError(
            f"unknown environment {name!r}{hint}; accepted: {', '.join(_IDS)}, or any Gymnasium id"
        ) from error
    entry = spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    if creator is not None:
        _check_settings(name, creator, settings, _MAKE_ARGUMENTS)
    try:
        made = gymnasium.make_vec(
            identifier,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},
            wrappers=(adapted,),
            **settings,
        )
    except TypeError as error:  # of a constructor that passes its other arguments on to a base class
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if creator is None or unknown is None or unknown[1] not in settings:
            raise
        raise _no_setting(name, unknown[1], creator, _MAKE_ARGUMENTS) from error
    return GymnasiumWorlds(made)


def _import(module: str) -> None:
    if not all(word.isidentifier() for word in module.split(".")):
        raise Error(f"{module!r} is not a module name")
    importlib.import_module(module)


def _check_settings(name: str, creator: Callable[..., Any], settings: dict[str, Any], more: set[str]) -> None:
    """Raises WorldError if a setting is neither an argument of `creator` nor in `more`."""
    accepted = inspect.signature(creator).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return
    for setting in settings:
        if setting not in {*accepted, *more} or setting == "num_envs":
            raise _no_setting(name, setting, creator, more)


def _no_setting(name: str, setting: str, creator: Callable[..., Any], more: set[str]) -> WorldError:
    parameters = inspect.signature(creator).parameters.values()
    named = (each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL))
    known = [each.name for each in named if each.name != "num_envs"]
    known += ["max_steps"] if more and "max_steps" not in known else []
    return WorldError(f"environment {name!r} has no setting {setting!r}; accepted: {', '.join(known)}")


def _raised_by_gymnasium(error: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "gymnasium"


def _raised_by_mujoco_import(error: Exception) -> bool:
    frames = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return "mujoco" not in sys.modules and any(name.partition(".")[0] == "mujoco" for name in frames)
