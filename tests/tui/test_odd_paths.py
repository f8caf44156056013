"""A checkpoint under a name that is not UTF-8 in the app: listed, opened, saved, resumed, and its plan saved."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from tests.odd_names import CAFE, SHOWN, odd_copy, odd_path
from tests.tui.helpers import Desk, screen_text, until
from tui_pruner.core.pruning.plan import Cut, Plan, Step, read_plan
from tui_pruner.storage import sessions
from tui_pruner.storage.trust import fingerprint
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening, recent_checkpoints, remember
from tui_pruner.tui.screens.start import StartScreen


async def test_odd_path_is_listed_by_a_printable_name(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd_path(tmp_path, b"caf\xe9.pt").write_bytes(b"x")
    remember(str(tmp_path / CAFE))
    assert recent_checkpoints()[0].path == tmp_path / CAFE
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and SHOWN in screen_text(app), "the list of files")
        app.notify(f"told {CAFE}", markup=False)
        app.screen.query_one(Input).value = f"none-{CAFE}"
        await pilot.press("enter")
        await until(pilot, lambda: f"told {SHOWN}" in screen_text(app) and "does not exist" in screen_text(app), "the answers")
        assert screen_text(app).encode()


async def test_session_on_an_odd_path_is_resumed_and_its_plan_saved(demo_checkpoint: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = odd_copy(demo_checkpoint, tmp_path)
    plan = Plan(checkpoint=CAFE, sha256=fingerprint(file), steps=[Step(cuts=[Cut(layer="model.5", amount="25%")])])
    kept = sessions.SessionFile(sessions.new_id(CAFE))
    kept.keep(sessions.SavedSession(id=kept.id, model=CAFE, imgsz=64, plan=plan.plain(), steps=1))
    kept.close()
    app = PrunerApp(Opening.of(sessions.session_to_resume()))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await until(pilot, lambda: desk.ready and len(desk.state.session.steps) == 1, "the step")
        assert SHOWN in desk.text and desk.text.encode()
        assert sessions.sessions()[0].running
        saved = odd_path(tmp_path, b"pl\xe9n.yaml")
        desk.engine.save_plan(str(saved), False)
        await desk.until(lambda: any(r"pl\xe9n.yaml" in said for said in desk.said), "the word on the plan")
    assert read_plan(saved).checkpoint == CAFE and read_plan(saved).steps[0].cuts[0].removes
