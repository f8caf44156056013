"""Without a model the start screen asks for one, and explains an invalid file."""

import os
import signal
import threading
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.deadlines import HANGING
from tests.tui.helpers import screen_text, until
from tui_pruner.cli.launch import with_engine
from tui_pruner.engine import processes
from tui_pruner.engine.processes import start_python
from tui_pruner.storage import paths
from tui_pruner.storage.sessions import SavedSession, SessionFile
from tui_pruner.storage.trust import fingerprint
from tui_pruner.tui import opening
from tui_pruner.tui.actions import keymap_of, use
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.drawing import ASCII, UNICODE
from tui_pruner.tui.opening import Opening, checkpoints_below, recent_checkpoints, remember
from tui_pruner.tui.screens import help as first_run
from tui_pruner.tui.screens import start
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.workbench import Workbench


async def wait_for_start_screen(app: PrunerApp, pilot) -> None:
    await until(
        pilot, lambda: isinstance(app.screen, StartScreen) and "browse the folders" in screen_text(app), "the start screen and its list"
    )


async def wait_for_model(app: PrunerApp, pilot) -> None:
    await until(pilot, lambda: isinstance(app.screen, Workbench), "the model")


async def test_path_can_be_typed_while_the_list_is_still_being_read(tiny_checkpoint, monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(start, "start_entries", lambda folder: held.wait(HANGING) and [])
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and bool(app.screen.query(Input)), "the start screen")
        await pilot.press("enter")
        app.screen.query_one(Input).value = str(tiny_checkpoint)
        await pilot.press("enter")
        held.set()
        await wait_for_model(app, pilot)


async def test_typed_path_is_opened_a_missing_one_explained_and_the_opened_one_listed_as_recent(tiny_checkpoint):
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_for_start_screen(app, pilot)
        assert "Which checkpoint" in screen_text(app) and "demo" in screen_text(app)
        await pilot.press(*"nowhere.pt", "enter")
        await until(pilot, lambda: "nowhere.pt does not exist" in screen_text(app), "the explanation")
        await pilot.press("backspace")
        await until(pilot, lambda: "does not exist" not in screen_text(app), "no word about a text that is gone")
        app.screen.query_one(Input).value = str(tiny_checkpoint)
        await pilot.press("enter")
        await wait_for_model(app, pilot)
    assert recent_checkpoints()[0].path == tiny_checkpoint.resolve()


