"""From a file to an agent that acts: which file is meant, and that what comes out is what was saved."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NAMES, ROOT, SMALL, SPEC, batch, configure, make
from runs import different

import csf
from csf.agents import Agent
from csf.errors import CheckpointError, ConfigError, MissingDependency
from csf.io import checkpoint, files, packaged, policy
from csf.io.load import choose, find, load, open_newest, read, run_of


def facts(name: str, *overrides: str, env: str = "point") -> dict[str, Any]:
    tree = configure(f"agent={name}", *SMALL, *overrides).tree
    tree["env"]["name"] = env
    spec = dataclasses.asdict(SPEC)
    return {
        "epoch": 3,
        "env_steps": 60,
        "results": {"eval/coverage": 7.0},
        "config": tree,
        "spec": spec,
        "versions": {},
    }


def trained(name: str, *overrides: str) -> Agent:
    agent = make(name, *overrides)
    agent.update(batch(agent))
    return agent.eval()


def save(folder: Path, epoch: int, kinds: str, agent: Agent | None = None, env: str = "point") -> Path:
    """Files of an epoch in a run's folder: "p"olicy, "f"ull; returns the policy's path, or the full one's."""
    inside = folder / "checkpoints"
    inside.mkdir(parents=True, exist_ok=True)
    agent = agent or make("csf")
    told = facts(agent.objective.cfg.name, env=env) | {"epoch": epoch}
    paths = {"p": inside / checkpoint.POLICY.format(epoch), "f": inside / checkpoint.FULL.format(epoch)}
    if "f" in kinds:
        checkpoint.save(paths["f"], {"agent": agent}, told, torch.device("cpu"))
    if "p" in kinds:
        policy.save(paths["p"], agent, told)
    return paths[kinds[0]]


def age(path: Path, seconds: int) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


# ---- what comes out


@pytest.mark.parametrize("kind", ["p", "f"])
@pytest.mark.parametrize("name", NAMES)
def test_an_agent_acts_as_the_one_that_was_saved(name: str, kind: str, tmp_path: Path) -> None:
    agent = trained(name)
    again = csf.load(save(tmp_path / "run", 3, kind, agent))
    obs, goal = torch.randn(7, *SPEC.obs_shape), torch.randn(7, *SPEC.obs_shape)
    torch.manual_seed(0)
    skill = agent.sample_skills(7)
    torch.manual_seed(0)
    assert torch.equal(again.sample_skills(7), skill)
    assert torch.equal(again.act(obs, skill, True), agent.act(obs, skill, True))
    mine, theirs = again.goal_skill(obs, goal), agent.goal_skill(obs, goal)
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert torch.equal(mine, theirs)
    assert again.spec == SPEC
    assert not again.training


@pytest.mark.parametrize("kind", ["p", "f"])
def test_loading_leaves_the_random_state_as_it_was(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "run", 3, kind)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    csf.load(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "settings",
    [["agent.prior=one_hot", "agent.skill_dim=5"], ["agent/backbone=ppo"]],
    ids=lambda words: words[0],
)
def test_settings_that_change_the_networks_are_in_the_file(settings: list[str], tmp_path: Path) -> None:
    agent = make("metra", *settings)
    path = tmp_path / "policy.safetensors"
    policy.save(path, agent, facts("metra", *settings))
    again, skill = load(path), agent.sample_skills(4)
    obs = torch.randn(4, *SPEC.obs_shape)
    assert torch.equal(again.act(obs, skill, True), agent.act(obs, skill, True))


@pytest.mark.parametrize("kind", ["p", "f"])
def test_a_file_tells_of_itself_without_its_weights(kind: str, tmp_path: Path) -> None:
    told = read(save(tmp_path / "run", 3, kind))[0]
    assert (told["epoch"], told["config"]["agent"]["name"], told["results"]) == (3, "csf", {"eval/coverage": 7.0})
    assert {"parts", "rng"}.isdisjoint(told)


