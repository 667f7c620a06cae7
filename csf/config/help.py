"""Builds the text of --help, and runs the commands whose arguments are single settings."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from csf import worlds
from csf.config import compose
from csf.config.compose import CONFIGS, GROUPS, choices
from csf.config.constraints import LEARNERS
from csf.config.schema import AdaptConfig, AdaptGeneral, Config, General, GymEnvironment
from csf.errors import CsfError

HEAD = """\
Train an agent.

usage: csf train [GROUP=CHOICE ...] [KEY=VALUE ...]   (or python -m csf.train)

The same command resumes a run that was stopped.

Options:
  -m                    train one run for each point of a sweep: -m 'seed=range(0,8)' agent=csf,metra
  --cfg job             print the configuration and exit
  --help agent=CHOICE   print this text for another method
  --version             print versions

The values of exp_dir, run_name and cp_path are taken literally, including commas; to sweep over them, use
-m "cp_path=choice(RUN,RUN)". The run's name contains the settings that differ from the chosen groups.

Groups (choices are files in {folder}):
{groups}

Keys, with their values for the chosen groups:
{keys}"""

ADAPT_HEAD = """\
Fine-tune the best skill of a checkpoint on an environment's reward.

usage: csf adapt env=ENVIRONMENT cp_path=RUN_OR_FILE [KEY=VALUE ...]   (or python -m csf.adapt)

Tries all skills on the task, chooses the one with the highest return, and trains its policy with SAC. The same command
resumes a run that was stopped. Results are in adaptation.json in the run's folder. method=scratch trains the same
without skills, and method=expert is scratch as the reference of normalized scores: give it more task.steps.
docs/adaptation.md says what is transferred.

Groups (choices are files in {folder}):
{groups}

Keys, with their values for the chosen groups:
{keys}"""


def text(cfg: Config) -> str:
    """Return the text of --help with the values of a configuration."""
    groups = {group: choices(group) for group in GROUPS}
    return HEAD.format(folder=CONFIGS, groups="\n".join(_groups(groups)), keys="\n".join(_keys(cfg)))


def adaptation(cfg: AdaptConfig) -> str:
    """Return the text of csf adapt --help with the values of a configuration."""
    groups = {"agent/backbone": LEARNERS, **{group: choices(group) for group in ("encoder", "env")}}
    return ADAPT_HEAD.format(folder=CONFIGS, groups="\n".join(_groups(groups)), keys="\n".join(_keys(cfg)))


def _groups(accepted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for group, names in accepted.items():
        yield f"  {group:<15} {', '.join(names)}"


def lines(settings: Any, prefix: str = "") -> Iterator[str]:
    """Yield one line per field of a dataclass except its name: key, value and the comment at the field."""
    comments = _comments(type(settings))
    for field in fields(settings):
        if field.name != "name":
            yield _line(prefix + field.name, getattr(settings, field.name), comments.get(field.name, ""))


def _keys(cfg: Config | AdaptConfig) -> Iterator[str]:
    cls = General if isinstance(cfg, Config) else AdaptGeneral
    yield from lines(cls(**{field.name: getattr(cfg, field.name) for field in fields(cls)}))
    sections: dict[str, Any] = {"agent.": cfg.agent, "agent.backbone.": cfg.backbone}
    sections |= {"encoder.": cfg.encoder, "task.": cfg.task}
    for prefix, part in sections.items():
        yield from lines(part, prefix)
    comments, accepted = _comments(GymEnvironment), worlds.settings_of(str(cfg.env["name"])) or {}
    for key in dict.fromkeys([*cfg.env, *accepted]):
        if key != "name":
            default = accepted[key].default if key in accepted else None
            comment = accepted[key].help if key in accepted else comments.get(key, "")
            yield _line(f"env.{key}", cfg.env.get(key, default), comment)


def _line(key: str, value: object, comment: str) -> str:
    value = "null" if value is None else value
    shown = "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple | list) else value
    return f"  {f'{key}={shown}':<44} {comment}".rstrip()


def _comments(cls: type) -> dict[str, str]:
    """Read the comments at the fields from the source, the only place where their meaning is documented."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        pairs = re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(base), re.MULTILINE)
        found.update(pairs)
    return found


def run_command(cls: type, name: str, places: Sequence[str], head: str, run: Callable[[Any], object]) -> None:
    """Run an entry point without groups on its parsed arguments, or print its help.

    Args:
        cls: dataclass of its settings.
        name: name of the yaml file in configs/ with their defaults.
        places: keys of positional arguments, as in `compose.settings`.
        head: text of the help, before the keys.
        run: called with the settings.

    Raises:
        SystemExit: a user error, as one line.
    """
    words = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(words):
            sys.stdout.write(head + "\n".join(lines(compose.settings(cls, name, [], places))) + "\n")
        else:
            run(compose.settings(cls, name, words, places))
    except CsfError as error:
        sys.exit(f"error: {error}")
