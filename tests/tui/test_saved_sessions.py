"""A session that crashed is restored with its steps, marks, ratios and results."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.tui.helpers import Desk
from tui_pruner.domain.cuts import Amount
from tui_pruner.domain.lineage import Stage
from tui_pruner.engine.search_messages import ScanDrops
from tui_pruner.storage import sessions
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.controllers import autosave as autosave_module
from tui_pruner.tui.engine_session import EngineSession
from tui_pruner.tui.job_specs.search import Scanned
from tui_pruner.tui.messages import ModelChosen, RequestRefused
from tui_pruner.tui.opening import Opening, unfinished_sessions
from tui_pruner.tui.screens.prompts import Question


def add_metric_to_saved_session() -> str:
    """Add a metric to the only kept session, whose window is gone; gives its id."""
    (saved,) = sessions.sessions()
    assert not saved.running
    file = sessions.SessionFile(saved.id)
    file.keep(saved.model_copy(update={"metrics": {"": 0.5}, "metric": "mAP", "resamples": {"": [0.4, 0.6]}}))
    file.close()
    return saved.id


async def make_two_steps_and_undo_one(desk: Desk) -> None:
    """Two steps, one of them undone; a ratio, and a mark."""
    for layer, percent in (("model.5", "25"), ("model.7", "50")):
        steps = len(desk.state.session.steps)
        await desk.go(layer)
        await desk.press(*percent, "enter", "a")
        await desk.until(lambda n=steps: len(desk.state.session.steps) == n + 1, "the step")
    await desk.press("u")
    await desk.until(lambda: len(desk.state.session.steps) == 1, "the undone step")
    await desk.go("model.16")
    await desk.press("space", "4", "0", "enter")
    await desk.until(lambda: bool((kept := sessions.sessions()) and kept[0].asked), "the kept session")


def is_restored(desk: Desk) -> bool:
    board = desk.state
    return (
        [step.title for step in board.session.steps],
        [step.title for step in board.session.ahead],
        dict(board.pending.amounts),
        board.marks,
        desk.state.metrics.baseline,
        desk.state.metrics.resamples,
    ) == (["model.5 -25%"], ["model.7 -50%"], {"model.16": Amount.share(40)}, {"model.16"}, 0.5, {"": [0.4, 0.6]})


async def test_crashed_session_is_offered_for_resuming_and_a_closed_one_only_on_request(start, tiny_checkpoint: Path):
    async with start() as desk:
        await make_two_steps_and_undo_one(desk)
    dropped = add_metric_to_saved_session()
    async with start() as desk:
        await desk.until(lambda: "Resume the last session?" in desk.text, "the offer")
        assert "2 steps, 1 ratio not applied" in desk.text
        await desk.press("g")
        await desk.until(lambda: is_restored(desk), "the session")
        assert desk.tree.row is not None and desk.tree.row.key == "model.16"
        await desk.until(lambda: desk.state.session.steps[0].proof is not None, "its proof")
        assert desk.state.session.layers["model.5"].out_after == 96
        await desk.press("q")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
        await desk.press("q")
        await desk.until(lambda: sessions.sessions()[0].left, "the kept session")
    assert add_metric_to_saved_session() == dropped
    saved = sessions.session_to_resume()
    assert saved.left
    async with start(opening=Opening.of(saved)) as desk:
        await desk.until(lambda: is_restored(desk), "the session")


async def test_returning_to_a_stage_resumes_its_session_without_a_question(start, tiny_checkpoint: Path, demo_data: Path):
    async with start() as desk:
        await make_two_steps_and_undo_one(desk)
        first, data = desk.state, str(demo_data)
        first.automatic, first.checkpoint.data, first.metrics.by_plan = False, data, {"": 0.5}
        desk.bench.store.update(scan=Scanned("l2", data, 2, "mAP", 0.5, {"model.5": {0.3: 0.1}}, ScanDrops(baseline=0.5, trials=[])))
        await desk.until(lambda: bool(sessions.sessions()[0].scan), "the kept scan")
        assert sessions.sessions()[0].data_status == sessions.status_of_data(data) != ""
        desk.app.post_message(ModelChosen(first.opened.model.path, data, tuple(first.lineage)))
        await desk.until(lambda: desk.ready and desk.state is not first and len(desk.state.session.ahead) == 2, "its session")
        assert not isinstance(desk.app.screen, Question) and not desk.state.session.steps
        await desk.until(lambda: desk.state.scan is not None and desk.state.metrics.baseline == 0.5, "its measurements")
        await desk.until(lambda: desk.state.marks == {"model.16"}, "its mark")
        await desk.until(lambda: desk.state.pending.amounts == {"model.16": Amount.share(40)}, "its ratio")


async def test_sessions_and_the_data_they_were_measured_on_are_read_beside_the_interface(
    start, saved: sessions.SavedSession, demo_data: Path, monkeypatch: pytest.MonkeyPatch
):
    data = str(demo_data)
    file = sessions.SessionFile(saved.id)
    file.keep(saved.model_copy(update={"data": data, "data_status": sessions.status_of_data(data)}))
    file.close()
    threads: dict[str, set[threading.Thread]] = {}
    for name in ("read", "status_of_data", "fingerprint"):
        work = getattr(sessions, name)
        monkeypatch.setattr(
            sessions, name, lambda *all, n=name, w=work: threads.setdefault(n, set()).add(threading.current_thread()) or w(*all)
        )
    opening = replace(Opening.of(saved), saved=None, data=None)
    async with start(opening=opening) as desk:
        await desk.until(lambda: "Resume the last session?" in desk.text, "the offer")
        await desk.press("g")
        await desk.until(lambda: is_restored(desk), "the session")
        other = Stage("file:other.pt", "", "recalibrate", "other.pt", path="other.pt")
        first = desk.state
        desk.app.post_message(ModelChosen(opening.model, data, (*first.lineage, other)))
        await desk.until(lambda: desk.ready and desk.state is not first and len(desk.state.session.ahead) == 2, "its session")
        assert desk.state.checkpoint.opening.kept is None, "what was read is not kept any longer than it is needed"
    assert {"read", "status_of_data"} <= threads.keys() and threading.main_thread() not in set.union(*threads.values())


async def test_offer_names_only_what_the_session_has(start, saved: sessions.SavedSession):
    file = sessions.SessionFile(saved.id)
    file.keep(saved.model_copy(update={"asked": {}}))
    file.close()
    async with start(opening=replace(Opening.of(saved), saved=None)) as desk:
        await desk.until(lambda: "Resume the last session?" in desk.text, "the offer")
        assert "2 steps" in desk.text and "ratio" not in desk.line("2 steps")


async def test_sessions_that_cannot_be_read_do_not_keep_a_model_from_opening(start, monkeypatch: pytest.MonkeyPatch):
    def broken(text: str) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(sessions, "sessions", broken)
    async with start() as desk:
        assert any("reading the kept sessions" in note and failed for note, failed in desk.state.notes)


async def test_nothing_is_saved_until_a_session_is_resumed_or_refused(start, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path):
    async with start() as desk:
        await make_two_steps_and_undo_one(desk)
        (kept,), first, asked = sessions.sessions(), desk.state, []
        monkeypatch.setattr(EngineSession, "resume", lambda *all: asked.append(all))
        other = Stage("file:other.pt", "", "recalibrate", "other.pt", path="other.pt")
        desk.app.post_message(ModelChosen(first.opened.model.path, None, (*first.lineage, other)))
        await desk.until(lambda: desk.ready and desk.state is not first and bool(asked), "the wish to resume")
        autosave = desk.controllers.autosave
        autosave.keep()
        await autosave._write()
        autosave.leave()
        assert [one.id for one in sessions.sessions()] == [kept.id]
        autosave.take_refusal(RequestRefused("of another checkpoint", during="resumed"))
        await desk.until(lambda: len(sessions.sessions()) == 2, "the session of its own")


async def test_file_that_is_written_again_from_another_step_is_saved(start):
    async with start() as desk:
        lineage = desk.state.lineage
        steps = [Stage(f"{lineage.here}{number}", lineage.here, "step", f"step {number}") for number in (1, 2)]
        lineage.put(*steps)
        for step in steps:
            lineage.replace_file(Stage("file:refit.pt", step.id, "reconstruct", "refit.pt", path="refit.pt"))
            desk.bench.store.touch("lineage")
            await desk.until(lambda id=step.id: any(one.lineage[-1]["parent"] == id for one in sessions.sessions()), step.title)


async def test_measurements_that_were_only_taken_over_make_no_further_session(start, saved: sessions.SavedSession, demo_data: Path):
    branch = {"id": "a:", "parent": "", "kind": "finetune", "title": "a", "path": "a.pt"}
    told = {"data": str(demo_data), "data_status": sessions.status_of_data(str(demo_data)), "left": True, "lineage": [branch]}
    file = sessions.SessionFile(saved.id)
    file.keep(saved.model_copy(update=told))
    file.close()
    async with start(opening=replace(Opening.of(saved), saved=None, data=str(demo_data))) as desk:
        autosave = desk.controllers.autosave
        assert desk.state.metrics.baseline == 0.5 and "a:" in desk.state.lineage.stages
        await autosave._write()
        assert [one.id for one in sessions.sessions()] == [saved.id]
        desk.state.metrics.latencies["new"] = 4.0
        await autosave._write()
        assert len(sessions.sessions()) == 2
        del desk.state.metrics.latencies["new"]
        await autosave._write()
        assert [one.id for one in sessions.sessions()] == [saved.id]
        desk.state.metrics.by_plan["new"] = 0.4
        await autosave._write()
        assert len(sessions.sessions()) == 2
        assert [one.opening.saved.id for one in unfinished_sessions() if one.opening.saved] == [saved.id]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def saved(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> sessions.SavedSession:
    """What an app whose window was closed has left of the work, with a metric."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("kept")))
        app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64))
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            desk = Desk(app, pilot)
            await desk.until(lambda: desk.ready, "the model")
            await make_two_steps_and_undo_one(desk)
        add_metric_to_saved_session()
        return sessions.session_to_resume()


