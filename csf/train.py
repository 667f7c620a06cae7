"""Entry point and composition root: python -m csf.train agent=csf env=ant task=pretrain key=value ..."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

import csf
from csf import pretrained
from csf.agents import Agent, Objective
from csf.backbones import Backbone
from csf.config import compose
from csf.config import help as usage
from csf.config.compose import Config
from csf.core.device import pick_device, use_threads
from csf.errors import CheckpointError, ConfigError, CsfError, NonFiniteError, RunDirError
from csf.evaluation.suite import suite
from csf.io import checkpoint, files, policy
from csf.io.busy import Busy
from csf.io.logger import Logger
from csf.io.progress import Progress
from csf.io.run_dir import RunDir, differences
from csf.learners import Budget, learners
from csf.pretrained import Skills, worlds_of
from csf.sampler import RolloutSampler
from csf.trainer import Counters, Schedule, Stop, Trainer
from csf.types import Stateful
from csf.worlds import describe

EVAL_SEED = 1_000_003  # keeps evaluation apart from the training of every seed that anyone uses
MAX_EVAL_WORLDS = 64


def run(cfg: Config, skills: Skills | None = None) -> int:
    """Train one run from where its folder says it is; returns the exit code."""
    device = pick_device(cfg.device)
    use_threads(cfg.threads)
    with Run(cfg, device, skills) as whole:
        return whole.train()


class Run:
    """A run's parts, made from its configuration and put where its newest checkpoint left them."""

    def __init__(self, cfg: Config, device: torch.device, skills: Skills | None = None) -> None:
        self.cfg, self.device = cfg, device
        self.opened = ExitStack()  # what must be closed, also when a later part cannot be made
        try:
            self._make(cfg, device, skills)
        except BaseException:
            self.opened.close()
            raise

    def _make(self, cfg: Config, device: torch.device, skills: Skills | None) -> None:
        torch.manual_seed(cfg.seed)
        task = cfg.task
        folder, eval_count = cfg.exp_dir / cfg.run_name, min(MAX_EVAL_WORLDS, max(task.coverage_skills, task.goals))
        self.worlds = worlds_of(cfg.tree, task.episodes_per_epoch, skills, device)
        self.opened.callback(self.worlds.close)
        self.eval_worlds = worlds_of(cfg.tree, eval_count, skills, device)
        self.opened.callback(self.eval_worlds.close)
        spec = describe(self.worlds, str(cfg.env["name"]))
        self.agent = Agent(cfg.agent, cfg.backbone, spec).to(device)
        self._check_batch_size()
        learner = learners[self.agent.backbone.learner](self.agent, Budget.of(task), device)
        if device.type == "cuda":
            learner.capture()
        self.parts: dict[str, Stateful] = {"agent": self.agent, **learner.parts()}
        self.versions = checkpoint.provenance()  # of the code that runs, whatever is checked out later
        self.dir = RunDir(folder, cfg.tree)  # all that a mistake in the settings can spoil is behind
        self.opened.callback(self.dir.close)
        pretrained.keep(folder, skills)
        sampler = RolloutSampler(self.worlds, spec, cfg.seed, device, task.terminal_at_limit)
        self.logger, self.counters = Logger(self.dir.path), Counters()
        self.opened.callback(self.logger.close)
        self.parts |= {"sampler": sampler, "logger": self.logger, "counters": self.counters}
        eval_seed = EVAL_SEED + cfg.seed
        self.trainer = Trainer(
            self.agent,
            sampler,
            learner,
            suite(self.agent, self.eval_worlds, task.coverage_skills, task.goals, eval_seed, cfg.env.get("plot_range")),
            RolloutSampler(self.eval_worlds, spec, eval_seed, device),
            self.logger,
            self.counters,
            Schedule(task.epochs, task.episodes_per_epoch, task.eval_every, task.save_every),
            self.save,
        )

    def _check_batch_size(self) -> None:
        """Refuse batches that are too small for the method or the backbone."""
        size, cfg = self.cfg.task.batch_size, self.cfg
        parts: dict[str, Objective | Backbone] = {
            f"agent={cfg.agent.name}": self.agent.objective,
            f"agent/backbone={cfg.backbone.name}": self.agent.backbone,
        }
        for name, part in parts.items():
            if size < part.least_batch:
                raise ConfigError(f"task.batch_size is {size}; {name} as set takes at least {part.least_batch}")

    def train(self) -> int:
        """Resume if there is something to resume, train, and say how to go on or where the results are."""
        try:
            return self._train(self.dir.path)
        except OSError as error:
            raise RunDirError(f"cannot write to {self.dir.path}: {error.strerror or error}") from error

    def _train(self, where: Path) -> int:
        self.resume()
        epochs = self.cfg.task.epochs
        if self.counters.epoch >= epochs:
            say(f"finished before: {self.counters.epoch} of {epochs} epochs; results are in {where}")
            return 0
        self.logger.open(self.cfg.wandb, self.cfg.run_name, self.cfg.tree)
        # A thread that waits for a GPU is not held up.
        busy = Busy(torch.get_num_threads()) if self.device.type == "cpu" else None
        progress = Progress(epochs, self.counters.epoch, self.trainer.results, busy=busy)
        with Stop().listen() as stop:
            try:
                self.trainer.run(progress, stop)
            except NonFiniteError as error:
                raise self.keep_evidence(error) from error
            finally:
                progress.close()
        if stop.signal is not None and self.counters.epoch < epochs:
            name = signal.Signals(stop.signal).name
            say(f"{name}: saved after epoch {self.counters.epoch}; the same command goes on from there")
            return 128 + stop.signal
        say(f"finished: {epochs} epochs; results are in {where}")
        return 0

    def resume(self) -> None:
        """Go on from the newest checkpoint, or start over what left none."""
        found = checkpoint.latest(self.dir.checkpoints)
        if found is None:
            if (aside := self.logger.start_over()) is not None:
                say(f"{self.dir.checkpoints} has no checkpoint: training starts over; earlier rows are kept in {aside}")
            say(f"starting {self.dir.path}")
            return
        path, state = found
        if changed := differences(state["config"], self.cfg.tree):
            raise CheckpointError(f"{path} is of a run with another configuration: {changed}")
        checkpoint.restore(state, self.parts, self.device)
        self.trainer.results.update(state["results"])
        say(f"going on after epoch {self.counters.epoch} of {self.cfg.task.epochs} from {path}")

    def save(self, results: dict[str, float]) -> None:
        """Policy and full state, then forget what is too old."""
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
        # The policy first: a run that is killed in between does this epoch again, and lacks neither file.
        policy.save(folder / checkpoint.POLICY.format(epoch), self.agent, facts, self.cfg.task.keep_critics)
        checkpoint.save(folder / checkpoint.FULL.format(epoch), self.parts, facts, self.device)
        checkpoint.prune(folder)

    def keep_evidence(self, error: NonFiniteError) -> NonFiniteError:
        """Save what led to a number that is not finite; checkpoints stay as they were."""
        path = self.dir.path / "failure.pt"
        kept = {"error": str(error), "agent": self.agent.full_state(), **error.evidence}
        try:
            files.write(path, lambda file: torch.save(kept, file))
        except CheckpointError as lost:
            return NonFiniteError(f"{error}; {lost}", error.evidence)
        return NonFiniteError(f"{error}; what led to it is in {path}", error.evidence)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()


