"""Every launch script composes from anywhere, and scripts/lib/python.sh decides and speaks as it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from image_rules import MODELS, need
from packaging.utils import canonicalize_name

from csf.config.compose import check, check_adaptation
from csf.io import packaged

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "scripts/lib/python.sh"
LAUNCHERS = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (ROOT / "scripts").rglob("*.sh")
    if p.parent.name not in ("lib", "sweep") and p.name not in ("test.sh", "gpu_check.sh", "package_policy.sh")
)

ZERO_SHOT = [script for script in LAUNCHERS if "/zero_shot/" in script]
PRETRAINING = [script for script in LAUNCHERS if "/pretrain/" in script]
STUDIES = [script for script in LAUNCHERS if "/study/" in script]
ADAPTATION = [script for script in LAUNCHERS if "/adaptation/" in script]
CONTROLLERS = [script for script in LAUNCHERS if "/hierarchical_control/" in script]
METHODS = ["cic", "csf", "dads", "diayn", "metra", "scratch", "slusd", "visr"]


def sh(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command, environment = ["sh", *map(str, args)], {**os.environ, **env}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=120)


# ---- launch scripts


def test_there_are_launch_scripts() -> None:
    assert "scripts/pretrain/csf/csf_ant.sh" in LAUNCHERS


def env_of(script: str) -> str:
    """The environment in a launch script's name."""
    stem, folder = Path(script).stem, Path(script).parent.name
    return stem.removeprefix(f"{folder}_")


def methods_of(script: str) -> list[str]:
    """The methods that a script accepts, in the order in which it lists them."""
    methods = ["csf", "metra", "diayn", *(["dads"] if env_of(script) not in MODELS else []), "cic", "visr"]
    methods += ["slusd"] if env_of(script) not in MODELS else []
    references = ["scratch", "expert"] if script in ADAPTATION else ["scratch"] if script in CONTROLLERS else []
    return [*methods, *references]


def need_models(script: str) -> None:
    """Skip the test if the script would stop because this Python lacks the model files of its environment."""
    if env_of(script) in MODELS and not all(map(find_spec, set(MODELS.values()))):
        pytest.skip("the model files of image environments are not installed")


# DADS predicts differences of observations and cannot be trained on images.
METHODS_ON = {"ant": 6, "half_cheetah": 6, "quadruped": 5, "humanoid": 5, "kitchen": 5, "robobin": 5}


