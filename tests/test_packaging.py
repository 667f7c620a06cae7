"""What a user gets from pip: a wheel with every yaml that works from anywhere, and versions that agree."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from csf.__main__ import COMMANDS, search_working_directory_last

ROOT = Path(__file__).parents[1]
LIBRARY, IMAGES = ROOT / "scripts/lib/python.sh", "scripts/lib/requirements-images.txt"
WARP = "scripts/lib/requirements-warp.txt"
SWEEP = "scripts/lib/requirements-sweep.txt"
CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").rglob("*.yaml"))


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    args, environment = [str(c) for c in command], {**os.environ, **env}
    done = subprocess.run(args, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves build/ and an egg-info in the folder it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("csf", "envs", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    flags = ["--quiet", "--no-deps", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", out, source, cwd=out)
    (path,) = out.glob("csf_skills-*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def requirements(metadata: Message) -> list[Requirement]:
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed into, with the command csf in its bin/."""
    target = tmp_path_factory.mktemp("installed") / "site with space"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    run(*pip, "--target", target, wheel, cwd=target.parent)
    return target


def pins(path: str) -> dict[str, str]:
    """Versions by name, whatever Python a line is for."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if line and line[0] not in "#-"]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def test_wheel_holds_every_yaml_and_the_type_markers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert len(CONFIGS) > 5
    assert any(path.count("/") > 2 for path in CONFIGS), "no nested yaml: a lost folder would go unseen"
    assert {f"csf/{path}" for path in CONFIGS} <= names
    assert {"csf/py.typed", "envs/py.typed", "csf/train.py"} <= names
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csf/report/templates").iterdir()}
    assert templates
    assert templates <= names
    policies = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csf/packaged").glob("*/*")}
    assert "csf/packaged/point/policy.safetensors" in policies
    assert policies <= names
    about = wheel.name.rsplit("-", 3)[0] + ".dist-info"
    assert {name.split("/")[0] for name in names} == {"csf", "envs", about}


def test_installed_wheel_composes_from_anywhere(site: Path) -> None:
    def python(*args: str) -> str:
        return run(sys.executable, *args, cwd=Path("/"), PYTHONPATH=str(site)).stdout

    where = python("-c", "import csf; print(csf.__file__)")
    assert str(site) in where, "the checkout answered in place of the wheel"
    tree = python("-m", "csf.train", "agent=csf", "env=ant", "--cfg", "job", "--resolve")
    assert yaml.safe_load(tree)["agent"]["name"] == "csf"


# ---- the command csf


def csf(*words: str | Path, cwd: Path, site: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python -m csf`, with the working directory on the path as Python puts it there."""
    command = [sys.executable, "-m", "csf", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_has_a_line_for_every_command(word: str, tmp_path: Path) -> None:
    done = csf(word, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) +\w.{20,}$", done.stdout, re.M) == [*COMMANDS]


def test_version_needs_no_pytorch(tmp_path: Path) -> None:
    from csf import __version__

    (tmp_path / "torch.py").write_text("raise SystemExit('PyTorch was imported')\n")
    assert csf("--version", cwd=tmp_path).stdout == f"csf {__version__}\n"


@pytest.mark.parametrize("words", [[], ["tran"], ["--verbose"], ["seed=1"]])
def test_an_unknown_command_is_told_in_one_line(words: list[str], tmp_path: Path) -> None:
    done = csf(*words, cwd=tmp_path)
    line = f"error: no command is given; accepted: {', '.join(COMMANDS)}, --help\n"
    if words:
        line = f"error: csf has no command {words[0]!r}; accepted: {', '.join(COMMANDS)}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["agent=metra", "env=point", "--cfg", "job", "seed=3"]),
        ("train", ["sed=3"]),
        ("train", ["--help"]),
        ("evaluate", ["cp_path=nowhere"]),
        ("play", ["nowhere"]),
        ("play", ["--help"]),
        ("report", ["nowhere"]),
        ("report", ["--help"]),
        ("export", ["nowhere"]),
        ("status", ["nowhere"]),
    ],
)
def test_a_command_is_the_module_of_its_name(command: str, words: list[str], tmp_path: Path) -> None:
    module = [sys.executable, "-m", f"csf.{command}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    expected = subprocess.run(module, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    done = csf(command, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    assert done.stdout + done.stderr


SHORT = [
    "env=point",
    "agent.hidden=[8,8]",
    "agent.backbone.hidden=[8,8]",
    "device=cpu",
    "threads=1",
    "task.epochs=2",
    "task.episodes_per_epoch=2",
    "task.updates_per_epoch=2",
    "task.batch_size=32",
    "task.min_replay_size=40",
    "task.coverage_skills=2",
    "task.goals=2",
]


@pytest.mark.parametrize("shadow", ["envs/__init__.py", "envs.py", "envs/notes.txt"])
def test_the_installed_command_trains_beside_an_envs_of_the_users_own(shadow: str, site: Path, tmp_path: Path) -> None:
    """And finds an environment that a module of the working directory registers."""
    (tmp_path / shadow).parent.mkdir(exist_ok=True)
    (tmp_path / shadow).write_text("")
    entry = "gymnasium.envs.classic_control:PendulumEnv"
    text = f"import gymnasium\ngymnasium.register('Mine-v0', '{entry}', max_episode_steps=9)\n"
    (tmp_path / "mine.py").write_text(text)
    environment = {"PYTHONPATH": str(site)}
    run(sys.executable, site / "bin/csf", "train", *SHORT, "run_name=short", cwd=tmp_path, **environment)
    folder, words = tmp_path / "exp/short", ["cp_path=exp/short", "skills=2", "goals=2"]
    run(sys.executable, "-m", "csf", "evaluate", *words, cwd=tmp_path, **environment)
    assert (folder / "checkpoints/eval_000002.json").is_file()
    program = "from csf.__main__ import search_working_directory_last as last; last()\nimport mine, envs\n"
    program += "print(envs.make_vec('Mine-v0', 2).single_action_space.shape)"
    assert run(sys.executable, "-c", program, cwd=tmp_path, **environment).stdout == "(1,)\n"


def test_the_working_directory_is_searched_after_the_folder_of_csf(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An editable installation is found by a hook that Python asks after every folder of the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/somewhere"])
    search_working_directory_last()
    assert sys.path == ["/somewhere", str(ROOT), str(tmp_path)]


@pytest.mark.parametrize("shadow", ["envs/__init__.py", "envs.py"])
def test_an_envs_of_the_users_own_that_python_finds_first_is_named(shadow: str, site: Path, tmp_path: Path) -> None:
    (tmp_path / shadow).parent.mkdir(exist_ok=True)
    (tmp_path / shadow).write_text("raise ValueError('the code of the user ran')\n")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "csf.train", *SHORT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    found = tmp_path / shadow.removesuffix("/__init__.py")
    assert done.stderr == (
        f"error: importing envs finds {found} instead of {site / 'envs'}; "
        "accepted: another working directory or PYTHONPATH, or the command csf instead of python -m\n"
    )
    assert not (tmp_path / "exp").exists()


# ---- versions


def test_pins_satisfy_the_ranges(requirements: list[Requirement]) -> None:
    pinned = pins("requirements.txt") | pins("tests/requirements.txt") | pins(IMAGES) | pins(WARP) | pins(SWEEP)
    compared = [r for r in requirements if canonicalize_name(r.name) in pinned]
    assert len(compared) > 12
    for requirement in compared:
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} does not admit the tested {version}"


def test_each_list_pins_the_same_version() -> None:
    """Where two lists of requirements name one package, an installation of both must be possible."""
    lists = [pins(path) for path in ("requirements.txt", "tests/requirements.txt", IMAGES, WARP, SWEEP)]
    pairs = list(itertools.combinations(lists, 2))
    shared = [(one[name], other[name]) for one, other in pairs for name in set(one) & set(other)]
    assert shared, "dm_control is in two"
    assert all(one == other for one, other in shared)


def test_dm_control_is_asked_for_only_where_labmaze_has_a_wheel(requirements: list[Requirement]) -> None:
    lines = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if "dm_control" in line]
    images = [r for r in requirements if canonicalize_name(r.name) == "dm-control" and "images" in str(r.marker)]
    assert images
    for requirement in [*lines, *images]:
        assert requirement.marker is not None
        for python, asked in (("3.11", True), ("3.12", True), ("3.13", False)):
            assert requirement.marker.evaluate({"python_version": python, "extra": "images"}) is asked


