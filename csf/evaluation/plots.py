"""Plots of skills, in the colors of the CSF paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from csf.types import Episodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALPHA = 0.8
DPI = 150
REACH = 4  # scale of skills with more than three dimensions before the principal component analysis


def skill_colors(skills: np.ndarray, one_hot: bool = False) -> np.ndarray:
    """Return RGBA colors [N, 4] in [0, 1] of skills [N, Z]; similar skills have similar colors."""
    if one_hot:
        from matplotlib import colormaps

        table = colormaps["tab10" if skills.shape[1] <= 10 else "tab20"]
        return np.asarray(table(skills.argmax(1)))
    points = _color_space(skills)
    return np.column_stack([points, np.full(len(points), ALPHA)]).clip(0, 1)


def _color_space(skills: np.ndarray) -> np.ndarray:
    """Map skills [N, Z] to RGB [N, 3], not clipped, such that [-1, 1]^Z covers the color range."""
    dim = skills.shape[1]
    if dim == 0:  # no skills: gray
        return np.full((len(skills), 3), 0.5)
    if dim == 1:
        z = skills[:, 0]
        ends = np.where(z < 0, 2 + 8 * z, 2), np.where(z < 0, 2, 2 - 8 * z)
        return _color_space(np.stack(ends, 1) / 4)
    if dim == 2:
        red_green = (skills + 1) / 2
        return np.column_stack([red_green, (2 - red_green.sum(1)) / 2])
    if dim > 3:
        return _color_space(_principal(skills))
    return (skills + 1) / 2


def _principal(skills: np.ndarray) -> np.ndarray:
    """Return the first three principal components [N, 3] of skills [N, Z], as in the released program.

    Z Gaussian rows are added to the fit, so that it is defined for equal skills. The sign of an axis is that of its
    largest entry.
    """
    dim = skills.shape[1]
    points = REACH * skills
    cloud = np.concatenate([points, np.random.RandomState(0).randn(dim, dim)])
    mean = cloud.mean(0)
    axes = np.linalg.svd(cloud - mean, full_matrices=False)[2][:3]
    signs = np.sign(axes[range(3), np.abs(axes).argmax(1)])
    return (points - mean) @ (axes * signs[:, None]).T / REACH


def trajectories(episodes: Episodes, colors: np.ndarray, axis: float | None, title: str | None = None) -> np.ndarray:
    """Plot the path of each episode as an image [H, W, 3] uint8; with a single coordinate, episodes are stacked."""
    figure, axes = _canvas()
    coord, count = episodes.coord.numpy(), len(colors)
    for i, length in enumerate(episodes.length.tolist()):
        if not length:  # discarded episode
            continue
        path = coord[i, : length + 1]
        if path.shape[1] >= 2:
            axes.plot(path[:, 0], path[:, 1], color=colors[i], linewidth=0.7)
        else:
            _line_of_growing_width(axes, path[:, 0], (i - count / 2) / 1.25, colors[i])
    if axis is not None:
        axes.set_xlim(-axis, axis)
        if coord.shape[-1] >= 2:
            axes.set_ylim(-axis, axis)
    if coord.shape[-1] >= 2:
        axes.set_aspect("equal")
        axes.set_ylabel("y")
    else:
        axes.set_yticks([])
    axes.set_xlabel("x")
    if title is not None:
        axes.set_title(title, fontsize="medium")
    return _pixels(figure)


def _line_of_growing_width(axes: Axes, x: np.ndarray, height: float, color: np.ndarray) -> None:
    """Draw a horizontal line whose width grows with time from 0.2 to 1.2, so that returning paths are visible."""
    from matplotlib.collections import LineCollection

    points = np.column_stack([x, np.full(len(x), height)])
    segments = np.stack([points[:-1], points[1:]], 1)
    widths = np.linspace(0.2, 1.2, len(x) - 1)
    axes.add_collection(LineCollection(list(segments), colors=[tuple(color)], linewidths=widths))
    axes.autoscale_view()


def goal_map(place: np.ndarray, end: np.ndarray, staying: np.ndarray, radius: float) -> np.ndarray:
    """Plot goals and final positions as an image [H, W, 3] uint8; with a single coordinate, goals are stacked.

    Args:
        place: positions of the goals [N, C], in units of the coordinates.
        end: positions after the last step [N, C].
        staying: fraction of steps within `radius` [N], shown as color.
        radius: success radius, shown as size.
    """
    from matplotlib.collections import EllipseCollection, LineCollection

    flat = place.shape[1] == 1
    ranks = place[:, :1].argsort(0).argsort(0)
    place, end = (np.hstack([points, ranks]) if flat else points[:, :2] for points in (place, end))
    figure, axes = _canvas()
    axes.add_collection(LineCollection(list(np.stack([place, end], 1)), colors="0.7", linewidths=0.5))
    width, height = np.full(len(place), 2 * radius), np.full(len(place), 0.8 if flat else 2 * radius)
    disks = EllipseCollection(width, height, 0 * width, units="xy", offsets=place, offset_transform=axes.transData)
    disks.set(array=staying, cmap="viridis", clim=(0, 1), alpha=ALPHA)
    axes.add_collection(disks)
    axes.plot(*end.T, ".", color="black", markersize=3, zorder=3)
    axes.set_title("goals and final positions (dots)", fontsize="medium")
    figure.colorbar(disks, label=f"fraction of steps within {radius:g} of the goal", shrink=0.8)
    reach = 1.05 * float(np.abs(np.concatenate([place, end])[:, : place.shape[1] - flat]).max()) + radius
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("x")
    if flat:
        axes.set_yticks([])
    else:
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_ylabel("y")
    return _pixels(figure)


def features(points: np.ndarray, colors: np.ndarray, title: str | None = None) -> np.ndarray:
    """Plot the first two dimensions of representations [N, Z] and the unit circle, as an image [H, W, 3] uint8."""
    from matplotlib.patches import Circle

    figure, axes = _canvas()
    plane = np.column_stack([points, np.zeros(len(points))])[:, :2]
    for point, color in zip(plane, colors, strict=True):
        axes.add_patch(Circle(tuple(point), 1.0, facecolor="none", edgecolor=color, linewidth=0.5))
        axes.add_patch(Circle(tuple(point), 0.03, color=color))
    axes.add_patch(Circle((0.0, 0.0), 1.0, facecolor="none", edgecolor="red", linewidth=1.0))
    reach = max(1.5, float(np.abs(plane).max()) + 1.2)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xlabel("phi 1")
    axes.set_ylabel("phi 2")
    if title is not None:
        axes.set_title(title, fontsize="medium")
    return _pixels(figure)


def _canvas() -> tuple[Figure, Axes]:
    """Create a figure without a GUI backend and without pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
