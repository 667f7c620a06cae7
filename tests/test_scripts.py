"""Every launch script composes from anywhere, and scripts/lib/python.sh decides and speaks as it says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from csf.config.compose import check

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "scripts/lib/python.sh"
LAUNCHERS = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (ROOT / "scripts").rglob("*.sh")
    if p.parent.name != "lib" and p.name != "test.sh"
)

ZERO_SHOT = [script for script in LAUNCHERS if "/zero_shot/" in script]
CONTROLLERS = [script for script in LAUNCHERS if "/hierarchical_control/" in script]
METHODS = ["cic", "csf", "dads", "diayn", "metra", "scratch", "visr"]


def sh(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command, environment = ["sh", *map(str, args)], {**os.environ, **env}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=120)


# ---- launch scripts


def test_there_are_launch_scripts() -> None:
    assert "scripts/pretrain/csf/csf_ant.sh" in LAUNCHERS


@pytest.mark.parametrize("script", [script for script in LAUNCHERS if script not in ZERO_SHOT])
def test_script_composes_from_anywhere(script: str) -> None:
    done = sh(ROOT / script, *method_for(script), "--cfg", "job", "--resolve", "seed=3", PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    tree = yaml.safe_load(done.stdout)
    assert tree["seed"] == 3
    kind, method, name = Path(script).parts[1:4] if script.count("/") == 3 else ("", "", "")
    if kind == "pretrain":
        assert name == f"{method}_{tree['env']['name']}.sh"
        assert tree["agent"]["name"] == method


def method_for(script: str) -> list[str]:
    """The words that must stand first."""
    return ["csf"] if script in CONTROLLERS + ZERO_SHOT else []


@pytest.mark.parametrize("script", ZERO_SHOT)
def test_an_evaluations_script_says_what_to_train_first(script: str, tmp_path: Path) -> None:
    env = Path(script).stem
    done = sh(ROOT / script, "csf", f"exp_dir={tmp_path}", PYTHON=sys.executable)
    assert (done.returncode, done.stdout) == (1, "")
    train = f"train one: python -m csf.train agent=csf env={env}, or name one with cp_path="
    assert done.stderr == f"error: no run of agent=csf on env={env} under {tmp_path}/ has a policy file; {train}\n"


# What the CSF paper trains a controller with, by the task: backbone, episodes and gradient steps of an epoch.
CONTROLLED = {
    "ant_multi_goal": ("sac", 8, 50),
    "half_cheetah_goal": ("ppo", 64, 10),
    "half_cheetah_hurdle": ("ppo", 64, 10),
    "point_two_goals": ("sac", 8, 25),
}


def test_every_task_has_a_script() -> None:
    assert [Path(script).stem for script in CONTROLLERS] == sorted(CONTROLLED)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("script", CONTROLLERS)
def test_a_controllers_script_takes_a_method(script: str, method: str, tmp_path: Path) -> None:
    name = Path(script).stem
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\n" "$@"')
    done = sh(ROOT / script, method, PYTHON=str(python))
    module, *settings = done.stdout.splitlines()[1:]
    cfg = check(settings)
    assert module == "csf.train"
    backbone, episodes, updates = CONTROLLED[name]
    if method == "scratch":  # as many steps as the controller's decisions hold, one update for 32 of them
        backbone, updates = "sac", updates if name == "point_two_goals" else 50 * episodes // 8
    task = cfg.task
    found = cfg.agent.name, cfg.env["name"], cfg.backbone.name, task.episodes_per_epoch, task.updates_per_epoch
    assert found == ("task", name, backbone, episodes, updates)
    assert cfg.run_name == f"hierarchical/{name}/{method}/sd000"
    assert (cfg.skills, cfg.cp_path) == (None if method == "scratch" else method, None)
    assert cfg.hold == (None if method == "scratch" else 4 if name == "point_two_goals" else 25)
    assert task.terminal_at_limit


@pytest.mark.parametrize("words", [[], ["cfs"], ["seed=1"], ["--help"], ["csf metra"]])
@pytest.mark.parametrize("script", CONTROLLERS + ZERO_SHOT)
def test_a_script_names_the_methods_that_it_takes(script: str, words: list[str]) -> None:
    done = sh(ROOT / script, *words, PYTHON=sys.executable)
    assert (done.returncode, done.stdout) == (1, "")
    first = words[0] if words else ""
    accepted = "csf, metra, diayn, dads, cic, visr" + (", scratch" if script in CONTROLLERS else "")
    assert done.stderr == f"csf: the method is '{first}'; accepted: {accepted}\n"


SHORT = [
    "agent.hidden=[8,8]",
    "agent.backbone.hidden=[8,8]",
    "+env.max_steps=20",
    "threads=1",
    "device=cpu",
    "task.epochs=2",
    "task.episodes_per_epoch=2",
    "task.updates_per_epoch=2",
    "task.batch_size=32",
    "task.replay_size=200",
    "task.min_replay_size=40",
    "task.coverage_skills=2",
    "task.goals=2",
]


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in LAUNCHERS if "/pretrain/" in script])
def test_script_trains(script: str, tmp_path: Path) -> None:
    done = sh(ROOT / script, *SHORT, f"exp_dir={tmp_path}", PYTHON=sys.executable, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "finished: 2 epochs; results are in " in done.stderr
    (metrics,) = tmp_path.rglob("metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert {"eval/coverage", "episode/displacement", "loss/critic"} <= set(rows[-1])
    assert len(list(tmp_path.rglob("policy_000002.safetensors"))) == 1


@pytest.mark.parametrize("script", LAUNCHERS)
def test_script_passes_the_exit_code_and_its_arguments(script: str, tmp_path: Path) -> None:
    """Through a path with a space, and with an argument that the shell would split or expand."""
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\\n" "$@"; exit 7')
    link = tmp_path / "with space"
    link.symlink_to(ROOT)
    done = sh(link / script, *method_for(script), "agent.hidden=[8, 8]", "x=*", PYTHON=str(python))
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[-2:] == ["agent.hidden=[8, 8]", "x=*"]


def test_shellcheck() -> None:
    tool = Path(sysconfig.get_path("scripts")) / "shellcheck"
    scripts = map(str, (ROOT / "scripts").rglob("*.sh"))
    command = [str(tool), "--shell=sh", "--external-sources", *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- scripts/lib/python.sh, in a folder of its own, with Pythons that only pretend


def fake(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


TOOLS = "cmp cp find ln mkdir readlink rm sh sleep tr uname"


class House:
    """A repository root with nothing but requirements, and a PATH on which no Python is."""

    def __init__(self, root: Path, tools: Path) -> None:
        self.root, self.tools, self.log = root, tools, root / "log"
        root.mkdir()
        (root / "requirements.txt").write_text("torch==2.13.0\n")
        tools.mkdir()
        for tool in TOOLS.split():
            (tools / tool).symlink_to(str(shutil.which(tool)))

    def python(self, name: str = "python3.11", answer: str = "venv", pins: int = 1, pip: int = 0) -> Path:
        """A Python with its answer to whether it can make environments; exit codes for pins and pip."""
        path = self.tools / name
        inner = self.root / "inner"
        log = shlex.quote(str(self.log))
        fake(
            inner,
            f"""case "$*" in
  *"pip install"*) echo "$*" >>{log}; sleep "${{PIP_SECONDS:-0}}"; exit {pip} ;;