@pytest.mark.parametrize("env", METHODS_ON)
def test_every_method_of_the_paper_has_a_script_on_its_environments(env: str) -> None:
    methods = ("csf", "metra", "diayn", "cic", "visr", "dads")[: METHODS_ON[env]]
    wanted = [f"scripts/pretrain/{method}/{method}_{env}.sh" for method in methods]
    assert sorted(wanted) == [script for script in PRETRAINING if env_of(script) == env]
    assert f"scripts/zero_shot/{env}.sh" in ZERO_SHOT


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(each, marks=pytest.mark.long if env_of(each) in MODELS and "/csf/" not in each else ())
        for each in LAUNCHERS
        if each not in ZERO_SHOT + ADAPTATION + STUDIES
    ],
)
def test_script_composes_from_anywhere(script: str) -> None:
    need_models(script)
    done = sh(ROOT / script, *method_for(script), "--cfg", "job", "--resolve", "seed=3", PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    tree = yaml.safe_load(done.stdout)
    assert tree["seed"] == 3
    kind, method, name = Path(script).parts[1:4] if script.count("/") == 3 else ("", "", "")
    if kind == "pretrain":
        assert name == f"{method}_{tree['env']['name']}.sh"
        assert tree["agent"]["name"] == method


@pytest.mark.parametrize("script", STUDIES)
def test_a_study_s_script_runs_the_study_of_its_name(script: str, tmp_path: Path) -> None:
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\\n" "$@"')
    done = sh(ROOT / script, "profile=ci", PYTHON=str(python))
    assert done.stdout.split() == ["-m", "csf.study", Path(script).stem, "profile=ci"]


def method_for(script: str) -> list[str]:
    """The words that must stand first."""
    return ["csf"] if script in CONTROLLERS + ZERO_SHOT + ADAPTATION else []


@pytest.mark.parametrize("script", ZERO_SHOT)
def test_an_evaluations_script_says_what_to_train_first(script: str, tmp_path: Path) -> None:
    need_models(script)
    env = Path(script).stem
    done = sh(ROOT / script, "csf", f"exp_dir={tmp_path}", PYTHON=sys.executable)
    assert (done.returncode, done.stdout) == (1, "")
    train = f"train one: csf train agent=csf env={env}, or select one with cp_path="
    hint = f", such as cp_path=packaged:{env}" if env in packaged.names() else ""
    assert (
        done.stderr == f"error: no run of agent=csf on env={env} under {tmp_path}/ has a policy file; {train}{hint}\n"
    )


# What the CSF paper trains a controller with, by the task: backbone, episodes and gradient steps of an epoch.
CONTROLLED = {
    "ant_multi_goal": ("sac", 8, 50),
    "half_cheetah_goal": ("ppo", 64, 10),
    "half_cheetah_hurdle": ("ppo", 64, 10),
    "point_two_goals": ("sac", 8, 25),
    "quadruped_goal": ("sac", 8, 50),
    "humanoid_goal": ("sac", 8, 50),
}


def test_every_task_has_a_script() -> None:
    assert [Path(script).stem for script in CONTROLLERS] == sorted(CONTROLLED)


@pytest.mark.parametrize(
    ("script", "method"),
    [(script, method) for script in CONTROLLERS for method in METHODS if method in methods_of(script)],
)
def test_a_controllers_script_takes_a_method(script: str, method: str, tmp_path: Path) -> None:
    name = Path(script).stem
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\n" "$@"')
    done = sh(ROOT / script, method, PYTHON=str(python))
    module, *settings = done.stdout.splitlines()[1:]
    cfg = check(settings)
    assert module == "csf.train"
    backbone, episodes, updates = CONTROLLED[name]
    if method == "scratch":  # as many steps as the controller's decisions hold, and as many updates as in pretraining
        backbone, updates = "sac", updates if name == "point_two_goals" else 50 * episodes // 8
        updates = 200 if name in MODELS else updates
    task = cfg.task
    found = cfg.agent.name, cfg.env["name"], cfg.backbone.name, task.episodes_per_epoch, task.updates_per_epoch
    assert found == ("task", name, backbone, episodes, updates)
    assert cfg.run_name == f"hierarchical/{name}/{method}/sd000"
    assert (cfg.skills, cfg.cp_path) == (None if method == "scratch" else method, None)
    assert cfg.hold == (None if method == "scratch" else 4 if name == "point_two_goals" else 25)
    assert task.terminal_at_limit


@pytest.mark.parametrize("script", ADAPTATION)
def test_an_adaptations_script_takes_a_method(script: str, tmp_path: Path) -> None:
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\n" "$@"')
    for method in methods_of(script):
        done = sh(ROOT / script, method, "seed=3", PYTHON=str(python))
        module, *settings = done.stdout.splitlines()[1:]
        cfg = check_adaptation(settings)
        assert (module, cfg.method, cfg.seed) == ("csf.adapt", method, 3)
        assert cfg.env["name"] == Path(script).stem
        assert cfg.task.steps == (1_000_000 if method == "expert" else 100_000)
    done = sh(ROOT / script, "expert", "task.steps=7", PYTHON=str(python))
    assert check_adaptation(done.stdout.splitlines()[2:]).task.steps == 7


@pytest.mark.parametrize("words", [[], ["cfs"], ["seed=1"], ["--help"], ["csf metra"]])
@pytest.mark.parametrize("script", CONTROLLERS + ZERO_SHOT + ADAPTATION)
def test_a_script_names_the_methods_that_it_takes(script: str, words: list[str]) -> None:
    done = sh(ROOT / script, *words, PYTHON=sys.executable)
    assert (done.returncode, done.stdout) == (1, "")
    first = words[0] if words else ""
    accepted = ", ".join(methods_of(script))
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


SMALL_IMAGES = ["encoder.channels=[2,2,4,4]", "env.quality=fast", "env.max_steps=5", "task.min_replay_size=10"]
GATING = "scripts/pretrain/csf/csf_ant.sh"  # the others train in the same way


@pytest.mark.parametrize(
    "script", [pytest.param(each, marks=() if each == GATING else pytest.mark.long) for each in PRETRAINING]
)
def test_script_trains(script: str, tmp_path: Path) -> None:
    env = env_of(script)
    need(env)
    words = [*SHORT, *(SMALL_IMAGES if env in MODELS else []), f"exp_dir={tmp_path}"]
    done = sh(ROOT / script, *words, PYTHON=sys.executable, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert ("learning from images on the CPU: an epoch makes 2 updates of" in done.stderr) == (
        env in {*MODELS, "point_pixels"}
    )
    assert "finished: 2 epochs; results are in " in done.stderr
    (metrics,) = tmp_path.rglob("metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    wanted = {"loss/critic", *MEASURED.get(env, ("eval/coverage", "episode/displacement"))}
    wanted |= GOALS.get(env, set()) if "cic" not in script else set()
    assert wanted <= set(rows[-1])
    assert len(list(tmp_path.rglob("policy_000002.safetensors"))) == 1


# Coverage by the environments' own rules, and success overall; per goal it depends on which goals are drawn.
MEASURED = {
    "kitchen": ("eval/goals_reached", "eval/reached_microwave"),
    "robobin": ("eval/coverage",),
    **dict.fromkeys(("MountainCarContinuous-v0", "Walker2d-v5"), ("eval/state_entropy",)),  # without coordinates
}
GOALS = {env: {"eval/goal/hit", "eval/goal/staying"} for env in ("kitchen", "robobin")}
GOALS |= {env: {"eval/goal/hit_3", "eval/goal/staying_1"} for env in ("quadruped", "humanoid")}


@pytest.mark.long
@pytest.mark.parametrize("env", ["quadruped", "humanoid", "kitchen", "robobin"])
def test_skills_from_images_are_evaluated_and_used_by_a_controller(env: str, tmp_path: Path) -> None:
    need(env)
    words = [*SHORT, *SMALL_IMAGES, "encoder=shared", f"exp_dir={tmp_path}", "run_name=skills"]

    def launch(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return sh(ROOT / "scripts" / script, *words, PYTHON=sys.executable, OMP_NUM_THREADS="1")

    done = launch(f"pretrain/csf/csf_{env}.sh", *words)
    assert done.returncode == 0, done.stderr
    skills = f"cp_path={tmp_path}/skills"
    done = launch(f"zero_shot/{env}.sh", "csf", skills, "goals=8", "skills=2", "device=cpu", "threads=1")
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.rglob("eval_000002.json")
    results = json.loads(report.read_text())["results"]
    assert GOALS[env] <= set(results)
    if env in MEASURED:  # named goals, of which eight draws have several
        assert sum(re.fullmatch(r"eval/goal/hit_[a-z]\w+", key) is not None for key in results) >= 2
        return
    small = [*SHORT, *SMALL_IMAGES, f"exp_dir={tmp_path}", "run_name=controller", "task.min_replay_size=2", "hold=3"]
    script = f"hierarchical_control/{env}_goal.sh"
    done = launch(script, "csf", skills, *small)
    assert done.returncode == 0, done.stderr
    assert "finished: 2 epochs" in done.stderr
    done = launch(script, "csf", skills, *small, "run_name=other", "env.quality=paper")
    assert done.returncode == 1
    reason = "skills were trained on other images: env.quality is paper, accepted: fast"
    assert done.stderr.splitlines()[-1].endswith(reason), done.stderr


@pytest.mark.parametrize("script", LAUNCHERS)
def test_script_passes_the_exit_code_and_its_arguments(script: str, tmp_path: Path) -> None:
    """Through a path with a space, and with an argument that the shell would split or expand."""
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; printf "%s\\n" "$@"; exit 7')
    link = tmp_path / "with space"
    link.symlink_to(ROOT)
    done = sh(link / script, *method_for(script), "agent.hidden=[8, 8]", "x=*", PYTHON=str(python))
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[-2:] == ["agent.hidden=[8, 8]", "x=*"]


@pytest.mark.parametrize("script", [*LAUNCHERS, "scripts/test.sh", "scripts/gpu_check.sh"])
def test_a_script_runs_the_code_beside_it_whatever_cdpath_says(script: str, tmp_path: Path) -> None:
    """Called by a relative path, with another clone in CDPATH, where `cd` would look first."""
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; echo "in $(pwd -P)"; exit 7')
    shutil.copytree(ROOT / "scripts", tmp_path / "other/scripts")
    environment = {**os.environ, "CDPATH": str(tmp_path / "other"), "PYTHON": str(python)}
    command = ["sh", script, *method_for(script)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (7, f"in {ROOT.resolve()}\n"), done.stderr


def test_a_policy_is_packaged_with_the_range_of_five_evaluations(tmp_path: Path) -> None:
    python = fake(tmp_path / "python", 'case $1 in -c) exit 0 ;; esac; echo "$*"')
    done = sh(ROOT / "scripts/package_policy.sh", "/exp/a run", "ant", PYTHON=str(python))
    assert (done.returncode, done.stderr) == (0, "")
    evaluated, exported = "-m csf.evaluate /exp/a run seeds=5", "-m csf.export /exp/a run csf/packaged/ant video=false"
    assert done.stdout.splitlines() == [evaluated, exported]
    done = sh(ROOT / "scripts/package_policy.sh", "run", PYTHON=str(python))
    assert (done.returncode, done.stderr) == (1, "csf: 1 arguments are given; accepted: RUN_OR_FILE NAME\n")


def test_every_script_that_changes_directory_ignores_cdpath() -> None:
    scripts = [*(ROOT / "scripts").rglob("*.sh"), ROOT / ".ci/run"]
    changing = [path for path in scripts if re.search(r"^\s*cd ", path.read_text(), re.MULTILINE)]
    assert len(changing) > 20
    assert [path for path in changing if "unset CDPATH\ncd " not in path.read_text()] == []


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
        (root / "setup.py").write_text("setup()\n")
        tools.mkdir()
        for tool in TOOLS.split():
            (tools / tool).symlink_to(str(shutil.which(tool)))

    def python(
        self, name: str = "python3.11", answer: str = "venv", pins: int = 1, pip: int = 0, modules: int = 3
    ) -> Path:
        """A Python with its answer to whether it can make environments; exit codes for pins, pip and modules."""
        path = self.tools / name
        number = path.name.removeprefix("python")
        inner = self.root / "inner"
        log = shlex.quote(str(self.log))
        fake(
            inner,
            f"""case "$*" in
  *"pip install"*) echo "$*" >>{log}; sleep "${{PIP_SECONDS:-0}}"; exit {pip} ;;
  *version_info*) echo {number} ;;
esac""",
        )
        return fake(
            path,
            f"""case "$*" in
  *"map(u.find_spec"*) exit {modules} ;;
  *ensurepip*) echo {answer} {shlex.quote(str(path))} ;;
  *importlib.metadata*) exit {pins} ;;
  *"-m venv"*) echo "$*" >>{log}; mkdir -p "$4/bin"; cp {shlex.quote(str(inner))} "$4/bin/python" ;;
  *version_info*) echo {number} ;;
esac""",
        )

    def make_venv(self, stamp: str | None) -> None:
        fake(self.root / ".venv/bin/python", f'echo "$*" >>{shlex.quote(str(self.log))}')
        if stamp is not None:
            (self.root / ".venv/csf-requirements.txt").write_text(stamp)
            (self.root / ".venv/csf-setup.py").write_text("setup()\n")
            (self.root / ".venv/csf-place").write_text(f"{self.root.resolve()}\n")

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
    assert len(commands_installed(house)) == 1, "pip failed before the command's turn"


COMMAND = "-m pip install --disable-pip-version-check --no-input --quiet --no-deps --no-build-isolation --editable ."


def commands_installed(house: House) -> list[str]:
    return [line for line in house.asked.splitlines() if line == COMMAND]


def test_the_command_is_installed_once_and_again_where_it_would_lead_elsewhere(house: House, tmp_path: Path) -> None:
    house.python()
    house.run()
    assert house.run().stderr == ""
    assert len(commands_installed(house)) == 1
    (house.root / "setup.py").write_text("setup(name='other')\n")
    house.run()
    assert len(commands_installed(house)) == 2
    assert house.asked.count("-r requirements.txt") == 1, "the requirements had not changed"
    shutil.copytree(house.root, tmp_path / "a copy", symlinks=True)
    house.root = tmp_path / "a copy"
    assert house.run().stdout == house.venv_python
    assert len(commands_installed(house)) == 3
    assert house.run().stderr == ""


def test_no_suitable_python(house: House) -> None:
    fake(house.tools / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    # Another version: it has not the pins, and says nothing when asked if it can make an environment.
    fake(house.tools / "python3", 'case "$*" in *importlib.metadata*) exit 1 ;; esac')
    done = house.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "csf: Python 3.11, 3.12 or 3.13 is needed; tried python3.11, python3.12, python3.13 and " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (house.root / ".venv.lock").is_symlink()


def test_broken_shim_is_passed_over(house: House) -> None:
    fake(house.tools / "python3.11", "exit 127")
    house.python("python3.12")
    assert f"making {house.root}/.venv with {house.tools}/python3.12" in house.run().stderr


@pytest.mark.parametrize("place", ["home/.pyenv", "elsewhere"])
def test_a_python_that_pyenv_has_and_has_not_activated_is_found(house: House, place: str) -> None:
    fake(house.tools / "python3.13", "exit 127")
    inactive = house.root / place / "versions/3.13.0/bin/python"
    inactive.parent.mkdir(parents=True)
    house.python("python").rename(inactive)
    env = {"HOME": f"{house.root}/home"} if place == "home/.pyenv" else {"PYENV_ROOT": f"{house.root}/{place}"}
    text = inactive.read_text().replace(str(house.tools / "python"), str(inactive))
    inactive.write_text(text)
    done = house.run(**env)
    assert f"making {house.root}/.venv with {inactive}\n" in done.stderr
    assert done.stdout == house.venv_python


def test_debian_without_the_venv_package(house: House) -> None:
    house.python("python3", answer="3.11")
    done = house.run()
    assert done.returncode == 1
    assert "on Debian and Ubuntu: sudo apt-get install python3.11-venv" in done.stderr


def test_named_python_that_has_the_packages_is_used_whatever_their_versions(house: House) -> None:
    python = house.python("mine", modules=0, pins=1)
    done = house.run(PYTHON=str(python))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{python}\n", "")
    assert house.asked == ""


def test_of_a_named_python_without_the_packages_an_environment_is_made(house: House) -> None:
    """Beside .venv if that belongs to another Python, which may be in use."""
    for name, folder in (("python3.12", ".venv"), ("python3.13", ".venv-3.13"), ("python3.12", ".venv")):
        python = house.python(name)
        done = house.run(PYTHON=str(python))
        assert (done.returncode, done.stdout) == (0, f"{house.root}/{folder}/bin/python\n"), done.stderr
    venvs = [line for line in house.asked.splitlines() if "-m venv" in line]
    assert venvs == ["-m venv --clear .venv", "-m venv --clear .venv-3.13"]
    assert len(commands_installed(house)) == 2
    assert not list(house.root.glob(".venv*.lock"))


def test_the_modules_that_a_named_python_must_have_are_those_that_a_run_needs() -> None:
    """Each is provided by a requirement that setup.py has for everyone, and each such requirement provides one."""
    (line,) = re.findall(r'^CSF_MODULES="([^$]*)', LIBRARY.read_text(), re.MULTILINE)
    providers = packages_distributions()
    (block,) = re.findall(r"install_requires=\[(.*?)\]", (ROOT / "setup.py").read_text(), re.DOTALL)
    required = re.findall(r'"([\w-]+)', block)
    assert {canonicalize_name(providers[module][0]) for module in line.split()} == set(required)


def test_a_real_python_without_the_packages_is_told_from_one_with_them(house: House) -> None:
    bare, python = house.root / "bare", house.python("python3.12")
    fake(bare, f'case "$*" in *"map(u.find_spec"*) exec {sys.executable} -S "$@" ;; *) exec {python} "$@" ;; esac')
    assert house.run(PYTHON=str(bare)).stdout == house.venv_python
    assert house.run(PYTHON=sys.executable).stdout == f"{sys.executable}\n"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (4, "is older than 3.11; set it to a Python 3.11, 3.12 or 3.13, or unset it"),
        (127, "does not run; set it to a Python 3.11, 3.12 or 3.13, or unset it"),
        (3, "lacks some of torch numpy "),
    ],
)
def test_named_python_that_cannot_be_used(house: House, code: int, problem: str) -> None:
    python = house.python("python3.12", answer="3.12", modules=code)
    done = house.run(PYTHON=str(python))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"csf: PYTHON={python} {problem}")
    assert len(done.stderr.splitlines()) == 1


def test_named_python_that_does_not_run(house: House) -> None:
    done = house.run(PYTHON="/nowhere/python")
    assert done.returncode == 1
    message = "PYTHON=/nowhere/python does not run; set it to a Python 3.11, 3.12 or 3.13, or unset it"
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


@pytest.mark.parametrize(
    ("lines", "used"),
    [
        ('csf-no-such-package==1.0; python_version < "3.11"', True),
        ('csf-no-such-package==1.0; python_version >= "3.11"', False),
        ('torch=={have}; python_version >= "3.11"  # why', True),
        ('torch==0.0.1 ; python_version >= "3.11"', False),
        ('torch==0.0.1 ; python_version < "3.9"\ntorch=={have}', True),
        ("torch at version {have}", False),
    ],
)
def test_a_pin_counts_where_its_marker_holds(house: House, lines: str, used: bool) -> None:
    import torch

    (house.root / "requirements.txt").write_text(lines.format(have=str(torch.__version__).split("+")[0]) + "\n")
    environment = house.root / "active"
    fake(environment / "bin/python", f'exec {shlex.quote(sys.executable)} "$@"')
    done = house.run(VIRTUAL_ENV=str(environment))
    assert (done.stdout == f"{environment}/bin/python\n") == used, done.stderr


# ---- model files of image environments


IMAGES, WARP = "scripts/lib/requirements-images.txt", "scripts/lib/requirements-warp.txt"
SWEEP = "scripts/lib/requirements-sweep.txt"


class ImageHouse(House):
    """A house with the list of image environments, whose scripts install it."""

    def __init__(self, root: Path, tools: Path) -> None:
        super().__init__(root, tools)
        self.words = list[str]()
        (root / IMAGES).parent.mkdir(parents=True)
        shutil.copy(ROOT / IMAGES, root / IMAGES)

    def command(self) -> list[str]:
        return ["/bin/sh", "-euc", '. "$0"; csf_need_images "$@"; echo "$PYTHON"', str(LIBRARY), *self.words]


@pytest.fixture
def image_house(tmp_path: Path) -> ImageHouse:
    return ImageHouse(tmp_path / "a house", tmp_path / "bin")


def test_model_files_are_installed_once_without_dependencies(image_house: ImageHouse) -> None:
    image_house.python()
    done = image_house.run()
    assert (done.returncode, done.stdout) == (0, image_house.venv_python), done.stderr
    assert image_house.run().stderr == ""
    asked = [line for line in image_house.asked.splitlines() if IMAGES in line]
    command = f"-m pip install --disable-pip-version-check --no-input --quiet --no-deps -r {IMAGES}"
    assert asked == [command]
    with (image_house.root / IMAGES).open("a") as file:
        file.write("another==1.0\n")
    image_house.run()
    assert image_house.asked.count(IMAGES) == 2


def test_model_files_are_not_installed_into_a_python_of_the_users(image_house: ImageHouse) -> None:
    python = image_house.python("mine", modules=0)
    assert image_house.run(PYTHON=str(python)).returncode == 0
    text = python.read_text().replace('case "$*" in', 'case "$*" in *metaworld*) exit 3 ;;')
    python.write_text(text)
    done = image_house.run(PYTHON=str(python))
    assert (done.returncode, done.stdout, image_house.asked) == (1, "", "")
    advice = f"{python} -m pip install --no-deps -r {image_house.root}/{IMAGES}"
    assert done.stderr == f"csf: PYTHON={python} lacks the model files of image environments: {advice}\n"


def test_warp_is_installed_when_it_renders(image_house: ImageHouse) -> None:
    image_house.python()
    shutil.copy(ROOT / WARP, image_house.root / WARP)
    image_house.words = ["seed=1", "env.renderer=warp"]
    done = image_house.run()
    assert (done.returncode, done.stdout) == (0, image_house.venv_python), done.stderr
    assert f"-m pip install --disable-pip-version-check --no-input --quiet --no-deps -r {WARP}" in image_house.asked
    assert image_house.run().stderr == ""


def test_a_launcher_is_installed_with_its_dependencies_when_a_sweep_asks_for_it(house: House) -> None:
    house.python()
    (house.root / SWEEP).parent.mkdir(parents=True)
    shutil.copy(ROOT / SWEEP, house.root / SWEEP)
    script = '. "$0"; echo "$PYTHON"'
    for words in (["-m", "seed=0,1", "hydra/launcher=joblib"], ["-m", "seed=0,1", "hydra/launcher=ray"]):
        assert SWEEP not in house.asked
        command = ["/bin/sh", "-euc", script, str(LIBRARY), *words]
        done = subprocess.run(command, cwd=house.root, env=house.environment(), capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, house.venv_python), done.stderr
    assert f"-m pip install --disable-pip-version-check --no-input --quiet -r {SWEEP}" in house.asked


LIBRARIES = {"none": "libc.so.6", "egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}


@pytest.mark.parametrize(
    ("libraries", "user", "apt", "variables", "installed"),
    [
        ("none", 0, True, {}, True),
        ("none", 1000, True, {}, False),
        ("none", 0, False, {}, False),
        ("none", 0, True, {"MUJOCO_GL": "glfw"}, False),
        ("egl", 0, True, {}, False),
        ("osmesa", 0, True, {}, False),
    ],
)
def test_opengl_is_installed_where_it_can_be(
    libraries: str, user: int, apt: bool, variables: dict[str, str], installed: bool, image_house: ImageHouse
) -> None:
    image_house.python()
    fake(image_house.tools / "ldconfig", f"echo '{LIBRARIES[libraries]} => /lib'")
    fake(image_house.tools / "id", f"echo {user}")
    if apt:
        fake(image_house.tools / "apt-get", f'echo "apt-get $*" >>{shlex.quote(str(image_house.log))}')
    done = image_house.run(**variables)
    assert (done.returncode, done.stdout) == (0, image_house.venv_python), done.stderr
    packages = "libegl1 libopengl0 libgl1-mesa-dri"
    asked = [line for line in image_house.asked.splitlines() if line.startswith("apt-get")]
    wanted = ["apt-get update", f"apt-get install -y --no-install-recommends {packages}"]
    assert asked == (wanted if installed else [])
    assert (f"csf: installing {packages} with apt-get\n" in done.stderr) == installed


def test_opengl_that_cannot_be_installed_is_left_to_the_program(image_house: ImageHouse) -> None:
    image_house.python()
    fake(image_house.tools / "ldconfig", "echo libc.so.6")
    fake(image_house.tools / "id", "echo 0")
    fake(image_house.tools / "apt-get", "exit 100")
    done = image_house.run()
    assert (done.returncode, done.stdout) == (0, image_house.venv_python)
    assert done.stderr.endswith("csf: could not install libegl1 libopengl0 libgl1-mesa-dri (the reason is above)\n")


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
    assert house.asked.count("pip install") == 2, "the requirements and the command, once each"


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


# ---- scripts/test.sh, with Pythons that only pretend


class Yard(House):
    """A house with scripts/test.sh, whose tests end with the exit code of PYTEST."""

    def __init__(self, root: Path, tools: Path) -> None:
        super().__init__(root, tools)
        for name in ("scripts/test.sh", "scripts/lib/python.sh", "tests/requirements.txt", IMAGES, WARP, SWEEP):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        for tool in ("dirname", "grep", "id"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        for tool in ("chromium", "ldconfig", "shellcheck"):
            fake(tools / tool, "exit 0")

    def python(self, name: str = "python3.11", *args: object, **kwargs: object) -> Path:
        """As in a house; it runs pytest as well."""
        path = super().python(name, modules=0)
        number = name.removeprefix("python")
        extra = f"""*"-m pytest"*) echo "{number} $*" >>{shlex.quote(str(self.log))}; exit "${{PYTEST:-0}}" ;;
  *get_path*) echo {shlex.quote(str(self.tools))} ;;"""
        for file in (path, self.root / "inner"):
            file.write_text(file.read_text().replace('case "$*" in', f'case "$*" in\n  {extra}', 1))
        # Each makes environments of its own kind.
        (self.root / "inner").rename(self.root / f"inner{number}")
        path.write_text(path.read_text().replace(f"{self.root}/inner", f"{self.root}/inner{number}"))
        return path

    def test(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        command, environment = ["/bin/sh", "scripts/test.sh", *args], self.environment(**env)
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=60)

    @property
    def tested(self) -> list[str]:
        """Version and what follows the fixed arguments, of each call of pytest."""
        lines = [line for line in self.asked.splitlines() if "-m pytest" in line]
        return [re.sub(r" -m pytest .* --ignore tests/benchmark", "", line) for line in lines]


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "a yard", tmp_path / "bin")


def test_the_oldest_python_runs_all_tests_and_the_newest_those_of_versions(yard: Yard) -> None:
    for name in ("python3.11", "python3.12", "python3.13"):
        yard.python(name)
    done = yard.test()
    assert done.returncode == 0, done.stderr
    first, second = yard.tested
    assert first == "3.11"
    assert second.startswith("3.13 -m not slow tests/test_packaging.py ")
    assert all((ROOT / word).is_file() for word in second.split()[4:])
    venvs = [line for line in yard.asked.splitlines() if "-m venv" in line]
    assert venvs == ["-m venv --clear .venv", "-m venv --clear .venv-3.13"]
    yard.test("-k", "a b")
    assert yard.tested[2:] == ["3.11 -k a b"], "arguments are for the one Python"


def test_where_everything_runs_on_the_newest_python_the_oldest_is_tested_as_well(yard: Yard) -> None:
    yard.python("python3.13")
    yard.test()
    assert yard.tested == ["3.13"]
    yard.python("python3.12")
    yard.test()
    assert [line.split()[0] for line in yard.tested] == ["3.13", "3.13", "3.12"]


def test_the_tests_install_the_model_files_and_the_long_ones_warp_and_launchers(yard: Yard) -> None:
    yard.python("python3.11")
    yard.test()
    lists = [word for word in yard.asked.split() if word in (IMAGES, WARP, SWEEP)]
    assert lists == [IMAGES]
    yard.test("-m", "long")
    assert [word for word in yard.asked.split() if word in (IMAGES, WARP, SWEEP)] == [IMAGES, WARP, SWEEP]


def test_a_named_python_runs_the_tests_alone(yard: Yard) -> None:
    yard.python("python3.13")
    done = yard.test(PYTHON=str(yard.python("python3.11")))
    assert (done.returncode, yard.tested) == (0, ["3.11"]), done.stderr


def test_failing_tests_fail(yard: Yard) -> None:
    yard.python("python3.11")
    yard.python("python3.13")
    assert yard.test(PYTEST="1").returncode == 1
    assert yard.test("-m", "long", PYTEST="1").returncode == 1
    assert yard.test("-k", "misspelt", PYTEST="5").returncode == 5


def test_that_no_test_takes_long_is_no_failure(yard: Yard) -> None:
    yard.python("python3.11")
    done = yard.test("-m", "long", PYTEST="5")
    assert (done.returncode, yard.tested) == (0, ["3.11 -m long"])
    assert done.stderr.endswith("csf: no test has the marker long\n")


@pytest.mark.parametrize(
    ("words", "run"),
    [
        ([], {"test_quick"}),
        (["-m", "not slow"], {"test_quick"}),
        (["-m", "long"], {"test_lasting"}),
        (["test_it.py::test_lasting"], {"test_lasting"}),
    ],
)
def test_the_marker_long(words: list[str], run: set[str], tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    text = "import pytest\n\n@pytest.mark.long\ndef test_lasting(): pass\n\ndef test_quick(): pass\n"
    (tmp_path / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-v", "--strict-markers", "--rootdir", ".", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert set(re.findall(r"::(\w+) PASSED", done.stdout)) == run, done.stdout + done.stderr