async def test_session_of_another_checkpoint_is_refused_and_not_lost(start, saved: sessions.SavedSession):
    file = sessions.SessionFile(saved.id)
    file.keep(saved)
    file.close()
    other = saved.model_copy(update={"plan": {**saved.plan, "sha256": "0" * 64}})
    async with start(opening=Opening.of(other)) as desk:
        await desk.until(lambda: any("not for this checkpoint" in said for said in desk.said), "the refusal")
        assert not desk.state.session.steps
    assert sessions.session_to_resume(saved.id).steps == 1


async def test_full_disk_is_reported_once_and_the_session_is_saved_later(start, monkeypatch: pytest.MonkeyPatch):
    def full(file: sessions.SessionFile, session: sessions.SavedSession) -> None:
        raise OSError(28, "No space left on device")

    async with start() as desk:
        with monkeypatch.context() as disk:
            disk.setattr(sessions.SessionFile, "keep", full)
            await desk.go("model.5")
            await desk.press("space", "3", "0", "enter")
            await desk.until(lambda: any("No space left on device" in said for said in desk.said), "the complaint")
            await desk.press("space", "space", "a")
            await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
            assert sum("No space left" in said for said in desk.said) == 1
        await desk.until(lambda: bool(sessions.sessions()), "the session, once there is room")


