"""Draws the plane of the representation as SVG, with the paths of all bodies in the colors of their skills."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np

from csf.play.session import Session

Plane = Literal["first two", "principal"]
PLANES: tuple[Plane, ...] = ("first two", "principal")
SIDE, EDGE, BELOW = 300, 14, 16  # side of the plane, its margin, and height of the text below it, in pixels
POINTS = 60  # largest number of points of a path in the picture
KEPT = 400  # number of last steps whose representations are kept
INK, AXIS = "#8a93a3", "#d4d9e2"


class Phi:
    """The recent representations of all bodies.

    Attributes:
        plane: "first two": the first two dimensions; "principal": the first two principal components of what is kept.

    The limits of the picture only grow, such that it is the same for one episode after another; those of another
    checkpoint or plane are new.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.plane: Plane = "first two"
        self._rows: deque[np.ndarray] = deque(maxlen=KEPT)  # [N, P]
        self._breaks: deque[np.ndarray] = deque(maxlen=KEPT)  # [N] bool, where a path does not continue
        self._axes: np.ndarray | None = None
        self._shown: tuple[object, ...] = ()  # checkpoint and plane to which the limits belong
        self._limits = np.zeros((2, 2))  # lowest and highest point

    def restart(self) -> None:
        """Delete the paths, after a reset of the worlds."""
        self._rows.clear()
        self._breaks.clear()
        self._axes = None
        self.add()

    def add(self) -> None:
        """Record the current representations."""
        if self.session.phi is not None:
            self._rows.append(self.session.phi)
            self._breaks.append(~self.session.joined)

    def svg(self) -> str:
        """Return the picture, or a text if the agent has no representation."""
        if self.session.phi is None or not self._rows:
            return f"<p style='padding:0 1em'>agent={self._method()} has no representation phi.</p>"
        paths = np.stack(self._rows, axis=1)  # [N, T, P]
        goals = self.session.goals.represented(self.session.source.actor)
        flat, marks = self._project(paths, goals)
        low, high = self._extend(np.concatenate([flat.reshape(-1, 2), marks]))
        middle, span = (low + high) / 2, max(float((high - low).max()), 1e-6)

        def place(points: np.ndarray) -> np.ndarray:
            unit = (points - middle) / span * (SIDE - 2 * EDGE)
            return np.asarray(SIDE / 2 + unit * (1, -1))

        breaks, zero = np.stack(self._breaks, axis=1), place(np.zeros(2))
        return _picture(
            place(flat), breaks, place(marks), self.session.colors(), zero, self._labels(float((high - low).max()))
        )

    def _extend(self, points: np.ndarray) -> np.ndarray:
        """Return the lowest and the highest point [2, 2] of the picture, which contains points [n, 2]."""
        limits = np.stack([points.min(0), points.max(0)])
        if self._shown == (now := (self.session.source.path, self.session.count, self.plane)):
            limits = np.stack([np.minimum(limits[0], self._limits[0]), np.maximum(limits[1], self._limits[1])])
        self._shown, self._limits = now, limits
        return limits

    def _method(self) -> str:
        return str(self.session.source.actor.objective.cfg.name)

    def _labels(self, span: float) -> tuple[str, str, str]:
        one = self.session.phi is not None and self.session.phi.shape[1] == 1
        names = ("steps", "phi 1") if one else ("phi 1", "phi 2") if self.plane == "first two" else ("PC 1", "PC 2")
        return (*names, f"width {span:.3g}")

    def _project(self, paths: np.ndarray, goals: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Project paths [N, T, P] and goals [n, P] onto the plane."""
        _, steps, dim = paths.shape
        marks = np.zeros((0, dim)) if goals is None else goals
        if dim == 1:  # against time, scaled to the range of phi
            time = np.broadcast_to(np.linspace(0, max(float(np.ptp(paths)), 1e-6), steps)[None, :, None], paths.shape)
            return np.concatenate([time, paths], axis=2), np.hstack([np.full((len(marks), 1), time.max()), marks])
        if self.plane == "first two":
            return paths[..., :2], marks[:, :2]
        points = paths.reshape(-1, dim)
        mean = points.mean(0)
        axes = np.linalg.eigh(np.cov(points.T))[1][:, ::-1][:, :2]
        if self._axes is not None:  # the signs of principal axes are arbitrary; keep those of the last picture
            axes = axes * np.where((axes * self._axes).sum(0) < 0, -1, 1)
        self._axes = axes
        return (paths - mean) @ axes, (marks - mean) @ axes


def _picture(
    paths: np.ndarray, breaks: np.ndarray, goals: np.ndarray, colors: np.ndarray, zero: np.ndarray, names: Sequence[str]
) -> str:
    """Return an SVG.

    Args:
        paths: paths of the bodies [N, T, 2], in pixels.
        breaks: where a path does not continue [N, T].
        goals: [n, 2].
        colors: colors of the bodies [N, 3].
        zero: place [2] where the axes cross, possibly outside of the picture.
        names: labels of both axes, and a text below the plane.
    """
    x, y = zero.round(1)
    end, top = SIDE - 4, min(max(y - 4, 14), SIDE - 18)
    left = min(max(x + 4, 4), SIDE - 40)
    parts = [
        f"<svg viewBox='0 0 {SIDE} {SIDE + BELOW}' width='100%' role='img' aria-label='plane of phi'>",
        f"<path d='M{x} 0V{SIDE}M0 {y}H{SIDE}' stroke='{AXIS}'/>",
        f"<g font-size='11' fill='{INK}'><text x='{end}' y='{top}' text-anchor='end'>{names[0]}</text>"
        f"<text x='{left}' y='12'>{names[1]}</text><text x='4' y='{SIDE + BELOW - 5}'>{names[2]}</text></g>",
    ]
    stride = -(-paths.shape[1] // POINTS)
    for path, broken, color in zip(paths, breaks, colors, strict=True):
        rgb = f"rgb({color[0]},{color[1]},{color[2]})"
        parts.append(f"<path d='{_line(path, broken, stride)}' fill='none' stroke='{rgb}' stroke-opacity='.6'/>")
    for path, color in zip(paths, colors, strict=True):
        x, y = path[-1].round(1)
        parts.append(f"<circle cx='{x}' cy='{y}' r='4' fill='rgb({color[0]},{color[1]},{color[2]})'/>")
    for x, y in goals.round(1):
        parts.append(f"<path d='M{x - 5} {y}h10M{x} {y - 5}v10' stroke='#1e9650' stroke-width='2'/>")
    return "".join([*parts, "</svg>"])


def _line(path: np.ndarray, broken: np.ndarray, stride: int) -> str:
    """Return the path data of points [T, 2], of which every `stride`-th and the last are used."""
    last = len(path) - 1
    words, start = [], True
    for t, (x, y) in enumerate(path.round(1).tolist()):
        start = start or bool(broken[t])
        if t % stride == 0 or t == last:
            words.append(f"{'M' if start else 'L'}{x} {y}")
            start = False
    return "".join(words)