def test_the_wheel_is_for_the_pythons_that_the_scripts_take(metadata: Message) -> None:
    assert metadata["Name"] == "csf-skills"
    accepted = SpecifierSet(metadata["Requires-Python"])
    found = [f"3.{minor}" for minor in range(9, 16) if f"3.{minor}.2" in accepted]
    assert found == ["3.11", "3.12", "3.13"]
    (versions,) = re.findall(r"csf_need_base\(\) \{\n +if csf_find_base ([\d. ]+);", LIBRARY.read_text())
    assert versions.split() == found


def test_the_wheel_names_the_tested_versions(requirements: list[Requirement]) -> None:
    """For csf doctor, which compares them with the installed ones."""
    named = {canonicalize_name(r.name): str(r.specifier) for r in requirements if 'extra == "tested"' in str(r.marker)}
    assert named == {name: f"=={version}" for name, version in pins("requirements.txt").items()}


def test_every_requirement_is_pinned(requirements: list[Requirement]) -> None:
    """All but the developer's tools: the scripts never run with a version that was not tested."""
    runtime = {canonicalize_name(r.name) for r in requirements if 'extra == "dev"' not in str(r.marker)}
    assert runtime <= set(pins("requirements.txt") | pins(IMAGES) | pins(WARP) | pins(SWEEP))


def test_citation_has_the_version() -> None:
    import csf

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == csf.__version__