async def test_metrics_are_restored_only_with_the_data_and_the_settings_of_their_measurement(
    start, saved: sessions.SavedSession, demo_data: Path, tmp_path: Path
):
    shutil.copytree(demo_data.parent, tmp_path / "demo")
    theirs = tmp_path / "demo" / demo_data.name
    label = next((tmp_path / "demo" / "labels" / "val").glob("*.txt"))
    figures = {
        "latencies": {"": 5.0},
        "lineage": [{"id": "a:", "parent": "", "kind": "finetune", "title": "a", "metric": 0.4, "latency": 6.0, "data": str(theirs)}],
    }
    told = {"data": str(theirs), "data_status": sessions.status_of_data(str(theirs)), **figures}
    with_data = saved.model_copy(update=told)
    assert with_data.data_status
    async with start(opening=replace(Opening.of(with_data), saved=None, data=None)) as desk:
        autosave, opening = desk.controllers.autosave, Opening.of(with_data)

        def back(data: str | None, opening: Opening) -> tuple[float | None, float | None, float | None]:
            """The metric after resuming, with these data and settings, then the latency, and the metric of the other stage."""
            desk.state.metrics.by_plan, desk.state.metrics.latencies = {}, {}
            desk.state.checkpoint.data, desk.state.checkpoint.opening = data, opening
            autosave._statuses.clear()
            autosave._restore_metrics(with_data)
            return desk.state.metrics.baseline, desk.state.metrics.latencies.get(""), desk.state.lineage.stages["a:"].metric

        assert back("other.yaml", opening) == (None, 5.0, None)
        assert back(None, opening) == back(str(theirs), opening) == (0.5, 5.0, 0.4)
        assert desk.state.checkpoint.data == str(theirs)
        assert desk.state.lineage.stages["a:"].data == str(theirs)
        assert back(os.path.relpath(theirs), opening) == back(f"{theirs.parent}/../demo/{theirs.name}", opening) == (0.5, 5.0, 0.4)
        assert desk.state.lineage.stages["a:"].data == desk.state.checkpoint.data == f"{theirs.parent}/../demo/{theirs.name}"
        assert back(str(theirs), replace(opening, imgsz=128)) == (None, None, None)
        assert back(str(theirs), replace(opening, images=3)) == (None, 5.0, None)
        label.write_text(label.read_text() + label.read_text())
        assert back(str(theirs), opening) == (None, 5.0, None)


