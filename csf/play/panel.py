"""The controls of `csf play`, and what they show."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from csf.errors import ConfigError, CsfError
from csf.play import pointer
from csf.play.camera import Cameras
from csf.play.drawing import PLANES, Phi
from csf.play.player import Player
from csf.play.scene import LAYOUTS, Scene
from csf.play.session import MOST, Session
from csf.play.skills import REACH, angle, circle

SPEEDS = {"1/4 x": 0.25, "1/2 x": 0.5, "1 x": 1.0, "2 x": 2.0, "4 x": 4.0, "as fast as possible": 1e6}
SLIDERS = 16  # largest number of dimensions with a slider
ALL = "all"


def open_page(server: Any, session: Session) -> Panel:
    """Add the scene and the controls of a session to a viser server; `player.run` of the panel then plays it."""
    scene = Scene(server.scene, session)
    return Panel(server, Player(session, scene, Phi(session)), Cameras(server, scene))


class Panel:
    """The controls of a player in a viser server, shared by all visitors."""

    def __init__(self, server: Any, player: Player, cameras: Cameras) -> None:
        """Add the controls, and the handlers of clicks in the scene."""
        self.gui, self.player, self.cameras = server.gui, player, cameras
        self.session, self.scene = player.session, player.scene
        self.message = ""
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        server.gui.set_panel_label(self.session.source.title)
        self.status = self.gui.add_html("")
        self._add_time()
        self._add_skills()
        self._add_goals()
        self._add_checkpoints()
        self._add_view()
        self._add_phi()
        self.pointer = pointer.connect(self.scene, self)
        player.errors, player.shown, player.drawn = self.refuse, cameras.update, self.draw
        self.show_skill()

    def ask(self, request: Callable[[], None]) -> None:
        """Execute a request between two steps; its success clears the message of the last refused request."""

        def execute() -> None:
            request()
            self.message = ""

        self.player.ask(execute)

    def on(self, handle: Any, request: Callable[[Any], None]) -> None:
        """Execute a request with the value of an input when a visitor changes it; one that is refused is restored."""
        last = [handle.value]

        def changed(event: Any) -> None:
            value = handle.value

            def execute() -> None:
                try:
                    request(_checked(handle, value))
                except CsfError:
                    handle.value = last[0]
                    raise
                last[0] = value

            if event.client_id is None:  # this program has set the value
                last[0] = value
            else:
                self.ask(execute)

        handle.on_update(changed)

    def buttons(self, requests: dict[str, Callable[[], None]]) -> None:
        """Add a row of buttons that execute requests."""
        row = self.gui.add_button_group("", tuple(requests))

        def clicked(event: Any) -> None:
            name = event.target.value
            self.ask(lambda: requests[_checked(row, name)]())

        row.on_click(clicked)

    def refuse(self, message: str) -> None:
        """Show why a request was refused."""
        self.message = message
        self.show_skill()

    @property
    def ids(self) -> list[int]:
        """The selected bodies."""
        selected = self.scene.selected
        return list(range(self.session.count)) if selected is None else [selected]

    def _add_time(self) -> None:
        with self.gui.add_folder("Time"):
            self.buttons({"play/pause": self._toggle, "step": self._step, "reset": self._reset})
            self.on(self.gui.add_dropdown("speed", tuple(SPEEDS), initial_value="1 x"), self._set_speed)
            hint = "Start new episodes after the last step; otherwise continue beyond what training has seen"
            restarts = self.gui.add_checkbox("new episodes", True, hint=hint)
            self.on(restarts, lambda value: setattr(self.session, "restarts", bool(value)))
            sampled = self.gui.add_checkbox("sample actions", False, hint="Sample actions instead of taking the mode")
            self.on(sampled, lambda value: setattr(self.session, "deterministic", not value))

    def _toggle(self) -> None:
        self.player.playing = not self.player.playing

    def _step(self) -> None:
        self.player.playing = False
        self.player.advance()

    def _reset(self) -> None:
        self.session.reset()
        self.player.restarted()

    def _set_speed(self, name: str) -> None:
        self.player.speed = SPEEDS[name]

    def _add_skills(self) -> None:
        session = self.session
        with self.gui.add_folder("Skills"):
            count = self.gui.add_slider("bodies", 1, MOST, 1, session.count)
            self.on(count, lambda value: self._resize(int(value)))
            self.body = self.gui.add_dropdown("body", self._names(), hint="The body that the controls below concern")
            self.on(self.body, self._select)
            self._inputs: list[Any] = []
            if session.skills_off:
                self.gui.add_html(_note(f"Skills cannot be picked: {session.skills_off}."))
                return
            self._add_inputs()
            self.buttons({way: partial(self._change, way) for way in ("spread", "sample", "next")})

    def _add_inputs(self) -> None:
        repertoire = self.session.repertoire
        if repertoire.prior == "one_hot":
            names = tuple(f"skill {i + 1}" for i in range(repertoire.dim))
            self._inputs = [self.gui.add_dropdown("skill", names)]
            self.on(self._inputs[0], lambda name: self.pick(np.eye(repertoire.dim)[names.index(name)]))
        elif repertoire.is_circle:
            hint = "Direction of the skill; if all bodies are selected, all turn together"
            self._inputs = [self.gui.add_slider("direction", 0, 360, 1, 0, hint=hint)]
            self.on(self._inputs[0], lambda degrees: self.turn(math.radians(degrees)))
        else:
            reach = REACH[repertoire.prior]
            shown = range(min(repertoire.dim, SLIDERS))
            self._inputs = [self.gui.add_slider(f"z {i + 1}", -reach, reach, 0.01, 0.0) for i in shown]
            for i, slider in enumerate(self._inputs):
                self.on(slider, partial(self._set_entry, i))
            if repertoire.dim > SLIDERS:
                self.gui.add_html(_note(f"The last {repertoire.dim - SLIDERS} dimensions have no slider."))

    def _names(self) -> tuple[str, ...]:
        return (ALL, *(str(i + 1) for i in range(self.session.count)))

    def _resize(self, count: int) -> None:
        self.session.resize(count)
        self.scene.selected = None
        self._build()
        self.body.options = self._names()
        self.show_skill()

    def _build(self) -> None:
        self.scene.build()
        pointer.attach(self.pointer)
        self.player.restarted()

    def _set_layout(self, layout: Any) -> None:
        self.scene.layout = layout
        self._build()

    def _select(self, name: str) -> None:
        self.select(None if name == ALL else int(name) - 1)

    def select(self, body: int | None) -> None:
        """Select a body; None: all.

        Raises:
            ConfigError: there is no such body, possibly because another visitor has reduced their number.
        """
        self._check_body(body)
        self.scene.select(body)
        self.body.value = ALL if body is None else str(body + 1)
        self.show_skill()

    def _check_body(self, body: int | None) -> None:
        if body is not None and not 0 <= body < self.session.count:
            raise ConfigError(f"body is {body + 1}; accepted: {ALL}, or 1 to {self.session.count}")

    def pick(self, values: Any) -> None:
        """Set the skill of the selected bodies."""
        self.session.pick(self.ids, values)
        self.show_skill()

    def turn(self, to: float, body: int | None = None) -> None:
        """Turn a skill to an angle in radians.

        Args:
            to: the angle.
            body: whose skill; None: that of the first selected body, and the others by the same difference.
        """
        self._check_body(body)
        ids = self.ids if body is None else [body]
        by = to - angle(self.session.used[ids[0]])
        for i in ids:
            self.session.pick([i], circle(np.array([angle(self.session.used[i]) + by]))[0])
        self.show_skill()

    def _set_entry(self, index: int, value: float) -> None:
        skill = self.session.skill[self.ids[0]].copy()
        skill[index] = value
        self.pick(skill)

    def _change(self, way: str) -> None:
        changes = {
            "spread": lambda _: self.session.spread(),
            "sample": self.session.sample,
            "next": self.session.advance,
        }
        changes[way](self.ids)
        self.show_skill()

    def show_skill(self) -> None:
        """Set the inputs to the skill of the first selected body."""
        repertoire, skill = self.session.repertoire, self.session.skill
        if not self._inputs:
            return
        first = skill[self.ids[0]]
        if repertoire.prior == "one_hot":
            self._inputs[0].value = f"skill {int(first.argmax()) + 1}"
        elif repertoire.is_circle:
            self._inputs[0].value = round(math.degrees(angle(first))) % 360
        else:
            for slider, value in zip(self._inputs, first, strict=False):
                slider.value = round(float(np.clip(value, slider.min, slider.max)), 2)

    def _add_goals(self) -> None:
        session, worlds = self.session, self.session.worlds
        with self.gui.add_folder("Goals"):
            if session.goals_off:
                self.gui.add_html(_note(f"Goals are off: {session.goals_off}."))
                self._reached = None
                return
            requests: dict[str, Callable[[], None]] = {}
            if worlds.goal_names:
                named = self.gui.add_dropdown("goal", tuple(worlds.goal_names))
                requests["reach it"] = lambda: self.aim(named.value)
            if worlds.coord_dim in (1, 2):
                place = self._add_position(worlds.coord_dim)
                requests["go there"] = lambda: self.aim(np.ravel(place.value).tolist())
            self.buttons(requests | {"remove goals": lambda: session.remove_goals(self.ids)})
            self._reached = self.gui.add_html("")

    def _add_position(self, dim: int) -> Any:
        self.gui.add_html(_note("Click on the floor: the selected bodies go there."))
        start = round(float(2 * self.scene.scale), 1)
        if dim == 1:
            return self.gui.add_number("x", start, step=0.1)
        return self.gui.add_vector2("x, y", (start, 0.0), step=0.1)

    def aim(self, goal: str | Sequence[float]) -> None:
        """Set the goal of the selected bodies."""
        self.session.aim(self.ids, goal)

    def _add_checkpoints(self) -> None:
        kept = list(self.session.source.kept())
        if len(kept) < 2 or self.session.source.epoch not in kept:
            return
        with self.gui.add_folder("Checkpoint"):
            step = math.gcd(*(later - kept[0] for later in kept[1:]))
            hint = f"Epoch of the checkpoint: {', '.join(map(str, kept))}"
            now = self.session.source.epoch
            self._epoch = self.gui.add_slider("epoch", kept[0], kept[-1], step, now, hint=hint)
            self.on(self._epoch, lambda value: self._open(min(kept, key=lambda epoch: abs(epoch - value))))

    def _open(self, epoch: int) -> None:
        try:
            self.session.open_epoch(epoch)
        finally:
            self._epoch.value = self.session.source.epoch
        self.player.restarted()

    def _add_view(self) -> None:
        with self.gui.add_folder("View"):
            layout = self.gui.add_dropdown("layout", LAYOUTS, initial_value=self.scene.layout)
            self.on(layout, self._set_layout)
            follow = self.gui.add_checkbox("follow", False, hint="Keep the selected body, or the mean of all, in view")
            self.on(follow, lambda value: setattr(self.scene, "follow", bool(value)))
            self.on(self.gui.add_checkbox("paths", True), lambda value: self.scene.show_paths(bool(value)))
            if self.session.phi is not None and self.session.phi.shape[1] > 2:
                plane = self.gui.add_dropdown("plane of phi", PLANES)
                self.on(plane, lambda value: setattr(self.player.phi, "plane", value))
            fit = self.gui.add_button_group("", ("fit view",), hint="Show all bodies, until you move the camera")
            fit.on_click(lambda event: self.ask(partial(self._fit, event.client_id)))

    def _fit(self, client: int) -> None:
        self.scene.forget()
        self.cameras.fit(client)

    def _add_phi(self) -> None:
        panel = self.gui.add_panel()
        with panel.add_tab("Representation"):
            self._plane = self.gui.add_html(self.player.phi.svg())
        panel.float(x=16, y=-16, width=300)

    def draw(self) -> None:
        """Update texts and pictures."""
        session, player = self.session, self.player
        facts = [] if session.source.epoch is None else [f"epoch {session.source.epoch}"]
        facts += [f"step {session.time} of {session.worlds.max_steps}"]
        facts += [f"{player.rate:.0f} steps/s" if player.playing else "paused"]
        lines = [_note(", ".join(facts))]
        lines += [
            _note(text, color) for text, color in ((self.message, "#c92a2a"), (session.notice, "#b35900")) if text
        ]
        self.status.content = "".join(lines)
        self._plane.content = player.phi.svg()
        if self._reached is not None:
            self._reached.content = _table(session.goals.measures(), int(session.goals.active.sum()))


def _checked(handle: Any, value: Any) -> Any:
    """Return the value that a visitor has sent for an input.

    Raises:
        ConfigError: it is none of the options, or out of range.
    """
    options, low = getattr(handle, "options", None), getattr(handle, "min", None)
    if options is not None and value not in options:
        raise ConfigError(f"{handle.label or 'button'} is {value!r}; accepted: {', '.join(options)}")
    if low is not None and not low <= value <= handle.max:
        raise ConfigError(f"{handle.label} is {value}; accepted: {low} to {handle.max}")
    return value


def _note(text: str, color: str = "inherit") -> str:
    return f"<div style='padding:.2em 1em;font-size:.85em;color:{color}'>{html.escape(text)}</div>"


def _table(measures: dict[str, float], bodies: int) -> str:
    """Return the success metrics as an HTML table; empty if there are none."""
    if not measures:
        return ""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td style='text-align:right;padding-left:1em'>{value:.3g}</td></tr>"
        for name, value in measures.items()
    )
    what = "1 body" if bodies == 1 else f"mean of {bodies} bodies"
    return f"<div style='padding:.2em 1em;font-size:.85em'>Since the goal was set, {what}:<table>{cells}</table></div>"
