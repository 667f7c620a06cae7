"""The command csf, also python -m csf: csf train, csf evaluate and so on are python -m csf.train, csf.evaluate."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from csf import __version__

COMMANDS = {
    "train": "train an agent on an environment",
    "evaluate": "measure the skills of a checkpoint",
    "report": "make an HTML page of a run, or of a comparison of several",
    "export": "make a folder for a model hub of a checkpoint",
}
HELP = """\
usage: csf COMMAND [ARGUMENT ...]

{commands}

csf COMMAND --help lists the arguments of a command, csf --version prints the version.
"""


def search_working_directory_last() -> None:
    """Let `env=module:id` find a module of the working directory, which must not shadow ours by an envs/ of its own."""
    here, home = os.getcwd(), str(Path(__file__).parents[1])
    sys.path[:] = [path for path in sys.path if path not in ("", here)] + [home, here]


def main() -> None:
    """Run the command that the first argument names.

    Raises:
        SystemExit: there is no such command, or the command exits.
    """
    command, words = (sys.argv[1] if sys.argv[1:] else ""), sys.argv[2:]
    if command in ("-h", "--help"):
        sys.stdout.write(HELP.format(commands="\n".join(f"  {name:<10}{told}" for name, told in COMMANDS.items())))
    elif command == "--version":
        sys.stdout.write(f"csf {__version__}\n")
    elif command not in COMMANDS:
        sys.exit(f"error: csf has no command {command!r}; accepted: {', '.join(COMMANDS)}")
    else:
        search_working_directory_last()
        sys.argv[1:] = words
        runpy.run_module(f"csf.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
