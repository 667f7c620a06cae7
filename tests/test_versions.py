"""Files of earlier and of later versions: settings that were added, settings that are gone."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import yaml
from conftest import configure, make
from runs import TINY

from csf.agents import objectives
from csf.agents.csf import CSF, CSFConfig
from csf.agents.metra import METRAConfig
from csf.backbones import backbones
from csf.config import schema
from csf.config.compose import check
from csf.config.ranges import Before
from csf.config.schema import completed, from_section
from csf.config.values import typed
from csf.errors import CheckpointError, CsfError
from csf.io import checkpoint, load, policy
from csf.io.run_dir import RunDir, read_config
from csf.run import run


@dataclasses.dataclass(frozen=True)
class Later(CSFConfig):
    """CSF's settings in a later version."""

    novel: Annotated[float, Before(0.5)]


@dataclasses.dataclass(frozen=True)
class LaterBudget(schema.Budget):
    """The budget in a later version."""

    novel: Annotated[bool, Before(True)]


def saved(folder: Path, kind: str, **more: Any) -> Path:
    """A file of CSF's present version, or of one that has more settings."""
    agent: Any = make("csf")
    config = {**dataclasses.asdict(agent.objective.cfg), **more, "backbone": dataclasses.asdict(agent.backbone.cfg)}
    tree = configure("agent=csf").tree | {"agent": config}
    facts = {"config": tree, "epoch": 3, "results": {}, "spec": dataclasses.asdict(agent.spec)}
    path = folder / (checkpoint.FULL if kind == "checkpoint" else checkpoint.POLICY).format(3)
    if kind == "checkpoint":
        checkpoint.save(path, {"agent": agent}, facts, torch.device("cpu"))
    else:
        policy.save(path, agent, facts)
    return path


@pytest.mark.parametrize("kind", ["policy", "checkpoint"])
def test_a_file_of_an_earlier_version_has_the_value_from_before_the_setting(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, kind)
    monkeypatch.setattr(CSF, "Config", Later)
    with caplog.at_level(logging.WARNING):
        agent = load.load(path)
    assert agent.objective.cfg.novel == 0.5
    assert caplog.messages == [f"agent.novel is missing in {path}, which predates it; using 0.5"]


@pytest.mark.parametrize("kind", ["policy", "checkpoint"])
def test_a_file_with_a_setting_that_this_version_lacks_is_refused_by_its_name(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, kind, novel=0.5)
    with pytest.raises(CheckpointError) as caught:
        load.load(path)
    assert str(caught.value) == f"{path} does not fit this version: this version has no setting agent.novel=0.5"


def test_a_setting_that_never_declared_its_value_before_is_named() -> None:
    node = dataclasses.asdict(make("csf").objective.cfg)
    del node["features"]
    with pytest.raises(CsfError, match=r"^agent\.features is missing$"):
        from_section(CSFConfig, node, "agent")


def test_a_runs_configuration_is_completed_when_it_is_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree = configure("agent=csf").tree
    RunDir(tmp_path, tree).close()
    monkeypatch.setattr(CSF, "Config", Later)
    monkeypatch.setattr(schema, "Budget", LaterBudget)
    now = {**tree, "agent": {**tree["agent"], "novel": 0.5}, "task": {**tree["task"], "novel": True}}
    assert read_config(tmp_path) == now
    with pytest.raises(CsfError, match=r"agent\.novel is 0\.5 there, 0\.75 here"):
        RunDir(tmp_path, {**now, "agent": {**now["agent"], "novel": 0.75}})
    caplog.clear()
    RunDir(tmp_path, now).close()
    file = tmp_path / "config.yaml"
    said = [f"{key} is missing in {file}, which predates it; using {value}" for key, value in ADDED]
    assert caplog.messages == ["; ".join(said)]
    assert yaml.safe_load(file.read_text()) == now
    caplog.clear()
    RunDir(tmp_path, now).close()
    assert caplog.messages == []
    monkeypatch.undo()  # back in the version without these settings
    with pytest.raises(
        CsfError, match=r"agent\.novel is 0\.5 there, absent here; task\.novel is True there, absent here"
    ):
        RunDir(tmp_path, tree)


ADDED = (("task.novel", True), ("agent.novel", 0.5))


@pytest.mark.parametrize("config", [{}, {"agent": None}, {"agent": {"name": "of another program"}}, {"agent": [1]}])
def test_what_is_not_known_is_left_as_it_is(config: dict[str, Any]) -> None:
    assert completed(config) == (config, {})


METRA = [*(word for word in TINY if "num_negatives" not in word), "agent=metra", "task.save_every=1"]


def test_metras_runs_from_before_its_constraint_could_be_chosen_are_continued_with_the_sum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*METRA, f"exp_dir={tmp_path}", "run_name=run"]
    assert run(check([*words, "task.epochs=1"])) == 0
    file, full = tmp_path / "run/config.yaml", tmp_path / "run/checkpoints" / checkpoint.FULL.format(1)
    tree, state = yaml.safe_load(file.read_text()), torch.load(full, weights_only=True)
    del tree["agent"]["constraint"], state["config"]["agent"]["constraint"]
    file.write_text(yaml.safe_dump(tree))
    torch.save(state, full)
    with pytest.raises(CsfError, match=r"agent\.constraint is sum there, mean here"):
        run(check([*words, "task.epochs=2", "agent.constraint=mean"]))
    assert yaml.safe_load(file.read_text()) == tree
    caplog.clear()
    assert run(check([*words, "task.epochs=2"])) == 0
    line = "agent.constraint is missing in {}, which predates it; using sum"
    assert caplog.messages == [line.format(file)]
    assert line.format(full) in capsys.readouterr().err.splitlines()


def test_every_value_before_is_one_that_its_setting_accepts() -> None:
    kinds = [registry[name].Config for registry in (objectives, backbones) for name in registry.names()]
    seen = 0
    for cls in [*kinds, schema.Budget, schema.Common]:
        before = schema._before(cls)
        seen += len(before)
        partial = dataclasses.make_dataclass("Partial", [(key, cls.__annotations__[key]) for key in before])
        partial.__module__ = cls.__module__
        typed(partial, before, "")
    assert seen >= 1
    assert schema._before(METRAConfig) == {"constraint": "sum", "whiten": False}
