"""Sessions of csf play, without a browser: skills, goals, checkpoints, controllers, and what is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, make

from csf.errors import CheckpointError, ConfigError, SamplerError
from csf.io import checkpoint, policy
from csf.io.load import read
from csf.play import MISSING
from csf.play.goals import Goals
from csf.play.session import KEPT, Session
from csf.play.skills import Repertoire, angle, circle
from csf.play.source import Source
from csf.worlds import make_worlds

FORMATS = ROOT / "tests/golden/formats"
CPU = torch.device("cpu")


def opened(path: Path, count: int = 4) -> Session:
    return Session(Source(str(path), CPU, 1), count, 0)


@pytest.fixture
def session() -> Session:
    return opened(FORMATS / "csf")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with policies of three epochs."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    folder.mkdir()
    about, agent = read(FORMATS / "csf/checkpoints/policy_000002.safetensors")
    for epoch in (1, 2, 3):
        policy.save(folder / checkpoint.POLICY.format(epoch), agent, {**about, "epoch": epoch})
        with torch.no_grad():
            for weights in agent.parameters():
                weights.mul_(0.9)  # as if it had learned
    return folder.parent


def test_skills_of_the_circle_are_spread_evenly(session: Session) -> None:
    degrees = sorted(round(np.degrees(angle(skill))) % 360 for skill in session.skill)
    assert degrees == [0, 90, 180, 270]


@pytest.mark.parametrize(
    ("prior", "dim", "first"),
    [("one_hot", 3, [0, 1, 0]), ("sphere", 3, [0, 1, 0]), ("box", 2, [0, 1]), ("gaussian", 2, [0, 1.5])],
)
def test_next_visits_every_skill_once_and_returns(prior: str, dim: int, first: list[float]) -> None:
    repertoire = Repertoire(make("csf", f"agent.skill_dim={dim}"))
    repertoire.prior = prior  # type: ignore[assignment]
    start = np.eye(dim, dtype=np.float32)[0]
    found = [start]
    while not np.allclose(nxt := repertoire.after(found[-1]), found[0]) and len(found) < 20:
        found.append(nxt / np.linalg.norm(nxt) if prior == "gaussian" else nxt)
        if np.allclose(found[-1], start):
            found.pop()
            break
    assert len(found) == (dim if prior == "one_hot" else 2 * dim)
    assert len({tuple(np.round(skill, 3)) for skill in found}) == len(found)


def test_next_on_the_circle_is_a_turn_of_45_degrees(session: Session) -> None:
    before = angle(session.skill[1])
    session.advance([1])
    assert angle(session.skill[1]) == pytest.approx(before + np.pi / 4)


@pytest.mark.parametrize("values", [[1.0], [np.nan, 1.0], [np.inf, 0.0], [0.0, 0.0], "east", None, [[1.0, 0.0]]])
def test_a_skill_that_is_none_is_refused(session: Session, values: object) -> None:
    before = session.skill.copy()
    with pytest.raises(ConfigError, match=r"skill is .*; accepted: 2 finite numbers, not all 0"):
        session.pick([0], values)
    assert (session.skill == before).all()


def test_a_picked_skill_is_normalized_and_used(session: Session) -> None:
    session.pick([0, 2], [3.0, 4.0])
    session.step()
    np.testing.assert_allclose(session.used[[0, 2]], [[0.6, 0.8]] * 2)
    assert not np.allclose(session.used[1], [0.6, 0.8])


def test_bodies_move_as_their_skills_say_in_a_plain_loop(session: Session) -> None:
    worlds = make_worlds(session.source.config["env"], session.count)
    obs, _ = worlds.reset(seed=0)
    for _ in range(3):
        session.step()
        action = session.source.actor.act(torch.from_numpy(obs), torch.from_numpy(session.skill), True)
        obs, *_ = worlds.step(action.numpy())
    np.testing.assert_array_equal(session.obs, obs)


def test_sampled_actions_differ_from_the_mode(session: Session) -> None:
    session.step()
    mode = session.coord.copy()
    session.reset()
    session.deterministic = False
    session.step()
    assert not np.allclose(session.coord, mode)


def test_a_goal_is_followed_with_the_inferred_skill_until_it_is_removed(session: Session) -> None:
    session.aim([1, 3], [0.5, -0.5])
    session.step()
    actor = session.source.actor
    goal, _ = session.worlds.goal_at([0.5, -0.5])
    inferred = actor.goal_skill(np.zeros((1, 2), np.float32), goal[None])
    assert inferred is not None
    np.testing.assert_allclose(session.used[[1, 3]], np.tile(inferred.numpy(), (2, 1)), atol=1e-6)
    np.testing.assert_array_equal(session.used[[0, 2]], session.skill[[0, 2]])
    session.pick([1], [1.0, 0.0])
    session.step()
    assert session.goals.active.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(session.used[1], [1.0, 0.0])


def test_skills_are_those_in_use_also_between_two_steps(session: Session) -> None:
    session.aim([1], [0.5, -0.5])
    inferred = session.used.copy()
    assert not np.allclose(inferred[1], session.skill[1])
    session.reset()
    np.testing.assert_allclose(session.used, inferred, atol=1e-6)
    session.remove_goals([1])
    np.testing.assert_array_equal(session.used, session.skill)


def test_measures_are_those_of_the_environment_since_the_goal_was_set() -> None:
    worlds = make_worlds({"name": "point"}, 2)
    goals = Goals(worlds, 2)
    path = np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [2.0, 0.0]])
    goals.set([0], [1.0, 0.0], np.tile(path[1], (2, 1)))
    for place in path[2:]:
        goals.moved(np.tile(place, (2, 1)), KEPT)
    expected = {"distance": 1.0, "hit_0.3": 1.0, "end_0.3": 0.0, "staying_0.3": 0.5}
    assert goals.measures() == pytest.approx(expected)


def test_worlds_whose_goals_were_set_at_different_times_are_averaged() -> None:
    worlds = make_worlds({"name": "point"}, 2)
    goals = Goals(worlds, 2)
    goals.set([0], [0.0, 0.0], np.zeros((2, 2)))
    goals.moved(np.zeros((2, 2)), KEPT)
    goals.set([1], [5.0, 0.0], np.zeros((2, 2)))
    goals.moved(np.zeros((2, 2)), KEPT)
    assert goals.measures()["hit_0.3"] == 0.5
    assert goals.measures()["distance"] == 2.5


@pytest.mark.parametrize("goal", [[1.0], [np.nan, 0.0], [np.inf, 0.0], "fridge"])
def test_a_goal_that_is_none_is_refused(session: Session, goal: str | list[float]) -> None:
    with pytest.raises(ConfigError, match="accepted"):
        session.aim([0], goal)
    assert not session.goals.active.any()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("dads", "agent=dads has no rule that turns a goal into a skill"), ("metra", None)],
)
def test_goals_are_off_with_a_reason(name: str, reason: str | None) -> None:
    session = opened(FORMATS / f"policies/{name}.safetensors")
    assert session.goals_off == reason
    if reason:
        with pytest.raises(ConfigError, match=reason):
            session.aim([0], [1.0, 0.0])


@pytest.mark.parametrize("name", ["cic", "dads", "diayn", "metra", "metra_ppo", "visr", "controller_discrete"])
def test_every_method_plays(name: str, tmp_path: Path) -> None:
    path = FORMATS / f"policies/{name}.safetensors"
    if name.startswith("controller"):
        skills = policy.describe(path)["config"]["cp_path"]
        if not Path(skills).is_file():
            pytest.skip(f"the skills of {name} are not among the files")
    session = opened(path)
    for _ in range(3):
        session.step()
    assert np.isfinite(session.coord).all()
    assert session.colors().shape == (4, 3)


@pytest.mark.parametrize("name", ["controller", "controller_ppo"])
def test_a_controller_chooses_a_skill_at_every_decision(name: str) -> None:
    session = opened(FORMATS / name)
    session.deterministic = False
    hold = session.source.hold
    chosen = []
    for _ in range(2 * hold):
        session.step()
        chosen.append(session.used.copy())
    for first in (0, hold):
        assert all((row == chosen[first]).all() for row in chosen[first : first + hold])
    assert (chosen[0] != chosen[hold]).any()
    assert session.target is None or session.target.shape == (4, 2)
    with pytest.raises(ConfigError, match="the controller chooses the skills"):
        session.pick([0], [1.0, 0.0])
    assert session.goals_off == "the controller chooses the skills"


def test_other_checkpoints_have_the_same_skills_and_initial_states(run: Path) -> None:
    session = opened(run)
    epochs = list(session.source.kept())
    assert session.source.epoch == epochs[-1]
    assert len(epochs) > 1
    session.sample([0, 1, 2, 3])
    skill, start = session.skill.copy(), session.obs.copy()
    session.step()
    session.open_epoch(epochs[0])
    assert session.source.epoch == epochs[0]
    np.testing.assert_array_equal(session.skill, skill)
    np.testing.assert_array_equal(session.obs, start)
    moved = session.coord.copy()
    session.step()
    moved = session.coord - moved
    session.open_epoch(epochs[1])
    before = session.coord.copy()
    session.step()
    assert not np.allclose(session.coord - before, moved), "this is another policy"


def test_a_checkpoint_that_its_run_has_deleted_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    session = opened(copy)
    first = next(iter(session.source.kept()))
    for file in (copy / "checkpoints").glob(f"*{first:06d}*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=f"epoch {first} has no checkpoint; accepted: "):
        session.open_epoch(first)
    session.step()


@pytest.mark.parametrize("count", [0, 33, -1, True, 2.5])
def test_a_number_of_bodies_that_is_none_is_refused(session: Session, count: int) -> None:
    with pytest.raises(ConfigError, match=r"bodies is .*; accepted: an integer of at least 1 and at most 32"):
        session.resize(count)
    session.step()


def test_the_number_of_bodies_changes(session: Session) -> None:
    session.aim([0], [1.0, 0.0])
    session.resize(32)
    session.step()
    assert session.skill.shape == (32, 2)
    assert not session.goals.active.any()


class Diverging:
    """Worlds of which one diverges at its second step."""

    def __init__(self, worlds: object) -> None:
        self.worlds, self.steps = worlds, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.worlds, name)

    def step(self, actions: np.ndarray) -> tuple[object, ...]:
        self.steps += 1
        obs, reward, terminated, truncated, infos = self.worlds.step(actions)  # type: ignore[attr-defined]
        return (
            obs,
            reward,
            terminated,
            truncated,
            infos | {"diverged": np.array([False, self.steps == 2, False, False])},
        )


def test_a_diverged_world_says_so_and_starts_again_alone(session: Session) -> None:
    session.worlds = Diverging(session.worlds)  # type: ignore[assignment]
    session.step()
    assert not session.notice
    session.step()
    assert session.notice.startswith("body 2: the simulation diverged at step 2")
    np.testing.assert_array_equal(session.coord[1], 0.0)
    assert np.abs(session.coord[[0, 2, 3]]).min() > 0
    assert session.joined.tolist() == [True, False, True, True]


def test_a_simulation_that_cannot_continue_is_one_line(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from envs import WorldError

    def fail(actions: np.ndarray) -> None:
        raise WorldError("MuJoCo cannot continue: no memory")

    monkeypatch.setattr(session.worlds, "step", fail)
    with pytest.raises(SamplerError, match="env=point: MuJoCo cannot continue: no memory"):
        session.step()


def test_a_bug_keeps_its_traceback(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.worlds, "step", lambda actions: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        session.step()


def test_an_episode_ends_after_its_last_step(session: Session) -> None:
    for _ in range(session.worlds.max_steps):
        assert not session.ended
        session.step()
    assert session.ended
    session.reset()
    assert session.time == 0
    assert not session.ended


def test_the_message_names_the_packages_of_the_extra() -> None:
    found = re.search(r'"play": \[(.*)\]', (ROOT / "setup.py").read_text())
    assert found
    assert MISSING.endswith(": pip install " + found[1].replace('", "', "' '").replace('"', "'"))


def test_angles_are_in_a_full_turn() -> None:
    angles = np.array([0.0, 1.0, 3.0, 5.0])
    assert [angle(point) for point in circle(angles)] == pytest.approx(angles, abs=1e-6)
