"""Studies: rows, runs that are shared and never repeated, locks, failures, statistics and pages."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import re
import shutil
import signal
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, make
from runs import SECONDS, Child, fork, rows

from csf.config import compose
from csf.core import signals
from csf.errors import ConfigError, NonFiniteError
from csf.io import lock
from csf.pretrained import worlds_of
from csf.replay import ReplayBuffer
from csf.report import statistics
from csf.report.figures import points, standalone
from csf.study import __main__ as program
from csf.study import dimensions, estimate, page, paper, plan, runs, table
from csf.study.arguments import split
from csf.study.information import held_out
from csf.study.plan import Choice, Part, Row, Run, Study
from csf.study.table import Line
from csf.worlds import describe

STUDIES = plan.studies()


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)


# ---- rows


def choose(tmp_path: Path, name: str = "bounds", *words: str, **given: Any) -> Study:
    return plan.make(Choice(name, "ci", tmp_path, words=words, **given))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_control_among_its_arms_and_a_script(name: str) -> None:
    about = yaml.safe_load((plan.FOLDER / f"{name}.yaml").read_text())
    assert about["control"] in about["arms"]
    assert len(about["arms"]) > 1
    assert f"csf.study {name} " in (ROOT / f"scripts/study/{name}.sh").read_text()


def test_a_study_without_a_control_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(plan.FOLDER, tmp_path / "study")
    file = tmp_path / "study/coverage.yaml"
    file.write_text(file.read_text().replace("control: untrained", "control: nothing"))
    monkeypatch.setattr(plan, "FOLDER", tmp_path / "study")
    with pytest.raises(ConfigError, match="the control of coverage is 'nothing'; accepted: sac, ppo, es"):
        choose(tmp_path, "coverage")


@pytest.mark.long
@pytest.mark.parametrize("profile", ["desk", "paper"])
@pytest.mark.parametrize("name", STUDIES)
def test_the_rows_of_long_profiles_are_accepted(name: str, profile: str, tmp_path: Path) -> None:
    study = plan.make(Choice(name, profile, tmp_path, seeds=1))
    assert study.needs_start == (profile == "paper")
    assert len({(row.env, row.arm, row.task, row.epoch) for row in study.rows}) == len(study.rows)


def test_there_is_a_row_for_every_arm_and_seed(tmp_path: Path) -> None:
    study = choose(tmp_path, "regularization", arms=("mixup 0.4", "batch norm"), seeds=2)
    arms = ("none", "mixup 0.4", "batch norm")  # the control is always there
    assert [(row.arm, row.seed) for row in study.rows] == [(arm, seed) for arm in arms for seed in (0, 1)]
    assert len(study.runs) == len(study.rows)
    assert {dict(word.split("=", 1) for word in row.run.words)["seed"] for row in study.rows if row.seed == 1} == {"1"}
    assert study.folder == tmp_path / "study/regularization/ci-arms=mixup 0.4+batch norm-seeds=2"


def test_a_study_over_pretraining_has_rows_of_the_same_run(tmp_path: Path) -> None:
    sac = [row for row in choose(tmp_path, "scalability").rows if row.arm == "sac"]
    assert [row.epoch for row in sac] == [1, 3, 4]
    assert len({row.run for row in sac}) == 1


def folder(tmp_path: Path, name: str, arm: str, *words: str) -> Path:
    (found,) = {row.run.folder for row in choose(tmp_path, name, *words, arms=(arm,)).rows if row.arm == arm}
    return found


def test_studies_share_runs_with_the_same_settings(tmp_path: Path) -> None:
    same = {folder(tmp_path, *each) for each in (("bounds", "ba mlp"), ("regularization", "none"), ("coverage", "sac"))}
    assert len(same) == 1
    assert folder(tmp_path, "scalability", "sac") in same
    assert folder(tmp_path, "representation", "ba mlp") not in same  # the environment differs


def identity(*words: str) -> str:
    return plan.identity(compose.check(["env=point", "agent=slusd", *words]))


def test_a_run_is_named_by_what_it_depends_on() -> None:
    same = [identity(*words) for words in ((), ("seed=3",), ("agent.bound=ba",), ("task.eval_every=7", "threads=1"))]
    assert len(set(same)) == 1
    words = ["agent.bound=nce", "task.epochs=7", "task.batch_size=7", "env.max_steps=7", "agent.dropout=0.5"]
    others = {identity(word) for word in words}
    assert len(others) == len(words)
    assert same[0] not in others


def test_words_of_the_command_override_the_profile_and_the_control_stays_untrained(tmp_path: Path) -> None:
    study = choose(tmp_path, "bounds", "task.epochs=9", "agent.skill_dim=5", arms=("ba mlp",))
    assert study.folder == tmp_path / "study/bounds/ci-arms=ba mlp-task.epochs=9-agent.skill_dim=5"
    configs = {row.arm: study.configs[row.run.folder] for row in study.rows}
    assert {cfg.agent.skill_dim for cfg in configs.values()} == {5}
    assert configs["ba mlp"].task.epochs == 9
    control = configs["untrained"].task
    assert (control.epochs, control.min_replay_size) == (1, control.replay_size)


def test_an_adaptation_has_the_layers_of_the_policy_and_the_settings_of_the_environment(tmp_path: Path) -> None:
    words = ("agent.backbone.hidden=[4]", "env.max_steps=9", "task.epochs=2")
    row = choose(tmp_path, "adaptation", *words, arms=("es",)).rows[0]
    (adaptation,) = (part for part in row.parts if part.kind == plan.ADAPTATION)
    assert set(words[:2]) <= set(adaptation.words)
    assert words[2] not in adaptation.words
    kept = {word.partition("=")[0] for word in adaptation.words}
    assert len(kept) == len(adaptation.words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bouns"], r"name is 'bouns'; accepted: adaptation, .* \(did you mean 'bounds'\?\)"),
        ([], "no study is given; accepted: adaptation, "),
        (["bounds", "profile=fast"], "profile is 'fast'; accepted: ci, desk, paper"),
        (["bounds", "envs=moon"], "envs is 'moon'; accepted: mountain_car"),
        (["bounds", "arms=ba"], "arms is 'ba'; accepted: ba mlp, ba linear, "),
        (["bounds", "seeds=0"], "seeds is 0; accepted: an integer of at least 1, or null"),
        (["bounds", "env=point"], "env=point is not understood; accepted: envs=NAME, settings such as agent"),
        (["bounds", "profile=ci", "agent.bonud=ba"], r"agent.bonud is not known; accepted: .*\(did you mean 'bound'"),
        (["bounds", "--fast"], "--fast is not understood"),
    ],
)
def test_wrong_arguments(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        command(*words, f"exp_dir={tmp_path}")
    assert not any(tmp_path.iterdir())


def command(*words: str) -> None:
    """What the program does, without its handling of errors."""
    own, training, launcher = split(words)
    program.run(compose.settings(program.Settings, "study", own, program.PLACES), training, launcher)


def test_settings_of_a_launcher_may_be_added() -> None:
    words = ["bounds", "+hydra.launcher.ray.init.num_cpus=2", "agent.lr=1", "+env.max_steps=5", "hydra/launcher=ray"]
    assert split(words) == ([words[0]], words[2:4], [words[1], words[4]])


def test_launchers_are_a_choice() -> None:
    settings = compose.settings(program.Settings, "study", ["bounds", "jobs=3"], program.PLACES)
    assert program.launcher_words(settings, []) == ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]
    assert program.launcher_words(settings, ["hydra/launcher=ray"]) == ["hydra/launcher=ray"]
    one = compose.settings(program.Settings, "study", ["bounds", "jobs=1"], program.PLACES)
    assert program.launcher_words(one, []) == []


def test_paper_says_what_it_would_take_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "rates", lambda cfg: estimate.Rates(0.001, 0.002, 1000))
    command("coverage", "profile=paper", "envs=mountain_car", "seeds=2", "jobs=4", f"exp_dir={tmp_path}")
    said = capsys.readouterr().err
    profile = yaml.safe_load((plan.FOLDER / "profile/paper.yaml").read_text())
    assert profile["skills"]["mountain_car"] == ["agent.skill_dim=10", "task.epochs=700"]
    # Episodes of 1000 steps: SAC, PPO, ES, PETS and the control.
    steps = 2 * 1000 * (700 + 1563 * 64 + 20000 * 48 + 30 + 1)
    updates = 2 * (700 * 1000 + 1563 * 160 + 20000 * 50 + 30 * 1000 + 1000)
    hours = (steps * 0.001 + updates * 0.002) / 3600
    assert f"10 runs, {steps:.3g} environment steps, {updates:.3g} updates: about {hours:,.0f} hours" in said
    assert f"{hours / 4:,.0f} hours with 4 jobs" in said
    assert "start=true" in said
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_rates_are_measured(tmp_path: Path) -> None:
    study = choose(tmp_path, "coverage", arms=("sac",))
    cfg = next(iter(study.configs.values()))
    per_step, per_update, length = estimate.rates(cfg)
    assert length == 20
    assert 0 < per_step < 1
    assert 0 < per_update < 1


# ---- runs


Trained = list[str]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Names of the runs that were trained, by a program that only writes the last policy."""
    found: Trained = []

    def run(cfg: Any) -> int:
        found.append(cfg.run_name)
        finish(Run(cfg.exp_dir / cfg.run_name, (), cfg.task.epochs))
        return 0

    monkeypatch.setattr("csf.study.runs.train", run)
    return found


