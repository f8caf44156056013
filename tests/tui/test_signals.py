"""In a real terminal: signals restore the screen and leave no process, and stray bytes do not break the keyboard."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.deadlines import HANGING, wait_until
from tests.terminal import Terminal
from tui_pruner.storage.journal import read
from tui_pruner.storage.sessions import SavedSession
from tui_pruner.tui.terminal import stop_between_frames

COMMAND = [sys.executable, "-m", "tui_pruner"]
LEAVES_ALTERNATE_SCREEN = b"\x1b[?1049l"


@pytest.fixture
def terminal(tiny_checkpoint):
    with Terminal([*COMMAND, str(tiny_checkpoint), "--imgsz", "64"], 100, 30) as terminal:
        terminal.wait_for("Backbone")
        yield terminal


def children_of(pid: int) -> list[int]:
    """The processes with a session of their own, as engines are, that a process has started and that still run."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return [child for child in children if os.getsid(child) == child]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the engine")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_ends_the_app_and_its_engine_and_restores_the_screen(terminal, number):
    engines = children_of(terminal.process.pid)
    assert engines
    sent = bytearray()
    feed = terminal._stream.feed
    terminal._stream.feed = lambda data: (sent.extend(data), feed(data))
    terminal.process.send_signal(number)
    assert terminal.wait_for_end() == 128 + number
    terminal.wait_for(lambda _: LEAVES_ALTERNATE_SCREEN in sent)
    assert not [engine for engine in engines if Path(f"/proc/{engine}").exists()]


def test_keyboard_survives_stray_mouse_reports_and_a_stop_and_keeps_the_order_of_keys(terminal):
    os.write(terminal._master, b"\x1b[M \xf0\xe9\x1b[M#\xff\xff")
    terminal.press("?")
    terminal.wait_for("Esc close")
    terminal.press("escape")
    terminal.wait_for(lambda text: "Esc close" not in text)
    pid = terminal.process.pid
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.wait_for(lambda _: process_state(pid) == "T")
    terminal.process.send_signal(signal.SIGCONT)
    terminal.press("?")
    terminal.wait_for("Esc close")
    terminal.press("escape")
    terminal.wait_for(lambda text: "Esc close" not in text)
    terminal.press("/", "6.m.0.cv1", "enter", " ", "3", "0", "enter")
    terminal.wait_for(r"● +m[.]0[.]cv1 +64→45 .*−30%")


def test_a_dialog_is_suspended_by_the_same_key_and_is_there_afterwards(terminal):
    terminal.press("?")
    terminal.wait_for("Esc close")
    for _ in range(2):
        terminal.press("\x1a")
        terminal.wait_for(lambda _: process_state(terminal.process.pid) == "T")
        terminal.screen.reset()
        terminal.text = ""
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for("Esc close")
    terminal.press("escape")
    terminal.wait_for(lambda text: "Esc close" not in text)


STOPS_WITHIN_A_WRITE = """
import os, signal
from textual.drivers._writer_thread import WriterThread
write, stops = WriterThread.write, iter([signal.SIGTSTP])
def stop_once(self, text):
    with self._queue.mutex:
        if "Esc close" in text:
            for number in stops: os.kill(os.getpid(), number)
    write(self, text)
WriterThread.write = stop_once
"""
"""As `sitecustomize` of the app's process: a stop in the middle of queuing a frame."""


def test_stop_in_the_middle_of_a_write_stops_the_app_and_it_goes_on_afterwards(tiny_checkpoint, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(STOPS_WITHIN_A_WRITE)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with Terminal([*COMMAND, str(tiny_checkpoint), "--imgsz", "64"], 100, 30, env=environment) as terminal:
        terminal.wait_for("Backbone")
        terminal.press("?")
        terminal.wait_for(lambda _: process_state(terminal.process.pid) == "T")
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for("Esc close")
        terminal.press("escape")
        terminal.wait_for(lambda text: "Esc close" not in text)


def test_continuing_without_a_stop_of_ours_sets_the_screen_up_again_and_starts_no_second_reader_of_keys():
    called: list[str] = []
    app = SimpleNamespace(return_code=None, suspend=lambda: contextlib.nullcontext(called.append("set up again")))
    before = {
        number: signal.signal(number, lambda number, _: called.append(signal.Signals(number).name))
        for number in (signal.SIGTSTP, signal.SIGCONT)
    }

    async def receive(*signals: tuple[int, ...]) -> None:
        stop_between_frames(app)
        for at_once in signals:
            for number in at_once:
                os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)

    stop, proceed = signal.SIGTSTP, signal.SIGCONT
    try:
        asyncio.run(receive((proceed,), (stop,), (proceed,), (stop, proceed), (proceed,)))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert called == ["set up again", "SIGTSTP", "SIGCONT", "set up again"]


def test_app_that_leaves_is_not_set_up_again_by_a_signal_to_continue(terminal):
    terminal.process.send_signal(signal.SIGHUP)
    for _ in range(250):  # during all of its shutdown
        if terminal.process.poll() is not None:
            break
        terminal.process.send_signal(signal.SIGCONT)
        terminal._read(0.004)
    assert terminal.wait_for_end() == 128 + signal.SIGHUP


def test_closed_terminal_ends_the_app_and_its_engine(terminal):
    engines = children_of(terminal.process.pid)
    os.close(terminal._master)
    terminal._master = os.open(os.devnull, os.O_RDWR)
    assert terminal.process.wait(HANGING) != 0
    wait_until(lambda: not any(Path(f"/proc/{engine}").exists() for engine in engines), "the engine is gone")


def process_state(pid: int) -> str:
    """How a process is, by the kernel's letter: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


STUMBLES = """
from tui_pruner.tui.controllers.cut import CutController
def stumble(self): raise KeyError("a mistake of ours")
CutController.rounding = stumble
"""
"""As `sitecustomize` of the app's process."""


def test_error_of_the_interface_leaves_a_report_a_usable_terminal_and_a_resumable_session(tiny_checkpoint, tmp_path):
    state = tmp_path / "state"
    (tmp_path / "sitecustomize.py").write_text(STUMBLES)
    environment = {"XDG_STATE_HOME": str(state), "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with Terminal([*COMMAND, str(tiny_checkpoint), "--imgsz", "64"], 200, 30, env=environment) as terminal:
        terminal.wait_for("Backbone")
        (engine, *_) = children_of(terminal.process.pid)
        terminal.press("/", "model.5", "enter", "3", "0", "enter", "a")
        terminal.wait_for(r"model[.]5 .30%")
        terminal.press("r")
        assert terminal.wait_for_end() == 1
        terminal.wait_for("--resume continues it")
        assert "crashed: KeyError" in terminal.text and "Traceback" not in terminal.text
        assert not Path(f"/proc/{engine}").exists()
    (report,) = (state / "tui-pruner" / "crashes").iterdir()
    assert "a mistake of ours" in report.read_text() and "torch " in report.read_text().splitlines()[0]
    (kept,) = (state / "tui-pruner" / "sessions").glob("*.jsonl")
    found = SavedSession.of_state(read(kept).state)
    assert found.steps == 1 and not found.left
