"""Constraints between settings, which are checked before anything is created."""

from __future__ import annotations

from pathlib import Path

from csf.agents import objectives
from csf.backbones import backbones
from csf.config.schema import AdaptConfig, Config
from csf.config.values import one_of
from csf.errors import ConfigError
from csf.learners import ReplayLearner, learners

REFERENCES = ("scratch", "expert")  # values of `method` for runs without skills
LEARNERS = ("sac", "discrete_sac")  # backbones that can be adapted to a task


def check_training(config: Config) -> None:
    """Check a configuration of csf train.

    Raises:
        ConfigError: settings do not fit each other; one line names them and what is accepted.
    """
    _check_place(config.run_name)
    task = config.task
    if task.min_replay_size > task.replay_size:
        raise ConfigError(
            f"task.min_replay_size is {task.min_replay_size}, more than task.replay_size ({task.replay_size}): "
            "the agent would never be updated"
        )
    name = config.backbone.name
    if task.overlap and not issubclass(learners[backbones[name].learner], ReplayLearner):
        raise ConfigError(
            f"task.overlap is true; accepted with agent/backbone={name}, which learns from each epoch's own episodes: "
            f"false"
        )
    _check_skills(config)


def _check_place(run_name: str) -> None:
    """Check that a run stays in exp_dir."""
    if Path(run_name).is_absolute() or ".." in Path(run_name).parts:
        raise ConfigError(f"run_name is {run_name}; accepted: a folder below exp_dir, such as trials/first")


def _check_skills(config: Config) -> None:
    """Check that skills, cp_path and hold are set together."""
    if config.skills is None:
        for key in ("cp_path", "hold"):
            if (value := getattr(config, key)) is not None:
                raise ConfigError(f"{key} is {value}, but skills is null: no skills are used; set skills=<method>")
        return
    one_of("skills", config.skills, [name for name in objectives.names() if name != "task"])
    if config.hold is None:
        raise ConfigError("hold is null; accepted: an integer of at least 1, which task=hierarchical sets")


def check_adapting(config: AdaptConfig) -> None:
    """Check a configuration of csf adapt, as `check_training` does."""
    _check_place(config.run_name)
    task, method, name = config.task, config.method, config.backbone.name
    if config.agent.name != "task":
        raise ConfigError(f"agent is {config.agent.name}; accepted by csf adapt: task; the skills are set with method=")
    if name not in LEARNERS:
        raise ConfigError(f"agent/backbone is {name}; accepted by csf adapt: {', '.join(LEARNERS)}")
    if method is not None:
        one_of("method", method, [*(known for known in objectives.names() if known != "task"), *REFERENCES])
    if method in REFERENCES and config.cp_path is not None:
        raise ConfigError(f"cp_path is {config.cp_path}; accepted with method={method}, which has no skills: null")
    if task.warmup != "none" and 2 * task.warmup_steps > task.replay_size:
        raise ConfigError(f"task.warmup_steps is {task.warmup_steps}; accepted: at most half of task.replay_size")
