"""Creates batches of worlds and describes them; the only module of csf that imports the package envs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Dict, Discrete

from csf.errors import CheckpointError, ConfigError, MissingDependency
from csf.types import EnvSpec, Worlds

if TYPE_CHECKING:  # at run time `_envs` imports the package, after checking which one Python finds
    from envs import Setting


def _envs() -> ModuleType:
    """Import the package envs that is installed beside csf.

    Raises:
        ConfigError: Python finds another module named envs first, such as a folder of the working directory.
    """
    spec, home = find_spec("envs"), Path(__file__).resolve().parents[1]
    places = list(spec.submodule_search_locations or filter(None, [spec.origin])) if spec else []
    if not any(Path(place).resolve().parent == home for place in places):
        found = places[0] if places else "nothing"
        raise ConfigError(
            f"importing envs finds {found} instead of {home / 'envs'}; accepted: another working directory or "
            f"PYTHONPATH, or the command csf instead of python -m"
        )
    import envs

    return envs


def make_worlds(env: Mapping[str, Any], count: int) -> Worlds:
    """Create N worlds from the section env of a configuration.

    Exceptions raised by the constructor of an environment of another package are not converted.

    Raises:
        ConfigError: the environment, a setting or a value is not accepted.
        MissingDependency: the environment needs a package that is not installed.
    """
    settings = {key: value for key, value in env.items() if key not in ("name", "plot_range", "id")}
    if settings.get("max_steps", 0) is None:  # the environment's own limit
        del settings["max_steps"]
    try:
        return cast(Worlds, _envs().make_vec(str(env["name"]), count, **settings))
    except DependencyNotInstalled as error:
        raise MissingDependency(str(error)) from error
    except ValueError as error:
        if is_refusal(error):
            named = str(error).split(" ", 1)[0] in settings
            raise ConfigError(f"env.{error}" if named else f"env: {error}") from error
        raise


def is_refusal(error: Exception) -> bool:
    """Return whether an exception means an invalid setting or action, or a simulation that cannot continue.

    Any other exception is a bug in the environment, whose traceback should be shown.
    """
    return isinstance(error, _envs().WorldError)


def settings_of(name: str) -> dict[str, Setting] | None:
    """Return the settings that an environment accepts, by name; None if they are unknown before it is created.

    They are unknown for environments of other packages, and if MuJoCo cannot be imported, which `make_worlds` reports.
    """
    try:
        return cast(dict[str, Any], _envs().settings_of(name))
    except (ValueError, ImportError, AttributeError, RuntimeError):
        return None


def base_of(env: Mapping[str, Any]) -> str:
    """Return the name of the environment whose skills can be used: a task's base, otherwise the environment itself."""
    return str(_envs().base_of(str(env["name"])))


def describe(worlds: Worlds, name: str) -> EnvSpec:
    """Build the specification of an environment from its attributes.

    Raises:
        ConfigError: its observation space is not accepted.
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
        hold=int(getattr(worlds, "hold", 1)),  # only defined by worlds whose actions are skills
        vector_dim=vector_dim,
        renderer=getattr(worlds, "renderer", None),
        quality=getattr(worlds, "quality", None),
        frames=int(getattr(worlds, "frames", 1)),
    )


OBSERVED = ("obs_shape", "obs_dtype", "vector_dim", "obs_mean", "obs_std")
ACTED = ("action_dim", "discrete")


def check_same(trained: EnvSpec, here: EnvSpec, names: Iterable[str] = (*OBSERVED, *ACTED)) -> None:
    """Check that the installed environment has the observations and actions that an agent was trained with.

    Raises:
        CheckpointError: they differ.
    """
    for name in names:
        there, now = getattr(trained, name), getattr(here, name)
        if there != now:
            raise CheckpointError(f"env={trained.id}: {name} is {there} in the checkpoint, {now} here ({here.version})")
    if changed := trained.other_images(here):
        raise CheckpointError(f"env={trained.id}: the checkpoint was trained on other images: {changed}")


def _kind(space: Any, name: str) -> tuple[tuple[int, ...], str, int]:
    """Return shape and type of the space's vector or image, and the length of the vector next to an image (or 0)."""
    if isinstance(space, Dict) and set(space.spaces) == {"image", "vector"}:
        image, vector = (_kind(space[key], name) for key in ("image", "vector"))
        if (image[1], vector[1]) == ("uint8", "float32") and vector[0][0]:
            return *image[:2], vector[0][0]
    elif isinstance(space, Box) and (len(space.shape), str(space.dtype)) in ((1, "float32"), (3, "uint8")):
        return tuple(space.shape), str(space.dtype), 0
    raise ConfigError(
        f"env={name} has observation space {space}; accepted: a Box of float32 vectors [O], a Box of uint8 images "
        f"[H, W, C], or a Dict of both with the keys 'image' and 'vector'"
    )
