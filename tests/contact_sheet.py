"""Draws the image environments as their agents see them: `python tests/contact_sheet.py docs/image_environments.png`.

Two rows for each environment: the first image of an episode and the goals; and images of an episode of random actions,
followed by the first image in the other quality and from the other renderer. Images are 64 x 64, enlarged.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
from PIL import Image

import envs
from envs.observations import Array

ENVIRONMENTS = ("quadruped", "humanoid", "kitchen", "robobin")
PLACES = [(10.0, 0.0), (-10.0, 0.0), (0.0, 10.0), (0.0, -10.0), (9.0, 9.0), (-9.0, -9.0)]  # goals on the floor, meters
COLUMNS, ENLARGED, GAP, LABEL = 7, 3, 4, 18
HELD = 10  # steps for which a random action is held, so that the robot moves
SHOWN = 5  # images of the episode

Cell = tuple[str, Array]


def main(path: Path) -> None:
    """Write the picture."""
    rows = [row for name in ENVIRONMENTS for row in rows_of(name)]
    Image.fromarray(np.concatenate([strip(row) for row in rows])).save(path, optimize=True)


def rows_of(name: str) -> list[list[Cell]]:
    """The two rows of an environment."""
    worlds: Any = envs.make_vec(name, 1, threads=1)
    first = newest(worlds.reset(seed=0)[0])
    named = worlds.named_goals or {f"goal {place}": place for place in PLACES}
    goals = newest(worlds._goal_obs(np.array(list(named.values()), np.float64)))
    film = episode(worlds)
    worlds.close()
    others = [(f"{label}, at reset", other(name, setting)) for label, setting in OTHERS.items()]
    return [[(f"{name}: reset", first[0]), *zip(named, goals, strict=True)], [*film, *others]]


OTHERS = {"quality=fast": {"quality": "fast"}, "renderer=warp": {"renderer": "warp"}}


def other(name: str, setting: dict[str, str]) -> Array:
    """The first image with another setting."""
    worlds: Any = envs.make_vec(name, 1, threads=1, **setting)
    image = newest(worlds.reset(seed=0)[0])[0]
    worlds.close()
    return image


def episode(worlds: Any) -> list[Cell]:
    """Images of an episode of random actions, each held for some steps."""
    rng, found = np.random.default_rng(0), []
    times = np.linspace(0, worlds.max_steps, SHOWN + 1).round()[1:]
    for step in range(1, worlds.max_steps + 1):
        if step % HELD == 1:
            action = rng.uniform(-1, 1, (1, *worlds.single_action_space.shape))
        obs = worlds.step(action)[0]
        if step in times:
            found.append((f"step {step}", newest(obs)[0]))
    return found


def newest(obs: Array) -> Array:
    """The newest image of each stack."""
    return obs[..., -3:]


def strip(cells: list[Cell]) -> Array:
    """Enlarged images side by side with their labels below."""
    side = 64 * ENLARGED
    found = np.full((side + LABEL + GAP, COLUMNS * (side + GAP), 3), 255, np.uint8)
    for i, (label, image) in enumerate(cells):
        left = i * (side + GAP)
        found[:side, left : left + side] = image.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        place = (left + 2, side + LABEL - 5)
        cv2.putText(found, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
