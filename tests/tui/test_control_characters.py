"""Names and contents of files cannot move the cursor, set colours or write to the clipboard."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from tests.bad_files import DIGITS
from tests.cli.conftest import spawn
from tests.tui.helpers import screen_text, until
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.screens.start import StartScreen

ORDERS = "\x1b]52;c;eA==\x07\x1b[2J\x9b31m\u202e"
FORBIDDEN = {sign for sign in ORDERS if not sign.isprintable()}


def control_sequences(text: str) -> set[str]:
    return FORBIDDEN & set(text)


async def test_app_shows_file_names_without_control_sequences(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(f"odd{ORDERS}.pt").write_bytes(b"x")
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and "odd" in screen_text(app), "the list of files")
        app.screen.query_one(Input).value = f"none{ORDERS}.pt"
        await pilot.press("enter")
        app.notify(f"told{ORDERS}", markup=False)
        await until(pilot, lambda: "does not exist" in screen_text(app) and "told" in screen_text(app), "the answers")
        assert "none" in screen_text(app) and control_sequences(screen_text(app)) == set()


def test_commands_print_file_names_without_control_sequences(tmp_path: Path):
    odd = tmp_path / f"odd{ORDERS}.pt"
    refused = spawn("inspect", odd)
    assert refused.status == 2 and "no such file" in refused.err and control_sequences(refused.err) == set()
    odd.symlink_to(DIGITS)
    shown = spawn("inspect", odd, "--imgsz", 64)
    assert shown.status == 0 and "YOLOv8n" in shown.out and control_sequences(shown.out + shown.err) == set()
