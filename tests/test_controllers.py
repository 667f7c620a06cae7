"""Controllers over frozen skills as users run them: whose skills, which backbone, what is kept, what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml
from conftest import ROOT, SMALL, configure
from runs import different, error_of, fork, main, rows

from csf import evaluate
from csf.agents import Agent
from csf.config.compose import check, recompose
from csf.config.overrides import literal
from csf.config.schema import Config
from csf.errors import CheckpointError, ConfigError, RunDirError
from csf.evaluation.film import film
from csf.export import export
from csf.hierarchy import SkillVectorEnv
from csf.io import checkpoint, policy
from csf.io.load import find, read
from csf.pretrained import Skills, filmed, prepared, skills_of, with_skills, worlds_of
from csf.run import Run
from csf.types import Worlds
from csf.worlds import describe
from envs import base_of, make_vec

# Episodes of 4 decisions of 10 steps; two an epoch, so that the fourth epoch is the first to learn.
WORDS = [
    "env=point_two_goals",
    "task=hierarchical",
    "hold=10",
    "threads=1",
    "device=cpu",
    "agent.backbone.hidden=[8]",
    "task.epochs=6",
    "task.episodes_per_epoch=2",
    "task.updates_per_epoch=2",
    "task.batch_size=8",
    "task.replay_size=100",
    "task.min_replay_size=32",
    "task.eval_every=3",
    "task.save_every=3",
    "task.coverage_skills=3",
    "run_name=run",
]
VARIANT = "-backbone.hidden=[8]-hold=10-task.batch_size=8-task.coverage_skills=3-task.episodes_per_epoch=2"
VARIANT += "-task.min_replay_size=32-task.replay_size=100-task.updates_per_epoch=2"


def pretrained(exp: Path, name: str = "csf", epoch: int = 7, env: str = "point", *words: str) -> Path:
    """A policy file of a small agent, in its run's folder."""
    torch.manual_seed(epoch)
    cfg = configure(f"agent={name}", *SMALL, *words)
    below: Any = make_vec(env, 1)
    agent = Agent(cfg.agent, cfg.backbone, describe(below, env))
    tree = cfg.tree | {"env": {"name": env}}
    told = {"epoch": epoch, "config": tree, "results": {}, "spec": dataclasses.asdict(agent.spec), "versions": {}}
    folder = exp / "pretrain" / env / name / "sd000/checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / checkpoint.POLICY.format(epoch)
    policy.save(path, agent, told)
    return path


def resolved(exp: Path, *words: str) -> Config:
    """The configuration of a job, with what its checkpoint tells."""
    settings = [*WORDS, f"exp_dir={exp}", *words]
    return with_skills(check(settings), settings)[0]


def worlds_for(cfg: Config) -> Worlds:
    return worlds_of(cfg.tree, 2, skills_of(cfg.tree, cfg.exp_dir / cfg.run_name), torch.device("cpu"))


def run(exp: Path, *words: str) -> Path:
    """A whole run here; its folder."""
    cfg = resolved(exp, *words)
    with Run(cfg, torch.device("cpu"), skills_of(cfg.tree, cfg.exp_dir / cfg.run_name)) as whole:
        assert whole.train() == 0
        return whole.dir.path


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return found


# ---- whose skills


