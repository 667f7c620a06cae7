"""Who may import whom, and who may name what: the house's floors, held without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from conftest import ROOT

# A part may import itself and what is listed here.
LEAVES = {"csf.types", "csf.errors", "csf.registry", "csf.config.ranges"}
BELOW: dict[str, set[str]] = {
    "envs": set(),
    "csf": {"csf.io"},  # csf.load
    **{leaf: set() for leaf in LEAVES},
    "csf.nets": LEAVES | {"csf.core.precision"},
    "csf.core": LEAVES,
    "csf.mi": LEAVES | {"csf.nets"},
    "csf.replay": LEAVES,
    "csf.sampler": LEAVES | {"csf.core", "csf.worlds"},
    "csf.backbones": LEAVES | {"csf.nets", "csf.core"},
    "csf.agents": LEAVES | {"csf.nets", "csf.core", "csf.mi", "csf.backbones"},
    "csf.learners": LEAVES | {"csf.agents", "csf.core", "csf.replay"},
    "csf.evaluation": LEAVES | {"csf.agents", "csf.mi", "csf.sampler"},
    "csf.hierarchy": LEAVES | {"csf.agents"},
    "csf.adaptation": LEAVES
    | {f"csf.{name}" for name in ("agents", "backbones", "core", "evaluation", "hierarchy", "io", "nets")}
    | {"csf.config.names", "csf.config.schema"},
    "csf.config.schema": LEAVES | {"csf.agents", "csf.backbones", "csf.core.precision"},
    "csf.io": LEAVES | {"csf.agents", "csf.backbones", "csf.config.schema"},  # files have settings of all three
    "csf.trainer": LEAVES | {"csf.agents", "csf.core", "csf.learners", "csf.io"},
    "csf.sweep": LEAVES | {"csf.core", "csf.config.compose"},  # whose words it uses for mistakes in arguments
    "csf.report": LEAVES | {"csf.io", "csf.evaluation"},  # needs neither configurations nor worlds
    "csf.status": LEAVES | {"csf.io", "csf.evaluation"},
    "csf.play": LEAVES
    | {f"csf.{name}" for name in ("agents", "core", "evaluation", "hierarchy", "io", "pretrained", "worlds")},
    "csf.doctor": set(),  # it works where a package is missing
    "csf.__main__": set(),  # it runs the entry points by name
}
# For entry points, and not by each other.
MIDDLE = {"csf.config", "csf.worlds", "csf.pretrained", "csf.run"}
ENTRIES = {"csf.train", "csf.adapt", "csf.evaluate", "csf.export", "csf.report.__main__", "csf.play.__main__"}
ENTRIES |= {"csf.status.__main__", "csf.doctor.__main__"}
TOP = MIDDLE | ENTRIES | {"csf.study"}
ABOVE = {"csf.study": {"csf.adapt"}}  # entry points that this part runs; it may import everything else as well
EVERYTHING = {part for part in BELOW if part.startswith("csf.")} | MIDDLE

# Names that these modules alone may use.
RESERVED = {
    "hydra": {"csf.config.compose", "csf.config.overrides", "csf.sweep.jobs", "csf.train"},
    "omegaconf": {"csf.config.compose", "csf.config.values", "csf.sweep.jobs", "csf.train"},
    "envs": {"csf.worlds"},
    "jinja2": {"csf.report.page"},
    "rich": {"csf.status.table", "csf.status.__main__"},
    "rliable": {"csf.report.statistics"},
    "viser": {"csf.play.server"},
    "mjviser": {"csf.play.bodies"},
    "torch.compile": {"csf.core.compile"},
    "torch.cuda.graph": {"csf.core.compile"},
    "torch.cuda.graphs": {"csf.core.compile"},
    "torch.cuda.CUDAGraph": {"csf.core.compile"},
    "torch.cuda.make_graphed_callables": {"csf.core.compile"},
    "torch._dynamo": {"csf.core.compile"},
    "torch._inductor": {"csf.core.compile"},
    "torch.optim": {"csf.core.optim"},
}

PARTS = {path.stem for path in (ROOT / "csf").iterdir()} | {part.split(".")[-1] for part in BELOW}


def within(name: str, area: str) -> bool:
    """Whether a dotted name is `area` or lies in it."""
    return f"{name}.".startswith(f"{area}.")


def part_of(name: str) -> str:
    """The part of the house that a dotted name belongs to: "csf.nets", "envs"; "csf" is the version."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] == "csf" and words[1:] and words[1] in PARTS else words[0]


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Every imported name with its module, also those of imports inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(word for word in (here, node.module) if word)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def aliases(tree: ast.Module) -> dict[str, str]:
    """What a file calls its imported modules: {"nn": "torch.nn"}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def used(tree: ast.Module) -> Iterator[str]:
    """Every dotted name, with its first word as the module that it stands for."""
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            yield f"{known.get(first, first)}.{rest}"


def violations(source: str, module: str, package: str) -> list[str]:
    """What a module's source does that its place does not allow."""
    tree = ast.parse(source)
    names = set(imported(tree, package))
    part = ".".join(module.split(".")[:2]) if within(module, "csf") else part_of(module)
    if module in BELOW or module in ENTRIES:
        part = module
    if part not in BELOW and part not in TOP:
        return [f"{part} has no place in the table of layers"]
    allowed = BELOW.get(part, EVERYTHING | ABOVE.get(part, set()))
    found = []
    for name in names:
        target = part_of(name)
        down = target in (part, "csf") or any(within(name, area) for area in allowed)
        if within(name, "csf") and (part == "envs" or not down):
            found.append(f"{module} must not import {name}")
    uses = names.union(used(tree))
    for reserved, owners in RESERVED.items():
        if module not in owners and part != reserved and any(within(name, reserved) for name in uses):
            found.append(f"{module} must not use {reserved}; that is for {', '.join(sorted(owners))}")
    return found


