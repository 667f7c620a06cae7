"""The text of --help: which groups there are, and every key that the chosen ones accept."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from csf.config.compose import CONFIGS, GROUPS, Config, choices

HEAD = """\
Train an agent: python -m csf.train [GROUP=CHOICE ...] [KEY=VALUE ...]

The same command goes on where a run stopped. Sweeps: -m 'seed=range(0,8)' agent=csf. Also: --cfg job (print the
configuration and exit), --version, --help agent=CHOICE (this text for another method).

Groups (choices are files in {folder}):
{groups}

Keys, with their values for the chosen groups:
{keys}"""


def text(cfg: Config) -> str:
    """Usage for the groups that a configuration has chosen."""
    return HEAD.format(folder=CONFIGS, groups="\n".join(_groups()), keys="\n".join(_keys(cfg)))


def _groups() -> Iterator[str]:
    for group in GROUPS:
        yield f"  {group:<15} {', '.join(choices(group))}"


def lines(settings: Any, prefix: str = "") -> Iterator[str]:
    """One line for every field of a dataclass but its name: key, value and what the source says of it."""
    comments = _comments(type(settings))
    for key, value in vars(settings).items():
        if key != "name":
            yield _line(prefix + key, value, comments.get(key, ""))


def _keys(cfg: Config) -> Iterator[str]:
    comments = _comments(Config)
    for key in ("seed", "exp_dir", "run_name", "device", "threads", "wandb", "skills", "cp_path", "hold"):
        yield _line(key, getattr(cfg, key), comments.get(key, ""))
    for prefix, part in (("agent.", cfg.agent), ("agent.backbone.", cfg.backbone), ("task.", cfg.task)):
        yield from lines(part, prefix)
    for key, value in cfg.env.items():
        if key != "name":
            yield _line(f"env.{key}", value, "")


def _line(key: str, value: object, comment: str) -> str:
    value = "null" if value is None else value
    shown = "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple | list) else value
    return f"  {f'{key}={shown}':<44} {comment}".rstrip()


def _comments(cls: type) -> dict[str, str]:
    """What stands behind the fields in the source: the one place where their meaning is written."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        pairs = re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(base), re.MULTILINE)
        found.update(pairs)
    return found
