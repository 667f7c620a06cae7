"""The command csf (or python -m csf): runs csf.train, csf.adapt, csf.evaluate, csf.play and the others in COMMANDS."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from csf import __version__

COMMANDS = {
    "train": "train an agent on an environment",
    "adapt": "fine-tune the best skill of a checkpoint on a task's reward",
    "evaluate": "measure the skills of a checkpoint",
    "play": "show the skills of a checkpoint in a browser",
    "report": "write an HTML page about one run, or comparing several",
    "export": "write a folder for a model hub from a checkpoint",
    "study": "compare many runs that differ in one choice",
    "status": "show the state of the runs in a folder: progress, time left, health, failures",
    "doctor": "say what this machine can do, and how to mend what it cannot",
}
HELP = """\
usage: csf COMMAND [ARGUMENT ...]   (or python -m csf.COMMAND)

{commands}

"csf COMMAND --help" lists the arguments of a command, "csf --version" prints the version.
"""


def search_working_directory_last() -> None:
    """Search the working directory last: `env=module:id` may import from it, but its envs/ must not shadow ours."""
    here, home = os.getcwd(), str(Path(__file__).parents[1])
    sys.path[:] = [path for path in sys.path if path not in ("", here)] + [home, here]


def main() -> None:
    """Run the command in the first argument.

    Raises:
        SystemExit: if there is no such command, or the command exits.
    """
    command, words = (sys.argv[1] if sys.argv[1:] else ""), sys.argv[2:]
    if command in ("-h", "--help"):
        sys.stdout.write(HELP.format(commands="\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())))
    elif command == "--version":
        sys.stdout.write(f"csf {__version__}\n")
    elif not command:
        sys.exit(f"error: no command is given; accepted: {', '.join(COMMANDS)}, --help")
    elif command not in COMMANDS:
        sys.exit(f"error: csf has no command {command!r}; accepted: {', '.join(COMMANDS)}")
    else:
        search_working_directory_last()
        sys.argv[1:] = words
        runpy.run_module(f"csf.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