@pytest.mark.parametrize("config", [{}, {"agent": {"name": "csf"}}, None, [1]])
def test_a_file_that_does_not_say_what_made_it_is_refused(config: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    policy.save(path, make("csf"), facts("csf") | {"config": config})
    with pytest.raises(CheckpointError, match=rf"^{path} does not name its agent and environment"):
        read(path)


def test_neither_hydra_nor_an_environment_is_needed(tmp_path: Path) -> None:
    path = save(tmp_path / "run", 3, "p")
    code = (
        f"import csf, sys; csf.load({str(path)!r}); print([m for m in ('hydra', 'mujoco', 'envs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_a_full_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"agent": make("csf", "agent.hidden=[8]")}, facts("csf"), torch.device("cpu"))
    with pytest.raises(CheckpointError, match=rf"^{path} does not fit this version: .+") as raised:
        load(path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["p", "f"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"config": {"agent": {"name": "csf"}, "env": {"name": "ant"}}},
        {"config": {"agent": {"name": "csf", "backbone": "sac"}, "env": {"name": "ant"}}},
        {"spec": None},
        {"spec": dataclasses.asdict(SPEC) | {"obs_shape": []}},
    ],
)
def test_a_file_that_tells_what_nothing_can_be_made_of_is_refused(
    wrong: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    path, agent = tmp_path / {"p": "a.safetensors", "f": "a.pt"}[kind], make("csf")
    told = facts("csf") | wrong
    if kind == "p":
        policy.save(path, agent, told)
    else:
        checkpoint.save(path, {"agent": agent}, told, torch.device("cpu"))
    with pytest.raises(CheckpointError, match=rf"^{path} does not fit this version: .+") as raised:
        load(path)
    assert len(str(raised.value).splitlines()) == 1


# ---- which file


def test_a_run_means_its_latest_policy(tmp_path: Path) -> None:
    run = tmp_path / "run"
    paths = [save(run, epoch, "pf") for epoch in (1, 3, 2)]
    assert find(run) == find(run / "checkpoints") == paths[1]
    assert run_of(find(run)) == run
    assert find(paths[0]) == paths[0]


def test_without_a_policy_it_means_the_latest_full_state(tmp_path: Path) -> None:
    paths = [save(tmp_path / "run", epoch, "f") for epoch in (1, 2)]
    assert find(tmp_path / "run") == paths[1]


def test_a_folder_of_runs_and_a_pattern_mean_the_one_last_written(tmp_path: Path) -> None:
    old, new = save(tmp_path / "sd000", 9, "p"), save(tmp_path / "sd001", 1, "p")
    age(old, 60)
    assert find(tmp_path) == find(tmp_path / "sd*") == find(f"{tmp_path}/*/checkpoints/policy_*.safetensors") == new
    assert find(tmp_path / "*0") == old


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "no such file or folder; accepted: a run's folder, a policy file, a full checkpoint, a pattern"),
        ("no*where", "no such file or folder; accepted: "),
        ("empty", "holds neither a policy file nor a full checkpoint; accepted: "),
    ],
)
def test_what_is_not_there_is_named(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError) as raised:
        find(tmp_path / name)
    assert str(raised.value).startswith(f"cp_path={tmp_path / name}")
    assert reason in str(raised.value)


def test_the_newest_run_is_sought_by_what_its_files_say(tmp_path: Path) -> None:
    mine = save(tmp_path / "a/whatever", 5, "p", make("csf"))
    younger = [
        save(tmp_path / "b", 9, "p", make("metra")),
        save(tmp_path / "c", 9, "p", make("csf"), env="ant"),
        save(tmp_path / "d", 9, "f", make("csf")),
    ]
    damaged = tmp_path / "e/checkpoints" / checkpoint.POLICY.format(9)
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no policy")
    age(mine, 60)
    assert choose(tmp_path, "csf", "point")[0] == mine
    assert choose(tmp_path, "metra", "point")[0] == younger[0]
    assert choose(tmp_path, "csf", "ant")[0] == younger[1]


def test_the_newest_of_nothing_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    message = (
        rf"^no run of agent=csf on env=ant under {tmp_path}/ has a policy file; "
        "train one: csf train agent=csf env=ant, or select one with cp_path=$"
    )
    with pytest.raises(CheckpointError, match=message):
        choose(tmp_path, "csf", "ant")


def test_skills_are_those_of_plain_settings_and_the_same_seed(tmp_path: Path) -> None:
    """Before the newest."""
    made = {}
    for number, (variant, seed) in enumerate([("", 1), ("", 0), ("-lr=0.1", 1), ("-lr=0.1", 0)]):
        agent, told = make("csf"), facts("csf")
        told["config"] |= {"variant": variant, "seed": seed}
        folder = tmp_path / f"csf{variant}/sd{seed:03d}/checkpoints"
        folder.mkdir(parents=True)
        made[variant, seed] = folder / checkpoint.POLICY.format(3)
        policy.save(made[variant, seed], agent, told)
        age(made[variant, seed], 100 - number)
    path, others = choose(tmp_path, "csf", "point", seed=1)
    assert path == made["", 1]
    assert others == [made["", 0], made["-lr=0.1", 1], made["-lr=0.1", 0]]
    assert choose(tmp_path, "csf", "point", seed=7)[0] == made["", 0], "the one last written"
    assert choose(tmp_path, "csf", "point")[0] == made["-lr=0.1", 0]
    made["", 1].unlink()
    made["", 0].unlink()
    assert choose(tmp_path, "csf", "point", seed=1)[0] == made["-lr=0.1", 1]


# ---- links


@pytest.mark.parametrize("link", ["exp", "exp/run", "exp/run/checkpoints"])
@pytest.mark.parametrize("kind", ["p", "f"])
def test_what_is_a_link_is_found(link: str, kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "exp/run", 3, kind)
    (tmp_path / link).rename(tmp_path / "elsewhere")
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    for named in (tmp_path / "exp", tmp_path / "exp/run", path, tmp_path / "exp/*/checkpoints"):
        assert find(named) == path
    if kind == "p":
        assert choose(tmp_path / "exp", "csf", "point")[0] == path


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    path = save(tmp_path / "run", 3, "p")
    (tmp_path / "run/again").symlink_to(tmp_path)
    (tmp_path / "run/self").symlink_to("self")
    assert find(tmp_path) == path
    assert files.walk(tmp_path, "policy_*") == [path]


