"""Entry point of csf adapt: chooses the best skill of a pretrained agent on a task and fine-tunes its policy."""

from __future__ import annotations

if __name__ == "__main__":  # before imports that take seconds
    from csf.core import signals

    signals.guard()

import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from csf.adaptation import source as sources
from csf.adaptation.imitation import imitate
from csf.adaptation.references import RESULT, expert_return, normalized, reference
from csf.adaptation.select import (
    Choice,
    choose_skill,
    collect_skill,
    mean_return,
    random_return,
    with_skill,
)
from csf.adaptation.source import Source
from csf.adaptation.transfer import copy_policy, initialize_critics, needs_critics, set_std
from csf.agents import Agent
from csf.backbones import backbones
from csf.config import compose
from csf.config import help as usage
from csf.config.constraints import REFERENCES
from csf.config.schema import AdaptConfig
from csf.core.device import pick_device, use_threads
from csf.errors import CheckpointError, ConfigError, CsfError
from csf.evaluation.film import film
from csf.evaluation.rollouts import isolated
from csf.hierarchy import check_fit
from csf.io import checkpoint, files
from csf.io.run_dir import check_place, read_config
from csf.learners import EpochBudget, Learner
from csf.learners.adaptation import AdaptationLearner
from csf.learners.uniform import uniform_policy
from csf.pretrained import filmed, names, worlds_of
from csf.run import EVAL_SEED, Plan, Run, say
from csf.sampler import RolloutSampler
from csf.trainer import StepSchedule
from csf.types import EnvSpec
from csf.worlds import base_of, describe

SELECTION = "selection.json"  # in the folder of a run: the chosen skill, and returns before training
SELECTION_SEED = 2_000_003  # offset to the seed: skills are chosen in other episodes than they are evaluated in
MAX_WORLDS = 64


def adapt(cfg: AdaptConfig) -> dict[str, Any]:
    """Adapt a skill as a configuration from `configure` says, or resume this; returns the content of adaptation.json.

    Among its keys are `best_skill`, `returns_per_skill`, `return_before`, `return_after`, `random` and `normalized`,
    which docs/adaptation.md describes.

    Raises:
        CsfError: a setting, the pretrained agent or the run's folder cannot be used.
        SystemExit: a signal has stopped the run, which is saved and can be resumed; the code is 128 + signal.
    """
    device = pick_device(cfg.device)
    use_threads(cfg.threads)
    source = _source(cfg)
    if source is not None:
        source.agent.to(device)
        _rehearse(cfg, source, device)
    expert_return(cfg.task.expert, cfg.exp_dir, str(cfg.env["name"]))  # raises now rather than after training
    with Run(cfg, device, None, _plan(cfg)) as run:
        found = _selection(run, cfg, source)
        _initialize(run, cfg, source, found)
        if code := run.train():
            raise SystemExit(code)
        result = _result(run, cfg, source, found)
        files.write_json(run.dir.path / RESULT, result)
        if cfg.task.video:
            _film(run, cfg, source)
    return result


def configure(words: Sequence[str]) -> AdaptConfig:
    """Compose and validate the configuration of csf adapt from its arguments, and find the pretrained agent.

    The method, the layers of the policy and the encoder are those of the pretrained agent, unless they are given.

    Raises:
        ConfigError: an argument is not accepted.
        CheckpointError: the pretrained agent cannot be found or read.
    """
    cfg = _composed(words)
    source = _source(cfg)
    if source is None:
        return cfg
    given = {word.lstrip("+").partition("=")[0] for word in words}
    method, discrete = sources.check_method(source, cfg.method), source.agent.spec.discrete
    found = [] if cfg.method is not None else [f"method={method}"]
    if backbones[cfg.backbone.name].discrete != discrete and "agent/backbone" not in given:
        found.append(f"agent/backbone={'discrete_sac' if discrete else 'sac'}")
    if found:
        return configure([*words, *found])
    backbone = dict(cfg.tree["agent"]["backbone"])
    if "agent.backbone.hidden" not in given and hasattr(source.agent.backbone, "actor"):
        backbone["hidden"] = [*cast(Any, source.agent.backbone.cfg).hidden]
    tree = {**cfg.tree, "cp_path": source.cp_path, "agent": {**cfg.tree["agent"], "backbone": backbone}}
    if not {"encoder", "encoder.channels"} & given:
        used = asdict(source.agent.encoder_cfg)
        tree["encoder"] = {**used, "channels": [*used["channels"]]}
    return compose.build_adaptation(tree)


