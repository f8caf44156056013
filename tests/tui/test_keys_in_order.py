"""Keys that arrive in one piece, as a slow line or a busy machine delivers them, do what the same keys do one by one."""

import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal

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


def test_filters_marks_and_an_amount_in_one_piece(terminal: Terminal):
    terminal.press(*MARKED_AND_ASKED)
    terminal.wait_for(lambda text: "128→90" in text and "64→45" in text and "2 layers −30%" in text)


def test_a_question_is_answered_before_it_is_there(terminal: Terminal, folder: Path):
    terminal.press("a")
    terminal.wait_for(r"1 2 layers.*\de-\d")
    terminal.press("w", "ctrl+u", str(folder / "typed-ahead.pt"), "enter", "home", " ")
    terminal.wait_for(r"2[0-9] layers marked")
    terminal.wait_for(lambda text: (folder / "typed-ahead.pt").exists())