# ---- other processes


@pytest.mark.parametrize("kind", ["p", "f"])
def test_if_the_run_deletes_the_file_the_newest_is_taken(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save(tmp_path / "run", 3, kind)
    found = iter([old])

    def stale(cp_path: str | Path) -> Path:
        if path := next(found, None):
            path.unlink()
            save(tmp_path / "run", 4, kind)
            return path
        return find(cp_path)

    monkeypatch.setattr("csf.io.load.find", stale)
    path, told, _ = open_newest(tmp_path / "run")
    assert (path.name[-20:], told["epoch"]) == (old.name.replace("3", "4")[-20:], 4)


def test_a_policy_that_is_deleted_while_it_is_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its header and its tensors are of one file, opened once."""
    path, check = save(tmp_path / "run", 3, "p", trained("csf")), policy.check_origin
    expected = policy.load(path)[1]

    def delete(where: Path, about: Any) -> None:
        check(where, about)
        where.unlink()

    monkeypatch.setattr(policy, "check_origin", delete)
    assert different(policy.load(path)[1].policy_state(), expected.policy_state()) == []


def test_a_policy_that_is_gone_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "run", 3, "p")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"^no policy file {path}$"):
        policy.load(path)


# ---- critics


def test_critics_are_kept_on_request(tmp_path: Path) -> None:
    agent = trained("csf")
    for critics in (True, False):
        path = tmp_path / f"{critics}.safetensors"
        policy.save(path, agent, facts("csf"), critics)
        assert policy.describe(path)["critics"] is critics
        again = csf.load(path)
        same = different(again.backbone.state_dict(), agent.backbone.state_dict()) == []
        assert same is critics
        assert different(again.policy_state(), agent.policy_state()) == []


# ---- names and folders of others


def test_a_path_that_is_not_utf_8_is_told_in_one_line(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"^the path .* is not UTF-8 under this locale; accepted: ") as raised:
        load(folder)
    assert len(str(raised.value).splitlines()) == 1


class Hub:
    """What csf uses of huggingface_hub."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[Any]()

    def snapshot_download(self, *words: object, **more: object) -> str:
        self.asked.append((words, more))
        return str(self.folder)


def exported(folder: Path, agent: Agent) -> Path:
    folder.mkdir(parents=True)
    policy.save(folder / "policy.safetensors", agent, facts("csf"))
    policy.save(folder / "skills.safetensors", make("csf"), facts("csf"))
    return folder


def test_a_folder_that_was_exported_loads(tmp_path: Path) -> None:
    agent = trained("csf")
    assert different(csf.load(exported(tmp_path / "hub", agent)).policy_state(), agent.policy_state()) == []


@pytest.mark.parametrize("cache", [False, True], ids=["files", "cache"])
def test_a_policy_on_the_hub_loads(cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a cache, where files are links to blobs."""
    agent, folder = trained("csf"), exported(tmp_path / "models--me--ant/snapshots/abc", trained("csf"))
    policy.save(folder / "policy.safetensors", agent, facts("csf"))
    if cache:
        (tmp_path / "models--me--ant/blobs").mkdir()
        (folder / "policy.safetensors").rename(tmp_path / "models--me--ant/blobs/123")
        (folder / "policy.safetensors").symlink_to("../../blobs/123")
    client = Hub(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    for address, revision in (("hf://me/ant", None), ("hf://me/ant@v1", "v1")):
        assert different(csf.load(address).policy_state(), agent.policy_state()) == []
        words, more = client.asked.pop()
        assert (words, more["revision"]) == (("me/ant",), revision)
        assert "*.safetensors" in more["allow_patterns"]


def test_a_downloaded_link_to_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = save(tmp_path / "run", 3, "p")
    for folder in (tmp_path / "hub", tmp_path / "models--me--ant/snapshots/abc"):
        folder.mkdir(parents=True)
        (folder / "policy.safetensors").symlink_to(secret)
        monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(folder))
        with pytest.raises(CheckpointError, match=rf"is a link out of the downloaded folder, to {secret}"):
            csf.load("hf://me/ant")


def test_mistakes_with_the_hub_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("hf://me", "hf://me/ant/more", "hf://me/../ant", "hf://"):
        with pytest.raises(CheckpointError, match=r"is not understood; accepted: hf://USER/NAME"):
            csf.load(address)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"^hf://me/ant needs .*: pip install huggingface_hub$"):
        csf.load("hf://me/ant")
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(tmp_path))
    with pytest.raises(CheckpointError, match=r"^hf://me/ant has no policy\.safetensors"):
        csf.load("hf://me/ant")

    class Offline(Hub):
        def snapshot_download(self, *words: object, **more: object) -> str:
            raise ValueError("no network\nand more")

    monkeypatch.setitem(sys.modules, "huggingface_hub", Offline(tmp_path))
    with pytest.raises(CheckpointError, match=r"^cannot download hf://me/ant: no network$"):
        csf.load("hf://me/ant")
