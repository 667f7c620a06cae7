"""Adaptation: which skill is chosen, what is transferred, and runs of csf adapt."""

from __future__ import annotations

import copy
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import torch
from conftest import configure, make, observe
from gymnasium.spaces import Box
from runs import Child, different, fork, rows, wait_for_epoch
from torch import Tensor
from torch.func import functional_call

from csf import adapt as entry
from csf.adaptation import source as sources
from csf.adaptation.imitation import imitate
from csf.adaptation.references import expert_return, normalized, reference
from csf.adaptation.select import Choice, choose_skill, collect_skill, random_return, with_skill
from csf.adaptation.transfer import copy_policy, initialize_critics
from csf.agents import Agent
from csf.backbones.sac import SAC
from csf.config import compose
from csf.config.schema import AdaptConfig
from csf.errors import CheckpointError, ConfigError
from csf.io import checkpoint, policy
from csf.learners import EpochBudget
from csf.learners.adaptation import AdaptationLearner
from csf.run import run as train
from csf.sampler import RolloutSampler
from csf.trainer import Counters, StepSchedule
from csf.types import EnvSpec
from csf.worlds import describe
from envs import make_vec

ID = "csf_test/Slope-v0"
STEPS = 20  # of an episode
BEST = 2.0  # return of the best policy
SMALL = ("agent.hidden=[16,16]", "agent.backbone.hidden=[16,16]")