def modules() -> Iterator[tuple[str, str, str]]:
    """Source, name and package of every module."""
    for file in sorted([*ROOT.glob("csf/**/*.py"), *ROOT.glob("envs/**/*.py")]):
        words = file.relative_to(ROOT).with_suffix("").parts
        package = ".".join(words[:-1])
        yield file.read_text(), package if words[-1] == "__init__" else ".".join(words), package


def test_contributing_has_this_table() -> None:
    text = (ROOT / ".github/CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `(csf[\w.]*)` \| (.*) \|$", text, re.MULTILINE)
    written = {part: {f"csf.{name}" for name in re.findall(r"`([\w.]+)`", allowed)} for part, allowed in rows}
    assert written == {part: below - LEAVES for part, below in BELOW.items() if part not in {"envs", *LEAVES}}
    assert all(f"`{name}`" in text for name in LEAVES | TOP)


def test_imports_point_down() -> None:
    found = [line for each in modules() for line in violations(*each)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("envs.ant", "from csf.types import EnvSpec"),
        ("envs.ant", "import csf"),
        ("csf.types", "from csf.errors import CsfError"),
        ("csf.nets.mlp", "from csf.core.optim import Minimizer"),
        ("csf.nets.mlp", "def f():\n    import csf.agents"),
        ("csf.core.optim", "from csf import agents"),
        ("csf.core.optim", "from csf.agents import Agent"),
        ("csf.replay", "from csf.agents.agent import Agent"),
        ("csf.sampler", "from csf.agents import Agent"),
        ("csf.backbones.sac", "from csf.agents.base import Objective"),
        ("csf.backbones.sac", "from ..agents import base"),
        ("csf.agents.csf", "from csf.evaluation import plots"),
        ("csf.evaluation.goals", "from csf.trainer import Trainer"),
        ("csf.evaluation.goals", "import envs"),
        ("csf.evaluation.goals", "from envs.point import PointVectorEnv"),
        ("csf.io.logger", "from csf.config.compose import check"),
        ("csf.config.schema", "from csf.config.compose import check"),
        ("csf.config.schema", "from csf.io import policy"),
        ("csf.trainer", "from csf.config.schema import Config"),
        ("csf.trainer", "from csf.evaluation.goals import ZeroShotGoals"),
        ("csf.config", "from csf.train import run"),
        ("csf.report", "from csf.agents import Agent"),
        ("csf.report", "import envs"),
        ("csf.__main__", "from csf.train import main"),
        ("csf.report.load", "from csf.agents import Agent"),
        ("csf.report.load", "from csf.config.schema import Config"),
        ("csf.report.__main__", "import envs"),
        ("csf.report.page", "from rliable import metrics"),
        ("csf.evaluation.diagnostics", "from csf.io.run_dir import flat"),
        ("csf.play.session", "from csf.config import compose"),
        ("csf.play.session", "from csf.trainer import Trainer"),
        ("csf.play.scene", "import viser"),
        ("csf.newcomer", "import torch"),
        ("csf.trainer", "from csf.study import plan"),
        ("csf.study.runs", "from csf import evaluate"),
        ("csf.study.plan", "import hydra"),
        ("csf.agents.base", "from omegaconf import OmegaConf"),
        ("csf.config.help", "import hydra.utils"),
        ("csf.learners.replay", "import torch\nf = torch.compile(f)"),
        ("csf.learners.replay", "import torch as t\nf = t.compile(f)"),
        ("csf.learners.replay", "from torch import compile"),
        ("csf.learners.replay", "from torch import cuda\ng = cuda.CUDAGraph()"),
        ("csf.backbones.sac", "import torch\nwith torch.cuda.graph(g): pass"),
        ("csf.backbones.sac", "import torch._dynamo"),
        ("csf.agents.metra", "import torch\nadam = torch.optim.Adam(params)"),
        ("csf.agents.metra", "from torch.optim import Adam"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert violations(source, module, module.rpartition(".")[0])


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "csf.agents.csf",
            "from csf.nets.mlp import mlp\nfrom csf.types import Batch\nimport torch.nn.functional as F",
        ),
        ("csf.agents.csf", "from .base import Objective"),
        (
            "csf.train",
            "import csf, hydra\nfrom csf.config import compose\nfrom csf.evaluation.goals import ZeroShotGoals",
        ),
        ("csf.core.compile", "import torch\nf = torch.compile(f)"),
        ("csf.core.optim", "import torch\nadam = torch.optim.Adam([])"),
        ("csf.io.checkpoint", "from csf import __version__"),
        ("csf.io.policy", "from csf.config.schema import completed"),
        ("csf.report.__main__", "from csf.config import compose\nfrom csf.report import page"),
        ("csf.report.page", "from csf.evaluation.diagnostics import judge\nfrom csf.io.run_dir import flat"),
        ("csf.study.runs", "from csf import sweep\nfrom csf.adapt import adapt"),
    ],
)
def test_what_is_allowed_is_not_found(module: str, source: str) -> None:
    assert not violations(source, module, module.rpartition(".")[0])
