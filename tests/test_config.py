"""The border between yaml and program: names, messages, the paper's values, folders, and the command line."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import NAMES, ROOT, configure

from csf import train, worlds
from csf.agents import objectives
from csf.backbones import backbones
from csf.config.compose import check, check_adaptation, points, settings
from csf.config.overrides import literal
from csf.config.schema import Adaptation, AdaptConfig, Budget, Config, General
from csf.errors import ConfigError
from csf.evaluate import Settings as Evaluation


def stems(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))


def fields(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


# ---- yaml and dataclasses


@pytest.mark.parametrize("name", NAMES)
def test_an_agents_yaml_and_its_dataclass_name_the_same_fields(name: str) -> None:
    node = configure(f"agent={name}").tree["agent"]
    assert set(node) - {"backbone"} == fields(objectives[node["name"]].Config)


@pytest.mark.parametrize("name", stems("agent/backbone"))
def test_a_backbones_yaml_and_its_dataclass_name_the_same_fields(name: str) -> None:
    node = check(["env=ant", f"agent/backbone={name}"]).tree["agent"]["backbone"]  # no preset has its say there
    assert set(node) == fields(backbones[node["name"]].Config)


@pytest.mark.parametrize("name", stems("task"))
def test_a_tasks_yaml_and_its_dataclass_name_the_same_fields(name: str) -> None:
    assert set(configure(f"task={name}").tree["task"]) == fields(Budget)


def test_the_groups_and_the_top_level_are_all_there_is() -> None:
    assert set(configure().tree) == fields(Config) - {"backbone", "tree"}


def test_the_yaml_of_adaptation_and_its_dataclasses_name_the_same_fields() -> None:
    tree = check_adaptation([]).tree
    assert set(tree) == fields(AdaptConfig) - {"backbone", "tree"}
    assert set(tree["task"]) == fields(Adaptation)


@pytest.mark.parametrize(
    "cls", [Budget, Config, General, Adaptation, AdaptConfig, *(objectives[name].Config for name in objectives.names())]
)
def test_values_live_in_yaml_only(cls: Any) -> None:
    for field in dataclasses.fields(cls):
        assert field.default is dataclasses.MISSING, field.name
        assert field.default_factory is dataclasses.MISSING, field.name


@pytest.mark.parametrize(("released", "env"), [("true", "ant"), ("true", "point"), ("false", "ant")])
def test_cic_as_released_takes_time_limits_for_terminals_everywhere(released: str, env: str) -> None:
    cfg = check(["agent=cic", f"env={env}", f"agent.released={released}"])
    assert str(cfg.task.terminal_at_limit).lower() == released
    assert str(cfg.backbone.use_terminal).lower() == released  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", stems("preset"))
def test_a_preset_belongs_to_a_method_and_an_environment_and_composes_by_itself(name: str) -> None:
    pairs = [(agent, env) for agent in NAMES for env in stems("env") if f"{agent}_{env}" == name]
    ((agent, env),) = pairs
    tree = check([f"agent={agent}", f"env={env}"]).tree
    preset = yaml.safe_load((ROOT / f"configs/preset/{name}.yaml").read_text())
    for other in (each for each in preset.pop("defaults", []) if isinstance(each, str)):
        assert contains(tree, yaml.safe_load((ROOT / f"configs/preset/{other}.yaml").read_text()))
    assert contains(tree, preset)


@pytest.mark.parametrize("name", stems("preset/all_agents"))
def test_a_preset_for_all_agents_belongs_to_a_task_and_an_environment(name: str) -> None:
    pairs = [(task, env) for task in stems("task") for env in stems("env") if f"{task}_{env}" == name]
    ((task, env),) = pairs
    tree = check([f"env={env}", f"task={task}"]).tree
    assert contains(tree, yaml.safe_load((ROOT / f"configs/preset/all_agents/{name}.yaml").read_text()))
    other = check([f"env={env}", "task=fast"]).task
    assert (other.updates_per_epoch, other.replay_size) == (100, 48_000), "another task keeps its own budget"


def contains(tree: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in tree and contains(tree[key], value) for key, value in part.items())
    return bool(tree == part)


@pytest.mark.parametrize("name", stems("env"))
def test_every_method_composes_on_every_environment(name: str) -> None:
    for agent in NAMES:
        want = "MountainCarContinuous-v0" if name == "gym" else name
        assert check([f"agent={agent}", f"env={name}"]).env["name"] == want


# ---- the paper's values

# Skill dimension by method; METRA on Kitchen has one-hot skills and a constant temperature.
SKILLS = {
    "quadruped": {"csf": 4, "metra": 4, "diayn": 50, "cic": 64, "visr": 5},
    "humanoid": {"csf": 8, "metra": 2, "diayn": 50, "cic": 64, "visr": 5},
    "kitchen": {"csf": 4, "metra": 24, "diayn": 50, "cic": 64, "visr": 5},
    "robobin": {"csf": 9, "metra": 9, "diayn": 9, "cic": 64, "visr": 5},
}
# Episodes and gradient steps per epoch, capacity of the replay buffer.
BUDGETS = {
    "quadruped": (8, 200, 300_000),
    "humanoid": (8, 200, 300_000),
    "kitchen": (8, 100, 100_000),
    "robobin": (10, 100, 300_000),
}
# Steps per episode, half the side of the square of goals (locomotion), half the side of plots.
WORLDS = {
    "quadruped": (200, 15, 15),
    "humanoid": (200, 10, 15),
    "kitchen": (50, None, None),
    "robobin": (200, None, None),
}


@pytest.mark.parametrize(("env", "method"), [(env, method) for env, row in SKILLS.items() for method in row])
def test_presets_of_image_environments_have_the_papers_values(env: str, method: str) -> None:
    cfg = check([f"agent={method}", f"env={env}"])
    task, backbone = cfg.task, cfg.backbone
    assert cfg.agent.skill_dim == SKILLS[env][method]
    assert (task.episodes_per_epoch, task.updates_per_epoch, task.replay_size) == BUDGETS[env]
    assert (task.batch_size, task.min_replay_size, task.epochs) == (256, 10_000, 3000)
    assert (task.coverage_skills, task.goals, task.terminal_at_limit) == (48, 50, False)
    assert cfg.encoder.name == "own"
    assert cfg.encoder.channels == (48, 96, 192, 384)
    discrete = (method, env) == ("metra", "kitchen")
    assert getattr(cfg.agent, "prior", "sphere") == ("one_hot" if discrete else "sphere")
    assert (cfg.agent.lr, backbone.lr) == (1e-4, 1e-4)  # type: ignore[attr-defined]
    assert backbone.alpha_lr == (0 if discrete or method == "diayn" else 1e-4)  # type: ignore[attr-defined]
    assert backbone.init_alpha == (0.1 if method == "diayn" else 0.01)  # type: ignore[attr-defined]
    settings = worlds.settings_of(env) or {}
    found = (settings["max_steps"].default, cfg.env.get("goal_range"), cfg.env["plot_range"])
    assert found == WORLDS[env]
    assert (cfg.env["renderer"], cfg.env["quality"]) == ("gl", "paper")


@pytest.mark.parametrize(("env", "goal_range"), [("quadruped_goal", 7.5), ("humanoid_goal", 5)])
def test_controllers_on_images_have_the_papers_values(env: str, goal_range: float) -> None:
    cfg = check([f"env={env}", "task=hierarchical"])
    task = cfg.task
    assert (task.episodes_per_epoch, task.updates_per_epoch, task.replay_size) == (8, 50, 300_000)
    assert (task.batch_size, task.min_replay_size, task.eval_every) == (256, 10_000, 25)
    assert (cfg.hold, cfg.env["goal_range"], cfg.backbone.init_alpha) == (25, goal_range, 0.1)  # type: ignore[attr-defined]
    settings = worlds.settings_of(env) or {}
    assert settings["max_steps"].default == 200


# ---- encoders of images


def test_encoder_is_a_group_with_channels() -> None:
    cfg = check(["env=quadruped", "encoder=shared", "encoder.channels=[4,8]"])
    assert (cfg.encoder.name, cfg.encoder.channels) == ("shared", (4, 8))
    assert cfg.run_name == "pretrain/quadruped/csf-encoder=shared-encoder.channels=[4,8]/sd000"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("encoder=both", r"encoder=both is not known; accepted: own, shared"),
        ("encoder.channels=[4,0]", r"encoder\.channels is 0; accepted: an integer of at least 1"),
        ("encoder.channels=4", r"encoder\.channels is 4; accepted: a list such as"),
        ("encoder.name=both", r"encoder\.name is 'both'; accepted: own, shared"),
    ],
)
def test_an_encoder_that_does_not_exist_is_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(["env=quadruped", word])


def test_csf_on_ant_has_the_papers_values() -> None:
    cfg = check(["agent=csf", "env=ant"])
    assert vars(cfg.task) | {"save_every": 0} == {
        "name": "pretrain",
        "epochs": 40_000,
        "episodes_per_epoch": 8,
        "updates_per_epoch": 50,
        "batch_size": 256,
        "replay_size": 1_000_000,
        "min_replay_size": 10_000,
        "terminal_at_limit": False,
        "eval_every": 500,
        "save_every": 0,  # ours
        "coverage_skills": 48,
        "goals": 50,
        "keep_critics": False,
        "keep_full": 2,  # ours, as all that concerns files
        "keep_policy_every": 1000,
        "overlap": False,
    }
    agent: Any = cfg.agent
    assert (agent.skill_dim, agent.hidden, agent.lr) == (2, (1024, 1024), 1e-4)
    assert (agent.negative_weight, agent.num_negatives) == (5.0, 256)
    assert vars(cfg.backbone) == {
        "name": "successor",
        "hidden": (1024, 1024),
        "lr": 1e-4,
        "alpha_lr": 1e-4,
        "init_alpha": 0.01,
        "target_entropy": -0.5,  # per action dimension
        "discount": 0.99,
        "tau": 0.005,
        "use_terminal": False,
    }
    assert (cfg.env["goal_range"], cfg.env["normalizer"], cfg.env["plot_range"]) == (50, "preset", 50)


def test_controllers_have_the_papers_values() -> None:
    cfg = check(["env=ant_multi_goal", "task=hierarchical"])
    assert vars(cfg.task) | {"save_every": 0} == {
        "name": "hierarchical",
        "epochs": 200_000,
        "episodes_per_epoch": 8,
        "updates_per_epoch": 50,
        "batch_size": 256,
        "replay_size": 1_000_000,
        "min_replay_size": 10_000,
        "terminal_at_limit": True,
        "eval_every": 100,
        "save_every": 0,  # ours
        "coverage_skills": 48,
        "goals": 50,
        "keep_critics": False,
        "keep_full": 2,  # ours, as all that concerns files
        "keep_policy_every": 1000,
        "overlap": False,
    }
    assert (cfg.agent.name, cfg.hold) == ("task", 25)
    assert vars(cfg.backbone) == {
        "name": "sac",
        "hidden": (1024, 1024),
        "lr": 1e-4,
        "alpha_lr": 1e-4,
        "init_alpha": 0.1,
        "target_entropy": -0.5,
        "discount": 0.99,
        "tau": 0.005,
        "use_terminal": True,
    }
    ppo = check(["env=half_cheetah_goal", "task=hierarchical_ppo"])
    assert (ppo.task.episodes_per_epoch, ppo.task.updates_per_epoch, ppo.hold) == (64, 10, 25)
    assert vars(ppo.backbone) == {
        "name": "ppo",
        "hidden": (1024, 1024),
        "lr": 1e-4,
        "discount": 0.99,
        "gae_lambda": 0.95,
        "clip": 0.2,
        "entropy_weight": 0.01,
    }


# ---- mistakes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.skil_dim=3", r"agent\.skil_dim is not known; accepted: .*lr.*\(did you mean 'skill_dim'\?\)"),
        ("+agent.skil_dim=3", r"agent\.skil_dim is not known; accepted: .*lr.*\(did you mean 'skill_dim'\?\)"),
        ("agnet.lr=1", r"^agnet\.lr is not known; accepted: .*cp_path.* \(did you mean 'agent'\?\)$"),
        ("agent.hidden=8", r"^agent\.hidden is 8; accepted: a list such as \[256,256\]$"),
        ("agent.backbone.taw=1", r"agent\.backbone\.taw is not known; .*\(did you mean 'tau'\?\)"),
        ("+agent.backbone.taw=1", r"agent\.backbone\.taw is not known; accepted: .*\(did you mean 'tau'\?\)"),
        ("task.epoch=1", r"task\.epoch is not known; accepted: .*\(did you mean 'epochs'\?\)"),
        ("+task.epoch=1", r"task\.epoch is not known; accepted: .*\(did you mean 'epochs'\?\)"),
        (
            "env.plot_rnage=1",
            r"^env\.plot_rnage is not known; accepted: .*max_steps.* \(did you mean 'plot_range'\?\)$",
        ),
        ("env.max_step=1", r"^env\.max_step is not known; accepted: .* \(did you mean 'max_steps'\?\)$"),
        ("+env.max_step=1", r"^env\.max_step is not known; .* \(did you mean 'max_steps'\?\)$"),
        ("env.render_mode=rgb_array", r"^env\.render_mode is not known; accepted: .*render_size"),
        ("env.max_steps=long", r"^env\.max_steps: Value 'long' of type 'str' could not be converted to Integer$"),
        ("sed=1", r"sed is not known; accepted: .*\(did you mean 'seed'\?\)"),
        ("+sed=1", r"sed is not known; accepted: .*\(did you mean 'seed'\?\)"),
        ("~agent.lr", r"agent\.lr: Missing mandatory value"),
        ("agent.skill_dim=two", r"agent\.skill_dim: Value 'two' of type 'str' could not be converted to Integer"),
        ("agent.skill_dim=2.5", r"agent\.skill_dim: Value '2\.5' .* could not be converted to Integer"),
        ("agent.hidden=[8,x]", r"agent\.hidden\[1\]: Value 'x' of type 'str' could not be converted to Integer$"),
        ("task.batch_size=many", r"task\.batch_size: Value 'many'"),
        ("task.batch_size=0", r"task\.batch_size is 0; accepted: an integer of at least 1"),
        ("task.replay_size=100", r"task\.min_replay_size is 160, more than task\.replay_size \(100\)"),
        ("seed=-1", r"seed is -1; accepted: an integer of at least 0"),
        ("run_name=../x", r"^run_name is \.\./x; accepted: a folder below exp_dir"),
        ("run_name=/tmp/x", r"^run_name is /tmp/x; accepted: a folder below exp_dir"),
        ("seed=4294967296", r"^seed is 4294967296; accepted: an integer of at least 0 and at most 4294967295$"),
        ("env.plot_range=0", r"^env\.plot_range is 0\.0; accepted: a number above 0, or null$"),
        ("env.plot_range=far", r"^env\.plot_range: Value 'far' of type 'str' could not be converted to Float$"),
        ("env.plot_range=inf", r"^env\.plot_range is inf; accepted: a number above 0"),
        ("agent=cfs", r"agent=cfs is not known; accepted: .*csf.*\(did you mean 'csf'\?\)"),
        ("agent/backbone=sca", r"agent/backbone=sca is not known; accepted: .*sac, successor \(did you mean 'sac'\?\)"),
        ("agent.backbone=sac", r"agent\.backbone is 'sac'; choose with agent/backbone=.*sac\|successor"),
        ("env=pont", r"env=pont is not known; accepted: .*point.*\(did you mean 'point'\?\)"),
        ("task=pretrian", r"task=pretrian is not known; accepted: .*\(did you mean 'pretrain'\?\)"),
        ("agent.name=cfs", r"unknown agent 'cfs'; known: .*\(did you mean 'csf'\?\)"),
        ("device=cdua", r"device is 'cdua'; accepted: auto, cpu, cuda \(did you mean 'cuda'\?\)"),
        ("wandb=off", r"wandb is 'off'; accepted: disabled, offline, online"),
        ("seed=1,2", r"To sweep over it, add --multirun"),
        ("=3", r"^'=3' is not understood; accepted: key=value, "),
        ("agent.lr=[", r"^'agent\.lr=\[' is not understood; accepted: key=value, "),
        ("agent.prior=a'b", r'^"agent\.prior=a\'b" is not understood; '),
        ("words", r"^'words' is not understood; "),
        ("task=3", r"^task=3 is not known; accepted: fast, .*pretrain, scratch"),
        ("agent=[1,2]", r"^agent=\[1,2\] is not known; accepted: cic, csf"),
        ("env=[ant]", r"^env=\[ant\] is not known; .*\(did you mean 'ant'\?\)"),
        ("preset=foo", r"^preset=foo is not known; accepted: csf_humanoid, "),
        ("preset/all_envs=foo", r"^preset/all_envs=foo is not known; accepted: cic$"),
        ("agent.lr=-1", r"^agent\.lr is -1\.0; accepted: a number of at least 0$"),
        ("agent.lr=nan", r"^agent\.lr is nan; "),
        ("agent.hidden=[8,0]", r"^agent\.hidden is 0; accepted: an integer of at least 1$"),
        ("agent.skill_dim=0", r"^agent\.skill_dim is 0; accepted: an integer of at least 1$"),
        ("agent.backbone.discount=2", r"^agent\.backbone\.discount is 2\.0; accepted: .* at least 0 and at most 1$"),
        ("agent.backbone.init_alpha=0", r"^agent\.backbone\.init_alpha is 0\.0; accepted: a number above 0$"),
    ],
)
def test_a_mistake_is_told_in_one_line_that_names_it(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure("agent=csf", override)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_a_task_has_no_skills() -> None:
    with pytest.raises(ConfigError, match=r"^agent\.skill_dim is 2; accepted: an integer of exactly 0$"):
        configure("agent=task", "agent.skill_dim=2")


@pytest.mark.parametrize("backbone", stems("agent/backbone"))
@pytest.mark.parametrize("name", NAMES)
def test_every_method_composes_on_every_backbone(name: str, backbone: str) -> None:
    cfg = configure(f"agent={name}", f"agent/backbone={backbone}")
    assert (cfg.agent.name, cfg.backbone.name) == (name, backbone)
    fixed = name in ("diayn", "dads", "slusd") and hasattr(cfg.backbone, "alpha_lr")
    if (name, backbone) == ("slusd", "successor"):  # refused by the agent
        return
    assert (getattr(cfg.backbone, "alpha_lr", None) == 0) == fixed


def test_a_misspelt_key_is_answered_with_the_chosen_methods_keys_alone() -> None:
    others = {key for name in objectives.names() for key in fields(objectives[name].Config)}
    others -= fields(objectives["csf"].Config)
    with pytest.raises(ConfigError) as caught:
        configure("agent=csf", "agent.skil_dim=3")
    assert not others & set(re.findall(r"\w+", str(caught.value)))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"csf"}))
def test_another_methods_setting_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"agent\.num_negatives is not known"):
        configure(f"agent={name}", "agent.num_negatives=1")


# ---- folders


def run_name(*overrides: str) -> str:
    return configure("agent=csf", *overrides).run_name


def test_a_run_is_named_by_task_environment_method_and_seed() -> None:
    assert run_name("seed=7") == "pretrain/point/csf/sd007"
    assert run_name("seed=1234") == "pretrain/point/csf/sd1234"


def test_its_name_tells_what_is_overridden_of_the_agent_and_of_nothing_else() -> None:
    words = ("task.epochs=3", "agent.negative_weight=1.0", "++agent.backbone.tau=0.1", "exp_dir=there", "threads=1")
    assert run_name(*words) == "pretrain/point/csf-backbone.tau=0.1-negative_weight=1.0/sd000"


def test_other_settings_stand_in_its_name_in_full() -> None:
    words = ("task.batch_size=16", "env.max_steps=7", "agent.lr=1e-4", "env.plot_range=null")
    name = "pretrain/point/csf-lr=0.0001-env.max_steps=7-env.plot_range=null-task.batch_size=16/sd000"
    assert run_name(*words) == name


@pytest.mark.parametrize(
    "word",
    [
        *("agent.lr=1e-3", "agent.hidden=[64,64]", "task.batch_size=128", "env.plot_range=2", "env.max_steps=20"),
        *("agent/backbone=successor", "preset=csf_point", "agent.negative_weight=5"),
        *("task.epochs=9", "task.eval_every=9", "task.save_every=9", "device=cpu", "threads=1", "wandb=offline"),
        "env.name=point",
    ],
)
def test_what_is_composed_anyhow_and_what_may_change_adds_nothing_to_its_name(word: str) -> None:
    assert run_name(word) == "pretrain/point/csf/sd000"


def test_a_default_of_the_environment_that_is_written_out_is_the_same_configuration() -> None:
    assert configure("env.max_steps=20").tree["env"] == configure().tree["env"]
    assert configure("env.max_steps=21").env["max_steps"] == 21


def test_a_name_that_is_too_long_is_cut_and_hashed() -> None:
    widths = ",".join(["1024"] * 60)
    one, other = (run_name(f"agent.hidden=[{widths},{last}]") for last in (1, 2))
    assert one != other
    for name in (one, other):
        assert max(len(part.encode()) for part in name.split("/")) <= 255
        assert name.startswith("pretrain/point/csf-hidden=[1024,1024")


CONTROLLER = ("env=point_two_goals", "task=hierarchical")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "csf"),
        (["cp_path=null"], "csf"),
        (["skills=metra"], "metra"),
        (["hold=7"], "csf-hold=7"),
        (["cp_path=exp/pretrain/point/csf/sd003"], "csf-cp_path=sd003"),
        (["cp_path=exp/pretrain/point/csf/sd003/"], "csf-cp_path=sd003"),
        (["cp_path=exp/pretrain/point/csf/sd003/checkpoints"], "csf-cp_path=sd003"),
        (["cp_path=exp/pretrain/point/csf/sd003/checkpoints/policy_000100.safetensors"], "csf-cp_path=sd003@100"),
        (["cp_path=exp/pretrain/point/csf/sd003/checkpoints/epoch_000000.pt"], "csf-cp_path=sd003@0"),
        (["exp_dir=/x", "cp_path=/x/pretrain/point/csf/sd003"], "csf-cp_path=sd003"),
    ],
)
def test_a_controllers_name_tells_its_skills(words: list[str], name: str) -> None:
    assert check([*CONTROLLER, *words]).run_name == f"hierarchical/point_two_goals/{name}/sd000"


def test_lenders_elsewhere_are_told_apart() -> None:
    paths = ["exp/pretrain/point/csf-lr=1/sd000", "exp/pretrain/point/csf/sd000", "other/sd000", "exp/*/sd000"]
    names = {check([*CONTROLLER, f"cp_path={path}"]).run_name for path in paths}
    assert len(names) == len(paths)
    assert all("/csf-cp_path=sd000" in name for name in names)


def test_plain_commands_keep_their_folders() -> None:
    assert check(["agent=csf", "env=ant", "task=pretrain"]).run_name == "pretrain/ant/csf/sd000"
    assert check(["agent=metra", "env=half_cheetah"]).run_name == "pretrain/half_cheetah/metra/sd000"
    assert check(["env=ant", "task=fast"]).run_name == "fast/ant/csf/sd000"


def test_the_former_name_of_a_recipe_is_accepted() -> None:
    assert check(["task=quick"]) == check(["task=fast"])


@pytest.mark.parametrize(("name", "whitens"), [("csf", True), ("metra", True), ("diayn", None)])
def test_the_fast_recipe_whitens_where_a_method_can(name: str, whitens: bool | None) -> None:
    assert check([f"agent={name}", "task=fast"]).tree["agent"].get("whiten") is whitens
    assert check([f"agent={name}"]).tree["agent"].get("whiten") is (None if whitens is None else False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["agent.lr=1"], ["agent.lr=2"]),
        (["agent.lr=1"], ["agent.backbone.lr=1"]),
        (["agent.hidden=[8,8]"], ["agent.hidden=[8]"]),
        (["agent/backbone=sac"], []),
        (["agent=metra"], []),
        (["agent.lr=1", "agent.lr=2"], ["agent.lr=2", "agent.lr=1"]),
    ],
)
def test_what_differs_does_not_share_a_folder(one: list[str], other: list[str]) -> None:
    assert run_name(*one) != run_name(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["agent.lr=1", "agent.skill_dim=3"], ["agent.skill_dim=3", "agent.lr=1"]),
        (["agent.lr=1", "agent.lr=2"], ["agent.lr=2"]),
        (["agent.lr=1e-4"], ["agent.lr=0.0001"]),
        (["agent.hidden=[8, 8]"], ["agent.hidden=[8,8]"]),
    ],
)
def test_what_is_the_same_shares_a_folder(one: list[str], other: list[str]) -> None:
    assert run_name(*one) == run_name(*other)


# ---- the command line


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["csf.train", *words])
    train.main()


@pytest.mark.parametrize("name", NAMES)
def test_help_lists_every_key_of_the_method(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, "--help", f"agent={name}")
    text, cfg = capsys.readouterr().out, configure(f"agent={name}")
    listed = set(re.findall(r"^  ([\w.]+)=", text, re.MULTILINE))
    for prefix, part in (("agent.", cfg.agent), ("agent.backbone.", cfg.backbone), ("task.", cfg.task)):
        assert {prefix + key for key in fields(part)} - {f"{prefix}name"} <= listed
    assert fields(General) <= listed
    unexplained = [line for line in text.partition("Keys,")[2].splitlines()[1:] if re.fullmatch(r"  [\w.]+=\S*", line)]
    assert unexplained == []
    assert {f"env.{key}" for key in ("goal_range", "max_steps", "threads", "normalizer", "plot_range")} <= listed
    assert "encoder.channels" in listed
    for group in ("agent", "agent/backbone", "encoder", "env", "task"):
        assert re.search(rf"^  {group} +{', '.join(stems(group))}$", text, re.MULTILINE)


def test_help_says_what_a_key_means(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--help", "agent=csf")
    text = capsys.readouterr().out
    assert re.search(r"^  agent\.skill_dim=2 +Z$", text, re.MULTILINE)
    assert re.search(r"^  env\.max_steps=200 +Number of steps per episode\.$", text, re.MULTILINE)


def test_what_help_shows_can_be_given_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--help", "env=point")
    words = re.findall(r"^  ((?:agent|task)\.\S+=\S+)", capsys.readouterr().out, re.MULTILINE)
    assert len(words) > 20
    kept, again = configure().tree, configure(*words).tree
    assert {key: again[key] for key in ("agent", "task")} == {key: kept[key] for key in ("agent", "task")}


def test_version_prints_versions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--version")
    found = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert {"csf", "python", "torch", "numpy", "mujoco"} <= set(found)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", found["csf"])


def test_flags_may_stand_before_overrides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--cfg", "job", "--resolve", "seed=3", "env=point")
    tree = yaml.safe_load(capsys.readouterr().out)
    assert (tree["seed"], tree["env"]["name"], tree["run_name"]) == (3, "point", "pretrain/point/csf/sd003")


@pytest.mark.parametrize("words", [["--help", "agent.skil_dim=3"], ["agent.skil_dim=3"]])
def test_a_mistake_ends_with_exit_code_1_and_one_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: agent\.skil_dim is not known; [^\n]*$"):
        command(monkeypatch, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["exp/csf-hidden=[8,8]/sd000", "exp/*=4/sd[0-9]*", "exp/plain", "exp/a b(c"])
def test_a_path_needs_no_quotes_of_hydras(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of runs have what its grammar does not take: the command line of a shell is quoted for the shell alone."""
    words = ["env=point_two_goals", "task=hierarchical", f"cp_path={path}", f"exp_dir={path}"]
    command(monkeypatch, *words, "--cfg", "job")
    tree = yaml.safe_load(capsys.readouterr().out)
    assert (tree["cp_path"], tree["exp_dir"]) == (path, path)