def say(text: str) -> None:
    """Tell the user."""
    sys.stderr.write(text + "\n")


@hydra.main(version_base="1.3", config_path=str(compose.CONFIGS), config_name="train")
def launch(tree: DictConfig) -> None:
    """One job: called by Hydra once, or once per point of a sweep."""
    compose.register_resolvers()  # a launcher may have started a process of its own
    try:
        code = run(*pretrained.with_skills(compose.build(tree), HydraConfig.get().overrides.task))
    except CsfError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # Hydra runs the other jobs, then prints this without traceback
            raise CompactHydraException(f"error: {error}") from error
        sys.exit(f"error: {error}")
    if code:
        sys.exit(code)


def main() -> None:
    """Check the arguments, so that a mistake is told in one line, then hand over to Hydra."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    compose.register_resolvers()
    # Hydra takes flags only behind overrides; the launch scripts' users write them anywhere.
    words = sorted(sys.argv[1:], key=lambda word: word.startswith("-") or "=" not in word)
    words = sys.argv[1:] = [compose.quoted(word) for word in words]
    settings = [word for word in words if not word.startswith("-")]
    try:
        if {"-m", "--multirun"} & set(words) and {"-c", "--cfg", "-i", "--info"} & set(words):
            raise ConfigError("-m runs every point of a sweep, --cfg shows one configuration; accepted: one of them")
        if "--version" in words:
            versions = {"csf": csf.__version__, **checkpoint.provenance()}
            sys.stdout.write("".join(f"{name} {value}\n" for name, value in versions.items()))
        elif "--help" in words or "-h" in words:
            sys.stdout.write(usage.text(compose.check(settings)) + "\n")
        else:
            if settings == words:  # a flag asks for something of Hydra's, which reports its own mistakes
                compose.check(words)
            launch()
    except CsfError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
