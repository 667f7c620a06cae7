"""The model card of an exported policy: what it is, where it comes from, how good it is, how to load it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from csf.agents import Agent, objectives
from csf.hierarchy.pretrained import KEPT

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
    obs, reward, terminated, truncated, info = worlds.step(agent.act(torch.from_numpy(obs), skill, True).numpy())
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
