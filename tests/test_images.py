"""What every agent promises of vectors, on images, and on images with a vector beside them."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import BOTH, IMAGE, NAMES, SMALL, SPEC, batch, configure, observe
from conftest import make as make_agent
from gymnasium.spaces import Box, Dict, Space
from test_agents import IDLE, gradients_of_rounding, leaves, losses, without_a_rate
from torch._subclasses.fake_tensor import FakeTensorMode

import csf
from csf import export
from csf.agents import Agent
from csf.errors import CheckpointError, ConfigError
from csf.evaluate import surroundings
from csf.evaluation.goals import ZeroShotGoals
from csf.evaluation.rollouts import SkillRollouts
from csf.hierarchy import SkillEnv, SkillVectorEnv
from csf.io import checkpoint, policy
from csf.learners import EpochBudget, learners
from csf.learners.rollout import FreshEpisodes
from csf.replay import ReplayBuffer
from csf.sampler import RolloutSampler
from csf.types import EnvSpec, SomeObs, map_obs
from csf.worlds import describe
from envs.measures import Measured

KINDS = {"image": IMAGE, "both": BOTH}
CASES = [name for name in NAMES if name != "dads"] + ["task agent/backbone=ppo", "csf agent.features=pair"]
CASES += ["task agent/backbone=discrete_sac"]
SHARED = [f"{case} encoder=shared" for case in ("csf", "metra", "cic", "task", "task agent/backbone=ppo")]
CASES += SHARED
CHANNELS = "encoder.channels=[3,4,5,6]"


@pytest.fixture(autouse=True, scope="module")
def _cached() -> Iterator[None]:
    """Agents by the dozen from the same few configurations."""
    with mock.patch("conftest.configure", functools.cache(configure)):
        yield


def make(name: str, *overrides: str, spec: EnvSpec = SPEC) -> Agent:
    """An agent with few channels."""
    return make_agent(name, *overrides, *([CHANNELS] if spec.has_image else []), spec=spec)


every_case = pytest.mark.parametrize("case", CASES)
every_kind = pytest.mark.parametrize("kind", KINDS)


def agent_of(case: str, kind: str) -> Agent:
    return make(*case.split(), spec=dataclasses.replace(KINDS[kind], discrete="discrete_sac" in case))


def fresh(agent: Agent, size: int = 24) -> Any:
    """What the agent's update takes."""
    rows = batch(agent, size)
    if agent.spec.discrete:
        rows = rows._replace(action=torch.eye(2)[rows.action.argmax(-1)])
    if agent.backbone.learner != "rollout":
        return rows
    fresh = FreshEpisodes(agent, size)
    fresh.add(episodes(agent.spec, agent.objective.cfg.skill_dim))
    return fresh.gather(fresh.sample_index(size))


def act(agent: Agent, obs: SomeObs, skill: torch.Tensor) -> torch.Tensor:
    return agent.act(obs, skill, True)


# ---- agents


@every_case
@every_kind
def test_an_update_moves_every_network_and_its_encoder(case: str, kind: str) -> None:
    torch.manual_seed(0)
    agent = agent_of(case, kind)
    before = {key: value.clone() for key, value in agent.named_parameters()}
    metrics = agent.update(fresh(agent))
    assert all(torch.isfinite(value) for value in metrics.values())
    still = {key for key, value in agent.named_parameters() if torch.equal(value, before[key])}
    idle = still | gradients_of_rounding(agent)
    name = "csf agent/backbone=sac agent.features=pair" if "pair" in case else case.split()[0]
    assert idle == IDLE.get(name, set()) | without_a_rate(agent)
    networks = 1 + (1 if agent.backbone.learner == "rollout" else 4) + (case.split()[0] != "task")
    networks = 1 if case in SHARED else networks
    assert sum(key.endswith("layers.0.weight") and value.dim() == 4 for key, value in before.items()) == networks


@every_case
@every_kind
def test_a_resumed_agent_continues_bit_for_bit(case: str, kind: str) -> None:
    torch.manual_seed(0)
    agent, other = agent_of(case, kind), agent_of(case, kind)
    given = fresh(agent)
    agent.update(given)
    other.load_full_state(copy.deepcopy(agent.full_state()))
    for each in (agent, other):
        torch.manual_seed(1)
        each.update(given)
    found, want = leaves(other.full_state()), leaves(agent.full_state())
    assert found.keys() == want.keys()
    assert all(torch.equal(found[key], want[key]) for key in want if isinstance(want[key], torch.Tensor))


@every_case
@every_kind
def test_files_of_it_load(case: str, kind: str, tmp_path: Path) -> None:
    agent = agent_of(case, kind)
    cfg = configure(f"agent={case.split()[0]}", *SMALL, *case.split()[1:], CHANNELS)
    facts = {"config": cfg.tree, "spec": dataclasses.asdict(agent.spec)}
    agent.update(fresh(agent))
    policy.save(tmp_path / "policy_000001.safetensors", agent, facts)
    checkpoint.save(tmp_path / "epoch_000001.pt", {"agent": agent}, facts, torch.device("cpu"))
    obs, skill = observe(agent.spec, 5), agent.objective.evaluation_skills(5)
    for path in tmp_path.iterdir():
        loaded = csf.load(path)
        assert loaded.spec == agent.spec
        assert torch.equal(act(loaded, obs, skill), act(agent, obs, skill))
        found, want = (each.represent(obs) for each in (loaded, agent.eval()))
        assert (found is None and want is None) or torch.equal(found, want)  # type: ignore[arg-type]


@every_case
def test_an_update_reads_no_value_on_the_host(case: str) -> None:
    if "ppo" in case:
        pytest.skip("its batches are made on the host")
    with FakeTensorMode():
        agent = agent_of(case, "both")
        agent.update(fresh(agent))


@pytest.mark.parametrize("case", ["csf", "task"])
def test_losses_trace_as_one_graph(case: str) -> None:
    agent = agent_of(case, "both")
    for loss, arguments in losses(agent, batch(agent)).values():
        torch._dynamo.reset()
        torch.compile(loss, fullgraph=True, backend="eager")(*arguments)


@every_case
def test_an_action_depends_on_image_and_vector(case: str) -> None:
    torch.manual_seed(0)
    agent = agent_of(case, "both")
    for name, param in agent.named_parameters():
        if "encoder" in name:
            param.data.mul_(3)
    obs, skill = observe(BOTH, 64), agent.objective.evaluation_skills(64)
    law = agent.backbone.actor.distribution(agent.encode(obs), skill)
    for part in obs:
        changed = agent.encode({**obs, part: obs[part].flip(0)})
        other = agent.backbone.actor.distribution(changed, skill)
        pairs = [(vars(a), vars(b)) for a, b in [(law, other)]]
        assert all(not torch.equal(a[key], b[key]) for a, b in pairs for key in a), part


# ---- a shared encoder


@pytest.mark.parametrize("case", SHARED)
def test_one_loss_trains_the_shared_encoder(case: str) -> None:
    """The representation loss, or that of the critic; a copy without the others' learning rates moves alike."""
    torch.manual_seed(0)
    agent = agent_of(case, "both")
    alone, before = copy.deepcopy(agent), copy.deepcopy(agent.encoder)
    trainer = "backbone.critic" if case.startswith("task") else "objective.representation"
    for name, minimizer in alone.minimizers().items():
        for group in minimizer.adam.param_groups:
            group["lr"] *= name == trainer
    given = fresh(agent)
    for each in (agent, alone):
        torch.manual_seed(1)
        each.update(given)
    parts: Any = (agent.encoder, alone.encoder, before)
    for value, same, old in zip(*(part.parameters() for part in parts), strict=True):
        assert torch.equal(value, same)
        assert not torch.equal(value, old)


def test_networks_learn_from_the_features_as_they_would_from_vectors() -> None:
    """An agent on vectors that are the features makes the same update, but for the encoder."""
    torch.manual_seed(0)
    agent = make("csf", "encoder=shared", spec=BOTH)
    vectors = dataclasses.replace(BOTH, obs_shape=agent.objective.spec.obs_shape, obs_dtype="float32", vector_dim=0)
    other = make("csf", spec=vectors)
    own = {key: value for key, value in agent.state_dict().items() if not key.startswith("encoder.")}
    other.load_state_dict(own)
    given = batch(agent)
    obs, next_obs = (agent.encode(rows).detach() for rows in (given.obs, given.next_obs))  # type: ignore[union-attr]
    for each, rows in ((agent, given), (other, given._replace(obs=obs, next_obs=next_obs))):
        torch.manual_seed(1)
        each.update(rows)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(agent.state_dict()[key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_a_backbone_without_critic_cannot_train_a_shared_encoder() -> None:
    agent = make("task", "encoder=shared", spec=IMAGE)
    del agent.backbone.minimizers["critic"]
    with pytest.raises(ConfigError, match=r"agent=task has no representation loss, and agent/backbone=sac no critic"):
        agent._encoder_minimizer()


def test_products_behind_a_shared_encoder_run_in_bfloat16() -> None:
    torch.manual_seed(0)
    words = ("encoder=shared", "encoder.channels=[3,4,5,64]", "agent.hidden=[256]", "agent.backbone.hidden=[256]")
    agents = [make_agent("metra", *words, spec=IMAGE) for _ in range(2)]
    agents[1].load_state_dict(agents[0].state_dict())
    agents[1].use_precision("bf16")
    given = batch(agents[0])
    for agent in agents:
        torch.manual_seed(1)
        agent.update(given)
    exact, rounded = (agent.state_dict() for agent in agents)
    same = {key for key in exact if torch.equal(exact[key], rounded[key])}
    assert {key for key in exact if key.startswith(("encoder.", "objective.phi."))} <= same
    assert "backbone.critic.weights.0" not in same
    torch.testing.assert_close(
        exact["backbone.critic.weights.0"], rounded["backbone.critic.weights.0"], rtol=0, atol=2.1e-3
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("encoder=shared", "encoder is shared, but env=test has no images to encode; accepted: own"),
        (
            "encoder.channels=[3,4]",
            r"encoder.channels is \[3, 4\], but env=test has no images to encode; accepted: \[48",
        ),
    ],
)
def test_an_encoder_for_vectors_is_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("csf", word)


@every_kind
@pytest.mark.parametrize("words", [[], ["encoder=shared"]])
def test_channels_are_those_of_every_network(kind: str, words: list[str]) -> None:
    agent = make_agent("csf", "encoder.channels=[2,5]", *words, spec=KINDS[kind])
    shapes = [tuple(param.shape) for param in agent.parameters() if param.dim() == 4]
    assert shapes == [(2, 9, 4, 4), (5, 2, 4, 4)] * (1 if words else 6)


@every_kind
def test_dads_says_that_it_takes_vectors_alone(kind: str) -> None:
    with pytest.raises(
        ConfigError, match=r"env=test has image observations \(64, 64, 9\).*; agent=dads accepts vectors only"
    ):
        make("dads", spec=KINDS[kind])


@every_kind
def test_the_code_on_the_model_card_runs(kind: str) -> None:
    agent = agent_of("csf", kind)
    text = export.card(agent, {"config": configure("agent=csf", *SMALL).tree}, {"results": {}}, "mit", None)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    loop = code[code.index("obs, info = worlds.reset") :]
    names = {"torch": torch, "agent": agent, "worlds": Pictures(kind), "skill": agent.sample_skills(3)}
    exec(loop, names)  # the card is this program's own
    assert len(names["worlds"].actions) == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "space", "message"),
    [
        ({}, Box(0, 255, IMAGE.obs_shape, np.uint8), "vector_dim is 3 in the checkpoint, 0 here"),
        ({"obs_shape": (5,)}, Box(0, 1, (5,), np.float32), "obs_dtype is uint8 in the checkpoint, float32 here"),
    ],
)
def test_evaluation_on_other_observations_is_refused(changes: dict[str, Any], space: Space[Any], message: str) -> None:
    here: Any = Pictures("image")
    here.single_observation_space = space
    agent = make("csf")
    agent.spec = dataclasses.replace(BOTH, **changes)
    with mock.patch("csf.evaluate.worlds_of", return_value=here), pytest.raises(CheckpointError, match=message):
        surroundings({}, agent, None)


def test_evaluation_on_images_of_another_renderer_is_refused() -> None:
    here: Any = Pictures("image")
    here.renderer, here.quality = "gl", "paper"
    agent = make("csf", spec=dataclasses.replace(describe(here, "pictures"), renderer="warp", quality="fast"))
    message = "env.renderer is gl, accepted: warp; env.quality is paper, accepted: fast$"
    with mock.patch("csf.evaluate.worlds_of", return_value=here), pytest.raises(CheckpointError, match=message):
        surroundings({}, agent, None)
    agent.spec = dataclasses.replace(agent.spec, renderer=None, quality=None)  # of a file that does not have them
    with mock.patch("csf.evaluate.worlds_of", return_value=here):
        assert surroundings({}, agent, None).renderer == "gl"


# ---- worlds


class Pictures(Measured):
    """Worlds whose pictures and vectors count steps, and that end by themselves at different ones."""

    num_envs, version, max_steps, coord_dim, success_radii, coverage_cell = 3, "v0", 6, 1, (0.5,), 1.0
    single_action_space: Space[Any] = Box(-1, 1, (2,), np.float32)
    obs_mean = obs_std = None
    metadata: ClassVar[dict[str, Any]] = {"render_fps": 7}

    def __init__(self, kind: str, columns: int = 3) -> None:
        image = Box(0, 255, IMAGE.obs_shape, np.uint8)
        both = Dict({"image": image, "vector": Box(-np.inf, np.inf, (columns,), np.float32)})
        self.single_observation_space: Space[Any] = {"image": image, "both": both}[kind]
        self.kind, self.columns, self.actions = kind, columns, list[Any]()

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.steps = 0
        return self.show(), {"coord": np.zeros((3, 1))}

    def show(self) -> Any:
        count = 10 * np.arange(3) + self.steps
        image = np.zeros((3, *IMAGE.obs_shape), np.uint8) + count[:, None, None, None].astype(np.uint8)
        vector = np.repeat(count[:, None], self.columns, 1).astype(np.float32)
        return image if self.kind == "image" else {"image": image, "vector": vector}

    def step(self, actions: Any) -> Any:
        self.steps += 1
        self.actions.append(actions)
        terminated, truncated = np.array([self.steps == 4, False, False]), np.full(3, self.steps >= 6)
        infos = {"coord": np.full((3, 1), float(self.steps)), "diverged": np.zeros(3, bool)}
        return self.show(), np.ones(3), terminated, truncated, infos

    def goals(self, n: int, rng: np.random.Generator) -> Any:
        return map_obs(lambda rows: rows.numpy(), observe(KINDS[self.kind], n)), np.zeros((n, 1))

    def close(self) -> None:
        pass


def sampler_of(kind: str) -> RolloutSampler:
    worlds: Any = Pictures(kind)
    return RolloutSampler(worlds, describe(worlds, "pictures"), 0, "cpu")


def episodes(spec: EnvSpec, skill_dim: int) -> Any:
    """Of the worlds above, with the spec's actions."""

    def policy(obs: SomeObs, skill: torch.Tensor, mode: bool = False, /) -> torch.Tensor:
        return torch.eye(2)[torch.zeros(len(skill), dtype=torch.int64)] * 0.5

    kind = "both" if spec.vector_dim else "image"
    found = sampler_of(kind).collect(policy, torch.zeros(5, skill_dim))
    return found._replace(action=found.action * 2) if spec.discrete else found


@every_kind
def test_what_worlds_show_is_described(kind: str) -> None:
    spec = sampler_of(kind).spec
    want = KINDS[kind]
    assert (spec.obs_shape, spec.obs_dtype, spec.vector_dim) == (want.obs_shape, want.obs_dtype, want.vector_dim)


STRANGE = {
    "a picture of floats": Box(0, 1, (64, 64, 3), np.float32),
    "a matrix": Box(0, 1, (4, 4), np.float32),
    "bytes": Box(0, 255, (4,), np.uint8),
    "other keys": Dict({"pixels": Box(0, 255, (64, 64, 3), np.uint8), "vector": Box(0, 1, (2,), np.float32)}),
    "two vectors": Dict({"image": Box(0, 1, (2,), np.float32), "vector": Box(0, 1, (2,), np.float32)}),
    "an empty vector": Dict({"image": Box(0, 255, (64, 64, 3), np.uint8), "vector": Box(0, 1, (0,), np.float32)}),
}


@pytest.mark.parametrize("space", STRANGE.values(), ids=STRANGE)
def test_other_observations_are_refused(space: Space[Any]) -> None:
    worlds: Any = Pictures("image")
    worlds.single_observation_space = space
    with pytest.raises(
        ConfigError, match=r"env=strange has observation space .*; accepted: a Box of float32 vectors \[O\], a Box of"
    ):
        describe(worlds, "strange")


@every_kind
def test_episodes_hold_what_the_worlds_showed(kind: str) -> None:
    found = episodes(KINDS[kind], 2)
    assert found.length.tolist() == [4, 6, 6, 4, 6]
    parts = found.obs if kind == "both" else {"image": found.obs}
    assert parts["image"].dtype == torch.uint8
    for rows in parts.values():
        flat = rows.reshape(5, 7, -1)[..., 0]
        for episode, length in enumerate(found.length.tolist()):
            assert flat[episode, : length + 1].tolist() == [10 * (episode % 3) + t for t in range(length + 1)]


@every_kind
def test_replay_gives_back_neighbours_of_one_episode(kind: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(KINDS[kind], max_steps=6)
    buffer = ReplayBuffer(40, spec, 2, "cpu")
    for _ in range(3):  # 26 transitions each: the ring wraps
        buffer.add(episodes(spec, 2))
    torch.save(buffer.full_state(), tmp_path / "replay.pt")
    other = ReplayBuffer(40, spec, 2, "cpu")
    other.load_full_state(torch.load(tmp_path / "replay.pt", weights_only=True))
    for each in (buffer, other):
        assert len(each) == 40
        found = each.gather(torch.arange(40))
        for obs, after in zip(*map(parts_of, (found.obs, found.next_obs)), strict=True):
            before, following = (rows.reshape(40, -1).long() for rows in (obs, after))
            assert (before == before[:, :1]).all(), "one row has another's pixels"
            assert torch.equal(following, before + 1), "across episodes"  # episodes start at 0, 10 and 20
    assert all(map(torch.equal, parts_of(buffer.obs), parts_of(other.obs)))


def parts_of(obs: SomeObs) -> list[torch.Tensor]:
    return list(obs.values()) if isinstance(obs, dict) else [obs]


@every_kind
def test_a_picture_is_stored_once(kind: str) -> None:
    spec = dataclasses.replace(KINDS[kind], max_steps=6)
    buffer = ReplayBuffer(60, spec, 2, "cpu")
    whole = sum(rows.nbytes for rows in parts_of(buffer.obs))
    assert whole < 1.3 * 60 * sum(rows[0].nbytes for rows in parts_of(buffer.obs))


@every_kind
@pytest.mark.parametrize("case", ["csf", "cic", "task agent/backbone=ppo"])
def test_it_learns_from_collected_episodes(case: str, kind: str) -> None:
    sampler = sampler_of(kind)
    agent = make(*case.split(), spec=sampler.spec)
    learner = learners[agent.backbone.learner](agent, EpochBudget(6, 2, 16, 60, 16), "cpu")
    metrics = learner.learn(sampler.collect(agent.act, agent.objective.evaluation_skills(6)))
    assert np.isfinite(list(metrics.values())).all()


@every_kind
@pytest.mark.parametrize("single", [False, True])
def test_goals_are_observations_of_any_kind(kind: str, single: bool) -> None:
    """Every goal, one per episode and more than there are worlds, reaches the rule with its own number."""
    sampler = sampler_of(kind)
    agent, worlds = make("csf", spec=sampler.spec), Pictures(kind)
    goals, seen = worlds.goals(5, np.random.default_rng(0))[0], []

    def rule(obs: SomeObs, goal: SomeObs) -> torch.Tensor:
        seen.append(goal)
        return torch.ones(3, agent.objective.cfg.skill_dim)

    known: Any = worlds
    known.goals = lambda n, rng: (goals, np.zeros((n, 1)))
    with mock.patch.object(agent.objective, "goal_skill", rule):
        ZeroShotGoals(known, 5, 0, single).run(agent, sampler)
    assert len(seen) == (2 if single else 12)
    for first, want in ((seen[0], [0, 1, 2]), (seen[-1], [3, 4, 4])):  # an idle world repeats the last goal
        for rows, whole in zip(parts_of(first), parts_of(goals), strict=True):
            assert np.array_equal(rows.numpy(), np.asarray(whole)[want])


@every_kind
def test_rollouts_are_evaluated(kind: str) -> None:
    sampler = sampler_of(kind)
    found = SkillRollouts(sampler.env, 4, 0, None).run(make("csf", spec=sampler.spec), sampler)
    assert found.metrics["eval/return"] == pytest.approx((4 + 6 + 6 + 4) / 4)
    assert "phi" in found.images


# ---- skills as actions


class Task(Pictures):
    """A task that shows two columns more than the worlds whose skills it takes."""

    base, goal_dim = "pictures", 2


@every_kind
def test_the_frozen_agent_sees_what_it_was_trained_on(kind: str) -> None:
    below: Any = Task("both", 2 if kind == "image" else 5)
    child = make("csf", spec=sampler_of(kind).spec)
    env, seen = SkillVectorEnv(below, child, 3), list[Any]()
    obs, _ = env.reset(seed=0)
    assert env.single_observation_space == below.single_observation_space
    want = obs["image"] if kind == "image" else {"image": obs["image"], "vector": obs["vector"][:, :3]}

    def look(obs: SomeObs, skill: torch.Tensor, mode: bool, objective: object) -> torch.Tensor:
        seen.append(obs)
        return torch.zeros(3, 2)

    with mock.patch.object(child.backbone, "act", look):
        after, reward, *_ = env.step(np.ones((3, child.objective.cfg.skill_dim), np.float32))
    assert len(seen) == 3
    assert all(np.array_equal(a, b) for a, b in zip(map(np.asarray, parts_of(seen[0])), parts_of(want), strict=True))
    assert after["vector"][:, 0].tolist() == [3, 13, 23]
    assert reward.tolist() == [3, 3, 3]
    assert describe(env, "controller").vector_dim == below.columns


def test_a_picture_of_a_world_that_has_ended_stays() -> None:
    below: Any = Task("both", 2)
    env = SkillVectorEnv(below, make("csf", spec=sampler_of("image").spec), 6)
    env.reset(seed=0)
    obs, *_ = env.step(np.ones((3, 2), np.float32))
    assert obs["image"][:, 0, 0, 0].tolist() == [4, 16, 26]
    assert obs["vector"][:, 0].tolist() == [4, 16, 26]


def test_one_world_gives_rows_of_each_part() -> None:
    below: Any = Task("both", 2)
    below.num_envs = 1
    env = SkillEnv(below, make("csf", spec=sampler_of("image").spec), 2)
    below.steps = 0
    with mock.patch.object(below, "show", return_value=map_obs(lambda rows: rows[:1], below.show())):
        obs, _ = env.reset(seed=0)
    assert obs["image"].shape == IMAGE.obs_shape
    assert obs["vector"].shape == (2,)
    assert env.observation_space.contains(obs)


@pytest.mark.parametrize(("name", "here", "there"), [("renderer", "gl", "warp"), ("quality", "paper", "fast")])
def test_skills_trained_on_images_of_another_renderer_are_refused(name: str, here: str, there: str) -> None:
    below: Any = Task("both", 2)
    setattr(below, name, here)
    for trained in (here, None):
        changes: Any = {name: trained}
        child = make("csf", spec=dataclasses.replace(sampler_of("image").spec, **changes))
        env = SkillVectorEnv(below, child, 2)
        assert getattr(describe(env, "controller"), name) == here
    changes = {name: there}
    child.spec = dataclasses.replace(child.spec, **changes)
    with pytest.raises(ValueError, match=f"trained on other images: env.{name} is {here}, accepted: {there}$"):
        SkillVectorEnv(below, child, 2)


@pytest.mark.parametrize(
    ("trained", "columns", "message"),
    [
        (IMAGE, 5, r"shape \(64, 64, 9\); here they have \(64, 64, 9\) and \(3,\)"),
        (BOTH, 4, r"shape \(64, 64, 9\) and \(3,\); here they have \(64, 64, 9\) and \(2,\)"),
        (SPEC, 5, r"shape \(3,\); here they have \(64, 64, 9\) and \(3,\)"),
        (dataclasses.replace(IMAGE, obs_shape=(48, 48, 9)), 2, r"\(48, 48, 9\); here they have \(64, 64, 9\)"),
    ],
)
def test_skills_trained_on_other_observations_are_refused(trained: EnvSpec, columns: int, message: str) -> None:
    below: Any = Task("both", columns)
    child = make("csf", spec=dataclasses.replace(trained, id="pictures"))
    with pytest.raises(ValueError, match=message):
        SkillVectorEnv(below, child, 2)