def finish(run: Run) -> None:
    run.policy(run.epochs).parent.mkdir(parents=True)
    run.policy(run.epochs).touch()


def fake_run(tmp_path: Path, name: str = "run") -> Run:
    words = ("env=point", "agent=slusd", "task.epochs=3", f"exp_dir={tmp_path}", f"run_name={name}")
    return Run(tmp_path / name, words, 3)


def test_a_run_is_trained_once(tmp_path: Path, trained: Trained) -> None:
    run = fake_run(tmp_path)
    for _ in range(2):
        assert runs.pretrain([("row", run)], 0) == 0
    assert trained == ["run"]
    assert run.finished()


def held_elsewhere(path: Path, taken: Path) -> None:
    """Hold a lock until the process is killed."""
    with lock.waiting(path, lambda: None, lambda: False):
        taken.touch()
        time.sleep(SECONDS)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Child]:
    """Another process that trains the run."""
    child = fork(tmp_path / "holder.log", held_elsewhere, fake_run(tmp_path).lock, tmp_path / "taken")
    until((tmp_path / "taken").exists)
    yield child
    child.process.kill()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 5 * SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_second_process_says_that_it_waits_and_uses_the_run(
    tmp_path: Path, trained: Trained, holder: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = fake_run(tmp_path), []

    def say(text: str) -> None:
        said.append(text)
        finish(run)  # by the other process, which then ends
        holder.process.kill()

    monkeypatch.setattr(runs, "say", say)
    assert runs.pretrain([("ba mlp, seed 0", run)], 0) == 0
    assert said == [f"ba mlp, seed 0: waiting for another process, which trains {run.folder}"]
    assert trained == []


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, trained: Trained, holder: Child) -> None:
    holder.process.kill()
    holder.process.join(SECONDS)
    assert runs.pretrain([("row", fake_run(tmp_path))], 0) == 0
    assert trained == ["run"]


