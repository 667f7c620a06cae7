"""The one door to the package envs: batches of worlds, and what may be known of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Dict, Discrete

from csf.errors import ConfigError, MissingDependency
from csf.types import EnvSpec, Worlds

if TYPE_CHECKING:  # at run time only `_envs` imports it, which tells a user's package of that name from ours
    from envs import Setting


def _envs() -> ModuleType:
    """The package envs that belongs to this csf.

    Raises:
        ConfigError: Python finds another module of that name first, such as a folder of the working directory.
    """
    spec, home = find_spec("envs"), Path(__file__).resolve().parents[1]
    places = list(spec.submodule_search_locations or filter(None, [spec.origin])) if spec else []
    if not any(Path(place).resolve().parent == home for place in places):
        found = places[0] if places else "nothing"
        raise ConfigError(
            f"Python finds {found} in place of {home / 'envs'}, which csf needs; accepted: another working directory "
            f"or PYTHONPATH, or the command csf in place of python -m"
        )
    import envs

    return envs


def make_worlds(env: Mapping[str, Any], count: int) -> Worlds:
    """N worlds as a configuration's section env has them.

    What the constructor of somebody else's environment raises is a bug there, and is passed on as it is.

    Raises:
        ConfigError: an environment, a setting or a value that is not accepted.
        MissingDependency: the environment needs a package that is not installed.
    """
    settings = {key: value for key, value in env.items() if key not in ("name", "plot_range")}
    try:
        return cast(Worlds, _envs().make_vec(str(env["name"]), count, **settings))
    except DependencyNotInstalled as error:
        raise MissingDependency(str(error)) from error
    except ValueError as error:
        if is_refusal(error):
            raise ConfigError(f"env: {error}") from error
        raise


def is_refusal(error: Exception) -> bool:
    """Whether the package envs refuses a setting or an action, or the simulation cannot continue.

    Any other exception is a bug in the environment, whose traceback is needed.
    """
    return isinstance(error, _envs().WorldError)


def settings_of(name: str) -> dict[str, Setting] | None:
    """The settings that an environment accepts, by name; None where they are not known before it is made.

    That is so of environments of other packages, and where MuJoCo cannot be imported: `make_worlds` then says why.
    """
    try:
        return cast(dict[str, Any], _envs().settings_of(name))
    except (ValueError, ImportError, AttributeError, RuntimeError):
        return None


def base_of(env: Mapping[str, Any]) -> str:
    """Name of the environment whose skills can be used in that of a section env; not a task's, it is its own."""
    return str(_envs().base_of(str(env["name"])))


def describe(worlds: Worlds, name: str) -> EnvSpec:
    """What may be known of an environment, from its attributes.

    Raises:
        ConfigError: it shows what is no observation here.
    """

    def numbers(values: Any) -> tuple[float, ...] | None:
        return None if values is None else tuple(float(value) for value in values)

    (shape, dtype, vector_dim), actions = _kind(worlds.single_observation_space, name), worlds.single_action_space
    discrete = isinstance(actions, Discrete)
    return EnvSpec(
        id=name,
        version=worlds.version,
        obs_shape=shape,
        obs_dtype=dtype,
        action_dim=int(actions.n if discrete else actions.shape[0]),
        discrete=discrete,
        max_steps=worlds.max_steps,
        coord_dim=worlds.coord_dim,
        success_radii=numbers(worlds.success_radii) or (),
        coverage_cell=float(worlds.coverage_cell),
        obs_mean=numbers(worlds.obs_mean),
        obs_std=numbers(worlds.obs_std),
        hold=int(getattr(worlds, "hold", 1)),  # worlds whose actions are skills have it
        vector_dim=vector_dim,
    )


def _kind(space: Any, name: str) -> tuple[tuple[int, ...], str, int]:
    """Shape and type of the vector or the image that a space holds, and the length of the vector beside the image."""
    if isinstance(space, Dict) and set(space.spaces) == {"image", "vector"}:
        image, vector = (_kind(space[key], name) for key in ("image", "vector"))
        if (image[1], vector[1]) == ("uint8", "float32") and vector[0][0]:
            return *image[:2], vector[0][0]
    elif isinstance(space, Box) and (len(space.shape), str(space.dtype)) in ((1, "float32"), (3, "uint8")):
        return tuple(space.shape), str(space.dtype), 0
    raise ConfigError(
        f"env={name} shows {space}; accepted: a Box of float32 vectors [O], a Box of uint8 images [H, W, C], "
        f"or a Dict of both with the keys 'image' and 'vector'"
    )
