"""Advances a session at its speed, and executes the requests of visitors between steps."""

from __future__ import annotations

import queue
import sys
import time
import traceback
from collections.abc import Callable

from csf.errors import CsfError
from csf.play.drawing import Phi
from csf.play.scene import Scene
from csf.play.session import Session

SHOWN = 30.0  # largest number of states that are sent per second
DRAWN = 5.0  # number of pictures of the representation per second
REST = 1.0  # seconds for which the last state of an episode is shown

Request = Callable[[], None]


class Player:
    """The loop of `csf play`. Only its thread touches session and scene; other threads call `ask`.

    Attributes:
        playing: whether time advances.
        speed: 1 for the environment's own speed.
        rate: measured number of steps per second.
        errors: called with the message of a refused request.
        shown: called after a state was sent.
        drawn: called `DRAWN` times per second, to update texts and pictures.
    """

    def __init__(self, session: Session, scene: Scene, phi: Phi) -> None:
        self.session, self.scene, self.phi = session, scene, phi
        self.playing, self.speed, self.rate = True, 1.0, 0.0
        self.errors: Callable[[str], None] = lambda message: None
        self.shown: Callable[[], None] = lambda: None
        self.drawn: Callable[[], None] = lambda: None
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._due = self._shown = self._drawn = 0.0  # times of the next step and of the last state and picture sent
        self._changed = True
        self._counted, self._since = 0, time.monotonic()

    def ask(self, request: Request) -> None:
        """Execute a request after the current step."""
        self._requests.put(request)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Play until interrupted, or until a condition holds."""
        self.restarted()
        while not until():
            if (request := self._next()) is not None:
                self._execute(request)
            now = time.monotonic()
            if self.playing and now >= self._due:
                self._execute(self.advance)
                # A step that took too long is not caught up, otherwise requests would wait.
                self._due = max(self._due + self.session.seconds_per_step / self.speed, now)
                if self.session.ended and self.session.restarts:
                    self._due += REST
            if self._changed and now - self._shown >= 1 / SHOWN:
                self._shown, self._changed = now, False
                self.scene.show()
                self.shown()
            if now - self._drawn >= 1 / DRAWN:
                self._drawn = now
                self.drawn()

    def _next(self) -> Request | None:
        """Return the next request; None if there is none until the next step or picture is due."""
        now = time.monotonic()
        pause = min(self._due - now if self.playing else 1.0, self._drawn + 1 / DRAWN - now)
        if self._changed:
            pause = min(pause, self._shown + 1 / SHOWN - now)
        try:
            return self._requests.get(timeout=pause) if pause > 0 else self._requests.get_nowait()
        except queue.Empty:
            return None

    def _execute(self, request: Request) -> None:
        """Execute a request; an error is shown to the visitors and does not end the server."""
        self._changed = True
        try:
            request()
        except CsfError as error:
            self.errors(str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.playing = False
            self.errors(f"{type(error).__name__}: {error}; the time was paused, and the traceback is in the terminal")

    def advance(self) -> None:
        """Step the session once; after the end of an episode, start another one if that is wanted."""
        if self.session.ended and self.session.restarts:
            self.session.reset()
            self.restarted()
            return
        try:
            self.session.step()
        except CsfError:
            self.playing = False
            raise
        self.scene.add_step()
        self.phi.add()
        self._count()

    def restarted(self) -> None:
        """Show the start of new episodes."""
        self.scene.restart()
        self.phi.restart()

    def _count(self) -> None:
        self._counted += 1
        now = time.monotonic()
        if now - self._since >= 1.0:
            self.rate, self._counted, self._since = self._counted / (now - self._since), 0, now
