"""Model files of other packages, found without importing them: their Python code needs an older MuJoCo."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from gymnasium.error import DependencyNotInstalled

# The project on the package index and the version whose files the worlds are built from, by importable name.
_PINS = {
    "dm_control": "dm_control==1.0.50",
    "gymnasium_robotics": "gymnasium-robotics==1.4.2",
    "metaworld": "metaworld==3.0.0",
}


def asset(package: str, name: str) -> str:
    """Path of a model file in an installed package.

    Args:
        package: The name by which Python would import it.
        name: Path of the file inside the package, parts separated by "/".

    Raises:
        DependencyNotInstalled: If the package is not installed, or has no such file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder, name)
        if path.is_file():
            return str(path)
    reason = f"{package} is installed but has no file {name}" if spec else f"{package} is not installed"
    # Its own dependencies ask for another MuJoCo, and only its files are read.
    raise DependencyNotInstalled(f"{reason}: pip install --no-deps {_PINS[package]}")
