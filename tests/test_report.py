"""The page: what it reads, what it computes, what it refuses, and how a browser takes it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import yaml
from conftest import ROOT, configure
from runs import train

import csf.report.__main__ as report
from csf.errors import CsfError, MissingDependency
from csf.report import figures, page, statistics
from csf.report.load import Series, read
from csf.report.statistics import afterwards, arrange, during_training

SMALL_BOOTSTRAP = 50


@pytest.fixture(autouse=True)
def _few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", SMALL_BOOTSTRAP)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as training leaves it, with a video and an evaluation beside it."""
    folder = tmp_path_factory.mktemp("trained") / "sd000"
    child = train(folder, "task.epochs=14", "seed=0")
    assert child.wait() == 0, child.said
    write_video(folder / "videos" / "skills.webm")
    (folder / "eval.json").write_text(json.dumps({"goals": 200, "metrics": {"eval/goal/staying_0.3": 0.625}}))
    return folder


def write_video(file: Path) -> None:
    import cv2

    file.parent.mkdir()
    video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"VP80"), 10, (64, 48))
    for i in range(10):
        video.write(np.full((48, 64, 3), 20 * i, np.uint8))
    video.release()


def fake(folder: Path, *settings: str, rows: list[dict[str, Any]] | None = None, seed: int = 0) -> Path:
    """The folder of a run that never ran."""
    folder.mkdir(parents=True)
    tree = configure("agent=csf", f"seed={seed}", *settings).tree
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    rows = rows or [{"epoch": e, "env_steps": 100 * e, "eval/coverage": 10.0 * e + seed} for e in range(4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def page_of(*folders: Path, tmp_path: Path, title: str | None = None) -> str:
    return report.report(list(folders), tmp_path / "page.html", title).read_text()


def test_page_of_a_run_has_all_there_is(trained: Path) -> None:
    path = report.report([trained], None, None)
    assert path == trained.resolve() / "report.html"
    text = path.read_text()
    header = "csf on point, seed 0"
    assert f"<title>{header}</title>" in text
    for word in (
        "14 of 14",
        "csf on successor",
        "mujoco",
        "gradient steps",
        "torch",
        "phi/alignment",
        "num_negatives: 8",
    ):
        assert word in text, word
    assert len(re.findall("<video ", text)) == 1
    video = base64.b64encode((trained / "videos/skills.webm").read_bytes()).decode()
    assert f"data:video/webm;base64,{video}" in text
    assert "metrics.eval/goal/staying_0.3" in text
    assert "0.625" in text
    assert "Missing or omitted" not in text
    assert text.count('class="verdict') >= 5


def test_page_needs_nothing_else(trained: Path, tmp_path: Path) -> None:
    text = page_of(trained, tmp_path=tmp_path)
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert not re.findall(r"url\((?!#)", text)
    names = re.findall(r' id="([^"]+)"', text)
    assert len(names) == len(set(names)), "two parts of the page have one name"
    targets = set(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    assert targets, "a clipped line names its clip"
    assert targets <= set(names), "a figure lost a part of it"


def test_what_a_run_says_is_text_on_the_page(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    rows = [{"epoch": e, "env_steps": e, f"x/{nasty}$_1": 1.0, "_y": 2.0} for e in range(3)]
    folder = fake(tmp_path / "sd000", rows=rows)
    (folder / "eval.json").write_text(json.dumps({nasty: nasty}))
    for text in (
        page_of(folder, tmp_path=tmp_path, title=nasty),
        page_of(folder, fake(tmp_path / "b", rows=rows, seed=1), tmp_path=tmp_path, title=nasty),
    ):
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


def test_scores_are_read_at_the_budget_that_all_runs_have(tmp_path: Path) -> None:
    short = [{"epoch": e, "env_steps": 100 * e, "eval/coverage": 7.0} for e in range(2)]
    runs = [read(fake(tmp_path / f"sd{s}", seed=s)) for s in range(3)]
    runs.append(read(fake(tmp_path / "other", "agent.skill_dim=3", rows=short)))
    (arena,) = arrange(runs)
    table = during_training(arena)
    assert table is not None
    assert table.about.startswith("Last evaluation at or before 100 environment steps")
    assert list(table.scores) == ["eval/coverage"]
    score, other = table.scores["eval/coverage"].values()
    assert list(table.scores["eval/coverage"]) == ["csf on successor, skill_dim=2", "csf on successor, skill_dim=3"]
    np.testing.assert_allclose(score.values, [10, 11, 12])
    assert score.mean == 11
    assert score.deviation == pytest.approx(1.0)
    assert score.iqm is not None
    assert 10 <= score.iqm.low <= 11 <= score.iqm.high <= 12
    assert other.iqm is None
    assert other.deviation is None
    assert table.improvements == []
    said = " ".join(table.notes)
    assert "other was evaluated up to 100 steps only, which limits the budget of all runs" in said
    assert "skill_dim=3 has one seed: no standard deviation, interval or" in said
    assert "skill_dim=2 has 3 seeds: with fewer than four the interquartile mean equals the mean" in said


def test_a_metric_is_compared_between_the_methods_that_have_it(tmp_path: Path) -> None:
    rows = [{"epoch": e, "env_steps": e, "eval/coverage": 1.0, "eval/goal/staying_3": 0.1} for e in range(2)]
    runs = [
        read(fake(tmp_path / f"{name}{s}", f"agent={name}", rows=rows, seed=s))
        for name in ("csf", "metra")
        for s in (0, 1)
    ]
    runs += [read(fake(tmp_path / f"dads{s}", "agent=dads", rows=rows[:1], seed=s)) for s in (0, 1)]
    for run in runs[-2:]:
        del run.series["eval/goal/staying_3"]
    (arena,) = arrange(runs)
    table = during_training(arena)
    assert table is not None
    assert list(table.scores["eval/coverage"]) == ["csf on successor", "metra on sac", "dads on sac"]
    assert list(table.scores["eval/goal/staying_3"]) == ["csf on successor", "metra on sac"]
    assert len(table.improvements) == 3 + 1
    assert "Not measured in every seed of dads on sac: eval/goal/*." in table.notes


def test_a_spread_of_returns_is_no_score(tmp_path: Path) -> None:
    rows = [{"epoch": e, "env_steps": e, "eval/return": 1.0, "eval/return_std": 0.5} for e in range(2)]
    runs = [
        read(fake(tmp_path / f"{name}{s}", f"agent={name}", rows=rows, seed=s))
        for name in ("csf", "dads")
        for s in (0, 1)
    ]
    table = during_training(arrange(runs)[0])
    assert table is not None
    assert [name for name, *_ in table.improvements] == ["eval/return"]


def evaluated(folder: Path, staying: float, **conditions: int) -> Path:
    """With eval.json, as csf.evaluate leaves it."""
    about = {"env_steps": 300, "skills": 48, "goals": 200, **conditions, "results": {"eval/goal/staying_3": staying}}
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/eval.json").write_text(json.dumps(about))
    return folder


def test_evaluations_of_checkpoints_are_scores_of_their_own(tmp_path: Path) -> None:
    folders = [evaluated(fake(tmp_path / f"sd{s}", seed=s), 0.1 * s) for s in range(3)]
    folders.append(fake(tmp_path / "without", seed=3))
    (arena,) = arrange([read(folder) for folder in folders])
    table = afterwards(arena)
    assert table is not None
    assert table.about == "From csf.evaluate, of checkpoints: env_steps 300, skills 48, goals 200."
    assert table.scores["eval/goal/staying_3"]["csf on successor"].mean == pytest.approx(0.1)
    (note,) = table.notes
    assert re.fullmatch(r"Runs without an evaluation by csf\.evaluate, which are omitted: .*/without\.", note)
    assert table.about in page_of(*folders, tmp_path=tmp_path)


def test_evaluations_are_compared_at_the_latest_epoch_that_all_have(tmp_path: Path) -> None:
    """Of an older version, a run has eval.json."""
    folders = [evaluated(fake(tmp_path / f"sd{s}", seed=s), 0.1 * s) for s in range(3)]
    for steps, epoch in ((300, 3), (600, 6), (900, 9)):
        for seed, folder in enumerate(folders[: 2 if steps == 900 else 3]):
            results = {"eval/goal/staying_3": 0.2 * seed + steps}
            about = {"env_steps": steps, "skills": 48, "goals": 200, "results": results}
            (folder / f"checkpoints/eval_{epoch:06d}.json").write_text(json.dumps(about))
    (arena,) = arrange([read(folder) for folder in folders])
    table = afterwards(arena)
    assert table is not None
    assert table.about == "From csf.evaluate, of checkpoints: env_steps 600, skills 48, goals 200."
    np.testing.assert_allclose(table.scores["eval/goal/staying_3"]["csf on successor"].values, [600, 600.2, 600.4])


def test_evaluations_under_other_conditions_are_not_compared(tmp_path: Path) -> None:
    folders = [evaluated(fake(tmp_path / f"sd{s}", seed=s), 0.1, goals=50 * (s + 1)) for s in range(2)]
    text = page_of(*folders, tmp_path=tmp_path)
    assert "The evaluations of the runs differ in env_steps, skills, goals and are not compared." in text


def test_interquartile_mean_leaves_out_a_quarter_on_either_side() -> None:
    (score,) = statistics.summarize(np.array([[0.0], [1.0], [3.0], [100.0]]))
    assert score.iqm is not None
    assert score.iqm.value == 2.0
    assert score.mean == 26.0
    assert score.deviation == pytest.approx(np.std([0, 1, 3, 100], ddof=1))


def test_probability_of_improvement_counts_ties_half() -> None:
    assert statistics.improvement(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == (1.0, 1.0, 1.0)
    assert statistics.improvement(np.array([1.0, 3.0]), np.array([1.0, 2.0])).value == pytest.approx(2.5 / 4)


def test_intervals_are_the_same_at_every_call_and_leave_numpy_alone() -> None:
    values = np.arange(12.0).reshape(6, 2) ** 2
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    one, other = statistics.summarize(values), statistics.summarize(values)
    assert [score.iqm for score in one] == [score.iqm for score in other]
    assert np.random.rand() == expected


def test_comparison_names_methods_by_what_differs(tmp_path: Path) -> None:
    lr = [fake(tmp_path / f"lr{s}", "agent.lr=5e-4", seed=s) for s in range(2)]
    sac = [fake(tmp_path / f"sac{s}", "agent/backbone=sac", seed=s) for s in range(2)]
    plain = [fake(tmp_path / f"plain{s}", seed=s) for s in range(2)]
    text = page_of(*lr, *sac, *plain, tmp_path=tmp_path)
    for method in ("csf on successor, lr=0.0005", "csf on sac", "csf on successor, lr=0.001"):
        assert method in text
    assert "csf on successor, lr=0.001 &gt; csf on sac" in text
    assert "Probability of improvement" in text


def test_controllers_are_told_apart_by_their_skills(tmp_path: Path) -> None:
    """All of them are agent=task, with the same settings of agent and task."""
    task = ["agent=task", "agent/backbone=sac", "env=point_two_goals", "task=hierarchical"]
    wholes = {"csf": ["hold=4"], "longer": ["hold=8"], "metra": ["skills=metra", "hold=4"], "scratch": ["task=scratch"]}
    folders = [fake(tmp_path / name, *task, *words) for name, words in wholes.items()]
    (arena,) = arrange([read(folder) for folder in folders])
    assert {group.method: group.runs[0].path.name for group in arena.groups} == {
        "skills of csf on sac, hold=4": "csf",
        "skills of csf on sac, hold=8": "longer",
        "skills of metra on sac": "metra",
        "scratch on sac": "scratch",
    }
    assert not arena.notes
    assert "<title>skills of metra on point_two_goals, seed 0</title>" in page_of(folders[2], tmp_path=tmp_path)


def test_each_environment_stands_by_itself(tmp_path: Path) -> None:
    folders = [fake(tmp_path / "point"), fake(tmp_path / "ant", "env=ant"), fake(tmp_path / "far", "+env.max_steps=9")]
    text = page_of(*folders, tmp_path=tmp_path)
    assert "environments are compared separately" in text
    assert {found.strip() for found in re.findall("<h2>(.*?)</h2>", text)} >= {
        "ant",
        "point, max_steps=absent",
        "point, max_steps=9",
    }


def test_controllers_over_different_skills_are_different_methods(tmp_path: Path) -> None:
    """The files that have the skills are not: each seed may have its own."""
    over = ["task=hierarchical", "env=point_two_goals"]
    runs = [
        read(fake(tmp_path / f"{skills}{s}", "agent=task", *over, f"skills={skills}", f"cp_path={s}", seed=s))
        for skills in ("csf", "metra")
        for s in (0, 1)
    ]
    runs.append(read(fake(tmp_path / "longer", "agent=task", *over, "skills=csf", "hold=50")))
    runs.append(read(fake(tmp_path / "scratch", "agent=task", "task=scratch", over[1])))
    (arena,) = arrange(runs)
    assert {group.method: [run.seed for run in group.runs] for group in arena.groups} == {
        "skills of csf on sac, hold=25": [0, 1],
        "skills of metra on sac": [0, 1],
        "skills of csf on sac, hold=50": [0],
        "scratch on sac": [0],
    }
    assert not arena.notes


def test_a_seed_that_comes_twice_counts_once(tmp_path: Path) -> None:
    longer = [{"epoch": e, "env_steps": 100 * e, "eval/coverage": 1.0} for e in range(9)]
    runs = [read(fake(tmp_path / "a")), read(fake(tmp_path / "b", rows=longer))]
    (arena,) = arrange(runs)
    assert [run.path.name for run in arena.runs] == ["b"]
    assert "a is omitted: same method and seed as" in arena.notes[0]


def test_the_same_folder_twice_is_one_run(tmp_path: Path) -> None:
    folder = fake(tmp_path / "sd000")
    assert "csf on point, seed 0" in page_of(folder, folder / ".." / "sd000", tmp_path=tmp_path)


def test_runs_without_an_evaluation_are_shown_without_scores(tmp_path: Path) -> None:
    rows = [{"epoch": e, "env_steps": e, "loss/critic": 1.0} for e in range(3)]
    text = page_of(*(fake(tmp_path / f"{s}", rows=rows, seed=s) for s in range(2)), tmp_path=tmp_path)
    assert "No scores: not every run has been evaluated." in text
    assert "loss/critic" in text


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    folder = fake(tmp_path / "sd000")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "env_st')
    run = read(folder)
    assert run.epoch == 3
    assert "The last line of metrics.jsonl is incomplete and is omitted." in run.notes
    assert "is incomplete and is omitted" in page_of(folder, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2 is not a row of metrics: Expecting property name"),
        ("[]", "line 2 is not a row of metrics: it is not a JSON object"),
        ('{"epoch": 1}', "line 2 is not a row of metrics: it has no env_steps"),
        ('{"epoch": 1, "env_steps": 1, "x": "much"}', "line 2 is not a row of metrics: x is 'much', not a number"),
        ('{"epoch": 1, "env_steps": 1, "x": NaN}', "line 2 is not a row of metrics: NaN is not a finite number"),
        ('{"epoch": 0, "env_steps": 1}', "line 2: epoch 0 follows epoch 0"),
        ("\N{EURO SIGN}", "line 2 is not a row of metrics: Expecting value"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, line: str, reason: str) -> None:
    folder = fake(tmp_path / "sd000", rows=[{"epoch": 0, "env_steps": 0}])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n" + '{"epoch": 5, "env_steps": 5}\n')
    with pytest.raises(CsfError, match=re.escape(reason)):
        read(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.jsonl", b"", "metrics.jsonl has no rows"),
        ("config.yaml", b"{", "config.yaml is not valid yaml"),
        ("config.yaml", b"\xff\xfe\x00", "config.yaml is not valid yaml"),
        ("config.yaml", b"seed: 1", "missing keys: agent.name, agent.backbone.name, env.name"),
        (
            "config.yaml",
            b"{seed: many, agent: {name: csf, backbone: {name: sac}}, env: {name: ant}}",
            "seed is 'many'; accepted: an integer",
        ),
        ("eval.json", b"{", "eval.json is not valid JSON"),
        ("plots/phi_000001.png", b"no picture", "phi_000001.png is not a readable image"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    folder = fake(tmp_path / "sd000")
    (folder / "plots").mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(CsfError, match=re.escape(reason)):
        page_of(folder, tmp_path=tmp_path)


def test_a_foreign_policy_file_is_told_on_the_page(tmp_path: Path) -> None:
    folder = fake(tmp_path / "sd000")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/policy_000001.safetensors").write_bytes(b"what")
    assert "is not a policy file of this program" in page_of(folder, tmp_path=tmp_path)


def test_videos_beyond_the_limit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "VIDEOS", 1_000_000)
    folder = fake(tmp_path / "sd000")
    (folder / "videos").mkdir()
    (folder / "videos/large.webm").write_bytes(bytes(1_000_001))
    (folder / "videos/small.webm").write_bytes(b"small")
    (folder / "videos/new.partial.webm").write_bytes(b"half")
    text = page_of(folder, tmp_path=tmp_path)
    assert "Videos omitted, because a page contains at most 1 MB of videos: videos/large.webm." in text
    assert text.count("<video ") == 1


def test_replays_are_on_the_page_and_cannot_leave_their_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "VIDEOS", 1_000)
    folder = fake(tmp_path / "sd000")
    (folder / "skills.html").write_text('<html><script>alert("x")</script></html>')
    (folder / "skills_large.html").write_text("x" * 1_001)
    (folder / "report.html").write_text("an earlier report")
    text = page_of(folder, tmp_path=tmp_path)
    (frame,) = re.findall(r"<iframe .*?>", text)
    assert 'sandbox="allow-scripts"' in frame
    assert "&lt;script&gt;alert(&#34;x&#34;)" in frame
    assert "<script>alert" not in text
    assert "Replays omitted, because a page contains at most 0 MB of replays: skills_large.html." in text


def test_earlier_pictures_are_few_and_include_the_first() -> None:
    assert page._even(3, 8) == [0, 1, 2]
    assert page._even(100, 5) == [0, 25, 50, 74, 99]


def test_long_curves_are_averaged_in_bins() -> None:
    epochs = np.arange(10_000)
    line = figures.of_run("x", Series(epochs, epochs * 8.0, epochs % 2 * 1.0))
    assert len(line.x) == figures.BINS
    assert line.low is not None
    assert line.high is not None
    np.testing.assert_allclose(line.y, 0.5)
    assert (line.low == 0).all()
    assert (line.high == 1).all()
    assert line.x[0] == pytest.approx(8 * np.mean(range(40)))


def test_curves_of_seeds_are_aligned_by_epoch(tmp_path: Path) -> None:
    def rows(*epochs: int, shift: float) -> list[dict[str, Any]]:
        return [{"epoch": e, "env_steps": 10 * e + shift, "loss/critic": e + shift} for e in epochs]

    runs = [
        read(fake(tmp_path / "a", rows=rows(0, 1, 2, 3, shift=0))),
        read(fake(tmp_path / "b", rows=rows(1, 3, 5, shift=2), seed=1)),
    ]
    line = figures.of_seeds("x", "loss/critic", runs)
    assert line is not None
    np.testing.assert_allclose(line.x, [11, 31])
    np.testing.assert_allclose(line.y, [2, 4])
    assert line.high is not None
    np.testing.assert_allclose(line.high - line.y, np.sqrt(2))
    assert figures.of_seeds("x", "loss/actor", runs) is None


@pytest.mark.parametrize("package", ["jinja2", "rliable"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    folders = [fake(tmp_path / f"{seed}", seed=seed) for seed in range(2)]
    with pytest.raises(MissingDependency, match=f"the package {package}.*: pip install {package}"):
        page_of(*folders, tmp_path=tmp_path)


def test_one_run_needs_no_rliable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rliable", None)
    assert "State coverage" in page_of(fake(tmp_path / "sd000"), tmp_path=tmp_path)


def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "csf.report", *map(str, words)]
    return subprocess.run(line, cwd=cwd, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)


@pytest.mark.long
def test_command_says_what_it_wrote_and_errors_in_one_line(tmp_path: Path) -> None:
    fake(tmp_path / "sd000")
    fake(tmp_path / "sd001", "env=ant")
    done = command("sd000", "sd001", "title=Two worlds", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"wrote report\.html \(\d+\.\d MB\)\n", done.stderr)
    assert "<title>Two worlds</title>" in (tmp_path / "report.html").read_text()
    (tmp_path / "sd000/checkpoints").mkdir()
    (tmp_path / "sd000/checkpoints/epoch_000001.pt").touch()
    done = command("sd000/checkpoints/epoch_000001.pt", "cp_path=sd001", "output=both.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Comparison of" in (tmp_path / "both.html").read_text()
    for words, said in (
        (["sd000", "--title", "x"], "--title is not understood; accepted: title=VALUE"),
        ([], "no run is given; accepted: RUN"),
    ):
        failed = command(*words, cwd=tmp_path)
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"error: {said}")
    assert "  title=null " in command("--help", cwd=tmp_path).stdout
    failed = command("sd000", "nowhere", cwd=tmp_path)
    assert failed.returncode == 1
    assert re.fullmatch(r"error: /.*/nowhere is not a folder; a run is a folder such as .*\n", failed.stderr)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(CsfError, match=r"is not a run: it has no config\.yaml; a run is a folder such as exp/"):
        page_of(tmp_path, tmp_path=tmp_path)
    with pytest.raises(CsfError, match=r"cannot write .*: No such file or directory"):
        report.report([fake(tmp_path / "sd000")], tmp_path / "no" / "page.html", None)


LOADED = """(async () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const videos = [...document.querySelectorAll("video")];
  await Promise.all(videos.map(v => v.readyState >= 2 || new Promise(done => {
    v.addEventListener("loadeddata", done); v.addEventListener("error", done);
  })));
  await Promise.all([...document.images].map(i => i.decode()));
  return {
    images: [...document.images].map(i => [i.naturalWidth, i.clientWidth]),
    figures: [...document.querySelectorAll("figure svg")].map(
      s => [s.clientWidth, s.clientHeight, s.querySelectorAll("text").length]),
    videos: videos.map(v => [v.readyState, v.duration, v.videoWidth]),
    width: document.documentElement.scrollWidth,
    text: document.body.innerText,
  };
})()"""


@pytest.mark.skipif(browser.PROGRAM is None, reason="needs a browser: apt-get install chromium")
def test_a_browser_shows_all_of_it(trained: Path, tmp_path: Path) -> None:
    single = report.report([trained], tmp_path / "run.html", None)
    several = report.report(
        [trained, *(fake(tmp_path / f"{s}", seed=s) for s in range(3))], tmp_path / "all.html", None
    )
    with browser.chromium(tmp_path / "profile") as page:
        for file in (single, several):
            for width in (1200, 360):
                page.open(file, width)
                seen = page.evaluate(LOADED)
                assert seen["images"], "no picture"
                assert all(natural > 0 and shown > 50 for natural, shown in seen["images"])
                assert len(seen["figures"]) > 5
                assert all(w > 200 and h > 50 and labels > 3 for w, h, labels in seen["figures"])
                assert seen["width"] <= width, "the page is wider than the screen"
                assert page.complaints() == []
                assert page.requests() == [file.as_uri()]
                if file == single:
                    ((state, duration, pixels),) = seen["videos"]
                    assert state >= 2
                    assert duration == pytest.approx(1.0, abs=0.2)
                    assert pixels == 64


@pytest.mark.parametrize("link", ["sd000", "sd000/checkpoints"])
def test_what_is_a_link_is_on_the_page(link: str, tmp_path: Path) -> None:
    folder = evaluated(fake(tmp_path / "sd000"), 0.5)
    write_video(folder / "checkpoints/videos/skills.webm")
    (tmp_path / link).rename(tmp_path / "elsewhere")
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    run = read(folder)
    assert list(run.evaluations) == ["checkpoints/eval.json"]
    assert [path.name for path in run.videos] == ["skills.webm"]
    assert "<video " in page_of(folder, tmp_path=tmp_path)
