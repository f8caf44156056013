"""Without a model the start screen asks for one; a file that is none is explained there."""

from pathlib import Path

from textual.widgets import Input

from tests.tui.helpers import screen_text, until
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.recent import checkpoints_near
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.workbench import Workbench


async def test_a_typed_path_is_opened_and_a_missing_one_explained(tiny_checkpoint):
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and bool(app.screen.query(Input)), "the start screen")
        assert "Which checkpoint" in screen_text(app) and "demo" in screen_text(app)
        await pilot.press(*"nowhere.pt", "enter")
        await until(pilot, lambda: "nowhere.pt does not exist" in screen_text(app), "the explanation")
        app.screen.query_one(Input).value = str(tiny_checkpoint)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Workbench) and app.screen.board is not None, "the model")


async def test_a_file_that_is_no_checkpoint_leads_back_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path, which no line breaks
    Path("notes.pt").write_text("not a checkpoint")
    app = PrunerApp(Opening("notes.pt"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and "notes.pt" in screen_text(app), "the start screen")
        assert "Which checkpoint" in screen_text(app)


def test_checkpoints_near_are_the_newest_first(tmp_path):
    import os

    best = tmp_path / "runs" / "detect" / "train" / "weights" / "best.pt"
    best.parent.mkdir(parents=True)
    for age, path in enumerate((best, tmp_path / "a.pt")):
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "a.txt").touch()
    assert [str(path) for path in checkpoints_near(tmp_path)] == ["runs/detect/train/weights/best.pt", "a.pt"]
