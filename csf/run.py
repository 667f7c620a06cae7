"""A run: its parts built from the configuration, restored from the newest checkpoint, trained and saved."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from csf import pretrained
from csf.agents import Agent, Objective
from csf.backbones import Backbone
from csf.config.schema import AdaptConfig, Config, completed, describe_added
from csf.core import signals
from csf.core.device import pick_device, use_threads
from csf.core.precision import has_instructions
from csf.errors import (
    CheckpointError,
    ConfigError,
    CsfError,
    MemoryLack,
    NonFiniteError,
    RunDirError,
    lacks_memory,
)
from csf.evaluation.suite import suite
from csf.io import checkpoint, files, policy
from csf.io.busy import Busy
from csf.io.logger import Logger
from csf.io.progress import Progress
from csf.io.run_dir import RunDir, differences
from csf.learners import EpochBudget, Learner, Overlapped, ReplayLearner, RunEpoch, in_turn, learners
from csf.learners.cost import Rendering, describe_cost, describe_rendering, image_seconds, update_cost
from csf.pretrained import Skills, worlds_of
from csf.sampler import RolloutSampler
from csf.trainer import Counters, Schedule, Trainer
from csf.types import EnvSpec, Stateful
from csf.worlds import describe

EVAL_SEED = 1_000_003  # offset to the seed: evaluation and training use different random numbers
MAX_EVAL_WORLDS = 64
SLOW = 60.0  # seconds of an epoch's rendering above which a run on a GPU says what it costs


@dataclass(frozen=True)
class Plan:
    """How a run trains and is evaluated."""

    schedule: Schedule
    make_learner: Callable[[Agent, torch.device], Learner]
    updates: Callable[[EnvSpec], int]  # gradient steps per epoch, at most
    overlap: bool  # whether to collect while learning
    skills: int  # episodes per evaluation of coverage and return
    goals: int  # episodes per evaluation of zero-shot goal reaching


def plan_of(cfg: Config) -> Plan:
    """Return the plan that the section "task" of csf train describes."""
    task = cfg.task

    def make_learner(agent: Agent, device: torch.device) -> Learner:
        return learners[agent.backbone.learner](agent, EpochBudget.of(task), device)

    return Plan(
        Schedule(task.epochs, task.episodes_per_epoch, task.eval_every, task.save_every),
        make_learner,
        lambda _: task.updates_per_epoch,
        task.overlap,
        task.coverage_skills,
        task.goals,
    )


def run(cfg: Config, skills: Skills | None = None) -> int:
    """Train one run, resuming from its newest checkpoint if there is one; returns the exit code."""
    device = pick_device(cfg.device)
    use_threads(cfg.threads)
    with Run(cfg, device, skills) as whole:
        return whole.train()


class Run:
    """The parts of a run, built from its configuration and restored from its newest checkpoint."""

    def __init__(
        self, cfg: Config | AdaptConfig, device: torch.device, skills: Skills | None = None, plan: Plan | None = None
    ) -> None:
        """Build the run and lock its folder.

        Args:
            cfg: its configuration.
            device: device of the networks.
            skills: frozen skills that are the actions.
            plan: how it trains; None: as the section "task" of csf train says.
        """
        self.cfg, self.device = cfg, device
        if plan is None:
            assert isinstance(cfg, Config)
            plan = plan_of(cfg)
        self.plan = plan
        self.opened = ExitStack()  # resources to close, also if building a later part fails
        self.saved: checkpoint.Saved = {}  # files of the newest checkpoint
        try:
            self._make(cfg, device, skills)
        except BaseException:
            self.opened.close()
            raise

    def _make(self, cfg: Config | AdaptConfig, device: torch.device, skills: Skills | None) -> None:
        torch.manual_seed(cfg.seed)
        task, plan = cfg.task, self.plan
        folder, eval_count = cfg.exp_dir / cfg.run_name, min(MAX_EVAL_WORLDS, max(plan.skills, plan.goals))
        self.worlds = worlds_of(cfg.tree, task.episodes_per_epoch, skills, device)
        self.opened.callback(self.worlds.close)
        self.eval_worlds = worlds_of(cfg.tree, eval_count, skills, device)
        self.opened.callback(self.eval_worlds.close)
        spec = describe(self.worlds, str(cfg.env["name"]))
        self.agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder).to(device)
        self.agent.use_precision(cfg.precision)
        if cfg.precision != "float32" and not has_instructions(device):
            say(f"precision={cfg.precision}: slower than float32 on this CPU, which has no bfloat16 instructions")
        self._check_batch_size()
        learner = plan.make_learner(self.agent, device)
        capture(cfg, device, learner, [self.agent, *([skills.agent] if skills else [])])
        self.parts: dict[str, Stateful] = {"agent": self.agent, **learner.parts()}
        self.versions = checkpoint.provenance()  # of the running code, even if another version is checked out later
        self.dir = RunDir(folder, cfg.tree)  # last, so that invalid settings leave no folder behind
        self.opened.callback(self.dir.close)
        pretrained.keep(folder, skills)
        run_epoch, acting = self._epochs(learner)
        sampler = RolloutSampler(self.worlds, spec, cfg.seed, acting, task.terminal_at_limit)
        self.logger, self.counters = Logger(self.dir.path), Counters()
        self.opened.callback(self.logger.close)
        self.parts |= {"sampler": sampler, "logger": self.logger, "counters": self.counters}
        eval_seed = EVAL_SEED + cfg.seed
        self.trainer = Trainer(
            self.agent,
            sampler,
            learner,
            run_epoch,
            suite(self.agent, self.eval_worlds, plan.skills, plan.goals, eval_seed, cfg.env.get("plot_range")),
            RolloutSampler(self.eval_worlds, spec, eval_seed, device),
            self.logger,
            self.counters,
            plan.schedule,
            self.save,
        )

    def _epochs(self, learner: Learner) -> tuple[RunEpoch, torch.device]:
        """Return the function that runs an epoch, and the device of the policy that collects."""
        if not self.plan.overlap:
            return partial(in_turn, learner), self.device
        assert isinstance(learner, ReplayLearner)  # checked with the configuration
        overlapped = Overlapped(learner, self.cfg.precision)
        self.opened.callback(overlapped.close)
        return overlapped, torch.device("cpu")

    def _cost(self, spec: EnvSpec) -> str:
        """What learning from images costs on this machine, and settings that reduce it; empty if it costs little."""
        cfg, task = self.cfg, self.cfg.task
        count = self.eval_worlds.num_envs
        rounds = sum(-(-evaluator.episodes // count) for evaluator in self.trainer.evaluators)
        steps = spec.max_steps * spec.hold + 1
        images = (task.episodes_per_epoch * steps, rounds * count * steps)
        rendering = Rendering(*images, image_seconds(self.worlds))
        faster = ["env.quality=fast for rendering"] if spec.quality == "paper" else []
        faster += ["env.renderer=warp"] if spec.renderer == "gl" else []
        if self.device.type != "cpu":
            slow = faster and rendering.epoch * rendering.seconds > SLOW
            return f"an epoch {describe_rendering(rendering)}; faster: {', '.join(faster)}" if slow else ""
        with torch.random.fork_rng([]):
            agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)
        agent.use_precision(cfg.precision)
        own = ["encoder=shared"] if cfg.encoder.name == "own" else []
        faster = ["device=cuda", *own, "fewer encoder.channels", *faster]
        return describe_cost(self.plan.updates(spec), update_cost(agent, task.batch_size), rendering, faster)

    def _check_batch_size(self) -> None:
        """Check that batches are large enough for the method and the backbone."""
        size, cfg = self.cfg.task.batch_size, self.cfg
        parts: dict[str, Objective | Backbone] = {
            f"agent={cfg.agent.name}": self.agent.objective,
            f"agent/backbone={cfg.backbone.name}": self.agent.backbone,
        }
        for name, part in parts.items():
            if size < part.least_batch:
                raise ConfigError(f"task.batch_size is {size}; accepted with {name}: at least {part.least_batch}")

    def train(self) -> int:
        """Resume or start training, and print where the results are; returns the exit code."""
        try:
            return self._train(self.dir.path)
        except OSError as error:
            raise RunDirError(f"cannot write to {self.dir.path}: {error.strerror or error}") from error
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            raise MemoryLack(
                f"out of memory after epoch {self.counters.epoch} ({files.reason_of(error)[:120]}); the same command "
                "resumes the run; run fewer jobs at a time, or another run with a smaller task.replay_size"
            ) from error

    def _train(self, where: Path) -> int:
        self.resume()
        schedule, counters = self.plan.schedule, self.counters
        if schedule.over(counters):
            progress = f"{schedule.done(counters)} of {schedule.length} {schedule.unit}s"
            say(f"already finished: {progress}; results are in {where}")
            return 0
        self._announce()
        self.logger.open(self.cfg.wandb, self.cfg.run_name, self.cfg.tree)
        # A thread that waits for a GPU or shares the cores with collecting is idle by design.
        watched = self.device.type == "cpu" and not self.plan.overlap
        busy = Busy(torch.get_num_threads()) if watched else None
        first = schedule.done(counters)
        bar = Progress(schedule.length, first, self.trainer.results, busy=busy, unit=schedule.unit)
        with signals.listening() as stop:
            try:
                self.trainer.run(bar, stop)
            except NonFiniteError as error:
                raise self.keep_evidence(error) from error
            finally:
                bar.close()
        if stop.signal is not None and not schedule.over(counters):
            say(f"{stop.reason}: saved after epoch {counters.epoch}; the same command resumes the run")
            return 128 + stop.signal
        say(f"finished: {schedule.length} {schedule.unit}s; results are in {where}")
        return 0

    def _announce(self) -> None:
        """Print what the run costs; measuring it resets the worlds."""
        spec = self.agent.spec
        if spec.has_image and (cost := self._cost(spec)):
            say(cost)
        if note := checkpoint.describe_size(self.dir.checkpoints, self.parts):
            say(note)

    def resume(self) -> None:
        """Restore the newest checkpoint; without one, move earlier logs away and start."""
        found = checkpoint.latest(self.dir.checkpoints)
        if found is None:
            if (aside := self.logger.start_over()) is not None:
                say(
                    f"{self.dir.checkpoints} has no checkpoint: training restarts; earlier results are moved to {aside}"
                )
            say(f"starting {self.dir.path}")
            return
        path, state = found
        policy.check_origin(path, state)
        kept, added = completed(state["config"])
        if added:
            say(describe_added(added, path))
        if changed := differences(kept, self.cfg.tree):
            raise CheckpointError(f"{path} belongs to a run with another configuration: {changed}")
        try:
            checkpoint.restore(state, self.parts, self.device)
            self.saved.update(checkpoint.saved_in(state))
            self.trainer.results.update(state["results"])
        except policy.MISFITS as error:
            if isinstance(error, CsfError) or lacks_memory(error):
                raise
            raise CheckpointError(f"{path} does not fit this version: {files.reason_of(error)}") from error
        self.trainer.begun = True
        schedule, counters = self.plan.schedule, self.counters
        of = f"of {schedule.length}" if schedule.unit == "epoch" else f"({counters.env_steps:,} environment steps)"
        say(f"resuming after epoch {counters.epoch} {of} from {path}")

    def save(self, results: dict[str, float]) -> None:
        """Save the policy and the full checkpoint, then delete old ones."""
        facts = {
            "epoch": self.counters.epoch,
            "env_steps": self.counters.env_steps,
            "gradient_steps": self.trainer.learner.gradient_steps,
            "results": dict(results),
            "config": self.cfg.tree,
            "spec": dataclasses.asdict(self.agent.spec),
            "versions": self.versions,
        }
        folder, epoch = self.dir.checkpoints, self.counters.epoch
        # The policy first: a run that is killed in between repeats this epoch and then writes both files.
        policy.save(folder / checkpoint.POLICY.format(epoch), self.agent, facts, self.cfg.task.keep_critics)
        checkpoint.save(folder / checkpoint.FULL.format(epoch), self.parts, facts, self.device, self.saved)
        checkpoint.prune(folder, epoch, self.cfg.task.keep_full, self.cfg.task.keep_policy_every)

    def keep_evidence(self, error: NonFiniteError) -> NonFiniteError:
        """Save the agent and the evidence of a non-finite number to failure.pt; checkpoints are unchanged."""
        path = self.dir.path / "failure.pt"
        kept = {"error": str(error), "agent": self.agent.full_state(), **error.evidence}
        try:
            files.write(path, lambda file: torch.save(kept, file))
        except CheckpointError as lost:
            return NonFiniteError(f"{error}; {lost}", error.evidence)
        return NonFiniteError(f"{error}; saved for debugging: {path}", error.evidence)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):  # not a signal
            self.dir.record(error)
        self.opened.close()


def capture(cfg: Config | AdaptConfig, device: torch.device, learner: Learner, agents: Sequence[Agent]) -> None:
    """Replay gradient steps of the learner and acting of the agents as CUDA graphs, if there is CUDA and `graphs`."""
    if device.type == "cuda" and cfg.graphs:
        learner.capture()
        for agent in agents:
            agent.capture()


def say(text: str) -> None:
    """Print a message to stderr."""
    sys.stderr.write(text + "\n")
