"""Entry point: python -m csf.doctor says what this machine can do, also where a package is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from csf.doctor.checks import examine

HEAD = """\
Say what this machine can do, in one line each, and how to mend what it cannot.

usage: csf doctor [KEY=VALUE ...]   (or python -m csf.doctor)

Computing, the GPU and rendering are tried in processes of their own, each with a time limit. The exit code is 1 if
something that csf needs is broken, and otherwise 0.

Keys, with their values:
"""
MENDS = {"ok": "", "note": "note", "broken": "BROKEN"}


@dataclass(frozen=True)
class Settings:
    """Settings of the examination."""

    exp_dir: Path = Path("exp")  # folder of runs, whose disk is examined
    json: bool = False  # whether to print a JSON list instead


def run(settings: Settings) -> None:
    """Print a line for each thing.

    Raises:
        SystemExit: something that csf needs is broken.
    """
    lines = examine(settings.exp_dir)
    if settings.json:
        json.dump([each._asdict() for each in lines], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for each in lines:
            mend = f"; {each.mend}" if each.mend else ""
            sys.stdout.write(f"{MENDS[each.state]:<7}{each.name:<10}{each.found}{mend}\n")
    if any(each.state == "broken" for each in lines):
        sys.exit(1)


def main() -> None:
    """Run the command; user errors print one line."""
    try:
        from csf.config import help as usage
    except Exception as error:  # a package that csf needs is missing or broken: say all the same what can be said
        sys.stderr.write(f"csf cannot be imported ({type(error).__name__}: {error}); arguments are ignored\n")
        run(Settings(json="json=true" in sys.argv))
        sys.exit(1)
    else:
        usage.run_command(Settings, "doctor", (), HEAD, run)


if __name__ == "__main__":
    main()