def test_a_signal_ends_the_wait(tmp_path: Path, trained: Trained, holder: Child, monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "say", lambda text: os.kill(os.getpid(), signal.SIGTERM))
    with signals.listening() as stop:
        assert runs.pretrain([("row", fake_run(tmp_path))], 0) == 0
        assert stop.signal == signal.SIGTERM
    assert trained == []


def test_a_failing_run_is_reported_and_others_go_on(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = choose(tmp_path, "coverage", arms=("ppo",))
    fake = vars(runs)["train"]

    def run(cfg: Any) -> int:
        if cfg.backbone.name == "ppo":
            raise NonFiniteError("loss is nan")
        return fake(cfg)

    def take(part: Part) -> int:
        part.file.parent.mkdir(exist_ok=True)
        content = {"env_steps": 5, "gradient_steps": 2, "results": {"state_entropy": 1.0, "cells": 3.0}}
        part.file.write_text(json.dumps(content))
        return 0

    monkeypatch.setattr("csf.study.runs.train", run)
    monkeypatch.setattr("csf.study.runs.measures.take", take)
    missing = runs.complete(whole, [])
    assert [row.arm for row in missing] == ["ppo"]
    assert "error: ppo, mountain_car, seed 0, epoch 4: loss is nan" in capsys.readouterr().err
    page.write(whole, table.lines(whole), missing)
    assert "No result: ppo, mountain_car, seed 0, epoch 4." in (whole.folder / "report.html").read_text()
    trained.clear()
    monkeypatch.setattr("csf.study.runs.train", fake)
    assert runs.complete(whole, []) == []
    assert len(trained) == 1  # only what was missing


def study_in_process(words: list[str]) -> None:
    """The entry point of a study."""
    signals.guard()
    sys.argv = ["csf.study", *words]
    program.main()


SOME_ARMS = "arms=dropout 0.5,mixup 0.4,batch norm"


def start(tmp_path: Path, name: str, *words: str) -> Child:
    given = ["regularization", "profile=ci", "jobs=1", f"exp_dir={tmp_path / 'exp'}", SOME_ARMS, *words]
    return fork(tmp_path / f"{name}.log", study_in_process, given)


def ended(child: Child) -> int:
    """The exit code of a whole study, which takes longer than a run."""
    child.process.join(10 * SECONDS)
    code = child.process.exitcode
    child.process.kill()
    assert code is not None, f"hangs: {child.said}"
    return code


@pytest.mark.long
def test_a_killed_study_resumes_its_run(tmp_path: Path) -> None:
    child = start(tmp_path, "killed", "task.epochs=400")
    until(lambda: any(reached >= 3 for reached in _epochs(tmp_path)) or child.process.exitcode is not None)
    child.process.kill()
    child.process.join()
    before = max(_epochs(tmp_path))
    assert 3 <= before < 400
    again = start(tmp_path, "again", "task.epochs=400")
    until(lambda: (again.log.exists() and "resuming after epoch" in again.said) or again.process.exitcode is not None)
    again.process.kill()
    resumed = re.search(r"resuming after epoch (\d+) of 400", again.said)
    assert resumed is not None, again.said
    assert before - 1 <= int(resumed[1]) <= before + 1


def _epochs(tmp_path: Path) -> list[int]:
    files = list(tmp_path.rglob("metrics.jsonl"))
    return [int(found[-1]["epoch"]) for file in files if (found := rows(file.parent))]


@pytest.mark.long
def test_two_at_once_train_every_run_once_and_agree(tmp_path: Path) -> None:
    both = [start(tmp_path, name) for name in ("one", "other")]
    assert [ended(child) for child in both] == [0, 0], [child.said for child in both]
    said = "".join(child.said for child in both)
    started = re.findall(r"^starting (.*)$", said, re.MULTILINE)
    assert len([name for name in started if "adaptation" not in name]) == len(started) / 2 == len(set(started)) / 2 == 4
    (results,) = tmp_path.rglob("results.csv")
    found = list(csv.DictReader(results.open()))
    assert [row["arm"] for row in found] == ["none", "dropout 0.5", "mixup 0.4", "batch norm"]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("metrics.jsonl")}
    again = start(tmp_path, "again")
    assert ended(again) == 0
    assert "0 of them to train" in again.said
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("metrics.jsonl")}
    assert list(csv.DictReader(results.open())) == found


