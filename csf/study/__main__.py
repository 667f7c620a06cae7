"""Entry point: python -m csf.study NAME runs a study of the empirical investigation of skill learning."""

from __future__ import annotations

if __name__ == "__main__":  # before imports that take seconds
    from csf.core import signals

    signals.guard()

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from csf.config.ranges import Natural, Range
from csf.core.device import usable_cores
from csf.errors import ConfigError, StudyError
from csf.run import say
from csf.study import arguments, estimate, page, plan, runs, table

HEAD = """\
Run a study: many runs that differ in one choice, measured alike and compared with a control.

usage: csf study NAME [KEY=VALUE ...]   (or python -m csf.study)

Writes results.csv, figures and report.html to EXP_DIR/study/NAME/PROFILE. Pretraining runs are in EXP_DIR/study/runs
and shared between studies: a run with the same settings and seed is never repeated. The same command resumes a study
that was stopped, and trains nothing for one that is complete.

Studies: {studies}
Profiles: ci, a test of seconds whose numbers mean nothing; desk, hours on two cores; paper, the budgets of the study.

Other arguments with a dot or a slash are settings of every pretraining run (agent.skill_dim=5, agent/backbone=ppo) or
of Hydra's launcher (hydra/launcher=ray).

Keys, with their values:
"""
PLACES = ("name",)
JOBLIB = ("hydra/launcher=joblib",)


@dataclass(frozen=True)
class Settings:
    """Settings of a study."""

    name: str | None  # name of the study
    profile: Literal["ci", "desk", "paper"]  # budget of its runs
    exp_dir: Path  # folder of all runs and of the results
    envs: str | None  # environments of the profile, separated by commas; null: all
    arms: str | None  # arms, separated by commas; the control is included; null: all
    seeds: Annotated[int | None, Range(1)]  # number of seeds; null: that of the profile
    jobs: Natural  # number of processes; 0: one per usable core
    start: bool  # whether to start profile=paper, which otherwise only says what it would take


def run(settings: Settings, training: Sequence[str], launcher: Sequence[str]) -> None:
    """Complete a study and write its results.

    Raises:
        CsfError: a setting is not accepted, a package is missing, or some rows have no result.
    """
    if settings.name is None:
        raise ConfigError(f"no study is given; accepted: {', '.join(plan.studies())}")
    envs, arms = arguments.listed(settings.envs), arguments.listed(settings.arms)
    choice = plan.Choice(settings.name, settings.profile, settings.exp_dir, envs, arms, settings.seeds, tuple(training))
    study = plan.make(choice)
    if study.needs_start and not settings.start:
        say(described(study, settings))
        return
    table.scores({0: [0.0] * len({row.seed for row in study.rows})})  # reports a missing package before hours of work
    missing = runs.complete(study, [*launcher_words(settings, launcher)])
    found = table.lines(study)
    path = page.write(study, found, missing)
    say(f"{len(found)} of {len(study.rows)} rows have results; wrote {path} and {study.folder / 'results.csv'}")
    if missing:
        rows = "; ".join(row.label for row in missing[:3])
        reasons = "the reasons are above, the same command tries again"
        raise StudyError(f"{len(missing)} rows have no result: {rows}; {reasons}")


def described(study: plan.Study, settings: Settings) -> str:
    """What a profile would take, with rates that are measured now."""
    found, jobs = estimate.cost(study), settings.jobs or usable_cores()
    steps, updates, hours = (sum(each) for each in zip(*found, strict=True)) if found else (0.0, 0.0, 0.0)
    needed = f"{len(found)} runs, {steps:.3g} environment steps, {updates:.3g} updates"
    took = f"about {hours:,.0f} hours of one core, {hours / jobs:,.0f} hours with {jobs} jobs"
    rates = "at the rates of this machine and without evaluations"
    return f"{study.name}, profile {study.profile}: {needed}: {took}, {rates}. To start it: start=true"


def launcher_words(settings: Settings, given: Sequence[str]) -> list[str]:
    """Settings of Hydra's launcher: joblib for several processes, unless another launcher is given."""
    if any(word.startswith("hydra/launcher=") for word in given):
        return [*given]
    jobs = settings.jobs or usable_cores()
    return [*given] if jobs == 1 else [*JOBLIB, f"hydra.launcher.n_jobs={jobs}", *given]


def main() -> None:
    """Run the command; user errors print one line."""
    arguments.run_command(Settings, "study", PLACES, HEAD.format(studies=", ".join(plan.studies())), run)


if __name__ == "__main__":
    main()
