"""A checkpoint under a name that is not UTF-8 in the app: listed, opened, cut, kept, and gone on with."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from tests.odd_names import SHOWN, odd_copy, odd_path
from tests.tui.helpers import Desk, screen_text, until
from tui_pruner import sessions
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.recent import recent_checkpoints
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.workbench import Workbench


async def test_it_is_chosen_from_the_list_cut_kept_and_resumed_and_its_plan_saved(tiny_checkpoint: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = odd_copy(tiny_checkpoint, tmp_path)
    app = PrunerApp(None)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and SHOWN in screen_text(app), "the list of files")
        app.screen.query_one(Input).value = file.name
        await pilot.press("enter")
        desk = Desk(app, pilot)
        await until(pilot, lambda: isinstance(app.screen, Workbench) and desk.ready, "the model")
        assert SHOWN in desk.text and desk.text.encode()
        await desk.go("model.5")
        await desk.press("2", "5", "enter", "a")
        await desk.until(lambda: len(desk.board.session.steps) == 1, "the step")
        await desk.until(lambda: bool(sessions.sessions()), "the kept session")
    assert recent_checkpoints()[0].path == file
    saved = sessions.session_to_resume()
    assert (saved.model, saved.steps, saved.plan["checkpoint"]) == (file.name, 1, file.name)

    app = PrunerApp(Opening.of(saved))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await until(pilot, lambda: desk.ready and len(desk.board.session.steps) == 1, "the step")
        plan = odd_path(tmp_path, b"pl\xe9n.yaml")
        desk.bench.session.save_plan(str(plan), False)
        await desk.until(plan.exists, "the plan")
        await desk.until(lambda: any(r"pl\xe9n.yaml" in said for said in desk.said), "the word on it")
        app.notify(file.name, markup=False)
        await desk.until(lambda: desk.text.count(SHOWN) > 1, "the notification")