JOBS = {"representation": 2}  # in processes of joblib; the others run one job after another


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_profile_ci_leaves_a_table_figures_and_a_page(name: str, tmp_path: Path) -> None:
    words = [name, "profile=ci", f"jobs={JOBS.get(name, 1)}", f"exp_dir={tmp_path}"]
    child = fork(tmp_path / "log", study_in_process, words, daemon=False)
    assert ended(child) == 0, child.said
    study = choose(tmp_path, name)
    found = list(csv.DictReader((study.folder / "results.csv").open()))
    assert [(row["arm"], int(row["epoch"])) for row in found] == [(row.arm, row.epoch) for row in study.rows]
    for metric in study.metrics:
        if metric == "normalized":  # there is no expert
            assert f"csf study {plan.EXPERTS} trains it" in (study.folder / "report.html").read_text()
            continue
        assert any(math.isfinite(float(row[metric])) for row in found if row[metric]), metric
    figures = sorted(study.folder.glob("*.svg"))
    assert len(figures) >= len(study.metrics) - 1
    for figure in figures:
        text = " ".join(" ".join(ET.parse(figure).getroot().itertext()).split())  # captions have line breaks
        assert re.search(r"profile ci: at most [\d,]+ environment steps .*; seeds: 0", text)
    html = (study.folder / "report.html").read_text()
    assert html.count("<svg") == len(figures)
    assert f"arm &minus; {study.control}" in html