def test_quoted_paths_other_settings_and_a_sweep_over_paths_are_left_to_hydra() -> None:
    words = ["cp_path='a=b'", 'cp_path="a=[b"', "agent.lr=1=2", "seed=0,1", "~env.plot_range", "-m"]
    assert literal(words) == words
    sweep = ["cp_path=choice(a,b)"]
    assert literal(sweep, sweep=True) == sweep


@pytest.mark.parametrize("key", ["exp_dir", "run_name", "cp_path"])
@pytest.mark.parametrize(
    "value",
    ["1e5", "1_000", "true", "null_", "a,b", "runs of Bob's", 'a"b', 'it\'s "so"', "back\\", "choice(a,b)", "a=b:c"],
)
def test_names_and_paths_are_taken_as_they_are_written(key: str, value: str) -> None:
    words = ["env=point_two_goals", "task=hierarchical"]
    assert check([*words, f"{key}={value}"]).tree[key] == value


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize("key", ["exp_dir", "run_name"])
def test_an_empty_name_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} is empty; accepted: the name of a folder$"):
        configure(f"{key}={value}")


def test_the_home_of_nobody_is_a_folder_of_that_name() -> None:
    assert check([*CONTROLLER, "exp_dir=~nobody_here/x", "cp_path=~nobody_here/y"]).exp_dir == Path("~nobody_here/x")
    assert settings(Evaluation, "evaluate", ["exp_dir=~nobody_here"], []).exp_dir == Path("~nobody_here")


