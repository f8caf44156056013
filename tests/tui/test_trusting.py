"""A file that runs code of its own is opened only after its user has typed how its SHA-256 begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from textual.widgets import Input, Static

from tests.bad_files import RunsACommand
from tests.tui.helpers import screen_text, until
from tui_pruner.trust import VARIABLE, fingerprint, remembered
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.trust_prompt import TrustPrompt
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


async def test_it_is_opened_and_remembered_once_its_user_typed_the_digits(untrusted: Path):
    app = PrunerApp(Opening(str(untrusted), imgsz=64))
    sha256 = fingerprint(untrusted)
    async with app.run_test(size=(120, 40)) as pilot:
        question = await asked(app, pilot)
        assert "posix.system" in question and sha256[:8] in question
        bench = app.screen_stack[1]
        await until(pilot, lambda: not bench.session._client.running, "the end of the engine, which the app does not need now")
        await pilot.pause()
        assert bench.notes == [] and not app._notifications, "nothing died"
        await pilot.press(*"12345678", "enter")
        await until(pilot, lambda: "'12345678' is not how its SHA-256 begins" in screen_text(app), "the refusal")
        assert not untrusted.with_name("canary").exists() and remembered() == ()
        app.screen.query_one(Input).value = ""
        await pilot.press(*sha256[:8], "enter")
        await until(pilot, lambda: isinstance(app.screen, Workbench) and app.screen.board is not None, "the model")
    assert untrusted.with_name("canary").exists(), "it was trusted, and it does run a command"
    assert remembered() == (sha256,)


async def test_escape_leads_back_to_the_start_screen_and_nothing_ran(untrusted: Path):
    app = PrunerApp(Opening(str(untrusted), imgsz=64))
    async with app.run_test(size=(120, 40)) as pilot:
        await asked(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, StartScreen), "the start screen")
    assert not untrusted.with_name("canary").exists() and remembered() == ()
