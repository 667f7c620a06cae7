"""Find model files in other packages without importing them, because their code requires an older MuJoCo."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from gymnasium.error import DependencyNotInstalled

# Import name -> requirement (distribution name and version) that provides the model files.
_PINS = {
    "dm_control": "dm_control==1.0.50",
    "gymnasium_robotics": "gymnasium-robotics==1.4.2",
    "metaworld": "metaworld==3.0.0",
}


def asset(package: str, name: str) -> str:
    """Return the path of a model file in an installed package.

    Args:
        package: Import name of the package.
        name: Path of the file inside the package, separated by "/".

    Raises:
        DependencyNotInstalled: If the package is not installed, or does not contain the file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder, name)
        if path.is_file():
            return str(path)
    reason = f"{package} is installed but has no file {name}" if spec else f"{package} is not installed"
    # --no-deps: the dependencies of these packages require another MuJoCo, and only their model files are read.
    raise DependencyNotInstalled(f"{reason}: pip install --no-deps {_PINS[package]}")
