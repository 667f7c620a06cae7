"""Which runs are seeds of one method, and which methods met the same environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csf.io.run_dir import MAY_CHANGE, flat
from csf.reporting.runs import Run

SEEDED = {"seed", "env.goal_seed"}  # differ between seeds of the same thing
CONTROLLED = ("skills", "hold")  # of controllers; seeds may take the skills of different seeds
DRAWN = {"env.plot_range"}  # changes pictures only


@dataclass(frozen=True)
class Group:
    """Seeds of one method in one environment."""

    method: str  # as short as tells it from the others
    runs: tuple[Run, ...]  # by seed, which all differ


@dataclass(frozen=True)
class Arena:
    """The methods that met one environment."""

    environment: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]  # what is left out or doubtful, and why

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the groups."""
        return [run for group in self.groups for run in group.runs]


def arrange(runs: Sequence[Run]) -> list[Arena]:
    """Runs by environment, by method, by seed; a seed that comes twice counts once."""
    worlds = _named(runs, lambda run: str(run.config["env"]["name"]), _world)
    arenas = []
    for environment, here in worlds.items():
        notes = _versions(here)
        methods = _named(here, lambda run: run.method, _method)
        groups = tuple(Group(name, _distinct(members, notes)) for name, members in methods.items())
        arenas.append(Arena(environment, groups, tuple(notes)))
    return arenas


def _method(run: Run) -> dict[str, Any]:
    """What makes two runs seeds of one method, by path."""
    keys = {key: value for key, value in flat(run.config).items() if key.startswith(("agent.", "task."))}
    kept = {key: value for key, value in keys.items() if key not in MAY_CHANGE}
    return kept | {key: run.config.get(key) for key in CONTROLLED}


def _world(run: Run) -> dict[str, Any]:
    """What makes two environments the same, by path."""
    keys = {key: value for key, value in flat(run.config).items() if key.startswith("env.")}
    return {key: value for key, value in keys.items() if key not in MAY_CHANGE | SEEDED | DRAWN}


def _named(runs: Sequence[Run], name: Any, identity: Any) -> dict[str, list[Run]]:
    """Runs that are equal, by their name and by what tells them from others of that name; order is kept."""
    by_name: dict[str, list[tuple[dict[str, Any], Run]]] = {}
    for run in runs:
        by_name.setdefault(name(run), []).append((identity(run), run))
    found: dict[str, list[Run]] = {}
    for word, members in by_name.items():
        differing = _differing([leaves for leaves, _ in members])
        for leaves, run in members:
            words = [f"{key.partition('.')[2] or key}={leaves.get(key, 'absent')}" for key in differing]
            found.setdefault(", ".join([word, *words]), []).append(run)
    return found


def _differing(leaves: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for each in leaves for key in each)
    return [key for key in keys if len({repr(each.get(key, "absent")) for each in leaves}) > 1]


def _distinct(runs: Sequence[Run], notes: list[str]) -> tuple[Run, ...]:
    """One run for each seed, the longest: equal seeds are not independent."""
    kept: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: -run.epoch):
        if run.seed in kept:
            notes.append(f"{short(run.path)} is left out: same method and seed as {short(kept[run.seed].path)}.")
        kept.setdefault(run.seed, run)
    return tuple(kept[seed] for seed in sorted(kept))


def _versions(runs: Sequence[Run]) -> list[str]:
    versions = sorted({str(run.policy["spec"]["version"]) for run in runs if run.policy})
    if len(versions) < 2:
        return []
    return [f"The runs met different versions of this environment ({'; '.join(versions)}): compare with care."]


def short(path: Path) -> str:
    """The last words of a path, which name task, environment, method and seed."""
    return "/".join(path.resolve().parts[1:][-4:])
