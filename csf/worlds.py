"""The one door to the package envs: batches of worlds, and what may be known of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Discrete

import envs
from csf.errors import ConfigError, MissingDependency
from csf.types import EnvSpec, Worlds
from envs import Setting


def make_worlds(env: Mapping[str, Any], count: int) -> Worlds:
    """N worlds as a configuration's section env has them.

    Raises:
        ConfigError: an environment, a setting or a value that is not accepted.
        MissingDependency: the environment needs a package that is not installed.
    """
    settings = {key: value for key, value in env.items() if key not in ("name", "plot_range")}
    try:
        return cast(Worlds, envs.make_vec(str(env["name"]), count, **settings))
    except DependencyNotInstalled as error:
        raise MissingDependency(str(error)) from error
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"env: {error}") from error


def settings_of(name: str) -> dict[str, Setting] | None:
    """The settings that an environment accepts, by name; None where they are not known before it is made.

    That is so of environments of other packages, and where MuJoCo cannot be imported: `make_worlds` then says why.
    """
    try:
        return envs.settings_of(name)
    except (ValueError, ImportError, AttributeError, RuntimeError):
        return None


def base_of(env: Mapping[str, Any]) -> str:
    """Name of the environment whose skills can be used in that of a section env; not a task's, it is its own."""
    return envs.base_of(str(env["name"]))


def describe(worlds: Worlds, name: str) -> EnvSpec:
    """What may be known of an environment, from its attributes."""

    def numbers(values: Any) -> tuple[float, ...] | None:
        return None if values is None else tuple(float(value) for value in values)

    space, actions = worlds.single_observation_space, worlds.single_action_space
    discrete = isinstance(actions, Discrete)
    return EnvSpec(
        id=name,
        version=worlds.version,
        obs_shape=tuple(space.shape or ()),
        obs_dtype=str(space.dtype),
        action_dim=int(actions.n if discrete else actions.shape[0]),
        discrete=discrete,
        max_steps=worlds.max_steps,
        coord_dim=worlds.coord_dim,
        success_radii=numbers(worlds.success_radii) or (),
        coverage_cell=float(worlds.coverage_cell),
        obs_mean=numbers(worlds.obs_mean),
        obs_std=numbers(worlds.obs_std),
        hold=int(getattr(worlds, "hold", 1)),  # worlds whose actions are skills have it
    )
