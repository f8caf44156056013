"""The tree of stages: drawn like a log, kept over recovered files and sessions, and gone back to."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tui.helpers import check_golden
from tests.tui.test_recovering import NUMBERS
from tui_pruner.domain.lineage import FILE, ORIGINAL, STEP, Lineage, Stage, file_id, from_stages
from tui_pruner.storage import sessions
from tui_pruner.tui import session_stages
from tui_pruner.tui.controllers.lineage import missing_file
from tui_pruner.tui.controllers.recover import nothing_recovered, recovered_files
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.lineage import Shown, graph_lines, stage_lines
from tui_pruner.tui.screens.forms import Chooser
from tui_pruner.tui.screens.prompts import PathPrompt, Question
from tui_pruner.tui.screens.stages import Stages

DATA = "digits.yaml"


def measured(stage: Stage, metric: float, low: float, high: float, latency: float | None = None) -> Stage:
    return replace(stage, metric=metric, low=low, high=high, latency=latency, data=DATA)


def branching_lineage() -> Shown:
    """An original with two steps, one of them made again another way, a refit, and a fine-tuned file with a step of its own."""
    lineage = Lineage()
    proof = {"proof": "proved 3e-7", "proved": True}
    lineage.put(
        measured(Stage("a:", "", ORIGINAL, "best.pt", 3_010_000, 8_100_000_000, path="best.pt"), 0.894, 0.871, 0.917, 8.31),
        measured(Stage("a:1", "a:", STEP, "1: model.5 -30%", 2_710_000, 7_400_000_000, step={"cuts": [1]}, **proof), 0.861, 0.84, 0.88),
        Stage("a:2", "a:1", STEP, "2 model.7 -60%", 2_100_000, 6_900_000_000, step={"cuts": [2]}, proof="NOT EQUAL 1e-2", proved=False),
        measured(
            Stage("a:3", "a:1", STEP, "2 model.6.m.0.cv1 -50%", 2_500_000, 6_500_000_000, step={"cuts": [3]}, **proof), 0.79, 0.76, 0.82
        ),
        Stage("file:refit.pt", "a:3", "reconstruct", "refit.pt", 2_500_000, 6_500_000_000, path="refit.pt"),
        measured(Stage("b:", "a:3", "finetune", "tuned.pt", 2_500_000, 6_500_000_000, path="tuned.pt"), 0.889, 0.866, 0.912, 6.9),
        Stage("b:1", "b:", STEP, "1: model.8 -25%", 2_300_000, 6_100_000_000, step={"cuts": [4]}, **proof),
    )
    lineage.here = "b:1"
    return Shown(lineage, DATA, "mAP", frozenset(), tuple(stage.id for stage in lineage.chain("b:1")))


@pytest.mark.parametrize("width", [116, 76])
def test_tree_of_stages_is_drawn_like_a_log_with_the_figures_of_each_stage(width: int):
    shown = branching_lineage()
    lines, at = graph_lines(shown, width, "a:3", "a:")
    assert at == 4 and all(line.cell_len <= width for line in lines)
    stage = shown.lineage.stages["a:3"]
    told = [line.plain.rstrip() for line in stage_lines(shown, stage, shown.lineage.stages["a:"], width)]
    check_golden(f"lineage-{width + 4}", "\n".join([*(line.plain.rstrip() for line in lines), "", *told]))


def test_stage_measured_on_other_data_shows_no_metric():
    shown = replace(branching_lineage(), data="other.yaml")
    assert ".894" not in "".join(line.plain for line in graph_lines(shown, 116)[0])


def test_opened_file_is_attached_to_the_stage_that_made_it():
    lineage = branching_lineage().lineage
    lineage.opened(Stage("c:", "", "reconstruct", "refit.pt", path="refit.pt"))
    assert [stage.id for stage in lineage.chain("c:")] == ["a:", "a:1", "a:3", "c:"]
    assert "file:refit.pt" not in lineage.stages and lineage.here == "c:"
    assert [stage.id for stage in lineage.ancestors()] == ["a:", "a:1", "a:3"]
    assert lineage.original is lineage.stages["a:"] and lineage.root_of("b:1") is lineage.stages["b:"]
    assert lineage.steps_of("a:3") == [{"cuts": [1]}, {"cuts": [3]}]


def merging(content: str) -> Lineage:
    """A refitted file that was opened since a session was left, which knows it by its path alone; what its path has now decides."""
    before, after = branching_lineage().lineage, branching_lineage().lineage
    after.opened(Stage("c:", "", "reconstruct", "refit.pt", path="refit.pt"))
    merged = Lineage()
    merged.put(*after, *before, Stage("file:next.pt", "file:refit.pt", "finetune", "next.pt", path="next.pt"))
    assert merged.doubtful_paths == ["refit.pt"]
    merged.merge_files({"refit.pt": content})
    assert not merged.doubtful_paths
    return merged


@pytest.mark.parametrize("content", ["c:", ""])
def test_file_that_was_opened_since_a_session_was_left_is_one_stage(content: str):
    merged = merging(content)
    assert [stage.id for stage in merged if stage.path == "refit.pt"] == ["c:"] and merged.stages["c:"].parent == "a:3"
    assert merged.stages["file:next.pt"].parent == "c:"
    merged.replace_file(Stage("file:refit.pt", "a:1", "reconstruct", "refit.pt", path="refit.pt"))
    assert not merged.doubtful_paths
    assert [stage.id for stage in merged if stage.path == "refit.pt"] == ["file:refit.pt"], "the file of before was overwritten"


def test_latency_of_a_file_stays_known_when_it_is_opened_again():
    lineage = Lineage()
    root = Stage("a" * 16 + ":", "", ORIGINAL, "best.pt", path="/w/best.pt")
    lineage.put(replace(root, latency=3.5))
    lineage.opened(root)
    assert lineage.stages[root.id].latency == 3.5


def test_file_that_was_written_again_since_it_was_opened_is_not_dropped():
    merged = merging("d:")
    assert [stage.id for stage in merged if stage.path == "refit.pt"] == ["file:refit.pt"]
    assert merged.stages["c:"].overwritten and merged.stages["file:next.pt"].parent == "file:refit.pt"


def test_what_was_made_from_a_file_stays_below_it_when_it_is_opened():
    lineage = branching_lineage().lineage
    lineage.put(Stage("file:next.pt", "file:refit.pt", "finetune", "next.pt", path="next.pt"))
    lineage.opened(Stage("c:", "", "reconstruct", "refit.pt", path="refit.pt"))
    assert [stage.id for stage in lineage.chain("file:next.pt")] == ["a:", "a:1", "a:3", "c:", "file:next.pt"]
    lineage.opened(Stage("d:", "", "reconstruct", "refit.pt", path="refit.pt"))
    assert [stage.id for stage in lineage if stage.path == "refit.pt"] == ["d:"] and lineage.stages["c:"].overwritten


def test_file_that_was_overwritten_and_is_as_it_was_before_again_keeps_its_place():
    lineage = Lineage()
    lineage.opened(Stage("a:", "", ORIGINAL, "best.pt", path="best.pt"))
    lineage.put(Stage("a:1", "a:", STEP, "1: model.5 -30%"))
    lineage.replace_file(Stage(f"{FILE}best.pt", "a:1", "finetune", "best.pt", path="best.pt"))
    lineage.put(Stage(f"{FILE}next.pt", f"{FILE}best.pt", "recalibrate", "next.pt", path="next.pt"))
    lineage.opened(Stage("a:", "", ORIGINAL, "best.pt", path="best.pt"))
    assert {line.stage.id: line.stage.parent for line in lineage.graph()} == {"a:": "", "a:1": "a:", f"{FILE}next.pt": "a:"}
    assert not lineage.stages["a:"].overwritten


def test_file_that_is_written_again_is_the_newest_stage():
    lineage = Lineage()
    lineage.put(Stage("a:", "", ORIGINAL, "best.pt", path="best.pt"))
    for path in ("one.pt", "other.pt", "one.pt"):
        lineage.replace_file(Stage(f"{FILE}{path}", "a:", "reconstruct", path, path=path))
    assert [stage.path for stage in lineage] == ["best.pt", "other.pt", "one.pt"]


def test_reason_why_a_stage_cannot_be_opened_tells_an_overwritten_file_from_a_missing_and_an_unknown_one(tmp_path: Path):
    path = str(tmp_path / "tuned.pt")
    tuned, step = Stage("b:", "", "finetune", "tuned.pt", path=path), Stage("b:1", "b:", STEP, "1: model.8 -25%")
    assert missing_file(step, tuned) == f"{path} no longer exists"
    (tmp_path / "tuned.pt").touch()
    assert missing_file(step, tuned) == missing_file(tuned, tuned) == ""
    lineage = Lineage()
    lineage.put(tuned, step)
    lineage.replace_file(Stage(f"{FILE}{path}", "", "finetune", "tuned.pt", path=path))
    gone = Stage.of(lineage.stages["b:"].plain)
    assert missing_file(gone, gone) == "tuned.pt was overwritten"
    assert missing_file(step, gone) == "tuned.pt, which 1: model.8 -25% starts from, was overwritten"
    assert missing_file(tuned, replace(tuned, path="")) == "the file of tuned.pt is not known here: open it by its path"


def test_provenance_of_a_file_becomes_a_chain_of_stages():
    told = [
        {"kind": "prune", "source": "best.pt", "sha256": "a" * 64, "parameters": 3_010_000},
        {"kind": "finetune", "source": "small.pt", "sha256": "b" * 64},
    ]
    found = from_stages(told)
    assert [(stage.kind, stage.title, stage.parent, stage.parameters) for stage in found] == [
        ("original", "best.pt", "", 3_010_000),
        ("prune", "small.pt", found[0].id, 0),
    ]


def test_stage_is_restored_from_a_journal_also_of_a_later_version():
    for stage in branching_lineage().lineage:
        assert Stage.of({**stage.plain, "mood": "good"}) == stage


def test_recovered_files_are_those_of_the_present_step_the_newest_first():
    state = SimpleNamespace(lineage=branching_lineage().lineage, recovered="")
    state.lineage.here = "a:3"
    assert recovered_files(state) == ["tuned.pt", "refit.pt"] and nothing_recovered(state) == ""
    state.recovered = "last.pt"
    assert recovered_files(state) == ["last.pt", "tuned.pt", "refit.pt"]
    state.recovered, state.lineage.here = "", "a:2"
    assert recovered_files(state) == [] and nothing_recovered(state) == "nothing was recovered from this step: H shows what was"
    state.lineage.here = "b:1"
    del state.lineage.stages["file:refit.pt"]
    assert nothing_recovered(state) == "nothing was recovered yet: R does", "the open file is not a result of its own steps"
    state.lineage = Lineage()
    assert nothing_recovered(state) == "nothing was recovered yet: R does"


async def test_recalibrated_file_is_opened_as_the_next_stage_and_keeps_original_and_steps(
    start, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    target = tmp_path / "digits-recovered.pt"
    async with start(opening=Opening(str(demo_checkpoint), imgsz=64, images=2, data=str(demo_data))) as desk:
        desk.state.automatic = False
        await desk.until(lambda: desk.state.metrics.baseline is not None, "the original's metric")
        original = desk.state.session.original
        await desk.press("O")
        await desk.until(lambda: any("nothing was recovered yet" in said for said in desk.said), "the refusal")
        await desk.go("model.5")
        await desk.press("3", "0", "enter", "a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        await desk.until(lambda: desk.state.session.steps[0].proof is not None, "its proof")
        await desk.press("R")
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the ways")
        await desk.press(str(NUMBERS["recalibrate"]))
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the place")
        await desk.press("ctrl+u", *str(target), "enter")
        await desk.until(lambda: any("to continue from it" in said for said in desk.said), "the file")
        assert target.exists() and desk.state.session.unsaved, "a job's file is not a place where the user saved"
        assert any("57 layers recalibrated" in note for note, _ in desk.state.notes)
        await desk.press("u")
        await desk.until(lambda: not desk.state.session.steps, "the step undone")
        await desk.go("model.7")
        await desk.press("2", "0", "enter", "a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "another step")
        await desk.press("H")
        await desk.until(lambda: isinstance(desk.app.screen, Stages) and "model.7 −20%" in desk.text, "the lineage")
        assert "├─● 1: model.5 −30%" in desk.text and "recalibrated" in desk.text
        await desk.press("g", "G", "k", "k", "enter")
        await desk.until(lambda: [step.title for step in desk.state.session.steps] == ["model.5 -30%"], "the step before")
        before = desk.bench
        await desk.press("O")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
        await desk.press("enter")
        await desk.until(lambda: desk.ready and desk.bench is not before, "the next stage")
        assert desk.state.opened.model.path == str(target) and not desk.state.session.steps
        assert desk.state.layers["model.5"].out_channels == 90 and desk.state.checkpoint.data == str(demo_data)
        assert desk.state.origin.parameters == original.parameters
        assert desk.state.session.original.parameters < original.parameters
        assert [stage.title for stage in desk.state.lineage.ancestors()] == ["digits.pt", "1: model.5 -30%"]
        await desk.until(lambda: "│ digits.pt" in desk.text and "│ 1: model.5 −30%" in desk.text, "the ancestors above the steps")
        assert "proved" in desk.line("│ 1: model.5 −30%")
        assert desk.state.origin_metric is not None and "→" in desk.line("GFLOPs")
        await desk.until(lambda: any(kept.model == str(target) for kept in sessions.sessions()), "the journal of the next stage")
        kept = next(kept for kept in sessions.sessions() if kept.model == str(target))
        assert [stage["title"] for stage in kept.lineage][:2] == ["digits.pt", "1: model.5 -30%"]
        await desk.press("H")
        await desk.until(lambda: isinstance(desk.app.screen, Stages), "the lineage")
        await desk.press("up", "enter")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
        words = desk.app.screen._text
        assert words.endswith("It becomes the open file, with the steps up to 1: model.5 -30%; this session is kept.")
        before = desk.bench
        await desk.press("g")
        await desk.until(lambda: desk.ready and desk.bench is not before, "the stage before")
        assert [step.title for step in desk.state.session.steps] == ["model.5 -30%"]
        assert {stage.kind for stage in desk.state.lineage} >= {"original", "step", "recalibrate"}
        assert not desk.state.recovered, "it was recovered in another session"
        await desk.press("O")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question about the file recovered before")
        assert target.name in desk.text
        await desk.press("escape")
        target.rename(target.with_suffix(".moved"))
        await desk.press("O")
        await desk.until(lambda: any(f"{target} no longer exists" in said for said in desk.said), "the refusal of a file that is gone")
        desk.state.lineage.put(Stage("file:lost.pt", desk.state.lineage.here, "finetune", "lost.pt", path="lost.pt"))
        target.with_suffix(".moved").rename(target)
        await desk.press("O")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question about the newest file that exists")
        assert target.name in desk.text
        await desk.press("escape")
    resumed = sessions.session_to_resume(kept.id)
    async with start(opening=Opening.of(resumed)) as desk:
        await desk.until(lambda: any("back in the session" in said for said in desk.said), "the session")
        assert [stage.title for stage in desk.state.lineage.ancestors()] == ["digits.pt", "1: model.5 -30%"]


async def test_figures_measured_in_sessions_of_a_recovered_file_are_in_the_lineage_of_the_original_until_it_is_overwritten(
    start, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    file, data = tmp_path / "refit.pt", str(demo_data)
    file.write_bytes(b"refitted")
    own = {"steps": [], "checkpoint": demo_checkpoint.name, "sha256": hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()}
    settings = {"imgsz": 64, "images": 2, "data": data, "data_status": sessions.status_of_data(data)}
    stale = {"metric": 0.1, "low": 0.05, "high": 0.15, "latency": 1.0, "data": data}
    made = Stage(f"{FILE}{file}", f"{own['sha256'][:16]}:", "reconstruct", "refit.pt", 2_500_000, 380_000_000, path=str(file), **stale)
    refit = {"model": str(file), "plan": {"steps": [], "sha256": hashlib.sha256(b"refitted").hexdigest()}}
    timed = {"metrics": {"": 0.7}, "latencies": {"": 6.9}}
    for id, content in (
        ("original", {**settings, "model": str(demo_checkpoint), "plan": own, "lineage": [made.plain]}),
        ("refit", {**settings, **refit, "metrics": {"": 0.851}, "intervals": {"": (0.82, 0.88)}}),
        ("more-images", {**settings, **refit, "images": 3, **timed}),
        ("larger", {**settings, **refit, "imgsz": 128, "metrics": {"": 0.8}, "latencies": {"": 9.9}}),
    ):
        kept = sessions.SessionFile(id)
        kept.keep(sessions.SavedSession(id=id, steps=0, marks=["model.5"], **content))
        kept.close()
    saved = sessions.session_to_resume("original")
    async with start(opening=Opening.of(saved)) as desk:
        await desk.until(lambda: any("back in the session" in said for said in desk.said), "the session")
        await desk.until(lambda: desk.state.lineage.stages[made.id].metric is not None, "the metric of the other file")
        found = desk.state.lineage.stages[made.id]
        assert (found.metric, found.low, found.high, found.latency, found.data) == (0.851, 0.82, 0.88, 6.9, data)
        await desk.press("H")
        await desk.until(lambda: isinstance(desk.app.screen, Stages), "the lineage")
        assert ".851" in desk.line("refit.pt") and ".820 to .880" in desk.line("refit.pt")
        await desk.press("escape")
        before = file.stat()
        file.write_bytes(b"overwritten")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        autosave = desk.controllers.autosave
        autosave._restore_metrics(saved.model_copy(update={"lineage": [found.plain]}))
        await autosave._take_figures_of_files()
        found = desk.state.lineage.stages[made.id]
        assert (found.metric, found.low, found.high, found.latency) == (None, None, None, None), "measured before it was overwritten"


async def test_newer_file_of_a_path_is_told_from_the_opened_one_by_its_content(start, demo_checkpoint: Path, tmp_path: Path):
    made = []
    for name, opened, present in (("same.pt", b"one", b"one"), ("again.pt", b"two", b"written again")):
        file, id = tmp_path / name, file_id(hashlib.sha256(opened).hexdigest())
        file.write_bytes(present)
        made += [Stage(id, "", "reconstruct", name, path=str(file)), Stage(f"{FILE}{file}", "", "reconstruct", name, path=str(file))]
    async with start(opening=Opening(str(demo_checkpoint), imgsz=64, lineage=tuple(made))) as desk:
        await desk.until(lambda: not desk.state.lineage.doubtful_paths, "the merged stages")
        stages = desk.state.lineage.stages
        assert made[0].id in stages and made[1].id not in stages
        assert stages[made[2].id].overwritten and stages[made[3].id].path


async def test_file_made_from_one_that_is_merged_gets_its_figures_too(start, demo_checkpoint: Path, tmp_path: Path):
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    kept, plan = sessions.SessionFile("second"), {"steps": [], "sha256": hashlib.sha256(b"second").hexdigest()}
    kept.keep(sessions.SavedSession(id="second", model=str(second), steps=0, plan=plan, imgsz=64, latencies={"": 6.9}))
    kept.close()
    opened, unknown = (file_id(hashlib.sha256(b"first").hexdigest()), f"{FILE}{first}")
    made = [Stage(id, "", "reconstruct", "first.pt", path=str(first)) for id in (opened, unknown)]
    made.append(Stage(f"{FILE}{second}", unknown, "finetune", "second.pt", path=str(second)))
    async with start(opening=Opening(str(demo_checkpoint), imgsz=64, lineage=tuple(made))) as desk:
        await desk.until(lambda: not desk.state.lineage.doubtful_paths, "the merged stages")
        found = desk.state.lineage.stages[made[2].id]
        assert (found.parent, found.latency) == (opened, 6.9)


async def test_figures_of_files_are_read_again_when_another_stage_is_opened(start, demo_checkpoint: Path, tmp_path: Path):
    made = []
    for name in ("same.pt", "overwritten.pt"):
        file = tmp_path / name
        file.write_bytes(b"refitted")
        made.append(Stage(f"{FILE}{file}", "", "reconstruct", name, path=str(file), latency=1.0))
        kept, plan = sessions.SessionFile(name), {"steps": [], "sha256": hashlib.sha256(b"refitted").hexdigest()}
        kept.keep(sessions.SavedSession(id=name, model=str(file), plan=plan, steps=0, imgsz=64, latencies={"": 6.9}))
        kept.close()
    file.write_bytes(b"overwritten")
    async with start(opening=Opening(str(demo_checkpoint), imgsz=64, lineage=tuple(made))) as desk:
        await desk.until(lambda: desk.state.lineage.stages[made[0].id].latency == 6.9, "the latency of the present content")
        assert desk.state.lineage.stages[made[1].id].latency is None


def test_files_of_earlier_sessions_with_relative_paths_are_found_by_their_absolute_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    saved = [
        Stage("a" * 16 + ":", "", ORIGINAL, "best.pt", path="best.pt"),
        Stage("file:runs/r.pt", "a" * 16 + ":", "reconstruct", "r.pt", path="runs/r.pt"),
        Stage("file:next.pt", "file:runs/r.pt", "finetune", "next.pt", path="next.pt"),
    ]
    state = SimpleNamespace(lineage=Lineage(), opened=SimpleNamespace(model=SimpleNamespace(content="b" * 64)))
    monkeypatch.setattr(session_stages, "follow", lambda state: None)
    session_stages.restore_lineage(state, [stage.plain for stage in saved])
    first = f"{FILE}{tmp_path / 'runs' / 'r.pt'}"
    assert [(stage.id, stage.parent, stage.path) for stage in state.lineage] == [
        ("a" * 16 + ":", "", str(tmp_path / "best.pt")),
        (first, "a" * 16 + ":", str(tmp_path / "runs" / "r.pt")),
        (f"{FILE}{tmp_path / 'next.pt'}", first, str(tmp_path / "next.pt")),
    ]
    state.lineage.opened(Stage("b" * 16 + ":", "", ORIGINAL, "r.pt", path=str(tmp_path / "runs" / "r.pt")))
    assert state.lineage.stages["b" * 16 + ":"].parent == "a" * 16 + ":" and first not in state.lineage.stages
