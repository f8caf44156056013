"""Nothing that a file is called or says moves the cursor, sets colours or writes to the clipboard of anyone who looks at it."""

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


def obeyed(text: str) -> set[str]:
    return FORBIDDEN & set(text)


async def test_what_is_shown_in_the_app_holds_nothing_that_a_terminal_obeys(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(f"odd{ORDERS}.pt").write_bytes(b"x")
    app = PrunerApp(None)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and "odd" in screen_text(app), "the list of files")
        app.screen.query_one(Input).value = f"none{ORDERS}.pt"
        await pilot.press("enter")
        app.notify(f"told{ORDERS}", markup=False)
        await until(pilot, lambda: "does not exist" in screen_text(app) and "told" in screen_text(app), "the answers")
        assert "none" in screen_text(app) and obeyed(screen_text(app)) == set()


def test_what_commands_print_holds_none_either(tmp_path: Path):
    odd = tmp_path / f"odd{ORDERS}.pt"
    refused = spawn("inspect", odd)
    assert refused.status == 2 and "no such file" in refused.err and obeyed(refused.err) == set()
    odd.symlink_to(DIGITS)
    shown = spawn("inspect", odd, "--imgsz", 64)
    assert shown.status == 0 and "YOLOv8n" in shown.out and obeyed(shown.out + shown.err) == set()