async def test_status_of_data_is_read_again_when_it_is_chosen_again(start, tmp_path: Path):
    (tmp_path / "images").mkdir()
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    for file in (one, other):
        file.write_text("val: images\nnames: [a]\n", encoding="utf-8")
    async with start() as desk:
        autosave = desk.controllers.autosave
        before = autosave._status_of(str(one))
        one.write_text("val: images\nnames: [a, b]\n", encoding="utf-8")
        assert autosave._status_of(str(one)) == before != ""
        assert autosave._status_of(None) == "" and autosave._status_of(str(one)) == before
        autosave._status_of(str(other))
        assert autosave._status_of(str(one)) == sessions.status_of_data(str(one)) != before


async def test_mark_of_the_last_half_second_is_saved_when_the_terminal_is_gone(start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autosave_module, "SAVE_AFTER", 3600.0)
    async with start() as desk:
        await desk.go("model.5")
        await desk.press("space")
        await desk.until(lambda: desk.state.marks == {"model.5"}, "the mark")
        assert not sessions.sessions()
    (kept,) = sessions.sessions()
    assert kept.marks == ["model.5"] and not kept.left


async def test_mark_whose_write_has_not_begun_is_saved_when_the_terminal_is_gone(start, monkeypatch: pytest.MonkeyPatch):
    go_on = asyncio.Event()
    async with start() as desk:
        autosave = desk.controllers.autosave
        monkeypatch.setattr(autosave, "_write", go_on.wait)
        await desk.go("model.5")
        await desk.press("space")
        await desk.until(lambda: desk.state.marks == {"model.5"} and autosave._due is None and autosave._writing.busy, "the write")
        assert not sessions.sessions()
    go_on.set()
    (kept,) = sessions.sessions()
    assert kept.marks == ["model.5"] and not kept.left


async def test_session_that_has_measured_nothing_is_not_said_to_have_measurements(start, saved: sessions.SavedSession):
    file = sessions.SessionFile(saved.id)
    file.keep(saved.model_copy(update={"left": True, "metrics": {}, "resamples": {}}))
    file.close()
    async with start() as desk:
        await desk.until(lambda: any("the start screen resumes its 2 steps" in said for said in desk.said), "the hint")
        assert not any("measurements of the session" in said for said in desk.said)


async def test_damage_of_a_stages_own_session_is_told_on_returning_to_it(start, saved: sessions.SavedSession):
    async with start() as desk:
        checkpoint, autosave = desk.state.checkpoint, desk.controllers.autosave
        checkpoint.opening = replace(checkpoint.opening, lineage=tuple(desk.state.lineage))
        autosave._restore(saved)
        assert not any("back in the session" in said for said in desk.said)
        autosave._restore(saved.model_copy(update={"damaged": 2}))
        await desk.until(lambda: any("2 lines at the end of its journal could not be read" in said for said in desk.said), "the damage")


async def test_scan_of_the_same_data_by_another_path_is_one_of_the_present_data(
    start, saved: sessions.SavedSession, demo_data: Path, monkeypatch: pytest.MonkeyPatch
):
    data = str(demo_data)
    scan = {"criterion": "l2", "data": data, "images": 2, "metric": "mAP", "baseline": 0.5, "layers": {"model.5": [[0.3, 0.1]]}}
    drops = {"drops": {"baseline": 0.5, "trials": []}, "coupled": {}}
    told = {"data": data, "data_status": sessions.status_of_data(data), "left": True, "scan": {**scan, **drops}}
    file = sessions.SessionFile(saved.id)
    file.keep(saved.model_copy(update=told))
    file.close()
    other = f"{demo_data.parent}/../{demo_data.parent.name}/{demo_data.name}"
    async with start(opening=replace(Opening.of(saved), saved=None, data=other)) as desk:
        await desk.until(lambda: desk.state.scan is not None, "the scan")
        assert desk.state.scan.data == other  # the data itself is given up again: it is of a model with other classes


async def test_step_is_on_the_disk_before_the_screen_shows_it(start, monkeypatch: pytest.MonkeyPatch):
    shown: list[int] = []
    keep = sessions.SessionFile.keep

    def watching(file: sessions.SessionFile, session: sessions.SavedSession) -> None:
        shown.append(len(desk.state.session.steps))
        keep(file, session)

    async with start() as desk:
        await desk.go("model.5")
        await desk.press("3", "0", "enter")
        monkeypatch.setattr(sessions.SessionFile, "keep", watching)
        await desk.press("a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        assert shown[0] == 0 and sessions.sessions()[0].steps == 1
