"""Draws a session with viser: floor, bodies, paths, goals, and the dial of skills on the circle."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from csf.play.bodies import LIFT, Bodies, Frame, Part, poses_of
from csf.play.session import KEPT, Session

Layout = Literal["together", "ghosts", "side by side"]
LAYOUTS: tuple[Layout, ...] = ("together", "ghosts", "side by side")
CHUNK = 10  # steps of a path in one node; only the node of the newest steps is sent again
FAINT = 0.3  # opacity of the bodies that are not selected, in the layout "ghosts"
FAR = 12.0  # largest distance from the start that is kept in view, in units of the scene's scale
FLOOR, LINE, SECTION = (236, 239, 244), (218, 222, 230), (190, 196, 208)
GOAL, RIM = (30, 150, 80), (110, 118, 132)
SIDES = np.array([[math.cos(x), math.sin(x), 0.0] for x in np.arange(16) * math.pi / 8])  # directions [16, 3]
UNIT = (1.0, 0.0, 0.0, 0.0)  # quaternion of no rotation


class Scene:
    """The nodes of a session in a viser server.

    Attributes:
        bodies: shapes of the worlds.
        layout: "together": all worlds start at the same place; "ghosts": also, and only the selected body is opaque;
            "side by side": the worlds are drawn at a distance from each other.
        follow: whether the scene moves with the selected body, or with the mean of all.
        paths: whether paths are drawn.
        selected: the selected body; None: all.
        scale: length in meters by which the scene is framed.
        handles: nodes of the moving shapes, in the order of `bodies.parts`.
        ring, knobs: nodes of the dial; None if the skills are not on the circle.
    """

    def __init__(self, api: Any, session: Session) -> None:
        """Add the nodes of a session.

        Args:
            api: the attribute `scene` of a viser server.
            session: the session; `build` must be called when its number of worlds has changed.
        """
        self.api, self.session = api, session
        self.follow, self.paths = False, True
        self.selected: int | None = None
        self.bodies = Bodies(session.worlds.model)
        self.layout: Layout = "side by side" if session.worlds.coord_dim == 1 else "together"
        self.scale = self._scale()
        self.root = api.add_frame("/world", show_axes=False)
        self.ring: Any = None
        self.knobs: Any = None
        self._chunks: list[Any] = []
        self._newest: Any = None
        self._number = 0
        self._steps: list[tuple[np.ndarray, np.ndarray]] = []  # segments [N, 2, 3] and colors of the newest node
        self._goals: Any = None
        self._aims: Any = None
        self._drawn = b""  # places of the goals that are drawn
        self._add_floor()
        self.build()

    def _scale(self) -> float:
        radii, radius = self.session.worlds.success_radii, self.bodies.radius
        in_plane = self.session.worlds.coord_dim == 2 and self.bodies.walks
        return max(2.5 * radius, 4 * min(radii)) if radii and in_plane else 2.5 * radius

    def _add_floor(self) -> None:
        import trimesh

        cell, size, ground = 10.0 ** math.floor(math.log10(self.scale)), 80 * self.scale, self._ground()
        # The plane of viser's own grid is translucent and is drawn over the bodies.
        plane = trimesh.creation.box((size, size, 0.1 * LIFT))
        self.api.add_mesh_simple(
            "/world/floor/plane", plane.vertices, plane.faces, color=FLOOR, position=(0, 0, ground - 0.5 * LIFT),
            cast_shadow=False,
        )  # fmt: skip
        self.api.add_grid(
            "/world/floor/grid", width=size, height=size, cell_size=cell, section_size=5 * cell, cell_color=LINE,
            section_color=SECTION, shadow_opacity=0.0, fade_distance=30 * self.scale, position=(0, 0, ground),
        )  # fmt: skip

    def _ground(self) -> float:
        """Return the height of the floor, which is below the lowest fixed shape."""
        mesh = self.bodies.scenery
        return -0.001 if mesh is None else min(0.0, float(mesh.bounds[0, 2])) - 0.001

    def build(self) -> None:
        """Add the nodes that depend on the number of worlds or on the layout."""
        position, rotation = self._poses()
        self.forget()
        self._shown_colors = b""
        self.handles = [
            self.api.add_batched_meshes_simple(
                f"/world/bodies/{i}", part.vertices, part.faces,
                rotation[:, part.geoms].reshape(-1, 4), position[:, part.geoms].reshape(-1, 3),
                batched_colors=linear(self._colors(part)), batched_opacities=self._opacities(part), lod="off",
            )
            for i, part in enumerate(self.bodies.parts)
        ]  # fmt: skip
        if (mesh := self.bodies.scenery) is not None:
            places = np.unique(self.lanes(), axis=0)
            self.api.add_batched_meshes_trimesh(
                "/world/fixed", mesh, np.tile(UNIT, (len(places), 1)), places, lod="off"
            )
        if self.session.repertoire.is_circle and self.bodies.walks:  # around an arm it would cross the scenery
            self._add_dial()
        self.restart()

    def _add_dial(self) -> None:
        import trimesh

        radius = self.dial_radius
        ring = trimesh.creation.annulus(0.96 * radius, 1.04 * radius, height=0.004 * self.scale, sections=96)
        knob = trimesh.creation.icosphere(subdivisions=2, radius=0.1 * radius)
        self.ring = self.api.add_mesh_simple(
            "/world/dial/ring", ring.vertices, ring.faces, color=RIM, opacity=0.55, position=(0, 0, LIFT),
            cast_shadow=False, visible=self.layout != "side by side",
        )  # fmt: skip
        self.knobs = self.api.add_batched_meshes_simple(
            "/world/dial/knobs", knob.vertices, knob.faces, np.tile(UNIT, (self.session.count, 1)), self._knobs(),
            batched_colors=linear(self.session.colors()), lod="off", visible=self.layout != "side by side",
        )  # fmt: skip

    @property
    def dial_radius(self) -> float:
        """Radius of the dial in meters."""
        return 0.55 * self.scale

    def _knobs(self) -> np.ndarray:
        flat = self.dial_radius * self.session.used
        return np.pad(flat, ((0, 0), (0, 1)), constant_values=LIFT).astype(np.float32)

    def in_view(self) -> np.ndarray:
        """Return the points [n, 3] that should be in view, up to `reach`.

        Robots that stay in place: the robot and what is around it. With `follow`: the bodies that are followed.
        Otherwise: the start, the goals, and the outermost places of the bodies since the last `forget`.
        """
        if not self.bodies.walks:
            corners = np.stack(np.meshgrid(*self.bodies.surroundings().T), axis=-1).reshape(-1, 3)
            return (corners + self.lanes()[:, None]).reshape(-1, 3)
        if self.follow:
            return self._followed() - self.center()
        return np.concatenate([self._outermost, self.lanes(), self._goal_places()[1]])

    @property
    def reach(self) -> float:
        """Distance in meters from the points of `in_view` that should be in view as well."""
        return max(1.3 * self.bodies.radius, 1.1 * self.dial_radius) if self.bodies.walks else 0.0

    def forget(self) -> None:
        """Forget where the bodies have been, such that only where they are now is kept in view."""
        self._outermost = np.repeat(self.lanes()[:1], len(SIDES), axis=0)  # [directions, 3]

    def _remember(self) -> None:
        """Replace the outermost places by those of bodies that are farther out now."""
        places = np.clip(self.frame.tracked, -FAR * self.scale, FAR * self.scale) + self.lanes()
        places = np.concatenate([self._outermost, places])
        self._outermost = places[(places @ SIDES.T).argmax(0)]

    def lanes(self) -> np.ndarray:
        """Return the place [N, 3] of each world in the scene."""
        count, places = self.session.count, np.zeros((self.session.count, 3))
        if self.layout != "side by side":
            return places
        if self.session.worlds.coord_dim == 1:
            places[:, 1] = 1.2 * self.bodies.radius * (np.arange(count) - (count - 1) / 2)
            return places
        rows = math.ceil(math.sqrt(count))
        places[:, 0], places[:, 1] = np.arange(count) % rows, -(np.arange(count) // rows)
        return np.asarray(3 * self.scale * (places - places.mean(0)))

    def _poses(self) -> tuple[np.ndarray, np.ndarray]:
        self.frame: Frame = self.bodies.frame(poses_of(self.session.worlds, self.session.coord))
        place = self.frame.position + self.lanes()[:, None]
        return place.astype(np.float32), self.frame.rotation.astype(np.float32)

    def _colors(self, part: Part) -> np.ndarray:
        """Return the colors [N * K, 3] of the instances of a part."""
        tint = self.session.colors()[:, None]
        return np.where(part.tinted[:, None], tint, part.colors).astype(np.uint8).reshape(-1, 3)

    def _opacities(self, part: Part) -> np.ndarray | None:
        """Return the opacities [N * K] of the instances of a part; None if all are opaque."""
        if self.layout != "ghosts":
            return None
        solid = np.arange(self.session.count) == (self.selected or 0)
        return np.repeat(np.where(solid, 1.0, FAINT), len(part.geoms)).astype(np.float32)

    def restart(self) -> None:
        """Delete the paths and show the current state, after a reset of the worlds."""
        for chunk in [*self._chunks, *([self._newest] if self._newest else [])]:
            chunk.remove()
        self._chunks, self._steps, self._newest, self._number = [], [], None, 0
        self._last = self._tracked()
        self.show()

    def _tracked(self) -> np.ndarray:
        frame = self.bodies.frame(poses_of(self.session.worlds, self.session.coord))
        return frame.tracked + self.lanes()

    def add_step(self) -> None:
        """Record the paths of a step; `show` draws them."""
        place = self._tracked()
        start = np.where(self.session.joined[:, None], self._last, place)
        self._steps.append((np.stack([start, place], axis=1), linear(self.session.colors())))
        self._last = place
        if len(self._steps) == CHUNK:
            self._draw_path()
            self._chunks.append(self._newest)
            self._steps, self._newest = [], None
            self._number = (self._number + 1) % (KEPT // CHUNK + 1)
            if len(self._chunks) > KEPT // CHUNK:
                self._chunks.pop(0).remove()

    def _draw_path(self) -> None:
        points = np.concatenate([segment for segment, _ in self._steps]).astype(np.float32)
        colors = np.concatenate([np.repeat(color[:, None], 2, axis=1) for _, color in self._steps])
        self._newest = self.api.add_line_segments(
            f"/world/paths/{self._number}", points, colors, thickness=3.0, thickness_units="screen", visible=self.paths
        )

    def show(self) -> None:
        """Send the current state."""
        position, rotation = self._poses()
        self._remember()
        for part, handle in zip(self.bodies.parts, self.handles, strict=True):
            handle.batched_positions = position[:, part.geoms].reshape(-1, 3)
            handle.batched_wxyzs = rotation[:, part.geoms].reshape(-1, 4)
        self._show_colors()
        if self._steps:
            self._draw_path()
        self._show_goals()
        self.root.position = tuple(-self.center()) if self.follow else (0.0, 0.0, 0.0)

    def _show_colors(self) -> None:
        """Send colors and dial if a skill has changed."""
        colors = self.session.colors()
        if (now := self.session.used.tobytes() + colors.tobytes()) == self._shown_colors:
            return
        self._shown_colors = now
        for part, handle in zip(self.bodies.parts, self.handles, strict=True):
            handle.batched_colors = linear(self._colors(part))
        if self.knobs is not None:
            self.knobs.batched_positions, self.knobs.batched_colors = self._knobs(), linear(colors)

    def select(self, body: int | None) -> None:
        """Select a body; None: all."""
        self.selected = body
        for part, handle in zip(self.bodies.parts, self.handles, strict=True):
            handle.batched_opacities = self._opacities(part)

    def show_paths(self, shown: bool) -> None:
        """Show or hide the paths."""
        self.paths = shown
        for chunk in [*self._chunks, *([self._newest] if self._newest else [])]:
            chunk.visible = shown

    def center(self) -> np.ndarray:
        """Return the position [3] on the floor of the selected body, or the mean position of all."""
        return np.asarray(self._followed().mean(0) * (1.0, 1.0, 0.0))

    def _followed(self) -> np.ndarray:
        """Return the places [n, 3] of the selected body, or of all."""
        return (self.frame.tracked + self.lanes())[slice(None) if self.selected is None else [self.selected]]

    def _goal_places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return bodies [n] with a goal on the floor, and the places [n, 3] of their goals."""
        session = self.session
        coord_dim = session.worlds.coord_dim
        place = session.goals.place if session.target is None else session.target
        if coord_dim not in (1, 2) or not np.isfinite(place).any():
            return np.zeros(0, int), np.zeros((0, 3))
        ids = np.flatnonzero(np.isfinite(place).all(1))
        return ids, np.pad(place[ids], ((0, 0), (0, 3 - coord_dim))) + self.lanes()[ids]

    def _show_goals(self) -> None:
        """Send the goals, and a line from each body to its goal."""
        ids, places = self._goal_places()
        if not len(ids):
            if self._goals is not None:
                self._goals.visible = self._aims.visible = False
            return
        self._draw_goals(places)
        ends = np.stack([(self.frame.tracked + self.lanes())[ids], places + np.array([0, 0, LIFT])], axis=1)
        self._aims = self.api.add_line_segments(
            "/world/aims", ends.astype(np.float32), GOAL, thickness=1.5, thickness_units="screen"
        )

    def _draw_goals(self, places: np.ndarray) -> None:
        import trimesh

        if self._goals is not None and self._drawn == places.tobytes():
            self._goals.visible = True
            return
        self._drawn = places.tobytes()
        radius = min(self.session.worlds.success_radii, default=0.25 * self.scale)
        disk = trimesh.creation.cylinder(radius=radius, height=0.002 * self.scale, sections=64)
        distinct = np.unique(places, axis=0) + np.array([0, 0, 0.5 * LIFT])
        self._goals = self.api.add_batched_meshes_simple(
            "/world/goals", disk.vertices, disk.faces, np.tile(UNIT, (len(distinct), 1)), distinct,
            batched_colors=GOAL, opacity=0.45, lod="off", cast_shadow=False,
        )  # fmt: skip


def linear(colors: np.ndarray) -> np.ndarray:
    """Convert colors [N, 3] uint8 from sRGB to linear RGB, as which viser reads arrays of colors, not single ones."""
    unit = colors / 255
    light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return (255 * light).round().astype(np.uint8)
