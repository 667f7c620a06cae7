"""Whether other processes hold up learning on the CPU, told from how long epochs take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

EPOCHS = 5  # in a row, all of them held up, before anything is said
FIRST = 2  # epochs that are passed over, in which memory and threads are set up
SHARE = 0.6  # of its time, below which the learning thread is held up; with a core to itself one thread has 1
SLOWER = 2.0  # than the fastest epoch so far
SHORTEST = 0.02  # seconds of learning in an epoch from which these numbers mean something


@dataclass
class Busy:
    """Watches epochs, and speaks once.

    A thread that has to wait for a core, or for another thread that waits for one, takes more time than it computes.
    That is seen from the first epochs on; being slower than before is seen only of what came later.
    """

    threads: int  # of PyTorch while it learns
    best: float = float("inf")  # seconds per gradient step
    passed: int = 0
    said: bool = False
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=EPOCHS))

    def note(self, seconds: float, computed: float, steps: float) -> str | None:
        """Take an epoch's learning; returns what to tell the user, at most once in a run.

        Args:
            seconds: that it took.
            computed: CPU seconds of the learning thread in it.
            steps: gradient steps, 0 where nothing was learned.
        """
        if self.said or not steps or seconds < SHORTEST:
            return None
        self.passed += 1
        if self.passed <= FIRST:
            return None
        self.best = min(self.best, seconds / steps)
        self.recent.append((computed / seconds, seconds / steps / self.best))
        if len(self.recent) < EPOCHS:
            return None
        waits = all(share < SHARE for share, _ in self.recent)
        slower = all(factor > SLOWER for _, factor in self.recent)
        if not (waits or slower):
            return None
        self.said = True
        shares, factors = zip(*self.recent, strict=True)
        found = (
            f"learning waited for a core at least {1 - max(shares):.0%} of the time"
            if waits
            else f"gradient steps took at least {min(factors):.1f} times as long as before"
        )
        advice = "; threads=1 is usually faster then" if self.threads > 1 else ""
        return f"the machine is busy: in the last {EPOCHS} epochs, {found}{advice}"
