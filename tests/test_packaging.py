"""What a user gets from pip: a wheel with every yaml that works from anywhere, and versions that agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
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
    for name in ("setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    flags = ["--quiet", "--no-deps", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", out, source, cwd=out)
    (path,) = out.glob("csf-*.whl")
    return path


@pytest.fixture(scope="module")
def requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def pins(path: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / path).read_text(), re.M)
    return {canonicalize_name(name): version for name, version in found}


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
    about = wheel.name.rsplit("-", 3)[0] + ".dist-info"
    assert {name.split("/")[0] for name in names} == {"csf", "envs", about}


def test_installed_wheel_composes_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site with space"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    run(*pip, "--target", target, wheel, cwd=tmp_path)

    def python(*args: str) -> str:
        return run(sys.executable, *args, cwd=Path("/"), PYTHONPATH=str(target)).stdout

    where = python("-c", "import csf; print(csf.__file__)")
    assert str(target) in where, "the checkout answered in place of the wheel"
    tree = python("-m", "csf.train", "agent=csf", "env=ant", "--cfg", "job", "--resolve")
    assert yaml.safe_load(tree)["agent"]["name"] == "csf"


def test_pins_satisfy_the_ranges(requirements: list[Requirement]) -> None:
    pinned = pins("requirements.txt") | pins("tests/requirements.txt")
    compared = [r for r in requirements if canonicalize_name(r.name) in pinned]
    assert len(compared) > 12
    for requirement in compared:
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} does not admit the tested {version}"


def test_every_requirement_is_pinned(requirements: list[Requirement]) -> None:
    """All but the developer's tools: the scripts never run with a version that was not tested."""
    runtime = {canonicalize_name(r.name) for r in requirements if 'extra == "dev"' not in str(r.marker)}
    assert runtime <= set(pins("requirements.txt"))


def test_citation_has_the_version() -> None:
    import csf

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == csf.__version__
