"""Renders the HTML page of one run or of a comparison, from the templates in templates/."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from csf.errors import RunDirError, optional
from csf.evaluation.bands import Band
from csf.evaluation.diagnostics import EVALUATED, Finding, judge
from csf.report import figures
from csf.report.load import Run
from csf.report.statistics import MAIN, Arena, Table, afterwards, arrange, during_training, short


class Panel(NamedTuple):
    """A figure with its title."""

    title: str
    svg: str


def facts(run: Run) -> dict[str, Any]:
    """Return the facts about a run by their label on the page."""
    spec = run.policy.get("spec", {})
    about = run.config
    env = f"{about['env']['name']} {spec['version']}" if spec else about["env"]["name"]
    planned = about.get("task", {}).get("epochs")
    times = [series.value.sum() for name, series in run.series.items() if name.startswith("time/")]
    return {
        "method": run.method,
        "environment": env,
        "seed": run.seed,
        "epochs": f"{run.epoch:,} of {number(planned)}" if planned else f"{run.epoch:,}",
        "environment steps": f"{run.newest('env_steps'):,.0f}",
        "gradient steps": f"{run.newest('gradient_steps'):,.0f}" if "gradient_steps" in run.series else "unknown",
        "time in epochs": _duration(float(sum(times))),
        "commit": run.policy.get("versions", {}).get("commit", "unknown"),
        "started": f"{run.started:%Y-%m-%d %H:%M} UTC" if run.started else "unknown",
        "last row": f"{run.written:%Y-%m-%d %H:%M} UTC",
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def findings(run: Run) -> list[Finding]:
    """Return the evaluated diagnostics of a run."""
    steps = run.newest("gradient_steps") if "gradient_steps" in run.series else 0
    config = run.config | {"spec": run.policy.get("spec", {})}
    return judge(config, {name: series.value for name, series in run.series.items()}, int(steps))


def render(template: str, **content: Any) -> str:
    """Render a template; its content is escaped.

    Raises:
        MissingDependency: jinja2 is not installed.
    """
    jinja2 = optional("jinja2", "the report needs the package jinja2: pip install jinja2")
    loader = jinja2.PackageLoader("csf.report")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": number, "precise": precise, "band": _band}
    return str(environment.get_template(template).render(**content))


def number(value: object) -> str:
    """Format a number with four significant digits; other values are converted with str."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def precise(value: float) -> str:
    """Format a number with four decimals if |value| >= 1, to distinguish values near the edge of a band from it."""
    return number(value) if abs(value) < 1 or math.isinf(value) else f"{round(value, 4):,}".removesuffix(".0")


def _band(band: Band) -> str:
    low, high = (precise(end) for end in band)
    if math.isinf(band.low):
        return f"\u2264 {high}"
    return f"\u2265 {low}" if math.isinf(band.high) else f"{low} \u2026 {high}"


def of_run(run: Run, title: str | None) -> str:
    """Render the page of one run."""
    notes = list(run.notes)
    found = findings(run)
    return render(
        "run.html",
        title=title or f"{run.learned} on {run.config['env']['name']}, seed {run.seed}",
        facts=facts(run),
        folder=short(run.path),
        versions=run.policy.get("versions", {}),
        findings=found,
        newest=newest_pictures(run),
        earlier=earlier_pictures(run),
        videos=videos(run.videos, run.path, notes),
        replays=replays(run.replays, run.path, notes),
        sections=_run_sections(run, found),
        results=_results(run),
        evaluations=run.evaluations,
        evaluation_pictures=pictures_of(run.evaluation_pictures, run.path),
        config=yaml.safe_dump(run.config, sort_keys=False),
        notes=notes,
    )


def _run_sections(run: Run, findings: Sequence[Finding]) -> dict[str, list[Panel]]:
    """Return the curves of a run by section; of several bands of a metric, the last is shown."""
    bands: dict[str, Band] = {finding.diagnostic.metric: finding.band for finding in findings}
    found: dict[str, list[Panel]] = {}
    for section, panels in figures.sections(run.series).items():
        for title, names in panels.items():
            lines = [figures.of_run(figures.member(name), run.series[name]) for name in names]
            found.setdefault(section, []).append(Panel(title, figures.curves(lines, bands.get(names[0]))))
    return found


def _results(run: Run) -> list[tuple[str, int, float, float]]:
    """Return the evaluation metrics as (name, last epoch, last value, first value)."""
    found = [(name, series) for name, series in run.series.items() if name.startswith(EVALUATED)]
    return [(name, int(series.epoch[-1]), series.value[-1], series.value[0]) for name, series in found]


def of_runs(runs: Sequence[Run], title: str | None) -> str:
    """Render the page that compares several runs."""
    arenas = arrange(runs)
    notes = [f"{short(run.path)}: {note}" for run in runs for note in run.notes]
    if len(arenas) > 1:
        notes.insert(
            0, "Scores of different environments have different units, so environments are compared separately."
        )
    return render(
        "comparison.html",
        title=title or "Comparison of " + ", ".join(_names(arenas)),
        arenas=[_arena(arena) for arena in arenas],
        notes=notes,
    )


def _names(arenas: Sequence[Arena]) -> list[str]:
    return list(dict.fromkeys(group.method.partition(",")[0] for arena in arenas for group in arena.groups))