esac""",
        )
        return fake(
            path,
            f"""case "$*" in
  *ensurepip*) echo {answer} {shlex.quote(str(path))} ;;
  *importlib.metadata*) exit {pins} ;;
  *"-m venv"*) echo "$*" >>{log}; mkdir -p .venv/bin; cp {shlex.quote(str(inner))} .venv/bin/python ;;
esac""",
        )

    def make_venv(self, stamp: str | None) -> None:
        fake(self.root / ".venv/bin/python", f'echo "$*" >>{shlex.quote(str(self.log))}')
        if stamp is not None:
            (self.root / ".venv/csf-requirements.txt").write_text(stamp)

    def command(self) -> list[str]:
        return ["/bin/sh", "-euc", '. "$0"; echo "$PYTHON"', str(LIBRARY)]

    def environment(self, **env: str) -> dict[str, str]:
        return {"PATH": str(self.tools), **env}

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment(**env)
        command = self.command()
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=60)

    @property
    def asked(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def venv_python(self) -> str:
        return f"{self.root}/.venv/bin/python\n"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "a house", tmp_path / "bin")


def test_current_stamp_is_quiet_and_fast(house: House) -> None:
    house.make_venv(stamp="torch==2.13.0\n")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = house.run()
        seconds.append(time.perf_counter() - start)
        assert (done.returncode, done.stdout, done.stderr) == (0, house.venv_python, "")
    assert house.asked == "", "the interpreter was started: that costs every run"
    assert min(seconds) < 0.05


@pytest.mark.parametrize("stamp", [None, "torch==2.12.0\n"])
def test_venv_without_a_current_stamp_is_completed(house: House, stamp: str | None) -> None:
    house.make_venv(stamp)
    done = house.run()
    assert (done.returncode, done.stdout) == (0, house.venv_python)
    assert "csf: installing requirements.txt into " in done.stderr
    assert "making" not in done.stderr
    assert "-m pip install --disable-pip-version-check --no-input -r requirements.txt" in house.asked
    assert house.run().stderr == "", "the stamp was not written"


def test_venv_is_made(house: House) -> None:
    house.python()
    done = house.run()
    assert (done.returncode, done.stdout) == (0, house.venv_python), done.stderr
    assert f"csf: making {house.root}/.venv with {house.tools}/python3.11\n" in done.stderr
    assert "-m venv --clear .venv" in house.asked
    assert not (house.root / ".venv.lock").is_symlink()


def test_failed_pip_leaves_no_stamp(house: House) -> None:
    house.python(pip=1)
    done = house.run()
    assert done.returncode == 1
    assert "csf: could not install requirements.txt (pip's reason is above)" in done.stderr
    house.python(pip=0)
    shutil.copy(house.root / "inner", house.root / ".venv/bin/python")
    assert "csf: installed" in house.run().stderr


def test_no_suitable_python(house: House) -> None:
    fake(house.tools / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    # Another version: it has not the pins, and says nothing when asked if it can make an environment.
    fake(house.tools / "python3", 'case "$*" in *importlib.metadata*) exit 1 ;; esac')
    done = house.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "csf: Python 3.11 or 3.12 is needed; tried python3.11, python3.12 and python3 on " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (house.root / ".venv.lock").is_symlink()


def test_broken_shim_is_passed_over(house: House) -> None:
    fake(house.tools / "python3.11", "exit 127")
    house.python("python3.12")
    assert f"making {house.root}/.venv with {house.tools}/python3.12" in house.run().stderr


def test_debian_without_the_venv_package(house: House) -> None:
    house.python("python3", answer="3.11")
    done = house.run()
    assert done.returncode == 1
    assert "on Debian and Ubuntu: sudo apt-get install python3.11-venv" in done.stderr


def test_named_python_is_trusted(house: House) -> None:
    python = fake(house.root / "mine", "exit 0")
    done = house.run(PYTHON=str(python))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{python}\n", "")


def test_named_python_that_does_not_run(house: House) -> None:
    done = house.run(PYTHON="/nowhere/python")
    assert done.returncode == 1
    message = "PYTHON=/nowhere/python does not run; set it to a Python 3.11 or 3.12, or unset it"
    assert done.stderr == f"csf: {message}\n"


def test_active_environment_with_every_pin_is_used(house: House) -> None:
    house.python("python3", pins=0)
    done = house.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "python3\n", "")


@pytest.mark.parametrize(("pin", "used"), [("{have}", True), ("0.0.1", False)])
def test_pins_are_compared_with_what_is_installed(house: House, pin: str, used: bool) -> None:
    """With the real interpreter; a local version (2.13.0+cpu) counts as its public one."""
    import torch

    have = str(torch.__version__).split("+")[0]
    (house.root / "requirements.txt").write_text(f"# a comment\ntorch=={pin.format(have=have)}  # why\n")
    environment = house.root / "active"
    fake(environment / "bin/python", f'exec {shlex.quote(sys.executable)} "$@"')
    done = house.run(VIRTUAL_ENV=str(environment))
    assert (done.stdout == f"{environment}/bin/python\n") == used, done.stderr


def test_interrupted_installation_starts_anew(house: House) -> None:
    """Killed while pip runs: the lock of the dead process stays, and .venv is not trusted."""
    house.python()
    first = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$@"', "sh", *house.command()],
        cwd=house.root,
        env=house.environment(PIP_SECONDS="3"),
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: "pip install" in house.asked)
    first.kill()
    first.wait()
    done = house.run()
    assert done.returncode == 0
    assert "was interrupted\n" in done.stderr
    assert house.asked.count("venv --clear") == 2


def test_two_first_calls_install_once(house: House) -> None:
    house.python()
    first = subprocess.Popen(house.command(), cwd=house.root, env=house.environment(PIP_SECONDS="2"))
    wait_for(lambda: "pip install" in house.asked)
    second = house.run()
    assert first.wait() == 0
    assert second.returncode == 0
    assert "csf: waiting for another installation (" in second.stderr
    assert house.asked.count("pip install") == 1


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError
