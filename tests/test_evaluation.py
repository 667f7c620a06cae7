"""What is measured, what is drawn, and that neither leaves a trace in training."""

from __future__ import annotations

import functools
from typing import Any, cast
from unittest.mock import patch

import golden_map
import numpy as np
import pytest
import torch
from conftest import NAMES, SMALL, SPEC, configure
from golden_map import Arrays
from torch import Tensor

import envs
from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.bands import most_directions
from csf.evaluation.goals import ZeroShotGoals
from csf.evaluation.rollouts import SkillRollouts, isolated, spread
from csf.evaluation.suite import suite
from csf.sampler import RolloutSampler
from csf.types import EnvSpec, Episodes, Evaluation, Policy, Worlds
from csf.worlds import describe
from envs import measures

Path = list[tuple[float, ...]]


def episodes(*paths: Path, lost: tuple[int, ...] = ()) -> Episodes:
    """Episodes whose bodies were at these places, before the first step and after each; `lost` ones are discarded."""
    n, steps, dim = len(paths), max(map(len, paths)) - 1, len(paths[0][0])
    coord = torch.zeros(n, steps + 1, dim, dtype=torch.double)
    for row, path in zip(coord, paths, strict=True):
        row[: len(path)] = torch.tensor(path, dtype=torch.double)
    length = torch.tensor([0 if i in lost else len(path) - 1 for i, path in enumerate(paths)])
    obs = torch.arange(n * (steps + 1) * 3).reshape(n, steps + 1, 3).float()
    nothing = torch.zeros(n, steps)
    return Episodes(obs, torch.zeros(n, steps, 2), nothing, nothing, torch.zeros(n, 2), length, coord)


class Canned:
    """A sampler that has its episodes already, and notes how it was asked."""

    spec: EnvSpec = SPEC

    def __init__(self, found: Episodes) -> None:
        self.found, self.calls = found, list[tuple[Tensor, bool, int | None]]()

    def collect(
        self, policy: Policy, skills: Tensor, mode: bool = False, seed: int | None = None, twins: bool = False
    ) -> Episodes:
        self.calls.append((skills, mode, seed))
        return self.found

    def close(self) -> None:
        pass


@functools.cache
def worlds() -> Any:
    return envs.make_vec("point", 4)


def sampler() -> RolloutSampler:
    return RolloutSampler(worlds(), describe(worlds(), "point"), 0, "cpu")


def make(name: str, *settings: str) -> Agent:
    """A small agent of a method for the plane."""
    torch.manual_seed(0)
    cfg = configure(f"agent={name}", *SMALL, *settings)
    return Agent(cfg.agent, cfg.backbone, describe(worlds(), "point"))


def evaluators(seed: int = 5) -> list[SkillRollouts | ZeroShotGoals]:
    return [SkillRollouts(worlds(), 6, seed, 2), ZeroShotGoals(worlds(), 5, seed)]


def coverage(found: Episodes, cell: float) -> int:
    """Of the episodes that have a step."""
    kept = found.length > 0
    return measures.coverage(found.coord[kept].numpy(), found.length[kept].numpy(), cell)


class OnlyGoals:
    """The worlds of the plane, with goals drawn by another rule, and other results."""

    def __init__(self, goals: Any = None, success: Any = None, radii: tuple[float, ...] = (0.3,)) -> None:
        self.goals, self.success = goals or worlds().goals, success or worlds().success
        self.success_radii = radii


# ---- coverage


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return golden_map.read("pieces_evaluation")


def recorded(golden: Arrays, dims: int) -> Episodes:
    return episodes(*([tuple(row[:dims]) for row in golden[f"traj{i}/coordinates"]] for i in range(5)))


@pytest.mark.parametrize(("dims", "metrics"), [(2, "metrics_xy"), (1, "metrics_x")])
def test_coverage_is_the_released_one(golden: Arrays, dims: int, metrics: str) -> None:
    found = recorded(golden, dims)
    numbers = [len(found.length), found.length.double().mean().item(), len(found.visited()), coverage(found, 1.0)]
    assert numbers == pytest.approx(golden[metrics].tolist())


def test_coverage_counts_cells_of_the_given_side() -> None:
    found = episodes([(-0.1, 0.0), (0.1, 0.0), (0.6, 0.0), (1.1, 0.0)])
    assert [coverage(found, cell) for cell in (0.25, 0.5, 1.0, 10.0)] == [4, 4, 3, 2]


def test_coverage_counts_neither_padding_nor_discarded_episodes() -> None:
    short: Path = [(5.5, 5.5), (6.5, 5.5)]
    found = episodes(short, [(3.5, 3.5)] * 4, [(9.5, 9.5), (8.5, 8.5)], lost=(2,))
    assert coverage(found, 1.0) == 3


def test_skills_are_judged_by_their_mode_and_shown_by_the_observation_before_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = make("csf")
    found = episodes([(0.0, 0.0)] * 4, [(0.0, 0.0)] * 3, [(0.0, 0.0)] * 2, lost=(2,))
    seen: list[Tensor] = []

    def represent(obs: Tensor) -> Tensor:
        seen.append(obs)
        return obs[:, :2]

    monkeypatch.setattr(agent.objective, "represent", represent)
    canned = Canned(found)
    SkillRollouts(worlds(), 3, 7, None).run(agent, canned)
    ((skills, mode, seed),) = canned.calls
    assert (skills.shape, mode, seed) == ((3, 2), True, 7)
    torch.testing.assert_close(seen[-1], torch.stack([found.obs[0, 2], found.obs[1, 1], found.obs[2, 0]]))


def test_the_return_is_the_mean_over_episodes_of_the_sum_of_their_real_steps() -> None:
    """The second ends early, and what stands behind its end is not a reward; the third was discarded."""
    found = episodes([(0.0,)] * 4, [(0.0,)] * 2, [(0.0,)] * 4, lost=(2,))
    reward = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    result = SkillRollouts(worlds(), 3, 7, None).run(make("task"), Canned(found._replace(reward=reward)))
    assert result.metrics["eval/return"] == 5.0


def test_who_has_no_skills_is_not_measured_by_goals() -> None:
    kinds = {name: [type(each) for each in suite(make(name), worlds(), 2, 2, 0, None)] for name in ("task", "csf")}
    assert kinds == {"task": [SkillRollouts], "csf": [SkillRollouts, ZeroShotGoals]}