def _arena(arena: Arena) -> dict[str, Any]:
    """Return the content of the page for one environment."""
    verdicts: dict[tuple[str, str], dict[str, Finding]] = {}
    runs = {f"{group.method}, seed {run.seed}": run for group in arena.groups for run in group.runs}
    for label, run in runs.items():
        for finding in findings(run):
            key = (finding.diagnostic.metric, finding.diagnostic.meaning)
            verdicts.setdefault(key, {})[label] = finding
    return {
        "arena": arena,
        "facts": {label: {**facts(run), "folder": short(run.path)} for label, run in runs.items()},
        "tables": [_scores_table(arena, table) for table in (during_training(arena), afterwards(arena)) if table],
        "sections": _arena_sections(arena),
        "verdicts": verdicts,
        "portraits": {group.method: portraits(group.runs) for group in arena.groups},
    }


def _colors(arena: Arena) -> dict[str, str]:
    """Return the color of each method, the same in every figure."""
    return {group.method: figures.COLORS[i % len(figures.COLORS)] for i, group in enumerate(arena.groups)}


def _scores_table(arena: Arena, table: Table) -> dict[str, Any]:
    """Return a table of scores with its figures."""
    colors = _colors(arena)
    bars = [Panel(name, figures.scores(by_method, colors)) for name, by_method in table.scores.items()]
    return {
        "table": table,
        "main": [panel for panel in bars if MAIN.fullmatch(panel.title)],
        "other": [panel for panel in bars if not MAIN.fullmatch(panel.title)],
        "chances": _chances(table),
    }


def _chances(table: Table) -> list[Panel]:
    found: dict[str, dict[str, Any]] = {}
    for name, one, other, estimate in table.improvements:
        found.setdefault(name, {})[f"{one} > {other}"] = estimate
    return [Panel(name, figures.improvements(pairs)) for name, pairs in found.items()]


def _arena_sections(arena: Arena) -> dict[str, list[Panel]]:
    """Return the curves of all methods by section, with one panel per metric."""
    colors = _colors(arena)
    names = dict.fromkeys(name for run in arena.runs for name in run.series)
    found: dict[str, list[Panel]] = {}
    for section, panels in figures.sections(names).items():
        for name in [name for members in panels.values() for name in members]:
            lines = [figures.of_seeds(group.method, name, group.runs) for group in arena.groups]
            shown = [line for line in lines if line is not None]
            if shown:
                svg = figures.curves(shown, colors=[colors[line.label] for line in shown])
                found.setdefault(section, []).append(Panel(name, svg))
    return found


LARGE, SMALL = 640, 220  # maximum width and height of images in pixels
STRIP = 8  # maximum number of earlier images per name
PORTRAITS = 10  # maximum number of runs shown per method
VIDEOS = 8_000_000  # maximum number of bytes of videos on a page, and of replays


class Medium(NamedTuple):
    """An image or a video."""

    name: str
    uri: str  # data:...


class Replay(NamedTuple):
    """A page that `csf play` has saved."""

    name: str
    text: str


def newest_pictures(run: Run) -> list[Medium]:
    """Return the latest image of every name."""
    last = [(name, *list(files.items())[-1]) for name, files in run.pictures.items()]
    return [_picture(f"{name}, epoch {epoch}", file, LARGE) for name, epoch, file in last]


def earlier_pictures(run: Run) -> dict[str, list[Medium]]:
    """Return small images of earlier epochs, evenly spaced and including the first."""
    found = {}
    for name, files in run.pictures.items():
        before = list(files.items())[:-1]
        if before:
            found[name] = [_picture(f"epoch {before[i][0]}", before[i][1], SMALL) for i in _even(len(before), STRIP)]
    return found


def pictures_of(files: Sequence[Path], root: Path) -> list[Medium]:
    """Return images, named by their path relative to `root`."""
    return [_picture(file.relative_to(root).as_posix(), file, LARGE) for file in files]


def _even(count: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced indices of a sequence, including both ends."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _picture(name: str, file: Path, side: int) -> Medium:
    """Return an image scaled to fit a square, in 256 colors."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise RunDirError(f"{file} is not a readable image") from error
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.quantize(256).save(encoded, "png", optimize=True)
    return Medium(name, uri("image/png", encoded.getvalue()))


def videos(files: Sequence[Path], root: Path, notes: list[str]) -> list[Medium]:
    """Return the newest videos up to `VIDEOS` bytes; omitted ones are added to `notes`."""
    kept = _newest(files, root, notes, "Videos")
    return [Medium(file.relative_to(root).as_posix(), uri("video/webm", file.read_bytes())) for file in kept]


def replays(files: Sequence[Path], root: Path, notes: list[str]) -> list[Replay]:
    """Return the newest replays up to `VIDEOS` bytes; omitted ones are added to `notes`."""
    kept = _newest(files, root, notes, "Replays")
    return [Replay(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")) for file in kept]


def _newest(files: Sequence[Path], root: Path, notes: list[str], kind: str) -> list[Path]:
    """Return the newest files up to `VIDEOS` bytes in total; omitted ones are added to `notes`."""
    found: list[Path] = []
    left, out = VIDEOS, []
    for file in sorted(files, key=lambda file: (-file.stat().st_mtime, file.name)):
        if (size := file.stat().st_size) <= left:
            left -= size
            found.append(file)
        else:
            out.append(file.relative_to(root).as_posix())
    if out:
        most = VIDEOS // 10**6
        notes.append(f"{kind} omitted, because a page contains at most {most} MB of {kind.lower()}: {', '.join(out)}.")
    return found


def uri(kind: str, content: bytes) -> str:
    """Encode the content of a file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def portraits(runs: Sequence[Run]) -> list[Medium]:
    """Return small images of the latest trajectories of each run."""
    last = [
        (run.seed, *list(run.pictures["trajectories"].items())[-1]) for run in runs if "trajectories" in run.pictures
    ]
    return [_picture(f"seed {seed}, epoch {epoch}", file, SMALL) for seed, epoch, file in last[:PORTRAITS]]