@pytest.mark.parametrize("value", ["", "null"])
def test_cp_path_may_be_null(value: str) -> None:
    assert check(["env=point_two_goals", "task=hierarchical", f"cp_path={value}"]).cp_path is None


def test_the_home_folder_is_what_it_is_to_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = check(["env=point_two_goals", "task=hierarchical", "exp_dir=~/runs", "cp_path=~/skills"])
    assert (cfg.exp_dir, cfg.cp_path) == (tmp_path / "runs", str(tmp_path / "skills"))
    assert cfg.tree["exp_dir"] == str(tmp_path / "runs")
    assert settings(Evaluation, "evaluate", ["exp_dir=~/runs"], []).exp_dir == tmp_path / "runs"


def test_a_word_that_is_not_utf_8_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: 'exp_dir=caf\\udce9' is not UTF-8; accepted: [^\n]*$"):
        command(monkeypatch, "env=point", os.fsdecode(b"exp_dir=caf\xe9"))


def test_a_sweep_cannot_be_shown_as_one_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: --foo is not understood; accepted: key=value, -m, "):
        command(monkeypatch, "env=point", "--foo")
    with pytest.raises(SystemExit, match=r"^error: -m runs every point of a sweep, --cfg shows one"):
        command(monkeypatch, "-m", "--cfg", "job")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent.skil_dim=2,3"], r"agent\.skil_dim is not known; .*\(did you mean 'skill_dim'\?\)"),
        (["seed=0,1", "task.epoch=2"], r"task\.epoch is not known; .*\(did you mean 'epochs'\?\)"),
        (["agent=csf,mtera"], r"agent=mtera is not known; .*\(did you mean 'metra'\?\)"),
        (["agent.lr=1e-3,-1"], r"agent\.lr is -1\.0; accepted: a number of at least 0"),
        (["seed=0,["], r"'seed=.*' is not understood; .*"),
        (["env.max_step=2,3"], r"env\.max_step is not known; .*\(did you mean 'max_steps'\?\)"),
        (["exp_dir=/dev/null/x"], r"cannot use the run folder /dev/null/x/pretrain/point/csf/sd000: Not a directory"),
        ([f"run_name={'x' * 300}"], rf"cannot use the run folder exp/{'x' * 300}: File name too long"),
    ],
)
@pytest.mark.parametrize("sweep", ["-m", "seed=0"])
def test_a_sweep_tells_a_mistake_as_a_single_run_does(
    sweep: str, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if sweep != "-m":  # the last point of the sweep
        words = [f"{key}={value.rpartition(',')[2]}" for key, _, value in (word.partition("=") for word in words)]
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, sweep, "env=point", "threads=1", *words)
    assert re.fullmatch(f"error: {message}", str(ended.value)), ended.value
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_every_value_of_a_sweep_is_checked_once_and_two_seeds() -> None:
    found = [(cfg.seed, cfg.agent.lr, cfg.task.goals) for cfg in points(["env=point", "seed=range(0,50)", *SWEEP])]
    assert found == [(0, 0.1, 1), (1, 0.1, 1), (0, 0.2, 1), (0, 0.1, 2), (0, 0.1, 3)]


