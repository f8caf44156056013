"""Keys that arrive in one piece, as a slow line or a busy machine delivers them, do what the same keys do one by one."""

import asyncio
import sys
from pathlib import Path

import pytest
from textual import events
from textual.app import ComposeResult
from textual.widgets import Input

from tests.deadlines import LOOK_EVERY
from tests.terminal import Terminal
from tests.tui.helpers import until
from tui_pruner.tui import terminal as turns
from tui_pruner.tui.terminal import KeysInOrder

NO_FILTER = ["/", "ctrl+u", "enter"]
MARKED_AND_ASKED = [
    *["/", "6.m.0.cv1", "enter", " ", *NO_FILTER],
    *["/", "12.cv2", "enter", " ", *NO_FILTER],
    *["30", "enter"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("typed")


@pytest.fixture(scope="module")
def terminal(demo_checkpoint: Path, folder: Path):
    command = [sys.executable, "-m", "tui_pruner", str(demo_checkpoint)]
    with Terminal(command, 120, 40, cwd=folder, env={"XDG_STATE_HOME": str(folder)}) as opened:
        opened.wait_for("any key closes this")
        yield opened


def test_filters_marks_and_an_amount_sent_at_once_are_applied(terminal: Terminal):
    terminal.press(*MARKED_AND_ASKED)
    terminal.wait_for(lambda text: "128→90" in text and "64→45" in text and "2 layers −30%" in text)


def test_answer_typed_before_the_question_is_used(terminal: Terminal, folder: Path):
    terminal.press("a")
    terminal.wait_for(r"1 2 layers.*\de-\d")
    terminal.press("w", "ctrl+u", str(folder / "typed-ahead.pt"), "enter", "home", " ")
    terminal.wait_for(r"2[0-9] layers marked")
    terminal.wait_for(lambda text: (folder / "typed-ahead.pt").exists())


class Slow(Input):
    """Takes until it is released over a key, then hands the focus on."""

    async def on_key(self) -> None:
        await self.app.released.wait()
        self.app.query_one("#next", Input).focus()


class TwoFields(KeysInOrder):
    """Counts how often it was looked whether a key has come through."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.looks = 0

    def compose(self) -> ComposeResult:
        yield Slow(id="slow")
        yield Input(id="next")

    def _start_key_timeout(self, key: events.Key, left: float) -> None:
        self.looks += 1
        super()._start_key_timeout(key, left)


@pytest.mark.parametrize(("processes", "typed"), [(1e9, ["x", "y"]), (1, ["xy", ""])])
async def test_keys_are_waited_for_longer_on_a_busy_machine(processes, typed, monkeypatch):
    monkeypatch.setattr(turns, "crowd", lambda: processes)
    monkeypatch.setattr(turns, "PATIENCE", 3 * turns.TURN)
    app = TwoFields()
    async with app.run_test() as pilot:
        for key in "xy":
            app.post_message(events.Key(key, key))
        while app.looks < 20 and (app.keys_waiting or not app.looks):
            await asyncio.sleep(LOOK_EVERY)
        waiting = app.keys_waiting
        app.released.set()
        await until(pilot, lambda: [field.value for field in app.query(Input)] == typed, "what was typed")
    assert waiting is (processes > 1)
