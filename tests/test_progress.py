"""The line that tells how far a run is, as it stands in a file."""

from __future__ import annotations

import io
import re

from csf.io.progress import Progress


def test_a_file_gets_whole_lines_of_the_newest_row() -> None:
    file = io.StringIO()
    progress = Progress(2, 0, {}, file)
    for epoch in range(3):
        progress.update({"epoch": epoch, "env_steps": 2000 * epoch, "gradient_steps": 0, "time/collect": 0.5})
    progress.close()
    last = file.getvalue().splitlines()[-1]
    assert re.fullmatch(r"epoch 2/2 \[00:\d\d, 00:\d\d left\], 4,000 env steps \| 4,000 env steps/s", last), last
