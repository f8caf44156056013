"""In real terminals: resized, used with the mouse, at every size, and in a tmux session that is detached and attached again."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.deadlines import wait_until
from tests.terminal import Terminal
from tests.tui.helpers import Desk
from tui_pruner.tui.screens.base import SMALLEST

COMMAND = [sys.executable, "-m", "tui_pruner", "demo"]
TMUX = shutil.which("tmux")


def resize(terminal: Terminal, columns: int, rows: int) -> None:
    """What a terminal does when its window is dragged."""
    fcntl.ioctl(terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    terminal.screen.resize(rows, columns)
    terminal.process.send_signal(signal.SIGWINCH)


def click_on_text(terminal: Terminal, words: str) -> None:
    """Press and release the left button on the first place that says this."""
    y, line = next((y, line) for y, line in enumerate(terminal.screen.display, start=1) if words in line)
    x = line.index(words) + 2
    terminal.press(f"\x1b[<0;{x};{y}M", f"\x1b[<0;{x};{y}m")


def is_fully_painted(lines: list[str]) -> bool:
    """Whether a screen of 50 rows is painted from its header to its footer."""
    return "GFLOPs" in lines[0] and "7 Conv" in lines[11] and "22 Detect" in lines[28] and "? help" in lines[49]


def test_window_is_resized_and_a_whole_cut_is_made_with_the_mouse(tmp_path: Path, demo_checkpoint: Path):
    model = [sys.executable, "-m", "tui_pruner", str(demo_checkpoint)]
    with Terminal(model, 50, 12, cwd=tmp_path, env={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for("The terminal is 50x12; tui-pruner needs 60x15")
        resize(terminal, 60, 20)
        terminal.wait_for("Backbone")
        assert "needs 60x15" not in terminal.text
        resize(terminal, 40, 30)
        terminal.wait_for(r"40x30; tui-pruner\s+needs 60x15[.]")
        resize(terminal, 160, 50)
        terminal.wait_for(lambda text: is_fully_painted(text.splitlines()))
        click_on_text(terminal, "7 Conv")
        terminal.wait_for("[─] model[.]7 ")
        click_on_text(terminal, "mark")
        terminal.wait_for("1 layer marked")
        click_on_text(terminal, "6 C2f")
        terminal.wait_for("model[.]6 ")
        click_on_text(terminal, "6 C2f")
        terminal.wait_for("m[.]0[.]cv1")
        click_on_text(terminal, "map")
        terminal.wait_for("─▸15 C2f")
        click_on_text(terminal, "15 C2f")
        terminal.wait_for("─ model[.]15 ")
        click_on_text(terminal, "help")
        terminal.wait_for("Esc close")


@pytest.mark.skipif(TMUX is None, reason="needs tmux")
def test_tmux_session_is_detached_and_attached_at_another_size(tmp_path: Path):
    socket = f"tui-pruner-{os.getpid()}"
    environment = {"XDG_STATE_HOME": str(tmp_path), "TERM": "screen"}

    def tmux(*arguments: str) -> str:
        done = subprocess.run(
            [TMUX, "-L", socket, *arguments], capture_output=True, text=True, check=True, env={**os.environ, **environment}
        )
        return done.stdout

    def shows(words: str) -> None:
        wait_until(lambda: words in tmux("capture-pane", "-p"), words)

    tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", *COMMAND)
    try:
        shows("Backbone")
        for columns, rows, expected in ((80, 24, "tab pane"), (120, 40, "Jobs")):
            with Terminal([TMUX, "-L", socket, "attach"], columns, rows, cwd=tmp_path, env=environment) as client:
                client.wait_for(expected)
                os.write(client._master, b"\x1b[M \xf0\xe9")
                client.press("down")
                client.wait_for("Backbone")
                tmux("detach-client")
                client.wait_for_end()
        tmux("send-keys", "?")
        shows("Esc close")
        tmux("send-keys", "Escape")
        shows("Jobs")
        wait_until(lambda: quit_in_tmux(socket), "the session's end")
    finally:
        subprocess.run([TMUX, "-L", socket, "kill-server"], capture_output=True, check=False)


def quit_in_tmux(socket: str) -> bool:
    """Press the key that quits, again where it asks first; whether tmux has nothing left to show."""
    subprocess.run([TMUX, "-L", socket, "send-keys", "q"], capture_output=True, check=False)
    return subprocess.run([TMUX, "-L", socket, "has-session"], capture_output=True, check=False).returncode != 0


@pytest.mark.asyncio(loop_scope="session")
async def test_every_supported_size_shows_a_whole_screen(desk: Desk):
    for columns, rows in (SMALLEST, (80, 24), (99, 31), (100, 32), (200, 60)):
        await desk.pilot.resize_terminal(columns, rows)
        for key, words in (("escape", "Backbone"), ("tab", "Removes"), ("s", "checkpoint"), ("escape", "Backbone")):
            await desk.press(key)
            await desk.until(lambda words=words: words in desk.text, f"{words} at {columns}x{rows}")
            lines = desk.text.splitlines()
            assert len(lines) == rows and max(map(len, lines)) <= columns
            assert lines[0].startswith(" digits.pt") and "? help" in lines[-1]
