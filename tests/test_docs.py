"""The documentation: its commands compose or parse, and its pictures exist."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_scripts import fake, sh

from csf import evaluate, export
from csf.__main__ import COMMANDS
from csf.config import compose
from csf.doctor import __main__ as doctor
from csf.errors import ConfigError
from csf.play import __main__ as play
from csf.report import __main__ as report
from csf.status import __main__ as status
from csf.study import __main__ as study
from csf.study import paper, plan
from csf.study.arguments import split

PAGES = sorted([ROOT / "README.md", ROOT / ".github/CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
TOOLS = {
    "evaluate": (evaluate.Settings, ("cp_path",)),
    "export": (export.Settings, export.PLACES),
    "play": (play.Settings, play.PLACES),
    "report": (report.Settings, report.PLACES),
    "status": (status.Settings, status.PLACES),
    "doctor": (doctor.Settings, ()),
    "study": (study.Settings, study.PLACES),
    "study.paper": (paper.Settings, ()),
}
# Commands in running text, and rows of tables: `sh scripts/...`, `csf train ...`, `python -m csf.train ...`
PROGRAMS = rf"sh scripts/|csf (?:{'|'.join(COMMANDS)}) |python (?:-m csf|tests/)|pip install "
INLINE = rf"`((?:{PROGRAMS})[^`]*)`"
PLACEHOLDERS = {"<method>": "csf", "<env>": "ant", "RUN...": "RUN RUN"}
# What the guides define themselves; test_guides.py trains with it.
PLACEHOLDERS |= {"agent=vic": "agent=csf", "agent/backbone=reinforce": "agent/backbone=sac", "env=swimmer": "env=point"}


def commands(text: str) -> list[str]:
    """The commands in a page's sh blocks and in its running text."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found += re.findall(INLINE, re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for line in found if line.strip() and not line.startswith("#")]


def check(line: str, tmp_path: Path) -> None:
    """Compose or parse one command.

    Raises:
        AssertionError: if a file, a program or an option does not exist.
        ConfigError: if an argument is not accepted.
    """
    for placeholder, value in PLACEHOLDERS.items():
        line = line.replace(placeholder, value)
    for part in line.split("&&"):
        words = shlex.split(part, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        check_words(words, tmp_path)


def check_words(words: list[str], tmp_path: Path) -> None:
    program, *rest = words
    if program == "sh" and rest[0] == "scripts/test.sh":
        check_pytest(rest[1:])
    elif program == "sh" and rest[0] == "scripts/gpu_check.sh":
        assert {word for word in rest[1:] if "=" in word} <= {"[part=tests|speed|train]", "part=pixels"}, words
    elif program == "nohup":
        check_words([word for word in rest if word != "&"], tmp_path)
    elif program == "sbatch":
        script, *command = itertools.dropwhile(lambda word: word.startswith("--"), rest)
        assert (ROOT / script).is_file(), words
        check_words(command, tmp_path)
    elif program == "sh":
        python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\\n" "$@"')
        done = sh(ROOT / rest[0], *rest[1:], PYTHON=str(python))
        assert done.returncode == 0, done.stderr
        for run in re.split(r"^-m\n(?=csf\.)", done.stdout, flags=re.MULTILINE)[1:]:
            module, *settings = run.splitlines()
            check_entry(module, settings)
    elif program in ("csf", ".venv/bin/csf"):
        check_entry(f"csf.{rest[0]}", rest[1:])
    elif program in ("python", ".venv/bin/python") and rest[0] == "-m":
        check_entry(rest[1], rest[2:])
    elif program in ("python", ".venv/bin/python"):
        assert (ROOT / rest[0]).is_file(), words
    else:
        assert program in ("pip", "tensorboard", "git", "pre-commit"), f"{words} is not checked"


def check_pytest(words: list[str]) -> None:
    for key, word in zip(["", *words], words, strict=False):
        if key == "-m":
            assert word.removeprefix("not ") in ("slow", "long"), words
        elif word != "-m":
            assert (ROOT / word).is_file(), words


def check_entry(module: str, words: list[str]) -> None:
    """Parse the arguments of an entry point."""
    name = module.removeprefix("csf.")
    if name == "train":
        settings = [word for word in words if not word.startswith(("-", "hydra", "+hydra"))]
        assert list(compose.points(settings)) if "-m" in words else compose.check(settings)
    elif name == "adapt":
        compose.check_adaptation([word for word in words if word != "--help"])
    else:
        cls, places = TOOLS[name]
        if name == "study.paper":
            words, training, _ = split(words)
            compose.check(training)
        if name == "study":
            words, training, _ = split(words)
            assert words[0] in plan.studies(), words
            compose.check(["agent=slusd", *training])
        compose.settings(cls, name.removeprefix("study."), [word for word in words if word != "--help"], places)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_composes_or_parses(page: Path, tmp_path: Path) -> None:
    for line in commands(page.read_text()):
        try:
            check(line, tmp_path)
        except (AssertionError, ConfigError, KeyError) as error:
            pytest.fail(f"{page.name}: {line}: {error}")


def test_commands_are_found() -> None:
    found = commands((ROOT / "README.md").read_text())
    assert found[0].startswith("sh scripts/pretrain/csf/csf_ant.sh")
    assert any("csf export" in line for line in found)
    assert any("task.eval_every" in line for line in commands((ROOT / "docs/results.md").read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "sh scripts/pretrain/csf/csf_any.sh",
        "sh scripts/pretrain/csf/csf_ant.sh task.epoch=3",
        "sh scripts/pretrain/csf/csf_ant.sh task=quik",
        "sh scripts/hierarchical_control/ant_multi_goal.sh cfs",
        "sh scripts/zero_shot/ant.sh csf goal=3",
        "sh scripts/zero_shot/ant.sh csf && sh scripts/zero_shot/ant.sh",
        "csf train env=moon",
        "csf train -m agent=csf,metro",
        "csf adapt env=ant task.epochs=3",
        "sh scripts/adaptation/ant.sh csf task.step=3",
        "csf evaluate RUN goals=x",
        ".venv/bin/csf report --title X",
        "python -m csf.export RUN DIR FILE",
        "sh scripts/test.sh tests/test_nothing.py",
        "sh scripts/test.sh -m slowly",
        "python tests/benchmark/none.py",
        "csf study bouns",
        "sh scripts/study/bounds.sh profile=fast",
        "csv export",
    ],
)
def test_a_wrong_command_is_found(line: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ConfigError, KeyError)):
        check(line, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_exist(page: Path) -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / name).is_file(), name


def test_the_readme_has_one_picture() -> None:
    assert len(re.findall(r"!\[", (ROOT / "README.md").read_text())) == 1


@pytest.mark.parametrize("name", ["train", "adapt", *(name for name in TOOLS if "." not in name)])
def test_help_names_the_command_and_the_module_once(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from csf import adapt, train

    modules = {"train": train, "adapt": adapt, "evaluate": evaluate, "play": play, "export": export, "report": report}
    modules |= {"study": study, "status": status, "doctor": doctor}
    main = modules[name].main
    monkeypatch.setattr(sys, "argv", [f"csf.{name}", "--help"])
    main()
    text = capsys.readouterr().out
    assert f"\nusage: csf {name} " in text
    assert text.count(f"python -m csf.{name}") == 1