async def test_invalid_checkpoint_returns_to_the_start_screen_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path, which no line breaks
    Path("notes.pt").write_text("not a checkpoint")
    app = PrunerApp(Opening("notes.pt"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and "notes.pt" in screen_text(app), "the start screen")
        assert "Which checkpoint" in screen_text(app) and "is not" in screen_text(app), "the reason stays with the path that it is about"
        assert [entry.path.name for entry in recent_checkpoints()] != ["notes.pt"]


async def test_chosen_session_is_the_one_that_was_shown_though_the_list_has_changed(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def keep(name: str) -> SavedSession:
        file, plan = SessionFile(name), {"sha256": fingerprint(tiny_checkpoint), "steps": []}
        kept = SavedSession(id=name, model=str(tiny_checkpoint), plan=plan, steps=0, imgsz=64, marks=["model.5"])
        file.keep(kept)
        file.close()
        return kept

    shown = keep("shown")
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_for_start_screen(app, pilot)
        await until(pilot, lambda: "Resume" in screen_text(app), "the session")
        keep("newer")
        elsewhere = SessionFile(shown.id)
        elsewhere.keep(shown)
        await pilot.press("enter")
        await until(pilot, lambda: "open in another window, or gone" in screen_text(app), "the explanation")
        elsewhere.close()
        await pilot.press("down", "up", "enter")
        await wait_for_model(app, pilot)
        assert app.screen.opening.saved.id == "shown"


async def test_cursor_skips_headings_and_a_deleted_file_cannot_be_opened(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "gone.pt").write_bytes(b"x")
    for path in (tmp_path / "gone.pt", tiny_checkpoint):
        remember(str(path))
    (tmp_path / "gone.pt").unlink()
    (tmp_path / "near.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    app = PrunerApp(None)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for_start_screen(app, pilot)
        lines = [line.strip("│ ") for line in screen_text(app).splitlines()]
        assert [line for line in lines if line in ("Recent", "This folder", "More")] == ["Recent", "This folder", "More"]
        assert next(line for line in lines if line.startswith("gone.pt")).endswith("is gone")
        entries = app.screen.query_one("#choices")
        keys = []
        for _ in range(4):
            keys.append(entries.key.removeprefix("file:"))
            await pilot.press("down")
        assert keys == [str(tiny_checkpoint.resolve()), "near.pt", "browse", "demo"]
        await pilot.press("up", "up", "up", "up", "enter")
        await wait_for_model(app, pilot)


def test_checkpoints_of_the_folder_are_listed_newest_first(tmp_path):
    best = tmp_path / "runs" / "detect" / "train" / "weights" / "best.pt"
    best.parent.mkdir(parents=True)
    for age, path in enumerate((best, tmp_path / "a.pt")):
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "a.txt").touch()
    assert [str(path) for path in checkpoints_below(tmp_path)] == ["runs/detect/train/weights/best.pt", "a.pt"]


def test_twenty_recent_checkpoints_are_kept_and_a_damaged_list_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    clock = iter(range(100))
    monkeypatch.setattr(opening.time, "time", lambda: next(clock))
    for number in range(23):
        (tmp_path / f"{number}.pt").touch()
        remember(str(tmp_path / f"{number}.pt"))
    remember(str(tmp_path / "3.pt"))
    remember("yolov8n.yaml")
    remember(str(paths.demo_folder() / "digits.pt"))
    names = [entry.path.name for entry in recent_checkpoints(100)]
    assert names[:3] == ["3.pt", "22.pt", "21.pt"] and len(names) == 20 and "yolov8n.yaml" not in names
    (tmp_path / "state" / "tui-pruner" / "recent.json").write_text('["3.pt"')
    assert recent_checkpoints() == []


async def test_hint_of_the_first_run_disappears_with_the_first_key_which_still_works(tmp_path, monkeypatch, tiny_checkpoint):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert first_run.is_now()
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64), hinting=first_run.is_now())
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for_model(app, pilot)
        await until(pilot, lambda: "any key closes this" in screen_text(app), "the hint")
        assert "look around" in screen_text(app)
        before = app.screen.store.view.tree.key
        await pilot.press("down")
        await until(pilot, lambda: "any key closes this" not in screen_text(app), "the hint gone")
        assert app.screen.store.view.tree.key != before
    assert not first_run.is_now()


@pytest.mark.parametrize("signs", [UNICODE, ASCII])
def test_hint_of_the_first_run_has_no_line_that_is_cut(monkeypatch, signs):
    use(keymap_of(ACTIONS, {}))
    monkeypatch.setattr(first_run, "GLYPHS", signs)
    assert max(line.cell_len for line in first_run.hint_lines()) <= first_run.HINT_WIDTH


async def test_engine_that_the_app_does_not_use_is_ended(monkeypatch):
    started = []

    async def waiting():
        started.append(await start_python("-c", "import sys; sys.stdin.read()"))
        return started[0]

    async def interrupted(model, **options):
        raise KeyboardInterrupt

    monkeypatch.setenv(processes.ATTENDED, "1")
    monkeypatch.setattr(processes, "start_engine", waiting)
    monkeypatch.setattr("tui_pruner.tui.app.run_app", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await with_engine("best.pt")
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("width", [60, 80])
async def test_notification_shows_its_last_word_however_long_it_is(width: int):
    app = PrunerApp(None)
    async with app.run_test(size=(width, 24), notifications=True) as pilot:
        await wait_for_start_screen(app, pilot)
        for length in range(width // 2, width):
            app.clear_notifications()
            app.notify("x" * (length - 3) + " 99", timeout=60, markup=False)
            await until(pilot, lambda: "xx" in screen_text(app), f"the notification of {length}")
            assert any(line.rstrip("│ ").endswith(" 99") for line in screen_text(app).splitlines()), length


def test_session_to_resume_is_described_by_what_it_has():
    def title(steps: int, **asked: str) -> str:
        return opening._title(SavedSession(id="1", model="runs/best.pt", plan={}, steps=steps, asked=asked))

    assert title(0, one="30%") == "best.pt: 1 ratio not applied", "no steps need no words, which a small window would cut"
    assert title(2, one="30%", two="20%") == "best.pt: 2 steps, 2 ratios not applied"
    assert title(0) == "best.pt: 0 steps" and title(1) == "best.pt: 1 step"