def _composed(words: Sequence[str]) -> AdaptConfig:
    """Compose the configuration of arguments, which is that of method=scratch if they name no skills."""
    cfg = compose.check_adaptation(words)
    named = cfg.method is not None or cfg.cp_path is not None
    return cfg if named else compose.check_adaptation([*words, "method=scratch"])


def _source(cfg: AdaptConfig) -> Source | None:
    """Return the pretrained agent of a run, from its own copy if there is one; None for a run without skills."""
    if cfg.method in REFERENCES:
        return None
    folder, env = cfg.exp_dir / cfg.run_name, base_of(cfg.env)
    began = (read_config(folder) or {}).get("cp_path")
    named = began and (cfg.cp_path is None or cfg.cp_path == began or names(cfg.cp_path, began))
    if named and (kept := sources.kept_source(folder)) is not None and kept.cp_path == began:
        return kept
    critics = needs_critics(cfg.task.critics)
    if cfg.cp_path is not None:
        return sources.open_source(cfg.cp_path, critics, env)
    assert cfg.method is not None  # otherwise there are no skills
    return sources.newest_source(cfg.exp_dir, cfg.method, env, cfg.seed, critics)


def _rehearse(cfg: AdaptConfig, source: Source, device: torch.device) -> None:
    """Check, before anything is written or simulated, that the pretrained agent fits the task and the settings.

    Raises:
        ConfigError: it does not.
    """
    worlds = worlds_of(cfg.tree, 1, None, device)
    try:
        check_fit(worlds, source.agent)
        spec = describe(worlds, str(cfg.env["name"]))
    except ValueError as error:
        raise ConfigError(f"{cfg.cp_path}: {error}") from error
    finally:
        worlds.close()
    with torch.random.fork_rng([]):
        target = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder).to(device)
        _transfer(cfg, source, target, torch.zeros(source.agent.objective.cfg.skill_dim, device=device))


def _transfer(cfg: AdaptConfig, source: Source, target: Agent, skill: torch.Tensor) -> None:
    """Initialize the task's agent from the pretrained one; a policy that is to be imitated is left fresh."""
    if cfg.task.policy == "skill" and hasattr(source.agent.backbone, "actor"):
        copy_policy(source.agent, target, skill, cfg.task.init_std)
    initialize_critics(source.agent, target, skill, cfg.task.critics)


def _plan(cfg: AdaptConfig) -> Plan:
    """How the run trains and is evaluated."""
    task = cfg.task

    def make_learner(agent: Agent, device: torch.device) -> Learner:
        steps = 0 if task.warmup == "none" else task.warmup_steps
        budget = EpochBudget(task.episodes_per_epoch, 0, task.batch_size, task.replay_size, steps)
        return AdaptationLearner(agent, budget, device, task.updates_per_step)

    def updates(spec: EnvSpec) -> int:
        return math.ceil(task.updates_per_step * task.episodes_per_epoch * spec.max_steps)

    schedule = StepSchedule(task.steps, task.episodes_per_epoch, task.eval_every, task.save_every)
    return Plan(schedule, make_learner, updates, overlap=False, skills=task.eval_episodes, goals=1)


def _selection(run: Run, cfg: AdaptConfig, source: Source | None) -> dict[str, Any]:
    """Choose the skill, and measure the returns before training; read them if the run did this before."""
    file = run.dir.path / SELECTION
    if file.is_file():
        try:
            return dict(json.loads(file.read_text()))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read; delete it to choose the skill again") from error
    task, evaluation = cfg.task, EVAL_SEED + cfg.seed
    sampler = run.trainer.eval_sampler
    found: dict[str, Any] = {"skills": [], "best_skill": None, "returns_per_skill": []}
    if source is None:
        with isolated(run.agent, evaluation):
            skills = run.agent.sample_skills(task.eval_episodes)
            before = mean_return(sampler.collect(run.agent.act, skills, True, evaluation))
    else:
        sources.keep(run.dir.path, source)
        choice = _choose(run, cfg, source)
        found = {"skills": choice.skills, "best_skill": choice.best, "returns_per_skill": choice.returns}
        skill = choice.skill(run.device)
        before = mean_return(collect_skill(source.agent, skill, sampler, task.eval_episodes, evaluation))
        say(f"the best of {len(choice.skills)} skills is number {choice.best}, with a return of {before:.4g}")
    found |= {"return_before": before, "random": random_return(sampler, task.eval_episodes, evaluation)}
    files.write_json(file, found)
    return found


