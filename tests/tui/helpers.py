"""What the interface's tests share: waiting for a state, reading the composed screen, and golden texts."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tests.deadlines import LOOK_EVERY, time_left
from tui_pruner.printable import legible
from tui_pruner.tui.amounts import Asked
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.board import Board
from tui_pruner.tui.screens.workbench import Workbench

GOLDEN = Path(__file__).parent / "golden"


async def until(pilot: Pilot[int], reached: Callable[[], bool], what: str) -> None:
    """Let the app run until a state is reached."""
    started = time.monotonic()
    while not reached():
        assert time_left(started) > 0, f"never came: {what}"
        await pilot.pause(LOOK_EVERY)
    await pilot.pause()


def screen_text(app: PrunerApp) -> str:
    """The composed screen as lines of text."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


def unwrapped(app: PrunerApp) -> str:
    """The composed screen as one line, without the frames, so that what a line of the screen breaks is found whole."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", screen_text(app)).split())


def steady(text: str) -> str:
    """A screen without its times."""
    return re.sub(r"\d+(\.\d+)? m?s\b *", "TIME ", text)


def check_golden(name: str, text: str) -> None:
    """Compare with the stored text, times left out; TUI_PRUNER_GOLDEN=write stores it instead."""
    text = steady(text)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TUI_PRUNER_GOLDEN") == "write":
        path.write_text(text + "\n", encoding="utf-8")
    stored = path.read_text(encoding="utf-8")
    found = difflib.unified_diff(stored.splitlines(), text.splitlines(), "stored", "on the screen", lineterm="", n=0)
    assert text + "\n" == stored, "\n".join([name, *found])


@dataclass
class Desk:
    """The running app with its pilot."""

    app: PrunerApp
    pilot: Pilot[int]
    heard: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Remember what the app says: a busy machine may look only after a notification is gone."""
        notify, clear = self.app.notify, self.app.clear_notifications

        def heard(message: str, **how: Any) -> None:
            self.heard.append(legible(message))
            notify(message, **how)

        def cleared() -> None:
            self.heard.clear()
            clear()

        self.heard += [notification.message for notification in self.app._notifications]
        self.app.notify, self.app.clear_notifications = heard, cleared  # type: ignore[method-assign]

    @property
    def bench(self) -> Workbench:
        screen = self.app.screen_stack[1]
        assert isinstance(screen, Workbench)
        return screen

    @property
    def board(self) -> Board:
        assert self.bench.board is not None
        return self.bench.board

    @property
    def ready(self) -> bool:
        """Whether the model is there and the first row's detail with it."""
        return self.bench.board is not None and self.bench.board.detail is not None

    @property
    def text(self) -> str:
        return screen_text(self.app)

    @property
    def said(self) -> list[str]:
        """All notifications since the last time that they were cleared."""
        return list(self.heard)

    def line(self, words: str) -> str:
        """The first line of the screen that contains these words."""
        return next(line for line in self.text.splitlines() if words in line)

    def kill_engine(self) -> None:
        """End the engine from outside, as a system short of memory does."""
        os.killpg(self.bench.session._client._process.pid, signal.SIGKILL)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        while self.app.keys_waiting and self.app.is_running:
            await self.pilot.pause(0.001)

    async def click(self, words: str) -> None:
        """Click on the first place of the screen that says this."""
        y, line = next((y, line) for y, line in enumerate(self.text.splitlines()) if words in line)
        await self.pilot.click(offset=(line.index(words) + 1, y))

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        await until(self.pilot, reached, what)

    async def shows(self, name: str) -> None:
        """The screen becomes the stored one."""
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("TUI_PRUNER_GOLDEN") != "write" and path.exists():
            with contextlib.suppress(AssertionError):  # the comparison says it better
                stored = path.read_text(encoding="utf-8")
                await until(self.pilot, lambda: steady(self.text) + "\n" == stored, name)
        check_golden(name, self.text)

    async def go(self, key: str) -> None:
        """Put the cursor on a row and wait for its detail."""
        assert self.bench.model_tree.go_to(key)
        await self.until(lambda: self.board.detail is not None and self.board.detail.layer == key, f"the detail of {key}")

    async def calm(self, size: tuple[int, int] = (120, 40)) -> None:
        """Go back to how the app starts: no steps, nothing explained, filtered, marked, asked for or opened, on the first block."""
        await self.pilot.resize_terminal(*size)
        taken = self.board.session
        if taken.steps or taken.later:
            self.bench.session.load_plan({**taken.plan, "steps": []})
            await self.until(lambda: not self.board.session.steps and not self.board.session.later, "the checkpoint without a step")
        while self.bench.inquiry is not None or self.bench.filter_line.display:
            await self.press("escape")
        await self.press("escape", "c")
        self.bench.ask(Asked())
        self.bench.notes = []
        self.bench.draw_jobs()
        self.app.clear_notifications()
        self.bench.model_tree.show_model(self.board)
        await self.until(lambda: not self.board.asked and self.board.detail is not None, "the app at rest")

    async def previewed(self) -> None:
        """Wait for the figures of exactly what is asked for."""
        asked = self.board.asked
        await self.until(lambda: self.board.preview is not None and self.board.asked == asked, "the preview")
        await self.until(lambda: self.board.dry_run is not None, "the dry run")