# ---- table


def line(arm: str, seed: int, value: float, epoch: int = 1) -> Line:
    row = Row("car", arm, seed, "", epoch, Run(Path("x"), (), 1), ())
    return Line(row, {"score": value, "env_steps": 1000.0 + seed, "gradient_steps": 7.0})


def study_of(found: list[Line], folder: Path) -> Study:
    lines = tuple(each.row for each in found)
    return Study("s", "S", "about", "ci", False, "none", ("score",), False, lines, (), folder, {})


VALUES = {"none": [1.0, 2.0, 3.0, 4.0, 50.0, 6.0, 7.0, 8.0], "dropout": [2.0, 3.5, 4.0, 5.5, 51.0, 7.5, 8.0, 9.5]}
LINES = [line(arm, seed, value) for arm, row in VALUES.items() for seed, value in enumerate(row)]


def test_statistics_are_interquartile_means_and_differences_for_equal_seeds(tmp_path: Path) -> None:
    (panel,) = table.panels(study_of(LINES, tmp_path), LINES)
    control, arm = panel.cells
    assert control.score.iqm is not None
    assert control.score.iqm.value == pytest.approx((3 + 4 + 6 + 7) / 4)  # not moved by the outlier
    assert control.difference is None
    assert arm.difference is not None
    assert arm.difference.iqm is not None
    assert arm.difference.iqm.value == pytest.approx(1.25)  # the seeds' own spread, 49, cancels
    assert 1.0 <= arm.difference.iqm.low <= 1.25 <= arm.difference.iqm.high <= 1.5
    assert arm.chance is not None
    greater = [(a > b) + (a == b) / 2 for a in VALUES["dropout"] for b in VALUES["none"]]
    assert arm.chance.value == pytest.approx(np.mean(greater))


def test_differences_are_of_the_seeds_that_both_have(tmp_path: Path) -> None:
    found = [each for each in LINES if (each.row.arm, each.row.seed) not in (("none", 4), ("dropout", 0))]
    (panel,) = table.panels(study_of(found, tmp_path), found)
    difference = panel.cells[1].difference
    assert difference is not None
    assert len(difference.values) == 6
    assert difference.values.max() == 1.5


def test_earlier_policies_do_not_count_in_the_comparison(tmp_path: Path) -> None:
    found = [*LINES, line("none", 0, 1e9, epoch=0)]
    (panel,) = table.panels(study_of(found, tmp_path), found)
    assert panel.cells[0].score.values.max() == 50


def test_the_csv_has_every_row(tmp_path: Path) -> None:
    table.write(study_of(LINES, tmp_path), LINES)
    found = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [float(row["score"]) for row in found] == [each.values["score"] for each in LINES]
    assert (found[9]["arm"], found[9]["seed"]) == ("dropout", "1")
    assert {row["study"] for row in found} == {"s"}