SWEEP = ["agent.lr=0.1,0.2", "task.goals=choice(1,2,3)"]


def test_a_sweep_over_all_choices_of_a_group_is_expanded() -> None:
    assert [cfg.agent.name for cfg in points(["agent=glob(*)", "env=point"])] == NAMES


@pytest.mark.long
def test_a_sweep_writes_under_exp_dir_alone_and_where_single_runs_write(tmp_path: Path) -> None:
    """One sweep; then its last point as a single run, which finds itself finished. No two points share a folder."""
    here, exp = tmp_path / "here", tmp_path / "runs of Bob's, 1e5"
    here.mkdir()
    small = ["env=point", "task.epochs=1", "task.coverage_skills=2", "task.goals=2", "agent.lr=1e-4", "threads=1"]

    def launch(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        line = [sys.executable, "-m", "csf.train", *words, *small, f"exp_dir={exp}"]
        done = subprocess.run(line, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stderr

    launch("-m", "seed=0,1", "task.batch_size=16,32")
    method = exp / "pretrain/point/csf-lr=0.0001-task.batch_size={}-task.coverage_skills=2-task.goals=2/sd00{}"
    points = {Path(str(method).format(size, seed)) for size in (16, 32) for seed in (0, 1)}
    assert {path.parent for path in exp.rglob("metrics.jsonl")} == points
    assert {path.name for path in exp.iterdir()} <= {"pretrain", "multirun.yaml"}
    assert f"already finished: 1 of 1 epochs; results are in {str(method).format(32, 1)}" in launch(
        "seed=1", "task.batch_size=32"
    )
    assert not list(here.iterdir()), "something was written into the working directory"
    assert not list(exp.rglob(".hydra"))
