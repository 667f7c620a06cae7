"""Finds the policies that are installed with the package, by addresses such as packaged:ant."""

from __future__ import annotations

from pathlib import Path

from csf.errors import CheckpointError

PREFIX = "packaged"
FOLDER = Path(__file__).parents[1] / "packaged"  # one folder per policy, as csf export writes it


def is_address(cp_path: str | Path) -> bool:
    """Return whether a value of cp_path is packaged:NAME, or only packaged."""
    return str(cp_path).partition(":")[0] == PREFIX


def complete(cp_path: str, env: str | None) -> str:
    """Return the address of a packaged policy; without a name, it is that of the environment.

    Raises:
        CheckpointError: if there is neither a name nor an environment, or there is no such policy.
    """
    name = cp_path.partition(":")[2] or env
    if not name or name not in names():
        raise CheckpointError(f"cp_path={cp_path if env is None else f'{PREFIX}:{name}'}: {_unknown()}")
    return f"{PREFIX}:{name}"


def find(cp_path: str, file: str) -> Path:
    """Return the path of a packaged policy's file.

    Args:
        cp_path: packaged:NAME.
        file: name of the file.

    Raises:
        CheckpointError: if there is no such policy.
    """
    return FOLDER / complete(cp_path, None).partition(":")[2] / file


def names() -> list[str]:
    """Return the names of the packaged policies."""
    return sorted({file.parent.name for file in FOLDER.glob("*/*.safetensors")})


def addresses() -> str:
    """Return the addresses of the packaged policies as text for messages."""
    return ", ".join(f"{PREFIX}:{name}" for name in names())


def _unknown() -> str:
    return f"no such packaged policy; accepted: {addresses() or 'none, since none is installed'}"
