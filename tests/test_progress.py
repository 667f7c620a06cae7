"""The line that tells how far a run is, as it stands in a file."""

from __future__ import annotations

import io
import re

from csf.io.busy import Busy
from csf.io.progress import Progress


def test_a_file_gets_whole_lines_of_the_newest_row() -> None:
    file = io.StringIO()
    progress = Progress(2, 0, {}, file)
    for epoch in range(3):
        progress.update({"epoch": epoch, "env_steps": 2000 * epoch, "gradient_steps": 0, "time/collect": 0.5})
    progress.close()
    last = file.getvalue().splitlines()[-1]
    assert re.fullmatch(r"epoch 2/2 \[00:\d\d, 00:\d\d left\], 4,000 env steps \| 4,000 env steps/s", last), last


# ---- a busy machine

Epoch = tuple[float, float, float]
IDLE: Epoch = (3.0, 2.8, 50)  # seconds of learning, CPU seconds of the thread, gradient steps
WAITS: Epoch = (9.0, 2.8, 50)


def said(epochs: list[Epoch], threads: int = 2) -> dict[int, str]:
    """What is told, by the number of the epoch after which."""
    busy = Busy(threads)
    found = {number: busy.note(*epoch) for number, epoch in enumerate(epochs)}
    return {number: text for number, text in found.items() if text is not None}


def test_an_idle_machine_is_not_called_busy() -> None:
    assert not said([IDLE] * 100)


def test_a_machine_that_is_busy_from_the_start_is_told_once() -> None:
    text = "the machine is busy: in the last 5 epochs, learning waited for a core at least 69% of the time; "
    assert said([WAITS] * 100) == {6: text + "threads=1 is usually faster then"}


def test_what_was_set_is_not_advised() -> None:
    (text,) = said([WAITS] * 7, threads=1).values()
    assert text.endswith("of the time")


def test_a_machine_that_becomes_slow_is_told_though_the_thread_computes() -> None:
    """As where a neighbor takes the memory's bandwidth or half of a core."""
    (found,) = said([IDLE] * 20 + [(7.5, 7.4, 50)] * 9).items()
    assert found[0] == 24
    assert "in the last 5 epochs, gradient steps took at least 2.5 times as long as before; threads=1" in found[1]


def test_a_few_slow_epochs_are_no_reason() -> None:
    """Such as after evaluations and saves, which fill caches with something else."""
    assert not said(([IDLE] * 3 + [WAITS] * 4) * 20)


def test_nothing_is_told_right_after_the_start_nor_of_epochs_that_do_not_learn() -> None:
    slow_start: list[Epoch] = [(60.0, 5.0, 50), (30.0, 5.0, 50)]
    assert not said([(1e-5, 1e-6, 0)] * 50 + slow_start + [IDLE] * 50)
    assert not said([(0.001, 0.0, 50)] * 50), "too short to tell"


def test_more_steps_in_an_epoch_are_not_a_slower_machine() -> None:
    assert not said([IDLE] * 5 + [(30.0, 28.0, 500)] * 20)


def test_the_notice_is_a_line_of_its_own() -> None:
    file = io.StringIO()
    progress = Progress(9, 0, {}, file, Busy(2))
    for epoch in range(10):
        row = {"epoch": epoch, "env_steps": 0, "gradient_steps": 50 * epoch, "time/eval": 100.0}
        progress.update({**row, "time/collect": 0.5, "time/learn": WAITS[0], "time/learn_cpu": WAITS[1]})
    progress.close()
    lines = file.getvalue().splitlines()
    assert [line for line in lines if "busy" in line] == [*said([WAITS] * 9).values()]
    assert lines[-1].startswith("epoch 9/9")