def test_returns_are_normalized_by_the_mean_expert_of_the_environment(tmp_path: Path) -> None:
    def part(name: str, results: dict[str, float]) -> Part:
        found = Part(Run(tmp_path / name, (), 0), 0, plan.ADAPTATION, ())
        found.file.parent.mkdir(parents=True)
        found.file.write_text(json.dumps({"results": results}))
        return found

    def row(env: str, name: str, **results: float) -> Row:
        made = part(name, results)
        return Row(env, "sac", 0, "", 0, made.run, (made,))

    ours = row("car", "a", return_before=-2.0, return_after=3.0, random=-1.0)
    other = row("ant", "b", return_before=1.0, return_after=1.0, random=0.0)
    experts = tuple(row("car", f"e{i}", return_after=value) for i, value in enumerate((5.0, 9.0)))
    study = Study("s", "S", "", "ci", False, "sac", (), False, (ours, other), experts, tmp_path, {})
    car, ant = table.lines(study)
    assert car.values["normalized"] == (3 + 1) / (7 + 1)
    assert car.values["normalized_before"] == (-2 + 1) / (7 + 1)
    assert "normalized" not in ant.values


def test_the_budget_stands_at_figures() -> None:
    said = "at most 1,007 environment steps and 7 updates per run; seeds: 0, 1, 2, 3, 4, 5, 6, 7"
    assert table.budget(LINES) == said


def test_a_figure_s_file_is_readable_in_dark_and_light_viewers() -> None:
    svg = points({"a": (np.arange(3.0), np.arange(3.0))}, ("x axis", "y axis"), "said of it")
    root = ET.fromstring(standalone(svg))
    assert root[0].attrib["fill"] == "#fff"
    assert "currentColor" not in standalone(svg)
    assert {"x axis", "y axis", "said of it"} <= {text.strip() for text in root.itertext()}


# ---- measures


def states_of(skill: torch.Tensor, separation: float, seed: int) -> torch.Tensor:
    """Normal states whose first entry has mean separation times the skill's number; the second is noise."""
    noise = torch.randn(len(skill), 2, generator=torch.Generator().manual_seed(seed))
    return noise + separation * torch.stack([skill.float(), torch.zeros(len(skill))], 1)


SKILL = torch.arange(4).repeat(1000)


def test_skills_that_are_far_apart_are_told_apart() -> None:
    far = held_out((states_of(SKILL, 30.0, 0), SKILL), (states_of(SKILL, 30.0, 1), SKILL), 4, 0)
    assert math.log(4) - 0.1 < far["information"] <= math.log(4)
    assert far["classified"] > 0.999


@pytest.mark.long
def test_information_is_that_of_the_states() -> None:
    close = held_out((states_of(SKILL, 0.0, 0), SKILL), (states_of(SKILL, 0.0, 1), SKILL), 4, 0)
    assert -0.05 < close["information"] < 0.02
    two = torch.arange(2).repeat(5000)
    found = held_out((states_of(two, 2.0, 0), two), (states_of(two, 2.0, 1), two), 2, 0)
    assert found["information"] == pytest.approx(_binary_information(2.0), abs=0.02)


def _binary_information(separation: float) -> float:
    """I(s; z) in nats of two normal distributions, by integration."""
    x = torch.linspace(-12, 12 + separation, 20001, dtype=torch.float64)
    one, other = ((-((x - mean) ** 2) / 2).exp() / math.sqrt(2 * math.pi) for mean in (0.0, separation))
    mixed = (one + other) / 2
    return float(sum(torch.trapezoid(p * ((p + 1e-300) / (mixed + 1e-300)).log(), x) / 2 for p in (one, other)))


def test_information_of_an_entry_has_no_bias() -> None:
    found = dimensions.information(states_of(SKILL, 3.0, 0), SKILL, 4)
    assert found[0] > 0.5
    assert abs(found[1]) < 0.005
    few = dimensions.information(states_of(SKILL[:80], 0.0, 0), SKILL[:80], 4)
    assert few.abs().max() < 0.15  # a histogram alone has 27 / 160 = 0.17


def test_saliency_and_features_are_those_of_the_critic() -> None:
    agent = make("slusd", "agent.skill_dim=4")
    critic: Any = agent.objective.critic
    first = critic.net[0]
    with torch.no_grad():
        first.weight[:, 2] = 0
    states, skill = torch.randn(40, 3), torch.arange(4).repeat(10)
    found = dimensions.saliency(agent, states, skill)
    assert found[2] == 0
    assert (found[:2] > 0).all()
    kept = dimensions.features(agent, states)
    scores = agent.objective.represent(states)
    assert scores is not None
    assert torch.allclose(critic.net[-1](kept), scores, atol=1e-6)


