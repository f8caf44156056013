"""A file that runs code of its own is opened only after its user has typed the first digits of its SHA-256."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from textual.widgets import Input, Static

from tests.bad_files import RunsACommand
from tests.own_modules import own_checkpoint, own_modules
from tests.tui.helpers import screen_text, until, unwrapped
from tui_pruner.storage.trust import VARIABLE, fingerprint, remember, remembered
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens.forms import Chooser
from tui_pruner.tui.screens.prompts import PathPrompt, Question, TrustPrompt
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.workbench import Workbench


@pytest.fixture
def untrusted(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoint with a command in it, which leaves a canary beside it."""
    monkeypatch.setenv(VARIABLE, "")  # what the app is told to trust is forgotten after the test
    content = torch.load(tiny_checkpoint, map_location="cpu", weights_only=False)
    path = tmp_path / "own.pt"
    torch.save({**content, "extra": RunsACommand(f"touch {tmp_path / 'canary'}")}, path)
    return path


async def asked(app: PrunerApp, pilot) -> str:
    await until(pilot, lambda: isinstance(app.screen, TrustPrompt) and bool(app.screen.query(Input)), "the question")
    return str(app.screen.query_one("#what", Static).content)


async def test_trusted_file_is_opened_and_remembered_after_the_digits_are_typed(untrusted: Path):
    app = PrunerApp(Opening(str(untrusted), imgsz=64))
    sha256 = fingerprint(untrusted)
    async with app.run_test(size=(120, 40)) as pilot:
        question = await asked(app, pilot)
        assert "posix.system" in question and sha256[:8] in question
        bench = app.screen_stack[1]
        await until(pilot, lambda: not bench.engine._client.running, "the end of the engine, which the app does not need now")
        await pilot.pause()
        assert bench.notes == [] and not app._notifications, "nothing died"
        behind = [line.plain for lines in bench.query(Lines) for line in lines._texts]
        assert any("own.pt waits for your answer" in line for line in behind) and not any("loading" in line for line in behind), behind
        await pilot.press(*"12345678", "enter")
        await until(pilot, lambda: "'12345678' is not how its SHA-256 begins" in screen_text(app), "the refusal")
        assert not untrusted.with_name("canary").exists() and remembered() == ()
        app.screen.query_one(Input).value = ""
        await pilot.press(*sha256[:8], "enter")
        await until(pilot, lambda: isinstance(app.screen, Workbench), "the model")
    assert untrusted.with_name("canary").exists(), "it was trusted, and it does run a command"
    assert remembered() == (sha256,)


async def test_escape_returns_to_the_start_screen_and_nothing_ran(untrusted: Path):
    app = PrunerApp(Opening(str(untrusted), imgsz=64))
    async with app.run_test(size=(120, 40)) as pilot:
        await asked(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, StartScreen), "the start screen")
    assert not untrusted.with_name("canary").exists() and remembered() == ()


async def test_question_is_read_as_a_whole_in_the_smallest_window(untrusted: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(untrusted.parent)
    app = PrunerApp(Opening("own.pt", imgsz=64))
    async with app.run_test(size=(60, 20)) as pilot:
        question = await asked(app, pilot)
        await until(pilot, lambda: " ".join(question.split()) in unwrapped(app), "the question from its first word to its last")
        assert "▊" in screen_text(app) and "Esc cancel" in screen_text(app)


async def test_model_made_by_the_app_from_a_trusted_one_is_opened_without_a_question(
    start, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    with own_modules(tmp_path) as user:
        own = own_checkpoint(tmp_path, user)
    remember(fingerprint(own))
    recovered, written = tmp_path / "recovered.pt", tmp_path / "written.pt"
    async with start(opening=Opening(str(own), imgsz=64, images=2, data=str(small_data))) as desk:
        desk.state.automatic = False
        assert any("user_blocks.Excite" in line for line in desk.state.opened.warnings)
        await desk.go("model.4.block.cv2")
        await desk.press("5", "0", "enter", "a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        await desk.press("w")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the place")
        await desk.press("ctrl+u", *str(written), "enter")
        await desk.until(lambda: any(note.startswith("wrote written.pt") for note, _ in desk.state.notes), "the written file")
        await desk.press("R")
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the ways")
        await desk.press("1")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the place")
        await desk.press("ctrl+u", *str(recovered), "enter")
        await desk.until(lambda: any("to continue from it" in said for said in desk.said), "the file")
        before = desk.bench
        await desk.press("O")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question whether to go on")
        await desk.press("g")
        await desk.until(lambda: desk.ready and desk.bench is not before, "the next stage, with no question of trust")
        assert desk.state.opened.model.path == str(recovered)
    assert set(remembered()) == {fingerprint(own), fingerprint(written), fingerprint(recovered)}