def test_a_skill_is_held_where_it_is_one_hot_and_would_change_on_the_way() -> None:
    """As the paper has it for METRA: "Single" beside "Adaptive". DIAYN's is the same from everywhere."""
    agents = [make("metra", "agent.prior=one_hot", "agent.skill_dim=4"), make("metra"), make("diayn")]
    found = [suite(agent, worlds(), 2, 4, 0, None)[1:] for agent in agents]
    assert [len(each) for each in found] == [2, 1, 1]
    asked = []
    for evaluator in found[0]:
        with patch.object(agents[0].objective, "goal_skill", wraps=agents[0].objective.goal_skill) as rule:
            metrics = evaluator.run(agents[0], sampler()).metrics
        asked.append((next(iter(metrics)).split("/")[1], rule.call_count))
    steps, rounds = sampler().spec.max_steps, -(-4 // sampler().env.num_envs)
    assert asked == [("goal", steps * rounds), ("goal_single", rounds)]


# ---- collapse


def ring(stretch: float, dim: int = 2) -> np.ndarray:
    """48 points of an ellipse in the first two of Z dimensions, away from the origin."""
    angle = np.arange(48) * 2 * np.pi / 48
    points = np.zeros((48, dim), np.float32)
    points[:, 0], points[:, 1] = 5 + np.cos(angle), 7 + np.sin(angle) / stretch
    return points


def test_the_effective_rank_is_worked_by_hand() -> None:
    assert spread(ring(1)) == pytest.approx({"phi/rank": 2, "phi/singular_ratio": 1}, abs=1e-5)
    shares = 1 + 1 / 9, 1 + 1 / 81
    assert spread(ring(3)) == pytest.approx(
        {"phi/rank": shares[0] ** 2 / shares[1], "phi/singular_ratio": 1 / 3}, abs=1e-5
    )
    assert spread(ring(1, dim=3)) == pytest.approx({"phi/rank": 2, "phi/singular_ratio": 0}, abs=1e-5)


def test_the_effective_rank_of_a_line_is_1_in_any_direction_and_scale() -> None:
    line = np.linspace(-1, 1, 48, dtype=np.float32)[:, None] * np.array([[0.6, 0.8, 0.1]], np.float32)
    for scale in (1e-6, 1.0, 1e6):
        assert spread(scale * line) == pytest.approx({"phi/rank": 1, "phi/singular_ratio": 0}, abs=1e-5)
    two_ends = np.sign(line) * np.array([[3, 1, 2]], np.float32)
    assert spread(two_ends)["phi/rank"] == pytest.approx(1)


@pytest.mark.parametrize("rows", [np.zeros((0, 2)), np.zeros((48, 2)), np.full((48, 2), 0.3), np.ones((1, 2))])
def test_equal_changes_have_rank_0(rows: np.ndarray) -> None:
    """All numbers are finite, since a metric that is not ends the run."""
    assert spread(rows.astype(np.float32)) == {"phi/rank": 0.0, "phi/singular_ratio": 0.0}


def test_the_rank_is_that_of_the_change_from_start_to_end_of_kept_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies before the end, behind it, and in a discarded episode does not count."""
    agent, rng = make("csf"), np.random.default_rng(0)
    still: Path = [(0.0, 0.0)] * 5
    found = episodes(still, still, still, still, lost=(3,))
    obs = torch.from_numpy(rng.standard_normal((4, 5, 3))).float()
    length = torch.tensor([2, 3, 4, 0])
    change = torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [5.0, 10.0, 0.0]])
    for row, steps in enumerate(length.tolist()[:3]):
        obs[row, steps] = obs[row, 0] + change[row]
    monkeypatch.setattr(agent.objective, "represent", lambda obs: obs[:, :2])
    canned = Canned(found._replace(obs=obs, length=length))
    metrics = SkillRollouts(worlds(), 4, 0, None).run(agent, canned).metrics
    assert metrics["phi/rank"] == pytest.approx(1, abs=1e-5)


def test_who_has_no_representation_of_states_has_no_rank() -> None:
    measured = {}
    for name, *settings in (["csf"], ["metra"], ["csf", "agent.features=pair"], ["diayn"], ["dads"], ["task"]):
        metrics = SkillRollouts(worlds(), 6, 0, None).run(make(name, *settings), sampler()).metrics
        assert "eval/directions" in metrics
        measured["".join([name, *settings])] = {"phi/rank", "phi/singular_ratio"} <= metrics.keys()
    have, lack = ("csf", "metra", "diayn"), ("csfagent.features=pair", "dads", "task")
    assert measured == dict.fromkeys(have, True) | dict.fromkeys(lack, False)


def test_the_largest_number_of_directions_is_that_of_the_worlds() -> None:
    assert most_directions(2) == measures.SECTORS
    assert most_directions(1) == measures.directions(np.array([[[0.0], [9]], [[0.0], [-9]]]), np.array([1, 1]), 1.0)


def test_pictures_state_directions_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[object] = []
    monkeypatch.setattr(plots, "trajectories", lambda *args: titles.append(args[-1]))
    monkeypatch.setattr(plots, "features", lambda *args: titles.append(args[-1]))
    metrics = SkillRollouts(worlds(), 6, 0, None).run(make("csf"), sampler()).metrics
    assert titles == [
        f"far end points in {metrics['eval/directions']:g} of 16 directions",
        f"effective rank {metrics['phi/rank']:.2f} of 2",
    ]


# ---- goals


def run_goals(found: Episodes, goal: tuple[float, ...], radii: tuple[float, ...]) -> dict[str, float]:
    """The evaluator's numbers if all episodes had this goal."""
    place = np.array([goal] * len(found.length), np.float64)

    def success(coord: np.ndarray, length: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        return measures.reached(coord, length, place, radii)

    source = OnlyGoals(lambda *_: (np.zeros((len(place), 2), np.float32), place), success, radii)
    return ZeroShotGoals(cast(Worlds, source), len(place), 0).run(make("csf"), Canned(found)).metrics


def metrics(goal: tuple[float, ...], *paths: Path, radius: float = 1.0, lost: tuple[int, ...] = ()) -> dict[str, float]:
    found = run_goals(episodes(*paths, lost=lost), goal, (radius,))
    return {key.removeprefix("eval/goal/").removesuffix(f"_{radius:g}"): value for key, value in found.items()}


def test_a_goal_on_the_way_is_hit_but_not_the_end() -> None:
    found = metrics((3, 0), [(0, 0), (2, 0), (3, 0), (4, 0), (5, 0), (7, 0)])
    assert found == {"distance": 4.0, "hit": 1.0, "end": 0.0, "staying": pytest.approx(3 / 5)}


def test_the_border_is_within() -> None:
    assert metrics((3, 0), [(0, 0), (2, 0)]) == {"distance": 1.0, "hit": 1.0, "end": 1.0, "staying": 1.0}
    assert metrics((3, 0), [(0, 0), (1.999, 0)])["hit"] == 0


def test_the_start_does_not_count() -> None:
    assert metrics((0, 0), [(0, 0), (5, 0)]) == {"distance": 5.0, "hit": 0.0, "end": 0.0, "staying": 0.0}


def test_each_episode_ends_at_its_own_last_step() -> None:
    """The padding of the short one lies at its goal."""
    found = metrics((0, 0), [(3, 0), (4, 0), (3, 0)], [(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)])
    assert found == {"distance": 1.5, "hit": 0.5, "end": 0.5, "staying": 0.5}


def test_discarded_episodes_are_left_out() -> None:
    found = metrics((0, 0), [(9, 0), (9, 0)], [(1, 0), (1, 0)], lost=(0,))
    assert found == {"distance": 1.0, "hit": 1.0, "end": 1.0, "staying": 1.0}


def test_goals_on_a_line_are_measured_on_the_line() -> None:
    assert metrics((3,), [(0,), (2,), (5,)]) == {"distance": 2.0, "hit": 1.0, "end": 0.0, "staying": 0.5}


def test_every_radius_has_its_numbers_and_its_name() -> None:
    found = run_goals(episodes([(5.0, 0.0), (2.0, 0.0), (0.5, 0.0)]), (0, 0), (3.0, 1.0, 0.3))
    names = {f"{name}_{radius}" for name in ("hit", "end", "staying") for radius in ("3", "1", "0.3")} | {"distance"}
    assert set(found) == {f"eval/goal/{name}" for name in names}
    assert [found[f"eval/goal/staying_{radius}"] for radius in ("3", "1", "0.3")] == [1.0, 0.5, 0.0]


def test_worlds_may_judge_goals_by_rules_of_their_own() -> None:
    """Where goals are not places there is no map; numbers that are not about an episode's goal are NaN."""

    def success(coord: np.ndarray, length: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        solved = coord[:, -1, 0] > 1
        return {
            "success": solved,
            "success/kettle": np.where(place[:, 0] == 0, solved, np.nan),
            "success/light": np.where(place[:, 0] == 1, solved, np.nan),
            "success/door": np.where(place[:, 0] == 2, solved, np.nan),
        }

    found = episodes([(0, 0), (2, 0)], [(0, 0), (0, 0)], [(0, 0), (2, 0)], [(0, 0), (2, 0)], lost=(3,))
    place = np.array([[0.0, np.nan], [0, np.nan], [1, np.nan], [1, np.nan]])
    source = OnlyGoals(lambda *_: (np.zeros((4, 2), np.float32), place), success, ())
    metrics, images = ZeroShotGoals(cast(Worlds, source), 4, 0).run(make("csf"), Canned(found))
    want = {"success": 2 / 3, "success/kettle": 0.5, "success/light": 1.0}
    assert metrics == pytest.approx({f"eval/goal/{key}": value for key, value in want.items()})
    assert not images


def test_what_is_measured_of_skills_is_up_to_the_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measure(coord: np.ndarray, length: np.ndarray) -> dict[str, float]:
        seen.append((coord, length))
        return {"coverage": 2.0, "coverage/kettle": 1.0}

    source: Any = envs.make_vec("point", 1)
    monkeypatch.setattr(source, "measure", measure)
    found = episodes([(0, 0), (2, 0)], [(7, 7), (7, 7)], lost=(1,))
    metrics = SkillRollouts(source, 2, 7, None).run(make("task"), Canned(found)).metrics
    assert list(metrics) == ["eval/coverage", "eval/coverage/kettle", "eval/return", "eval/return_std"]
    ((coord, length),) = seen
    assert coord.tolist() == [[[0, 0], [2, 0]]], "episodes that were discarded are not measured"
    assert length.tolist() == [1]


def seeker(monkeypatch: pytest.MonkeyPatch) -> tuple[Agent, list[bool]]:
    """An agent whose skill is ten times the way to the goal and whose action is the skill, clipped."""
    agent, modes = make("csf"), list[bool]()

    def act(obs: Tensor, skill: Tensor, mode: bool, objective: object) -> Tensor:
        modes.append(mode)
        return skill.clamp(-1, 1)

    monkeypatch.setattr(agent.objective, "goal_skill", lambda obs, goal: 10 * (goal - obs))
    monkeypatch.setattr(agent.backbone, "act", act)
    return agent, modes


def test_the_skill_is_inferred_anew_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """One inferred only at the start would lead past the goal."""
    agent, modes = seeker(monkeypatch)
    found = ZeroShotGoals(worlds(), 10, 0).run(agent, sampler()).metrics
    assert found["eval/goal/distance"] < 1e-6
    assert found["eval/goal/hit_0.3"] == found["eval/goal/end_0.3"] == 1
    assert 0 < found["eval/goal/staying_0.3"] < 1
    assert len(modes) == 3 * 20


def test_actions_towards_a_goal_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, modes = seeker(monkeypatch)
    ZeroShotGoals(worlds(), 4, 0).run(agent, sampler())
    assert not any(modes)


def test_goals_and_places_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seeker of other goals than those it is judged by misses them."""
    agent, _ = seeker(monkeypatch)

    def mismatched(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        obs, place = worlds().goals(n, rng)
        return obs, place[::-1].copy()

    source = cast(Worlds, OnlyGoals(mismatched))
    assert ZeroShotGoals(source, 10, 0).run(agent, sampler()).metrics["eval/goal/hit_0.3"] < 0.5


def test_a_method_without_a_rule_reaches_for_no_goal() -> None:
    agent, canned = make("cic"), Canned(episodes([(0, 0), (0, 0)]))
    assert ZeroShotGoals(worlds(), 4, 0).run(agent, canned) == Evaluation({}, {})
    assert not canned.calls


# ---- no trace


def everything(agent: Agent, part: RolloutSampler) -> list[Any]:
    """All that evaluation could change, copied."""
    rng = [torch.get_rng_state().tolist(), repr(np.random.get_state())]
    tensors = {name: value.tolist() for name, value in agent.state_dict().items()}
    modes = {name: module.training for name, module in agent.named_modules()}
    return [rng, tensors, modes, part.full_state(), torch.is_grad_enabled(), torch.get_num_threads()]


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_leaves_no_trace_and_repeats_itself(name: str) -> None:
    agent, part = make(name), sampler()
    agent.objective.eval()  # modules need not all be in one mode
    part.collect(agent.act, agent.objective.sample_skills(3))
    for evaluator in evaluators():
        before = everything(agent, part)
        first = evaluator.run(agent, part)
        assert everything(agent, part) == before
        torch.rand(7)
        part.collect(agent.act, agent.objective.sample_skills(3))
        second = evaluator.run(agent, part)
        assert first.metrics == second.metrics
        assert first.images.keys() == second.images.keys()
        assert all(np.array_equal(image, second.images[key]) for key, image in first.images.items())


def test_another_seed_is_another_evaluation() -> None:
    agent, part = make("csf"), sampler()
    for one, other in zip(evaluators(5), evaluators(6), strict=True):
        found, want = one.run(agent, part), other.run(agent, part)
        same = [np.array_equal(image, want.images[key]) for key, image in found.images.items()]
        assert found.metrics != want.metrics or not all(same)


def test_an_evaluation_that_fails_leaves_no_trace_either() -> None:
    agent = make("csf")
    before = everything(agent, sampler())

    def fail() -> None:
        with isolated(agent, 0):
            assert not any(module.training for module in agent.modules())
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert everything(agent, sampler()) == before


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_measured(name: str) -> None:
    agent, part = make(name), sampler()
    seen, reached = (evaluator.run(agent, part) for evaluator in evaluators())
    assert seen.metrics["eval/coverage"] >= 1
    with torch.no_grad():
        obs = torch.zeros(1, 2)
        assert ("phi" in seen.images) == (agent.objective.represent(obs) is not None)
        assert bool(reached.metrics) == (agent.objective.goal_skill(obs, obs) is not None)


# ---- colors


@pytest.mark.parametrize(("dim", "key"), [(1, "rgba1"), (2, "rgba2"), (3, "rgba3"), (5, "rgba5_npseed0")])
def test_colors_are_the_released_ones(golden: Arrays, dim: int, key: str) -> None:
    found = plots.skill_colors(golden[f"colors/options{dim}"])
    np.testing.assert_allclose(found, golden[f"colors/{key}"], rtol=0, atol=1e-12 if dim < 4 else 1e-6)


def test_skills_of_one_dimension_run_through_three_colors() -> None:
    """Worked by hand: z = -0.1 is the point (1.2, 2), 0 is (2, 2), 0.1 is (2, 1.2) of the square from -4 to 4."""
    want = [[0.65, 0.75, 0.3, 0.8], [0.75, 0.75, 0.25, 0.8], [0.75, 0.65, 0.3, 0.8]]
    np.testing.assert_allclose(plots.skill_colors(np.array([[-0.1], [0.0], [0.1]])), want)


@pytest.mark.parametrize(("count", "colors"), [(2, 2), (10, 10), (16, 16), (50, 20)])
def test_one_hot_skills_have_a_color_each_while_colors_last(count: int, colors: int) -> None:
    found = plots.skill_colors(np.eye(count), one_hot=True)
    assert len(np.unique(found, axis=0)) == colors


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 64])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_any_skills_have_colors(dim: int, rows: int) -> None:
    for skills in (np.random.RandomState(1).randn(rows, dim), np.ones((rows, dim)), 1e3 * np.eye(rows, dim)):
        found = plots.skill_colors(skills)
        assert found.shape == (rows, 4)
        assert ((found >= 0) & (found <= 1)).all()


# ---- pictures


def is_a_picture(image: np.ndarray) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert min(image.shape[:2]) >= 200


def colors(count: int) -> np.ndarray:
    return plots.skill_colors(np.random.RandomState(0).randn(count, 2))


def draw(*paths: Path, axis: float | None = 3.0, lost: tuple[int, ...] = ()) -> np.ndarray:
    image = plots.trajectories(episodes(*paths, lost=lost), colors(len(paths)), axis)
    is_a_picture(image)
    return image


def ink(image: np.ndarray) -> int:
    """Pixels that are colored, so neither paper nor axes nor letters."""
    return int((np.ptp(image.astype(int), axis=2) > 30).sum())


@pytest.mark.parametrize("axis", [None, 3.0])
@pytest.mark.parametrize("dims", [1, 2])
def test_a_picture_shows_where_the_bodies_went(dims: int, axis: float | None) -> None:
    here: Path = [(0.0, 0.0)[:dims], (1.0, 2.0)[:dims], (2.0, 2.0)[:dims]]
    there: Path = [(0.0, 0.0)[:dims], (-1.0, 1.0)[:dims], (-2.0, 2.5)[:dims]]
    both = draw(here, there, axis=axis)
    assert ink(both) > 100
    assert not np.array_equal(both, draw(here, here, axis=axis))
    assert np.array_equal(both, draw(here, there, axis=axis))


@pytest.mark.parametrize("dims", [1, 2])
def test_a_picture_ends_where_an_episode_ends(dims: int) -> None:
    """The padding of the short one lies at the origin, and a line to it would show."""
    short: Path = [(2.0, 2.0)[:dims], (2.5, 2.0)[:dims]]
    long: Path = [(-2.0, -2.0)[:dims]] * 4
    alone: Path = [*short, *[short[-1]] * 2]
    assert abs(ink(draw(short, long)) - ink(draw(alone, long))) < 20


@pytest.mark.parametrize("dims", [1, 2])
def test_discarded_episodes_are_not_drawn(dims: int) -> None:
    here: Path = [(0.0, 0.0)[:dims], (2.0, 2.0)[:dims]]
    there: Path = [(0.0, 0.0)[:dims], (-2.0, 2.0)[:dims]]
    image = draw(here, there, lost=(1,))
    assert ink(image) > 50
    assert ink(image) < ink(draw(here, there))


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("axis", [None, 3.0])
def test_a_single_skill_is_drawn(dims: int, axis: float | None) -> None:
    assert ink(draw([(0.0, 0.0)[:dims], (2.0, 2.0)[:dims]], axis=axis)) > 50
    draw([(0.0, 0.0)[:dims], (0.0, 0.0)[:dims]], axis=axis)


@pytest.mark.parametrize("count", [10, 16, 50])
def test_one_hot_skills_are_drawn(count: int) -> None:
    table = plots.skill_colors(np.eye(count), one_hot=True)
    paths: list[Path] = [[(0.0, 0.0), (np.cos(i), np.sin(i))] for i in range(count)]
    image = plots.trajectories(episodes(*paths), table, None)
    is_a_picture(image)
    assert ink(image) > 100
    is_a_picture(plots.features(np.eye(count), table))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_representations_are_drawn(dim: int) -> None:
    points = np.random.RandomState(0).randn(4, dim)
    one, same, other = (plots.features(x, colors(4)) for x in (points, points.copy(), points + [1.0] * dim))
    is_a_picture(one)
    assert ink(one) > 500
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    is_a_picture(plots.features(points[:1], colors(1)))