@pytest.mark.parametrize("critic", ["mlp", "separable"])
def test_features_do_not_contain_the_skill(critic: str) -> None:
    agent = make("slusd", "agent.skill_dim=4", f"agent.critic={critic}")
    assert dimensions.features(agent, torch.randn(5, 3)).shape == (5, 16)


def test_a_probe_finds_what_is_linear_in_the_features() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 4, generator=generator)
    y = torch.stack([x @ torch.tensor([1.0, -2.0, 0.0, 3.0]) + 5, torch.randn(500, generator=generator)], 1)
    found = dimensions.probe((x[:250], y[:250]), (x[250:], y[250:]))
    assert found[0] > 0.99
    assert found[1] < 0.05


# ---- the paper's table


def test_the_table_has_every_method_on_every_environment_that_it_can_learn_from() -> None:
    found = paper.pairs(compose.settings(paper.Settings, "paper", [], ()))
    assert len(found) == 6 * 2 + 5 * 4
    assert {("dads", "ant"), ("visr", "robobin")} <= set(found)
    assert ("dads", "kitchen") not in found
    with pytest.raises(ConfigError, match=r"methods is 'sac'; accepted: csf, metra"):
        paper.pairs(compose.settings(paper.Settings, "paper", ["methods=sac"], ()))
    with pytest.raises(ConfigError, match=r"envs is 'kitchen'; accepted with methods=dads, .*: ant, half_cheetah$"):
        paper.pairs(compose.settings(paper.Settings, "paper", ["methods=dads", "envs=kitchen"], ()))
    twice = compose.settings(paper.Settings, "paper", ["methods=csf,csf", "envs=ant,ant"], ())
    assert paper.pairs(twice) == [("csf", "ant")]


def test_the_disk_of_a_run_is_that_of_its_whole_replay_buffer() -> None:
    words = ["env=point", "agent.hidden=[8,8]", "agent.backbone.hidden=[8,8]", "task.epochs=100000"]
    one, two = (estimate.disk(compose.check([*words, f"task.replay_size={size}"])) for size in (1_000_000, 2_000_000))
    spec = describe(worlds_of(compose.check(words).tree, 1, None, torch.device("cpu")), "point")
    skills = compose.check(words).agent.skill_dim
    whole = [ReplayBuffer(size, spec, skills, "meta").nbytes for size in (1_000_000, 2_000_000)]
    assert two - one == pytest.approx(whole[1] - whole[0], rel=0.02)


@pytest.mark.long
def test_the_table_trains_what_is_missing_and_lists_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "METHODS", ("csf", "metra"))
    monkeypatch.setattr(paper, "ENVS", ("point",))
    settings = paper.Settings(None, None, 2, tmp_path, False)
    small = [
        "agent.hidden=[8,8]",
        "agent.backbone.hidden=[8,8]",
        "task.epochs=1",
        "threads=1",
        "task.coverage_skills=2",
    ]
    small += ["task.goals=2", "task.batch_size=16"]
    (blocked,) = (cell for cell in paper.cells(settings, [*small, f"exp_dir={tmp_path}"]) if cell.method == "metra")
    folder = [run.folder for run in blocked.runs(small, 2)][1]
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    with pytest.raises(SystemExit):
        paper.table(settings, small, [])
    said = capsys.readouterr().err
    assert said.startswith("4 runs, 4 of them to train")
    assert said.splitlines()[-1].startswith(f"  {folder}: cannot use the run folder")
    folder.unlink()
    paper.table(dataclasses.replace(settings, dry_run=True), small, [])
    out = capsys.readouterr()
    assert out.err.startswith("4 runs, 1 of them to train\n")
    assert re.match(r"point +metra +1 +\d+ +0\.\d$", out.out.splitlines()[1]), out.out
    paper.table(settings, small, [])
    assert "finished: 1 epochs" in capsys.readouterr().err
    paper.table(settings, small, [])
    assert capsys.readouterr().err == "4 runs, 0 of them to train\n"
