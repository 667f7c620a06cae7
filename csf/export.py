"""Entry point: python -m csf.export RUN DIR makes a folder that can be pushed to a model hub as it is."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from csf.agents import Agent, objectives
from csf.errors import CheckpointError, CsfError
from csf.evaluation.film import film
from csf.io import policy
from csf.io.load import find, read, run_of
from csf.pretrained import KEPT, Skills, filmed, skills_of

ABOUT = "Make a folder that can be pushed to a model hub as it is: policy, model card, configuration, results, video."
POLICY, CARD, CONFIG, RESULTS, VIDEO = "policy.safetensors", "README.md", "config.yaml", "eval.json", "skills.webm"
SEED = 0  # of the video


def export(run: str, folder: Path, license: str, video: bool) -> list[str]:
    """Write policy, model card, configuration, results and video; returns the files' names.

    Raises:
        CsfError: no such checkpoint, a folder that is not empty or cannot be written, no way to render.
    """
    path = find(run)
    told, agent = read(path)
    config = told["config"]
    skills = skills_of(config, run_of(path))
    public = config | {"exp_dir": "exp", "cp_path": KEPT if config.get("skills") else None}  # no paths of this machine
    prepare(folder)
    try:
        if video:  # first, since it is what may fail: then the folder is still empty, and can be given again
            film(folder / VIDEO, agent, filmed(config, skills, agent.objective.device()), SEED)
        results = copy_results(path, folder) or told.get("results", {})
        facts = {key: told[key] for key in told if key not in ("format", "spec", "prior")}
        policy.save(folder / POLICY, agent, facts | {"config": public})
        (folder / CONFIG).write_text(yaml.safe_dump(public, sort_keys=False))
        if skills is not None:
            copy_skills(skills, folder)
        text = card(agent, told, results, license, VIDEO if video else None)
        (folder / CARD).write_text(text)
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error
    return sorted(path.name for path in folder.iterdir())


def prepare(folder: Path) -> None:
    """Make the folder.

    Raises:
        CheckpointError: it has content, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty; accepted: a new or an empty folder")
    except OSError as error:
        raise CheckpointError(f"cannot make {folder}: {error.strerror or error}") from error


def copy_results(path: Path, folder: Path) -> Mapping[str, Any] | None:
    """What `csf.evaluate` has found of this very checkpoint, copied; None if it has not been asked.

    Raises:
        CheckpointError: the file is damaged.
    """
    source = path.with_name(RESULTS)
    if not source.is_file():
        return None
    try:
        report = json.loads(source.read_text())
        checkpoint, results = report["checkpoint"], report["results"]
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{source} is not what csf.evaluate writes; run it again, or delete the file") from error
    if checkpoint != path.name:
        return None
    shutil.copyfile(source, folder / RESULTS)
    return dict(results)


def copy_skills(skills: Skills, folder: Path) -> None:
    """The skills that are a controller's actions, without paths of this machine."""
    public = skills.about["config"] | {"exp_dir": "exp"}
    policy.save(folder / KEPT, skills.agent, {**skills.about, "config": public, "cp_path": KEPT})


def main() -> None:
    """Read the arguments; a mistake is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m csf.export", description=ABOUT)
    parser.add_argument("run", metavar="RUN", help="a run's folder, a policy file, a full checkpoint, or a pattern")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or an empty folder")
    parser.add_argument("--license", default="mit", help="of the policy, as the hub names it (default: %(default)s)")
    parser.add_argument("--no-video", action="store_true", help="for machines that cannot render")
    words = parser.parse_args()
    try:
        made = export(words.run, words.folder, words.license, not words.no_video)
    except CsfError as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"written to {words.folder}: {', '.join(made)}\n")


if __name__ == "__main__":
    main()


CARD_TEXT = """\
---
license: {license}
library_name: csf
tags: [reinforcement-learning, {tag}, {method}, {env}]
---
# {title} on {env}

{summary}
{video}
| | |
|---|---|
| environment | `{env}`, {env_version} |
| settings of the environment | {env_settings} |
| method | `{method}`, on `{backbone}` |
| skills | {skills} |
| seed | {seed} |
| training | {epoch:,} epochs, {env_steps:,} environment steps, {gradient_steps:,} gradient steps |
| made with | {versions} |

## Results

{results}

## Use

```python
import csf, envs, torch{more}

agent = csf.load("policy.safetensors")  # tensors and JSON: nothing in the file can run
worlds = envs.make_vec({env!r}, 1{arguments}){over}
skill = agent.sample_skills(1)
obs, info = worlds.reset(seed=0)
for step in range(worlds.max_steps):
    obs, reward, terminated, truncated, info = worlds.step(agent.act({seen}, skill, True).numpy())
```

`config.yaml` holds every setting of the run.
"""


OVER_SKILLS = """
worlds = SkillVectorEnv(worlds, csf.load("skills.safetensors"), {hold})  # an action is a skill, which it holds"""


def card(agent: Agent, told: Mapping[str, Any], results: Mapping[str, float], license: str, video: str | None) -> str:
    """The model card: what it is, where it comes from, how good it is, how to load it."""
    config, spec = told["config"], agent.spec
    method, dim = config["agent"]["name"], agent.objective.cfg.skill_dim
    title, summary, tag = introduction(config)
    env = {key: value for key, value in config["env"].items() if key not in ("name", "threads", "plot_range")}
    rows = [f"| {name.removeprefix('eval/')} | {value:.4g} |" for name, value in results.items()]
    return CARD_TEXT.format(
        license=license,
        method=method,
        env=spec.id,
        title=title,
        summary=summary,
        tag=tag,
        video=f'\n<video controls muted loop src="{video}"></video>\n' if video else "",
        env_version=spec.version,
        env_settings=", ".join(f"{key}={value}" for key, value in env.items()) or "none",
        backbone=config["agent"]["backbone"]["name"],
        skills=f"{dim} dimensions, {agent.objective.prior}" if dim else "none of its own",
        seed=config["seed"],
        **{key: told.get(key, 0) for key in ("epoch", "env_steps", "gradient_steps")},
        versions=", ".join(f"{name} {version}" for name, version in told.get("versions", {}).items()),
        results="\n".join(["| measure | value |", "|---|---|", *rows]) if rows else "Not evaluated.",
        more="\nfrom csf.hierarchy import SkillVectorEnv" if config.get("skills") else "",
        over=OVER_SKILLS.format(hold=config["hold"]) if config.get("skills") else "",
        seen="{key: torch.from_numpy(rows) for key, rows in obs.items()}"
        if spec.vector_dim
        else "torch.from_numpy(obs)",
        arguments="".join(f", {key}={value!r}" for key, value in env.items()),
    )


def introduction(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """What the policy is: a title, a few sentences, and its tag."""
    method = config["agent"]["name"]
    reward = "trained on the task's own reward"
    if skills := config.get("skills"):
        chosen = f"Every {config['hold']} steps it chooses which of the frozen skills in `{KEPT}` acts"
        return f"Controller over skills of {skills}", f"{chosen}; {reward}.", "hierarchical-reinforcement-learning"
    if method == "task":
        return "Policy from scratch", f"A policy of the observation alone, {reward}.", "continuous-control"
    module = sys.modules[objectives[method].__module__].__doc__ or ""
    title, _, how = module.partition("\n")[0].partition(": ")
    what = "A repertoire of skills that was learned without reward: a policy of observation and skill."
    return title, f"{what} {how[:1].upper()}{how[1:]}", "unsupervised-skill-discovery"
