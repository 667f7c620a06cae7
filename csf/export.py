"""Entry point of csf export: writes a folder for a model hub and, on request, uploads it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from csf.agents import Agent, objectives
from csf.config import help as usage
from csf.errors import CheckpointError, ConfigError, CsfError
from csf.evaluation.film import film
from csf.io import checkpoint, files, hub, policy, untrusted
from csf.io.load import EXPORTED, open_newest, run_of
from csf.play.replay import save
from csf.play.session import Session
from csf.play.source import Source
from csf.pretrained import KEPT, Skills, filmed, skills_of

HEAD = """\
Write a folder for a model hub.

usage: csf export RUN_OR_FILE FOLDER [KEY=VALUE ...]   (or python -m csf.export)

The folder contains the policy, a model card, the configuration, the evaluations during training, results and a video.
push=USER/NAME uploads it to the Hugging Face hub. RUN_OR_FILE is the value of cp_path.

Keys, with their values:
"""
POLICY, CARD, CONFIG, RESULTS, VIDEO = EXPORTED, "README.md", "config.yaml", "eval.json", "skills.webm"
METRICS = "metrics.jsonl"
REPLAY = "skills.html"
BODIES = 8  # bodies in the replay
SEED = 0  # random seed of the video
PLACES = ("cp_path", "folder")


@dataclass(frozen=True)
class Settings:
    """Settings of an export."""

    cp_path: str | None  # run's folder, policy file, full checkpoint, pattern, packaged:NAME, or hf://USER/NAME
    folder: str | None  # destination, a new or an empty folder
    license: str  # license of the policy, by its name on the hub
    video: bool  # whether to record a video of the skills; false for machines that cannot render
    replay: bool  # whether to save a page on which a recorded episode can be turned; needs viser and mjviser
    push: str | None  # repository USER/NAME on the Hugging Face hub to upload to; null: no upload


def run(settings: Settings) -> None:
    """Write the folder, and upload it if `push` is set.

    Raises:
        CsfError: as `export`, or if the run or the folder is not given, or the upload fails.
    """
    if settings.cp_path is None or settings.folder is None:
        raise ConfigError("a run and a folder are required; accepted: RUN_OR_FILE FOLDER [KEY=VALUE ...], --help")
    if settings.push is not None:
        hub.check_target(settings.push)
    folder = Path(settings.folder).expanduser()
    made = export(settings.cp_path, folder, settings.license, settings.video, settings.replay)
    sys.stderr.write(f"written to {folder}: {', '.join(made)}\n")
    if settings.push is not None:
        sys.stderr.write(f"uploaded to {hub.upload(folder, made, settings.push)}\n")


def export(run: str, folder: Path, license: str, video: bool, replay: bool = False) -> list[str]:
    """Write policy, card, configuration, evaluations, results, video and replay; returns the names of the files.

    Raises:
        CsfError: if there is no such checkpoint, the folder is not empty or cannot be written, or rendering fails.
    """
    path, about, agent = open_newest(run)
    config = about["config"]
    skills = skills_of(config, run_of(path))
    public = config | {
        "exp_dir": "exp",
        "cp_path": KEPT if config.get("skills") else None,
    }  # without paths of this machine
    prepare(folder)
    try:
        # First, since they may fail: the folder is then still empty and can be used again.
        if replay:
            record(path, folder / REPLAY)
        if video:
            try:
                film(folder / VIDEO, agent, filmed(config, skills, agent.objective.device()), SEED)
            except CsfError:
                (folder / REPLAY).unlink(missing_ok=True)
                raise
        found = copy_results(path, about.get("epoch"), folder) or {"results": about.get("results", {})}
        copy_metrics(run_of(path), about.get("epoch"), folder)
        policy.save(folder / POLICY, agent, {**about, "config": public}, bool(about.get("critics")))
        (folder / CONFIG).write_text(yaml.safe_dump(public, sort_keys=False))
        if skills is not None:
            copy_skills(skills, folder)
        text = card(agent, about, found, license, VIDEO if video else None, REPLAY if replay else None)
        (folder / CARD).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error
    return sorted(path.name for path in folder.iterdir())


def record(checkpoint_file: Path, path: Path) -> None:
    """Save a page with a recorded episode of several skills.

    Raises:
        CsfError: if a package is missing, or the environment cannot be displayed.
    """
    session = Session(Source(str(checkpoint_file), torch.device("cpu"), 0), BODIES, SEED)
    try:
        save(path, session)
    finally:
        session.close()


def prepare(folder: Path) -> None:
    """Create the folder.

    Raises:
        CheckpointError: if it is not empty or cannot be created.
    """
    try:
        files.check_name(folder).mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty; accepted: a new or an empty folder")
    except OSError as error:
        raise CheckpointError(f"cannot create {folder}: {error.strerror or error}") from error


def copy_results(path: Path, epoch: int | None, folder: Path) -> Mapping[str, Any] | None:
    """Copy the report of `csf evaluate` for this epoch and return it; None if there is none.

    Raises:
        CheckpointError: if the file is damaged.
    """
    # The policy file and the full checkpoint of an epoch have the same agent.
    names = {path.name, *(kind.format(epoch) for kind in (checkpoint.POLICY, checkpoint.FULL) if epoch is not None)}
    for source in (path.with_name(f"{checkpoint.evaluation(epoch)}.json"), path.with_name(RESULTS)):
        if not source.is_file():
            continue
        try:
            report = untrusted.parse_json(source.read_text())
            made_of, _ = report["checkpoint"], dict(report["results"])
        except (ValueError, LookupError, TypeError) as error:
            message = f"{source} is not a result of csf evaluate; run it again, or delete the file"
            raise CheckpointError(message) from error
        if made_of in names:
            shutil.copyfile(source, folder / RESULTS)
            return dict(report)
    return None


def copy_metrics(run: Path, epoch: int | None, folder: Path) -> None:
    """Copy the evaluations up to the epoch from metrics.jsonl, so that `csf report` can read the folder."""
    if epoch is None or not (run / METRICS).is_file():
        return
    with (run / METRICS).open() as lines, (folder / METRICS).open("w") as kept:
        for line in lines:
            with suppress(ValueError):  # the last line may be incomplete
                row = untrusted.parse_json(line)
                if "eval/return" in row and row["epoch"] <= epoch:
                    kept.write(line)


def copy_skills(skills: Skills, folder: Path) -> None:
    """Copy the skills that a controller uses, without paths of this machine."""
    public = skills.about["config"] | {"exp_dir": "exp"}
    policy.save(folder / KEPT, skills.agent, {**skills.about, "config": public, "cp_path": KEPT})


CARD_TEXT = """\
---
license: {license}
library_name: csf
tags: [reinforcement-learning, {tag}, {method}, {env}]
---
# {title} on {env}

{summary}
{video}{replay}
| | |
|---|---|
| environment | `{env}`, {env_version} |
| settings of the environment | {env_settings} |
| method | `{method}`, on `{backbone}` |
| skills | {skills} |
| seed | {seed} |
{command}| training | {epoch:,} epochs, {env_steps:,} environment steps, {gradient_steps:,} gradient steps |
| made with | {versions} |

## Results

{results}

## Use

```python
import csf, envs, torch{more}

agent = csf.load("policy.safetensors")  # tensors and JSON: no code is executed
worlds = envs.make_vec({env!r}, 1{arguments}){over}
skill = agent.sample_skills(1)
obs, info = worlds.reset(seed=0)
for step in range(worlds.max_steps):
    obs, reward, terminated, truncated, info = worlds.step(agent.act({seen}, skill, True).numpy())
```

`config.yaml` holds every setting of the run.
"""


OVER_SKILLS = """
worlds = SkillVectorEnv(worlds, csf.load("skills.safetensors"), {hold})  # actions are skills"""


def card(
    agent: Agent,
    about: Mapping[str, Any],
    found: Mapping[str, Any],
    license: str,
    video: str | None,
    replay: str | None = None,
) -> str:
    """Return the model card: description, provenance, results and usage.

    Args:
        agent: the agent.
        about: header of its file.
        found: report of `csf evaluate`, or only "results".
        license: license of the policy.
        video: name of the video; None if there is none.
        replay: name of the page with a recorded episode; None if there is none.
    """
    config, spec = about["config"], agent.spec
    method, dim = config["agent"]["name"], agent.objective.cfg.skill_dim
    title, summary, tag = introduction(config)
    env = {key: value for key, value in config["env"].items() if key not in ("name", "threads", "plot_range")}
    return CARD_TEXT.format(
        license=license,
        method=method,
        env=spec.id,
        title=title,
        summary=summary,
        tag=tag,
        video=f'\n<video controls muted loop src="{video}"></video>\n' if video else "",
        replay=f"\n[{replay}]({replay}): a recorded episode that can be turned; download it and open it.\n"
        if replay
        else "",
        env_version=spec.version,
        env_settings=", ".join(f"{key}={value}" for key, value in env.items()) or "none",
        backbone=config["agent"]["backbone"]["name"],
        skills=f"{dim} dimensions, {agent.objective.prior}" if dim else "none of its own",
        seed=config["seed"],
        **{key: about.get(key, 0) for key in ("epoch", "env_steps", "gradient_steps")},
        versions=", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items()),
        command=trained_with(config),
        results=results_table(found),
        more="\nfrom csf.hierarchy import SkillVectorEnv" if config.get("skills") else "",
        over=OVER_SKILLS.format(hold=config["hold"]) if config.get("skills") else "",
        seen="{key: torch.from_numpy(rows) for key, rows in obs.items()}"
        if spec.vector_dim
        else "torch.from_numpy(obs)",
        arguments="".join(f", {key}={value!r}" for key, value in env.items()),
    )


def trained_with(config: Mapping[str, Any]) -> str:
    """Return the row of the card with the command that trained the skills; empty for a controller."""
    task = config.get("task", {}).get("name")
    if config["agent"]["name"] == "task" or task is None:
        return ""
    words = f"csf train agent={config['agent']['name']} env={config['env']['name']} task={task} seed={config['seed']}"
    changed = f", changed settings: `{variant[1:]}`" if (variant := config.get("variant")) else ""
    return f"| trained with | `{words}`{changed} |\n"


def results_table(found: Mapping[str, Any]) -> str:
    """Return the results as a table, with their ranges if there are several evaluation seeds."""
    results, ranges = found["results"], found.get("ranges")
    if not results:
        return "Not evaluated."
    names = {name: name.removeprefix("eval/") for name in results}
    if ranges is None:
        rows = [f"| {names[name]} | {value:.4g} |" for name, value in results.items()]
        return "\n".join(["| measure | value |", "|---|---|", *rows])
    rows = [
        f"| {names[name]} | {value:.4g} | {ranges[name][0]:.4g} to {ranges[name][1]:.4g} |"
        for name, value in results.items()
    ]
    return "\n".join([f"| measure | mean | range over {found['seeds']} evaluation seeds |", "|---|---|---|", *rows])


def introduction(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return title, description and tag of the policy."""
    method = config["agent"]["name"]
    reward = "trained on the task's own reward"
    if skills := config.get("skills"):
        chosen = f"Every {config['hold']} steps it chooses one of the frozen skills in `{KEPT}`"
        return f"Controller over skills of {skills}", f"{chosen}; {reward}.", "hierarchical-reinforcement-learning"
    if config.get("method") not in (None, "scratch", "expert"):  # of csf adapt
        began = f"It began as the best of the skills of {config['method']} on this task"
        return f"Adapted skill of {config['method']}", f"{began}; {reward}.", "continuous-control"
    if method == "task":
        return "Policy from scratch", f"A policy without skills, {reward}.", "continuous-control"
    module = sys.modules[objectives[method].__module__].__doc__ or ""
    title, _, how = module.partition("\n")[0].partition(": ")
    what = "A policy of observation and skill: a repertoire of skills that was learned without reward."
    return title, f"{what} {how[:1].upper()}{how[1:]}", "unsupervised-skill-discovery"


def main() -> None:
    """Run the command; user errors print one line."""
    usage.run_command(Settings, "export", PLACES, HEAD, run)


if __name__ == "__main__":
    main()