def test_finding_skills_leaves_the_random_state_as_it_was(tmp_path: Path) -> None:
    pretrained(tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    resolved(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_newest_policy_is_used_and_named_with_its_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrained(tmp_path, epoch=7)
    newest = pretrained(tmp_path, epoch=20)
    pretrained(tmp_path, "metra", epoch=30)
    cfg = resolved(tmp_path)
    assert cfg.cp_path == str(newest)
    assert f"skills of csf on point after epoch 20: {newest}" in capsys.readouterr().err


def test_skills_of_the_same_seed_are_preferred_and_the_others_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = pretrained(tmp_path / "a", "csf", 7, "point", "seed=3")
    newer = pretrained(tmp_path / "b", "csf", 20, "point", "seed=4")
    for seed, path, other in ((3, mine, newer), (4, newer, mine)):
        assert resolved(tmp_path, f"seed={seed}").cp_path == str(path)
        said = capsys.readouterr().err
        assert f": {path}\n" in said
        assert f"other runs: {other.parents[1]} (1 besides the one used; select one with cp_path=)\n" in said


def test_cp_path_names_a_file_a_folder_or_a_pattern(tmp_path: Path) -> None:
    old, new = pretrained(tmp_path, epoch=7), pretrained(tmp_path, epoch=20)
    assert resolved(tmp_path, f"cp_path={old}").cp_path == str(old)
    assert resolved(tmp_path, f"cp_path={new.parents[1]}").cp_path == str(new)
    assert resolved(tmp_path, f"cp_path='{new.parent}/policy_*07*'").cp_path == str(old)


@pytest.mark.parametrize(("task", "base"), [("ant_multi_goal", "ant"), ("half_cheetah_hurdle", "half_cheetah")])
def test_a_task_takes_skills_of_the_environment_below_it(task: str, base: str) -> None:
    assert base_of(task) == base
    assert base_of(base) == base
    assert base_of("Pendulum-v1") == "Pendulum-v1"


def test_skills_may_be_used_where_they_were_learned(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    assert resolved(tmp_path, "env=point").cp_path == str(path)


# ---- which controller


@pytest.mark.parametrize(
    ("method", "words", "backbone"),
    [
        ("csf", [], "sac"),
        ("dads", [], "sac"),
        ("diayn", [], "discrete_sac"),
        ("metra", ["agent.prior=one_hot"], "discrete_sac"),
        ("metra", [], "sac"),
    ],
)
@pytest.mark.parametrize("task", ["hierarchical", "hierarchical_ppo"])
def test_the_checkpoint_chooses_the_controller(
    method: str, words: list[str], backbone: str, task: str, tmp_path: Path
) -> None:
    pretrained(tmp_path, method, 7, "point", *words)
    settings = [*WORDS[:-1], f"exp_dir={tmp_path}", f"task={task}", f"skills={method}"]
    cfg, _ = with_skills(check(settings), settings)
    assert cfg.backbone.name == ("ppo" if task == "hierarchical_ppo" else backbone)
    # The folder tells what was asked for, and nothing else.
    assert cfg.run_name == f"hierarchical/point_two_goals/{method}{VARIANT}/sd000"
    worlds: Any = worlds_for(cfg)
    assert isinstance(worlds, SkillVectorEnv)
    spec = describe(worlds, "point_two_goals")
    assert spec.discrete == (backbone == "discrete_sac")
    assert spec.action_dim == worlds.agent.objective.cfg.skill_dim


def test_released_values_of_the_controllers(tmp_path: Path) -> None:
    pretrained(tmp_path, "diayn")
    backbone: Any = resolved(tmp_path, "skills=diayn").backbone
    assert (backbone.target_entropy, backbone.init_alpha, backbone.use_terminal) == (1.0, 0.1, True)


def test_a_named_backbone_is_not_replaced(tmp_path: Path) -> None:
    pretrained(tmp_path, "diayn")
    cfg = resolved(tmp_path, "skills=diayn", "agent/backbone=sac")
    with pytest.raises(
        ConfigError, match=r"agent/backbone=sac does not support the one-hot actions.*accepted: discrete_sac, es, ppo"
    ):
        Run(cfg, torch.device("cpu"), skills_of(cfg.tree, tmp_path))


# ---- a run


def test_a_run_keeps_its_skills_and_goes_on_with_them(tmp_path: Path) -> None:
    """Also when the lender has pruned the file and has a newer one; and as if it had not been stopped."""
    exp, other = tmp_path / "exp", tmp_path / "other"
    path = pretrained(exp)
    folder = run(exp, "task.epochs=3")
    assert config_of(folder)["cp_path"] == str(path)
    assert policy.describe(folder / "skills.safetensors")["epoch"] == 7
    pretrained(exp, epoch=20)
    whole = run(other, f"cp_path={path}")
    path.unlink()
    for given in ([], [f"cp_path={path}"], [f"cp_path={path.parents[1]}"], [f"cp_path={path.parent}/policy_*"]):
        assert run(exp, *given) == folder
        assert config_of(folder)["cp_path"] == str(path)
    name = checkpoint.FULL.format(6)
    states = [checkpoint.load(each / "checkpoints" / name) for each in (folder, whole)]
    for state in states:
        del state["config"]["exp_dir"], state["config"]["variant"], state["parts"]["logger"]
    assert different(*states) == []


def test_a_run_goes_on_with_skills_of_a_run_whose_name_has_brackets(tmp_path: Path) -> None:
    lender = tmp_path / "csf-hidden=[8,8]"
    path = pretrained(lender)
    folder = run(tmp_path, "task.epochs=1", f"cp_path='{lender}'")
    pretrained(lender, epoch=20)
    assert run(tmp_path, "task.epochs=1", f"cp_path='{lender}'") == folder
    assert config_of(folder)["cp_path"] == str(path)


DEFAULT = [word for word in WORDS if word != "run_name=run"]


@pytest.mark.parametrize("given", [[], ["cp_path"]])
def test_a_run_is_continued_under_the_name_that_an_earlier_version_gave_it(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with one-hot skills, which choose the backbone, and when the lender has trained on."""
    path = pretrained(tmp_path, "diayn")
    old = "hierarchical/point_two_goals/diayn-backbone.hidden=[8]/sd000"
    folder = run(tmp_path, "skills=diayn", f"run_name={old}", "task.epochs=1")
    pretrained(tmp_path, "diayn", epoch=20)
    words = [*DEFAULT, "skills=diayn", f"exp_dir={tmp_path}", *(f"{key}={path}" for key in given)]
    cfg, skills = prepare(words)
    assert (cfg.run_name, cfg.cp_path) == (old, str(path))
    assert skills is not None
    assert f"resuming {folder}: the name of this run in an earlier version\n" in capsys.readouterr().err
    with Run(cfg, torch.device("cpu"), skills) as whole:
        assert whole.train() == 0
    assert checkpoint.found(folder / "checkpoints", checkpoint.FULL).keys() == {3, 6}


@pytest.mark.parametrize("word", ["task.batch_size=9", "hold=20", "cp_path=newer"])
def test_another_run_is_not_continued_under_its_former_name(word: str, tmp_path: Path) -> None:
    pretrained(tmp_path)
    old = "hierarchical/point_two_goals/csf-backbone.hidden=[8]/sd000"
    run(tmp_path, f"run_name={old}", "task.epochs=1")
    newer = pretrained(tmp_path, epoch=20)
    cfg, _ = prepare([*DEFAULT, f"exp_dir={tmp_path}", word.replace("newer", str(newer))])
    assert cfg.run_name != old
    assert word.partition("=")[0] in cfg.run_name


def test_a_run_that_has_its_own_name_is_continued_there(tmp_path: Path) -> None:
    pretrained(tmp_path)
    words = [*DEFAULT, f"exp_dir={tmp_path}", "task.epochs=1"]
    run(tmp_path, "run_name=hierarchical/point_two_goals/csf-backbone.hidden=[8]/sd000", "task.epochs=1")
    new = check(words).run_name
    run(tmp_path, f"run_name={new}", "task.epochs=1")
    assert prepare(words)[0].run_name == new


def prepare(words: list[str]) -> tuple[Config, Skills | None]:
    """What a job starts with, from the tree that Hydra composes."""
    check(words)  # tells Hydra the words that the name is made of
    return prepared(recompose(words, []), literal(words))


def test_other_skills_are_refused_in_a_run_that_has_some(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    run(tmp_path, "task.epochs=1")
    newer = pretrained(tmp_path, epoch=20)
    with pytest.raises(RunDirError, match=f"cp_path is {path} there, {newer} here") as caught:
        run(tmp_path, "task.epochs=1", f"cp_path={newer}")
    assert "\n" not in str(caught.value)


def test_a_full_checkpoint_lends_skills_as_a_policy_file_does(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    agent, full = policy.load(path)[1], path.with_name(checkpoint.FULL.format(7))
    told = {key: value for key, value in policy.describe(path).items() if key not in ("format", "prior")}
    checkpoint.save(full, {"agent": agent}, told, torch.device("cpu"))
    folder = run(tmp_path, f"cp_path={full}", "task.epochs=1")
    kept = policy.load(folder / "skills.safetensors")[1]
    assert different(kept.policy_state(), agent.policy_state()) == []


def test_learning_starts_with_the_replay_buffer_that_is_asked_for(tmp_path: Path) -> None:
    """8 decisions an epoch: with 32 in the fourth, with the paper's 10,000 not at all."""
    pretrained(tmp_path)
    folder = run(tmp_path)
    learned = [row["epoch"] for row in rows(folder) if "loss/critic" in row]
    assert learned == [4, 5, 6]
    # A budget is counted in steps of the world, as that of a run from scratch.
    assert [row["env_steps"] for row in rows(folder)] == [80 * epoch for epoch in range(7)]
    late = run(tmp_path, "run_name=late", "task.replay_size=1000000", "task.min_replay_size=10000")
    assert not any("loss/critic" in row for row in rows(late))


def test_steps_are_those_of_the_world_where_an_episode_ends_while_a_skill_is_held(tmp_path: Path) -> None:
    """40 steps are 14 decisions of 3, of which the last one lasts a single step."""
    pretrained(tmp_path)
    folder = run(tmp_path, "hold=3", "task.epochs=2", "task.replay_size=1000")
    assert [row["env_steps"] for row in rows(folder)] == [80 * epoch for epoch in range(3)]


@pytest.mark.parametrize(("method", "task"), [("csf", "hierarchical_ppo"), ("diayn", "hierarchical_ppo")])
def test_ppo_learns_from_the_first_epoch_on(method: str, task: str, tmp_path: Path) -> None:
    pretrained(tmp_path, method)
    folder = run(tmp_path, f"task={task}", f"skills={method}", "task.epochs=2")
    assert [row["epoch"] for row in rows(folder) if "loss/actor" in row] == [1, 2]


def test_the_return_is_evaluated(tmp_path: Path) -> None:
    pretrained(tmp_path)
    found = [row for row in rows(run(tmp_path)) if "eval/return" in row]
    assert [row["epoch"] for row in found] == [0, 3, 6]
    assert all({"eval/return", "eval/return_std"} <= row.keys() for row in found)
    assert not any("eval/coverage" in row for row in found)  # where the body was while skills were held is not known


def test_from_scratch_is_the_same_task_on_its_own_actions(tmp_path: Path) -> None:
    folder = run(tmp_path, "task=scratch", "hold=null", "task.epochs=1", "task.min_replay_size=80")
    (_, row) = rows(folder)
    assert (row["env_steps"], config_of(folder)["skills"]) == (80, None)
    assert "loss/critic" in row
    assert not (folder / "skills.safetensors").exists()


def test_a_controller_is_evaluated_on_its_skills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its own copy, when the lender's file is gone."""
    path = pretrained(tmp_path)
    folder = run(tmp_path, "task.epochs=1")
    path.unlink()
    monkeypatch.setattr(sys, "argv", ["csf.evaluate", f"cp_path={folder}", "skills=5", "device=cpu", "threads=1"])
    evaluate.main()
    report = json.loads((folder / "checkpoints/eval_000001.json").read_text())
    assert {"eval/return", "eval/return_std"} == report["results"].keys()
    assert "return" in capsys.readouterr().out


@pytest.mark.long
def test_a_film_of_a_controller_shows_every_step_below(tmp_path: Path) -> None:
    pretrained(tmp_path)
    folder = run(tmp_path, "task.epochs=1")
    told, agent = read(find(folder))
    skills = skills_of(told["config"], folder)
    film(tmp_path / "a.webm", agent, filmed(told["config"], skills, torch.device("cpu")), 0)
    reader, count = cv2.VideoCapture(str(tmp_path / "a.webm")), 0
    while reader.grab():
        count += 1
    assert count == 1 + 4 * 10


@pytest.mark.slow
def test_a_controller_is_exported_with_its_skills(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    folder = run(tmp_path, "task.epochs=1")
    export(str(folder), tmp_path / "hub", "mit", video=False)
    path.unlink()
    card = (tmp_path / "hub/README.md").read_text()
    assert "# Controller over skills of csf on point_two_goals" in card
    for file in (tmp_path / "hub").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file  # no path of the author's machine
    evaluated = read(tmp_path / "hub/policy.safetensors")[0]["config"]
    assert worlds_of(evaluated, 1, skills_of(evaluated, tmp_path / "hub"), torch.device("cpu")).max_steps == 4
    assert "Every 10 steps it chooses one of the frozen skills in `skills.safetensors`; trained on" in card
    assert "| skills | none of its own |" in card
    assert "without reward" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    line = [sys.executable, "-c", code + "print(step + 1, truncated)"]
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=tmp_path / "hub", env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "4 [ True]\n", done.stderr


def test_a_controller_is_not_exported_without_its_skills(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    folder = run(tmp_path, "task.epochs=1")
    (folder / "skills.safetensors").unlink()
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"^cp_path={path}: no such file or folder; accepted: "):
        export(str(folder), tmp_path / "hub", "mit", video=False)


def test_the_card_of_a_baseline_promises_no_skills(tmp_path: Path) -> None:
    folder = run(tmp_path, "task=scratch", "hold=null", "task.epochs=1")
    export(str(folder), tmp_path / "hub", "mit", video=False)
    card = (tmp_path / "hub/README.md").read_text()
    assert "# Policy from scratch on point_two_goals" in card
    assert "A policy without skills, trained on the task's own reward." in card
    assert "unsupervised" not in card
    assert "skills.safetensors" not in card


# ---- mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["skills=visr"], r"no run of agent=visr on env=point under .*/ has a policy file; .*cp_path="),
        (["cp_path=/nowhere"], r"cp_path=/nowhere: no such file or folder; accepted: "),
        (["cp_path={csf}", "skills=metra"], r"policy_000007.* was trained with agent=csf; accepted: metra"),
        (["cp_path={ant}"], r"policy_000007.* was trained with env=ant; accepted: point$"),
        (["cp_path={text}"], r"text\.safetensors is not a policy file of this program"),
        (["cp_path={format}"], r"format\.safetensors has format 99; this version reads 1"),
    ],
)
def test_skills_that_cannot_be_used(words: list[str], message: str, tmp_path: Path) -> None:
    files = {"csf": pretrained(tmp_path), "ant": pretrained(tmp_path / "b", env="ant")}
    files |= {name: tmp_path / f"{name}.safetensors" for name in ("text", "format")}
    files["text"].write_text("no skills")
    about, agent = policy.load(files["csf"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "FORMAT", 99)
        policy.save(files["format"], agent, about)
    with pytest.raises(CheckpointError, match=message) as caught:
        resolved(tmp_path, *(word.format(**files) for word in words))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["skills=cfs"], r"skills is 'cfs'; accepted: .*csf.*\(did you mean 'csf'\?\)"),
        (["skills=task"], r"skills is 'task'; accepted: "),
        (["hold=0"], r"hold is 0; accepted: an integer of at least 1"),
        (["hold=null"], r"hold is null; accepted: an integer of at least 1"),
        (["hold=x"], r"hold: Value 'x' of type 'str' could not be converted to Integer"),
        (["skills=null"], r"hold is 10, but skills is null: no skills are used"),
        (["skills=null", "hold=null", "cp_path=x"], r"cp_path is x, but skills is null"),
    ],
)
def test_settings_that_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check([*WORDS, *words])
    assert "\n" not in str(caught.value)


def test_skills_of_another_normalizer_are_refused_in_one_line(tmp_path: Path) -> None:
    path = pretrained(tmp_path, env="ant")
    cfg = resolved(tmp_path, "env=ant_multi_goal", "env.normalizer=off")
    with pytest.raises(ConfigError, match=f"{path}: skills were trained with another normalization of observations"):
        worlds_for(cfg)


# ---- the command line


def test_a_mistake_is_one_line_on_the_command_line(tmp_path: Path) -> None:
    child = fork(tmp_path / "log", main, [*WORDS, f"exp_dir={tmp_path}"])
    assert error_of(child).startswith(f"error: no run of agent=csf on env=point under {tmp_path}/ has a policy file")


@pytest.mark.long
def test_a_sweep_over_methods_resolves_each_of_its_jobs(tmp_path: Path) -> None:
    pretrained(tmp_path)
    pretrained(tmp_path, "diayn")
    words = ["-m", "skills=csf,diayn", *WORDS[:-1]]
    line = [sys.executable, "-m", "csf.train", *words, f"exp_dir={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = {}
    for file in tmp_path.rglob("metrics.jsonl"):
        assert json.loads(file.read_text().splitlines()[-1])["epoch"] == 6
        tree = config_of(file.parent)
        found[file.parent.relative_to(tmp_path).as_posix()] = tree["agent"]["backbone"]["name"]
    place = f"hierarchical/point_two_goals/{{}}{VARIANT}/sd000"
    assert found == {place.format("csf"): "sac", place.format("diayn"): "discrete_sac"}