def _choose(run: Run, cfg: AdaptConfig, source: Source) -> Choice:
    task, seed = cfg.task, SELECTION_SEED + cfg.seed
    worlds = min(MAX_WORLDS, source.agent.objective.skill_count(task.candidates) * task.candidate_episodes)
    sampler = RolloutSampler(worlds_of(cfg.tree, worlds, None, run.device), run.agent.spec, seed, run.device)
    try:
        return choose_skill(source.agent, sampler, task.candidates, task.candidate_episodes, seed)
    finally:
        sampler.close()


def _initialize(run: Run, cfg: AdaptConfig, source: Source | None, found: Mapping[str, Any]) -> None:
    """Transfer the chosen skill to the run's agent, and set the policy of the warm-up."""
    learner = cast(AdaptationLearner, run.trainer.learner)
    if cfg.task.warmup == "random":
        learner.warm_up = uniform_policy(run.agent.spec)
    if source is None:
        return
    skill = torch.tensor(found["skills"][found["best_skill"]], device=run.device)
    if cfg.task.warmup == "skill":
        learner.warm_up = with_skill(source.agent, skill)
    if checkpoint.found(run.dir.checkpoints, checkpoint.FULL):  # training has begun
        return
    _transfer(cfg, source, run.agent, skill)
    if cfg.task.policy == "skill" and not hasattr(source.agent.backbone, "actor"):
        sampler, seed = run.trainer.eval_sampler, SELECTION_SEED + cfg.seed
        episodes = collect_skill(source.agent, skill, sampler, cfg.task.candidate_episodes, seed)
        error = imitate(run.agent, episodes, cfg.task.imitation_updates)
        say(f"the policy imitates the planner with a mean squared error of {error:.3g}")
        set_std(run.agent, cfg.task.init_std)


def _result(run: Run, cfg: AdaptConfig, source: Source | None, found: Mapping[str, Any]) -> dict[str, Any]:
    """The content of adaptation.json."""
    env, task, after = str(cfg.env["name"]), cfg.task, run.trainer.results["eval/return"]
    expert = expert_return(task.expert, cfg.exp_dir, env) if cfg.method != "expert" else None
    return {
        "env": env,
        "env_version": run.agent.spec.version,
        "method": cfg.method,
        "backbone": None if source is None else source.agent.backbone.cfg.name,
        "cp_path": cfg.cp_path,
        "epoch": None if source is None else source.about.get("epoch"),
        "seed": cfg.seed,
        "steps": run.counters.env_steps,
        **found,
        "return_after": after,
        "return_after_std": run.trainer.results["eval/return_std"],
        "scratch": reference(cfg.exp_dir, env, "scratch", run.counters.env_steps),
        "expert": expert,
        "normalized_before": normalized(found["return_before"], found["random"], expert),
        "normalized": normalized(after, found["random"], expert),
        "versions": run.versions,
    }


def _film(run: Run, cfg: AdaptConfig, source: Source | None) -> None:
    """Record all skills, in the environment that they were trained in, and the adapted agent in the task."""
    videos: dict[str, tuple[Agent, Mapping[str, Any]]] = {"adapted.webm": (run.agent, cfg.tree)}
    if source is not None:
        videos["skills.webm"] = (source.agent, source.about["config"])
    for name, (agent, config) in videos.items():
        say(f"recording {name}")
        film(run.dir.path / name, agent, filmed(config, None, run.device), cfg.seed)


def table(result: Mapping[str, Any]) -> str:
    """The result as text."""
    lines = [f"{result['method']} on {result['env']} after {result['steps']:,} environment steps"]
    for name in ("return_before", "return_after", "random", "scratch", "expert", "normalized"):
        value = result[name]
        lines.append(f"  {name.replace('_', ' '):<24} {'unknown' if value is None else f'{value:10.4g}'}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command; user errors print one line."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    words = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(words):
            settings = [word for word in words if word not in ("-h", "--help")]
            sys.stdout.write(usage.adaptation(_composed(settings)) + "\n")
            return
        if flags := [word for word in words if word.startswith("-")]:
            raise ConfigError(f"{flags[0]} is not understood; accepted: key=value, --help")
        cfg = configure(words)
        check_place(Path(cfg.exp_dir) / cfg.run_name)
        sys.stdout.write(table(adapt(cfg)))
    except CsfError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