class Slope(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point in the plane as in env=point, whose reward is its movement along x."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.1, 0.1, 2)
        return self.place.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place = self.place + 0.1 * action
        return self.place.astype(np.float32), float(0.1 * action[0]), False, False, {}


if ID not in gymnasium.registry:
    gymnasium.register(ID, lambda **_: Slope(), max_episode_steps=STEPS)

ENV = ("env=gym", f"env.id={ID}")


def slope(count: int) -> RolloutSampler:
    worlds: Any = make_vec(ID, count)
    return RolloutSampler(worlds, describe(worlds, ID), 0, "cpu")


def task_agent(source: Agent, *words: str, spec: EnvSpec | None = None) -> Agent:
    """The agent of a task that a pretrained agent can be transferred to."""
    kind = "discrete_sac" if source.spec.discrete else "sac"
    cfg = configure("agent=task", f"agent/backbone={kind}", "agent.backbone.hidden=[16,16]", *words)
    return Agent(cfg.agent, cfg.backbone, spec or source.spec)


def stir(agent: Agent) -> Agent:
    """Give all parameters random values, also those that are initialized to zero."""
    with torch.no_grad():
        for param in agent.parameters():
            param.add_(0.3 * torch.randn_like(param))
    return agent


def skill_of(agent: Agent) -> Tensor:
    return agent.sample_skills(1)[0]


DISCRETE = EnvSpec("test", "0", (3,), "float32", 4, True, 20, 2, (0.3,), 0.25, None, None)
POLICIES = [("diayn", "sac"), ("csf", "successor"), ("slusd", "sac"), ("slusd", "ppo"), ("csf", "es"), ("slusd", "es")]


# ---- what is transferred


@pytest.mark.parametrize(("method", "backbone"), POLICIES)
def test_the_transferred_policy_acts_as_the_skill(method: str, backbone: str) -> None:
    source = stir(make(method, f"agent/backbone={backbone}"))
    target, skill, obs = task_agent(source), skill_of(source), observe(source.spec, 50)
    before = target.act(obs, torch.zeros(50, 0), True)
    copy_policy(source, target, skill, 0.2)
    wanted = source.act(obs, skill.expand(50, -1), True)
    assert (before - wanted).abs().max() > 0.1
    torch.testing.assert_close(target.act(obs, torch.zeros(50, 0), True), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backbone", ["discrete_sac", "ppo", "es"])
def test_policies_of_discrete_actions_are_transferred_as_well(backbone: str) -> None:
    source = stir(make("slusd", f"agent/backbone={backbone}", spec=DISCRETE))
    target, skill, obs = task_agent(source), skill_of(source), observe(source.spec, 50)
    copy_policy(source, target, skill, 0.2)
    wanted = source.backbone.actor.distribution(obs, skill.expand(50, -1))
    found = target.backbone.actor.distribution(obs, torch.zeros(50, 0))
    torch.testing.assert_close(found.probs, wanted.probs)  # type: ignore[union-attr]


def test_columns_that_only_the_task_has_change_nothing_at_first() -> None:
    source = stir(make("csf"))
    spec = EnvSpec(**{**vars(source.spec), "obs_shape": (5,)})
    target, skill, obs = task_agent(source, spec=spec), skill_of(source), observe(spec, 50)
    copy_policy(source, target, skill, 0.2)
    wanted = source.act(obs[:, :3], skill.expand(50, -1), True)
    torch.testing.assert_close(target.act(obs, torch.zeros(50, 0), True), wanted, atol=1e-5, rtol=0)


def test_a_standard_deviation_is_transferred_if_it_was_trained_and_set_otherwise() -> None:
    for backbone, trained in (("sac", True), ("ppo", True), ("es", False)):
        source = stir(make("slusd", f"agent/backbone={backbone}"))
        target, skill, obs = task_agent(source), skill_of(source), observe(source.spec, 50)
        copy_policy(source, target, skill, 0.2)
        law: Any = target.backbone.actor.distribution(obs, torch.zeros(50, 0))
        own: Any = source.backbone.actor.distribution(obs, skill.expand(50, -1))
        wanted = own.log_std if trained else torch.full_like(law.log_std, 0.2).log()
        torch.testing.assert_close(law.log_std, wanted)


@pytest.mark.parametrize(("method", "backbone"), [("diayn", "sac"), ("csf", "successor"), ("slusd", "sac")])
def test_copied_critics_have_the_values_of_the_skill(method: str, backbone: str) -> None:
    source = stir(make(method, f"agent/backbone={backbone}"))
    target, skill = task_agent(source), skill_of(source)
    old, new = cast(SAC, source.backbone), cast(SAC, target.backbone)
    obs, action = observe(source.spec, 50), torch.rand(50, 2)
    initialize_critics(source, target, skill, "copy")
    wanted = old.values(old.critic, obs, action, skill.expand(50, -1))
    for net in (new.critic, new.target):
        torch.testing.assert_close(new.values(net, obs, action, torch.zeros(50, 0)), wanted)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3


def test_copied_critics_of_discrete_actions_have_the_values_of_the_skill() -> None:
    source = stir(make("slusd", "agent/backbone=discrete_sac", spec=DISCRETE))
    target, skill, obs = task_agent(source), skill_of(source), observe(source.spec, 50)
    initialize_critics(source, target, skill, "copy")
    old, new = cast(SAC, source.backbone), cast(SAC, target.backbone)
    torch.testing.assert_close(new.critic(obs), old.critic(obs, skill.expand(50, -1)))


def inner(net: Any, *inputs: Tensor) -> Tensor:
    """Outputs of the last hidden layer of a sequential network."""
    layers = [layer for layer in net if not hasattr(layer, "encode")][:-1]
    x = torch.cat(inputs, -1)
    for layer in layers:
        x = layer(x)
    return x


BODIES: list[tuple[str, str, str, tuple[str, ...], bool]] = [
    ("slusd", "ppo", "value_body", (), True),
    ("slusd", "sac", "discriminator_body", (), False),
    ("slusd", "pets", "discriminator_body", (), False),
    ("slusd", "es", "discriminator_body", ("agent.dropout=0.1",), False),
    ("slusd", "sac", "discriminator_body", ("agent.bound=nwj", "agent.critic=separable"), False),
    ("slusd", "sac", "discriminator_body", ("agent.bound=nwj", "agent.critic=concat"), True),
    ("slusd", "sac", "discriminator_body", ("agent.spectral_norm=true",), False),
    ("diayn", "ppo", "discriminator_body", (), False),
    ("csf", "successor", "discriminator_body", (), False),
    ("cic", "sac", "discriminator_body", (), False),
]


@pytest.mark.parametrize(("method", "backbone", "kind", "words", "sees_skill"), BODIES)
def test_both_critics_compute_the_hidden_features_of_the_body(
    method: str, backbone: str, kind: str, words: tuple[str, ...], sees_skill: bool
) -> None:
    source = stir(make(method, f"agent/backbone={backbone}", *words)).eval()
    target, skill, obs = task_agent(source), skill_of(source), observe(source.spec, 50)
    fresh = copy.deepcopy(target.state_dict())
    initialize_critics(source, target, skill, kind)
    body: Any = source.backbone.critic if kind == "value_body" else source.objective.body()
    wanted = inner(body, obs, *([skill.expand(50, -1)] if sees_skill else []))
    critic = cast(SAC, target.backbone).critic
    state = {name: value for name, value in critic.named_parameters()}
    last = {f"{name}.2": torch.eye(16)[None].expand(2, -1, -1) for name in ("weights",)}
    last["biases.2"] = torch.zeros(2, 1, 16)
    without_action = functional_call(critic, state | last, (obs, torch.zeros(50, 2)))
    torch.testing.assert_close(without_action, wanted.expand(2, -1, -1), atol=1e-4, rtol=1e-4)
    now = target.state_dict()
    assert torch.equal(now["backbone.critic.weights.0"][:, 3:], fresh["backbone.critic.weights.0"][:, 3:])
    for name in ("weights.2", "biases.2"):
        assert torch.equal(now[f"backbone.critic.{name}"], fresh[f"backbone.critic.{name}"]), "outputs stay fresh"


# For backbone and value of task.critics: the critics' tensors that change; of weights.0, the rows of the observation.
CELLS: dict[tuple[str, str], set[str]] = {
    **{(backbone, "fresh"): set() for backbone in ("sac", "ppo", "es")},
    ("sac", "copy"): {"weights.0", "weights.1", "weights.2", "biases.0", "biases.1", "biases.2"},
    ("ppo", "value_body"): {"weights.0", "weights.1", "biases.0", "biases.1"},
    **{
        (backbone, "discriminator_body"): {"weights.0", "weights.1", "biases.0", "biases.1"}
        for backbone in ("sac", "ppo", "es")
    },
}


@pytest.mark.parametrize(("backbone", "kind"), CELLS)
def test_a_cell_of_the_table_changes_these_tensors_and_no_others(backbone: str, kind: str) -> None:
    source = stir(make("slusd", f"agent/backbone={backbone}"))
    target, skill = task_agent(source), skill_of(source)
    fresh = copy.deepcopy(target.state_dict())
    initialize_critics(source, target, skill, kind)
    found = {name for name, value in target.state_dict().items() if not torch.equal(value, fresh[name])}
    nets = {f"backbone.{net}.{name}" for net in ("critic", "target") for name in CELLS[backbone, kind]}
    assert found == nets
    critic = cast(SAC, target.backbone).critic
    obs, action = observe(source.spec, 50), torch.rand(50, 2)
    one, other = critic(obs, action)
    assert (one - other).abs().max() > 1e-3, "both critics are independent"
    policy_before = {name: value for name, value in fresh.items() if ".actor." in name}
    copy_policy(source, target, skill, 0.2)
    assert all(not torch.equal(target.state_dict()[name], value) for name, value in policy_before.items())


@pytest.mark.parametrize(
    ("method", "backbone", "kind", "words", "accepted"),
    [
        ("slusd", "ppo", "copy", (), "fresh, value_body, discriminator_body"),
        ("slusd", "es", "copy", (), "fresh, discriminator_body"),
        ("slusd", "sac", "value_body", (), "fresh, copy, discriminator_body"),
        ("dads", "sac", "discriminator_body", (), "fresh, copy"),
        ("slusd", "sac", "discriminator_body", ("agent.critic=linear",), "fresh"),
        ("slusd", "sac", "discriminator_body", ("agent.layer_norm=true",), "fresh"),
        ("slusd", "sac", "discriminator_body", ("agent.hidden=[16,8]",), "fresh"),
    ],
)
def test_a_cell_that_does_not_exist_is_refused(
    method: str, backbone: str, kind: str, words: tuple[str, ...], accepted: str
) -> None:
    source = make(method, f"agent/backbone={backbone}", *words)
    with pytest.raises(ConfigError, match=rf"^task\.critics is {kind}.*accepted.*: {accepted}$"):
        initialize_critics(source, task_agent(source), skill_of(source), kind)


def test_a_policy_with_other_layers_is_refused() -> None:
    source = make("csf")
    with pytest.raises(ConfigError, match=r"task.policy=skill: .* accepted: the same agent\.backbone\.hidden"):
        copy_policy(source, task_agent(source, "agent.backbone.hidden=[16,8]"), skill_of(source), 0.2)


def test_a_planner_is_imitated() -> None:
    source = make("slusd", "agent/backbone=pets", "agent.backbone.horizon=2", "agent.backbone.candidates=16")
    sampler = slope(4)
    target = task_agent(source, spec=sampler.spec)

    def planner(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
        return torch.stack([0.8 * torch.ones(len(obs)), -0.5 * obs[:, 0]], 1)

    episodes = sampler.collect(planner, torch.zeros(4, 0), True, 0)
    torch.manual_seed(0)
    assert imitate(target, episodes, 1) > 0.1
    assert imitate(target, episodes, 600) < 5e-3


# ---- which skill is chosen


def compass(best: int) -> Agent:
    """An agent with four hand-made skills, of which `best` goes along x; its own reward must not be asked for."""
    agent = make("slusd", "agent.skill_dim=4", spec=slope(1).spec)
    ways = torch.tensor([[-1.0, 0], [0, 1], [0.5, 0], [0, -1]])
    ways[[best, 2]] = ways[[2, best]]

    def act(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
        assert mode, "skills are compared without exploration"
        return skill @ ways

    def reward(_: object) -> Tensor:
        raise AssertionError("the intrinsic reward is not the task's")

    agent.act = act  # type: ignore[method-assign, assignment]
    agent.objective.reward = reward  # type: ignore[method-assign, assignment]
    return agent


@pytest.mark.parametrize("best", [0, 2, 3])
def test_the_best_skill_is_the_one_with_the_highest_return_on_the_task(best: int) -> None:
    found = choose_skill(compass(best), slope(3), 99, 2, 0)
    assert found.best == best
    assert np.argmax(found.returns) == best
    assert found.returns[best] == pytest.approx(BEST / 2, rel=1e-4)
    assert found.skill(torch.device("cpu")).tolist() == np.eye(4)[best].tolist()


def test_continuous_skills_are_sampled_and_reproducible() -> None:
    source = make("csf", spec=slope(1).spec)
    state = torch.get_rng_state()
    found, again = (choose_skill(source, slope(4), 5, 2, seed=3) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert found == again
    assert (len(found.skills), len(found.returns)) == (5, 5)
    assert choose_skill(source, slope(4), 5, 2, seed=4).skills != found.skills


def test_returns_before_and_of_random_actions() -> None:
    source = compass(0)
    skill = torch.eye(4)[0]
    episodes = collect_skill(source, skill, slope(2), 3, 0)
    assert episodes.reward.sum(1).tolist() == pytest.approx([BEST / 2] * 3, rel=1e-4)
    assert abs(random_return(slope(4), 40, 0)) < 0.3


# ---- references


def test_scores_are_normalized_by_random_and_expert() -> None:
    assert normalized(5.0, 1.0, 9.0) == 0.5
    assert normalized(5.0, 1.0, None) is None
    assert normalized(5.0, 1.0, 1.0) is None


def test_references_are_read_from_finished_runs(tmp_path: Path) -> None:
    for name, score, steps, env in (("sd000", 4.0, 10, ID), ("sd001", 6.0, 20, ID), ("sd002", 99.0, 20, "other")):
        folder = tmp_path / f"adapt/csf_test_Slope-v0/expert/{name}"
        folder.mkdir(parents=True)
        text = json.dumps({"env": env, "method": "expert", "return_after": score, "steps": steps})
        (folder / "adaptation.json").write_text(text)
    (tmp_path / "adapt/csf_test_Slope-v0/expert/sd000x").mkdir()
    assert reference(tmp_path, ID, "expert") == 5.0
    assert reference(tmp_path, ID, "expert", 20) == 6.0
    assert reference(tmp_path, ID, "scratch") is None
    assert expert_return(None, tmp_path, ID) == 5.0
    assert expert_return("-7.5", tmp_path, ID) == -7.5
    assert expert_return(str(tmp_path / "adapt/csf_test_Slope-v0/expert/sd001"), tmp_path, ID) == 6.0
    with pytest.raises(ConfigError, match=r"^task\.expert is nowhere; accepted: a number, or"):
        expert_return("nowhere", tmp_path, ID)


# ---- learner and schedule


def learner_of(agent: Agent, warmup: int, updates_per_step: float) -> AdaptationLearner:
    return AdaptationLearner(agent, EpochBudget(2, 0, 8, 1000, warmup), "cpu", updates_per_step)


def test_the_warm_up_collects_with_its_policy_and_does_not_learn() -> None:
    sampler = slope(2)
    agent = task_agent(make("slusd", spec=sampler.spec))
    learner = learner_of(agent, 50, 0.5)
    used: list[str] = []

    def recorded(name: str) -> Callable[..., Tensor]:
        def act(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
            used.append(name)
            return torch.zeros(len(obs), 2)

        return act

    learner.warm_up, learner.act = recorded("warm_up"), recorded("agent")
    found = []
    for _ in range(3):  # of 40 steps each
        used.clear()
        episodes = learner.collect(sampler, torch.zeros(2, 0))
        found.append((set(used), bool(learner.learn(episodes)), learner.gradient_steps))
    assert found == [({"warm_up"}, False, 0), ({"warm_up"}, False, 0), ({"agent"}, True, 20)]


def test_without_a_warm_up_the_first_episodes_are_learned_from() -> None:
    sampler = slope(2)
    learner = learner_of(task_agent(make("slusd", spec=sampler.spec)), 0, 0.1)
    assert learner.learn(learner.collect(sampler, torch.zeros(2, 0)))
    assert learner.gradient_steps == 4


def test_a_schedule_in_steps_is_due_where_a_multiple_is_passed() -> None:
    schedule, counters = StepSchedule(100, 1, 30, 50), Counters()
    assert schedule.evaluates(counters)
    due = []
    while not schedule.over(counters):
        counters.count(20)
        due.append((counters.env_steps, schedule.evaluates(counters), schedule.saves(counters)))
    assert [steps for steps, evaluated, _ in due if evaluated] == [40, 60, 100]
    assert [steps for steps, _, saved in due if saved] == [60, 100]


# ---- runs

TINY = (
    "threads=1",
    "task.steps=400",
    "task.updates_per_step=0.5",
    "task.batch_size=32",
    "task.replay_size=1000",
    "task.candidates=4",
    "task.candidate_episodes=2",
    "task.warmup_steps=60",
    "task.eval_every=200",
    "task.eval_episodes=4",
    "task.save_every=100",
)


def pretrain(exp_dir: Path, method: str, *words: str, run: str = "pretrained") -> Path:
    """The folder of an agent that was trained for two epochs."""
    small = ["task.episodes_per_epoch=4", "task.updates_per_epoch=2", "task.batch_size=16", "task.min_replay_size=40"]
    small += ["task.replay_size=400", "task.coverage_skills=2", "task.goals=2", "threads=1"]
    cfg = compose.check([f"agent={method}", *ENV, *SMALL, *small, f"exp_dir={exp_dir}", f"run_name={run}", *words])
    assert train(cfg) == 0
    return exp_dir / run


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tmp_path_factory.mktemp("skills"), "diayn", "agent.skill_dim=3", "task.epochs=2")


def words_of(folder: Path, *words: str) -> list[str]:
    return [*ENV, f"exp_dir={folder.parent}", f"run_name={folder.name}", *TINY, *words]


def adapt(folder: Path, *words: str) -> dict[str, Any]:
    return entry.adapt(entry.configure(words_of(folder, *words)))


def test_a_run_writes_its_results(skills: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = adapt(folder, f"cp_path={skills}", "task.expert=3.5")
    assert json.loads((folder / "adaptation.json").read_text()) == result
    assert result["best_skill"] == int(np.argmax(result["returns_per_skill"]))
    assert len(result["returns_per_skill"]) == 3
    assert (result["method"], result["backbone"], result["env"], result["steps"]) == ("diayn", "sac", ID, 400)
    found = rows(folder)
    curve = [(row["env_steps"], row["eval/return"]) for row in found if "eval/return" in row]
    assert [steps for steps, _ in curve] == [0, 200, 400]
    assert curve[0][1] == pytest.approx(result["return_before"], abs=1e-4), "the policy was transferred"
    assert curve[-1][1] == result["return_after"]
    assert result["normalized"] == normalized(result["return_after"], result["random"], 3.5)
    assert found[-1]["gradient_steps"] == (400 - 60) / 2
    loaded = policy.load(max((folder / "checkpoints").glob("*.safetensors")))[1]
    assert loaded.objective.cfg.name == "task"


@pytest.mark.parametrize("best", [0, 2])
def test_the_chosen_skill_is_the_one_that_is_transferred(
    best: int, skills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "choose_skill", lambda *_: Choice(np.eye(3).tolist(), [0.0] * 3, best))
    adapt(tmp_path / "run", f"cp_path={skills}", "task.steps=20", "task.warmup_steps=500")  # no update
    _, agent = policy.load(tmp_path / "run/checkpoints/policy_000001.safetensors")
    source = sources.open_source(str(skills), critics=False).agent
    obs = torch.randn(9, 2)
    wanted = source.act(obs, torch.eye(3)[[best] * 9], True)
    torch.testing.assert_close(agent.act(obs, torch.zeros(9, 0), True), wanted, atol=1e-5, rtol=0)


@pytest.mark.long
def test_adapting_reaches_what_an_untrained_policy_does_not(skills: Path, tmp_path: Path) -> None:
    result = adapt(tmp_path / "run", f"cp_path={skills}", "task.steps=3000", "agent.backbone.lr=3e-3")
    assert result["return_before"] < 0.8 * BEST < result["return_after"]


def test_the_policy_may_be_fresh_for_comparison(skills: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = adapt(folder, f"cp_path={skills}", "task.policy=fresh", "task.steps=20")
    assert rows(folder)[0]["eval/return"] != pytest.approx(result["return_before"], abs=1e-4)
    hidden = json.dumps(entry.configure(words_of(folder, f"cp_path={skills}", "task.policy=fresh")).tree["agent"])
    assert '"hidden": [16, 16]' in hidden, "with the layers of the skills' policy"


def test_references_need_no_skills(tmp_path: Path) -> None:
    words = [*ENV, f"exp_dir={tmp_path}", *TINY, "task.steps=100", "agent.backbone.hidden=[16]"]
    expert, scratch = (entry.adapt(entry.configure([*words, f"method={name}"])) for name in ("expert", "scratch"))
    assert (expert["best_skill"], expert["returns_per_skill"], expert["normalized"]) == (None, [], None)
    assert expert["return_before"] == scratch["return_before"], "they differ in name only"
    assert scratch["expert"] == expert["return_after"]
    assert scratch["normalized"] == normalized(scratch["return_after"], scratch["random"], expert["return_after"])
    assert entry.configure(words).method == "scratch"


def finals(folder: Path) -> dict[str, Any]:
    """The newest full checkpoint without what depends on the run's place and history."""
    state = checkpoint.load(max((folder / "checkpoints").glob("*.pt")))
    for part in ("logger", "replay"):
        del state["parts"][part]
    del state["config"]["exp_dir"], state["config"]["run_name"]
    return state


def timeless(folder: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows(folder)]


def start(folder: Path, *words: str) -> Child:
    return fork(folder.with_name(folder.name + ".log"), command, words_of(folder, *words))


def command(words: list[str]) -> None:
    """`python -m csf.adapt` with these arguments."""
    from csf.core import signals

    signals.guard()
    sys.argv = ["csf.adapt", *words]
    entry.main()


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "warmup"), [(signal.SIGKILL, "skill"), pytest.param(signal.SIGINT, "random", marks=pytest.mark.long)]
)
def test_a_stopped_run_ends_as_if_nothing_had_happened(
    number: signal.Signals, warmup: str, skills: Path, tmp_path: Path
) -> None:
    words, whole, folder = (f"cp_path={skills}", f"task.warmup={warmup}"), tmp_path / "whole", tmp_path / "run"
    wanted = adapt(whole, *words)
    child = start(folder, *words, "task.steps=100000", "task.eval_every=100000")
    wait_for_epoch(child, folder, 7)
    child.kill(number)
    assert child.wait() == (130 if number == signal.SIGINT else -number), child.said
    assert not (folder / "adaptation.json").exists()
    done = start(folder, *words)
    if max(row["env_steps"] for row in rows(folder)) < 400:
        assert done.wait() == 0, done.said
        assert "resuming after epoch" in done.said
        assert json.loads((folder / "adaptation.json").read_text()) == wanted
        assert different(finals(folder), finals(whole)) == []
        assert timeless(folder)[-1] == timeless(whole)[-1]
    else:
        done.wait()


def test_a_finished_run_can_be_extended_and_its_skills_may_be_gone(skills: Path, tmp_path: Path) -> None:
    import shutil

    source, folder, whole = tmp_path / "source", tmp_path / "run", tmp_path / "whole"
    shutil.copytree(skills, source)
    adapt(folder, f"cp_path={source}", "task.steps=200")
    wanted = adapt(whole, f"cp_path={source}")
    shutil.rmtree(source)
    again = adapt(folder, f"cp_path={source}", "method=diayn")
    assert again == wanted
    assert different(finals(folder), finals(whole)) == []


@pytest.mark.parametrize(("method", "words"), [("slusd", ("agent/backbone=ppo",)), ("slusd", ("agent/backbone=es",))])
def test_skills_of_every_backbone_are_adapted(method: str, words: tuple[str, ...], tmp_path: Path) -> None:
    pretrained = pretrain(tmp_path, method, "agent.skill_dim=3", "task.epochs=1", *words)
    folder = tmp_path / "run"
    result = adapt(folder, f"cp_path={pretrained}", "task.steps=40", "task.critics=discriminator_body")
    assert rows(folder)[0]["eval/return"] == pytest.approx(result["return_before"], abs=1e-4)


@pytest.mark.long
def test_skills_of_a_planner_are_imitated_and_adapted(tmp_path: Path) -> None:
    planner = [f"agent.backbone.{key}={value}" for key, value in {"horizon": 2, "candidates": 8, "elites": 2}.items()]
    words = ("agent/backbone=pets", "agent.skill_dim=3", "task.epochs=1", *planner)
    pretrained = pretrain(tmp_path, "slusd", *words)
    folder = tmp_path / "run"
    result = adapt(folder, f"cp_path={pretrained}", "task.steps=40", "task.imitation_updates=500")
    assert result["backbone"] == "pets"
    assert rows(folder)[0]["eval/return"] == pytest.approx(result["return_before"], abs=0.3)


def test_critics_are_copied_from_the_full_checkpoint_of_the_same_epoch(skills: Path, tmp_path: Path) -> None:
    adapt(tmp_path / "run", f"cp_path={skills}", "task.critics=copy", "task.steps=20")
    kept = sources.kept_source(tmp_path / "run")
    assert kept is not None
    assert kept.about["critics"]
    only_policy = tmp_path / "policy_000002.safetensors"
    only_policy.write_bytes((skills / "checkpoints/policy_000002.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"policy_000002.safetensors has no critics; accepted"):
        adapt(tmp_path / "other", f"cp_path={only_policy}", "task.critics=copy")
    assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_a_task_that_appends_columns_takes_the_skills_of_its_base(tmp_path: Path) -> None:
    """The packaged ones; films are made of all skills and of the adapted agent."""
    words = words_of(tmp_path / "run", "cp_path=packaged", "task.steps=80", "task.video=true")
    words = ["env=point_two_goals", *words[len(ENV) :]]
    result = entry.adapt(entry.configure(words))
    assert (result["cp_path"], result["method"]) == ("packaged:point", "csf")
    assert len(result["returns_per_skill"]) == 4
    assert rows(tmp_path / "run")[0]["eval/return"] == pytest.approx(result["return_before"])
    films = {path.name: path.stat().st_size for path in (tmp_path / "run").glob("*.webm")}
    assert films.keys() == {"adapted.webm", "skills.webm"}
    assert min(films.values()) > 1000


def test_what_other_commands_say_of_an_adapted_agent(skills: Path, tmp_path: Path) -> None:
    from csf.export import introduction
    from csf.report.load import read

    folder = tmp_path / "run"
    adapt(folder, f"cp_path={skills}", "task.steps=20")
    assert read(folder).learned == "adapted skill of diayn"
    config = policy.describe(folder / "checkpoints/policy_000001.safetensors")["config"]
    assert introduction(config)[0] == "Adapted skill of diayn"
    assert introduction({**config, "method": "scratch"})[0] == "Policy from scratch"


# ---- messages


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent=csf"], r"^agent is csf; accepted by csf adapt: task; the skills are set with method="),
        (["agent/backbone=ppo"], r"^agent/backbone is ppo; accepted by csf adapt: sac, discrete_sac$"),
        (["task=quick"], r"^task=quick is not understood; accepted by csf adapt: settings such as task\.steps"),
        (["task.epochs=3"], r"^task\.epochs is not known; accepted: name, steps, "),
        (["method=metro"], r"^method is 'metro'; accepted: .*metra.*scratch, expert \(did you mean 'metra'\?\)$"),
        (["method=expert", "cp_path=x"], r"^cp_path is x; accepted with method=expert, which has no skills: null$"),
        (["task.warmup_steps=999999"], r"^task\.warmup_steps is 999999; accepted: at most half of task\.replay_size$"),
        (["task.critics=all"], r"^task\.critics is 'all'; accepted: fresh, copy, value_body, discriminator_body"),
        (["cp_path=nowhere"], r"^cp_path=nowhere: no such file or folder; accepted: "),
    ],
)
def test_a_mistake_is_named_in_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message) as found:
        entry.configure([*ENV, f"exp_dir={tmp_path}", *words])
    assert "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())


def test_skills_that_do_not_fit_are_refused_before_anything_is_written(skills: Path, tmp_path: Path) -> None:
    cases = {
        ("env=point_two_goals",): "skills of environment 'csf_test/Slope-v0' cannot be used here; accepted: skills of",
        ("env=ant",): "skills were trained on observations of shape",
        (*ENV, "method=csf"): "method is csf; accepted with .*: diayn",
        (*ENV, "agent.backbone.hidden=[8]"): "task.policy=skill: .* accepted: the same agent.backbone.hidden",
        (*ENV, "task.critics=value_body"): "task.critics is value_body; accepted with skills of agent/backbone=sac",
        (*ENV, "task.expert=x"): "task.expert is x; accepted: a number",
    }
    for words, message in cases.items():
        with pytest.raises((ConfigError, CheckpointError), match=message):
            entry.adapt(entry.configure([*words, *TINY, f"cp_path={skills}", f"exp_dir={tmp_path / 'exp'}"]))
    assert not (tmp_path / "exp").exists()


def test_the_command_prints_a_table_and_one_line_for_a_mistake(
    skills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(tmp_path / "run", f"cp_path={skills}", "task.steps=20")
    monkeypatch.setattr(sys, "argv", ["csf.adapt", *words])
    entry.main()
    assert capsys.readouterr().out.startswith(f"diayn on {ID} after 20 environment steps\n  return before ")
    monkeypatch.setattr(sys, "argv", ["csf.adapt", "-m", *words])
    with pytest.raises(SystemExit, match=r"^error: -m is not understood; accepted: key=value, --help$"):
        entry.main()


def test_names_of_runs_say_whose_skill_was_adapted(tmp_path: Path) -> None:
    def name(*words: str) -> str:
        return compose.check_adaptation([*ENV, f"exp_dir={tmp_path}", *words]).run_name

    here = "adapt/csf_test_Slope-v0"
    assert name("method=csf") == f"{here}/csf/sd000"
    assert name("method=csf", "task.steps=5", "task.video=true", "seed=3") == f"{here}/csf/sd003"
    path = tmp_path / "pretrain/csf_test_Slope-v0/csf/sd007"
    assert name("method=csf", f"cp_path={path}") == f"{here}/csf-cp_path=sd007/sd000"
    assert name("method=csf", "task.critics=copy") == f"{here}/csf-task.critics=copy/sd000"
    assert name("method=scratch", "agent.backbone.lr=1e-3") == f"{here}/scratch-backbone.lr=0.001/sd000"


def test_the_configuration_of_a_run_is_read_back_as_it_was_written(skills: Path, tmp_path: Path) -> None:
    from csf.io.run_dir import differences, read_config

    cfg: AdaptConfig = entry.configure(words_of(tmp_path / "run", f"cp_path={skills}", "task.steps=20"))
    entry.adapt(cfg)
    kept = read_config(tmp_path / "run")
    assert kept is not None
    assert differences(kept, cfg.tree) == ""


def test_warm_up_by_a_skill_ignores_the_skills_that_it_is_given() -> None:
    source = make("diayn", "agent.skill_dim=3")
    obs, skill = observe(source.spec, 4), torch.eye(3)[1]
    wanted = source.act(obs, skill.expand(4, -1), True)
    assert torch.equal(with_skill(source, skill)(obs, torch.zeros(4, 0), True), wanted)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)
