"""What the interface's tests share: waiting for a state, reading the composed screen, and golden texts."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual._context import active_app
from textual.pilot import Pilot
from textual.widgets import Input

from tests.deadlines import longer_and_longer, time_left
from tui_pruner.domain.cuts import Asked
from tui_pruner.domain.formatting import legible
from tui_pruner.tui import app as app_module
from tui_pruner.tui import terminal
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.controllers import Controllers
from tui_pruner.tui.engine_session import EngineSession
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.outline import Row, TreeState
from tui_pruner.tui.screens.prompts import PathPrompt
from tui_pruner.tui.screens.workbench import Workbench
from tui_pruner.tui.state import AppState, ViewState

GOLDEN = Path(__file__).parent / "golden"
app_module.settle_memory = lambda: None
"""With all that the tests import it would take half a second of a processor for every checkpoint; real terminals have it."""
terminal.on_hangup = lambda leave, kill_children: None
"""An app in a test's own process must not end it when a job there is sent a signal; real terminals show what signals do."""


async def until(pilot: Pilot[int], reached: Callable[[], bool], what: str) -> None:
    """Let the app run until a state is reached, and until a question for a line of text takes keys.

    Between two looks nothing is asked of the app: a pause of the pilot sends every widget a message, at a fifth of a core's time.
    """
    active_app.set(pilot.app)  # an app that tests share was started by a fixture, in a context of its own
    started, pauses = time.monotonic(), longer_and_longer()
    while not reached() or (isinstance(pilot.app.screen, PathPrompt) and not isinstance(pilot.app.focused, Input)):
        assert time_left(started) > 0, (
            f"never came: {what}; {type(pilot.app.screen).__name__}, focus {pilot.app.focused}:\n{screen_text(pilot.app)}"
        )
        assert pilot.app._exception is None, f"the app ended before {what}"
        await asyncio.sleep(next(pauses))
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
    def open(self) -> bool:
        """Whether the workbench is there."""
        return len(self.app.screen_stack) > 1 and isinstance(self.app.screen_stack[1], Workbench)

    @property
    def state(self) -> AppState:
        """What the app knows."""
        return self.bench.store.state

    @property
    def view(self) -> ViewState:
        """How it is looked at."""
        return self.bench.store.view

    @property
    def engine(self) -> EngineSession:
        """The session with the engine."""
        return self.bench.engine

    @property
    def queue(self) -> JobQueue:
        """The jobs."""
        return self.bench.queue

    @property
    def controllers(self) -> Controllers:
        """Who changes the state."""
        return self.bench.controllers

    @property
    def tree(self) -> Tree:
        """The model tree, as it is whenever it is asked."""
        return Tree(self)

    @property
    def filter_shown(self) -> bool:
        """Whether the filter's line is there."""
        return self.bench.query_one("#filter").display

    @property
    def ready(self) -> bool:
        """Whether the model is there and the first row's detail with it."""
        return self.open and self.state.detail is not None

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
        os.killpg(self.engine._client._process.pid, signal.SIGKILL)

    async def press(self, *keys: str) -> None:
        active_app.set(self.app)
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

    def run(self, id: str) -> None:
        """Run an action as its key does."""
        self.bench.action_run(id)

    def request(self, pending: Asked) -> None:
        """Make these the pending cuts."""
        self.controllers.criterion.request(pending)

    def filter(self, words: str) -> None:
        """Filter the tree."""
        self.controllers.view.keep_filter(words)

    def clear_notes(self) -> None:
        """Empty the jobs pane."""
        self.bench.store.update(notes=[])

    async def go(self, key: str) -> None:
        """Put the cursor on a row and wait for its detail."""
        assert self.tree.go_to(key)
        await self.until(lambda: self.state.detail is not None and self.state.detail.layer == key, f"the detail of {key}")

    async def calm(self, size: tuple[int, int] = (120, 40)) -> None:
        """Go back to how the app starts: no steps, nothing explained, filtered, marked, asked for or opened, on the first block."""
        active_app.set(self.app)
        await self.pilot.resize_terminal(*size)
        while self.app.screen is not self.bench:
            await self.press("escape")
        taken = self.state.session
        if taken.steps or taken.later:
            self.engine.load_plan({**taken.plan, "steps": []})
            await self.until(lambda: not self.state.session.steps and not self.state.session.later, "the checkpoint without a step")
        while self.view.explanation is not None or self.filter_shown:
            await self.press("escape")
        await self.press("escape", "c")
        self.request(Asked())
        self.clear_notes()
        self.app.clear_notifications()
        self.bench.store.update(tree=TreeState.of(self.state.opened.blocks))
        await self.until(lambda: not self.state.pending and self.state.detail is not None, "the app at rest")

    async def previewed(self) -> None:
        """Wait for the figures of exactly what is asked for."""
        pending = self.state.pending
        await self.until(lambda: self.state.preview is not None and self.state.pending == pending, "the preview")
        await self.until(lambda: self.state.dry_run is not None, "the dry run")


@dataclass
class Tree:
    """The model tree of the running app."""

    desk: Desk

    @property
    def _now(self) -> TreeState:
        return self.desk.view.tree

    @property
    def row(self) -> Row | None:
        return self._now.row

    @property
    def rows(self) -> Sequence[Row]:
        return self._now.rows

    @property
    def shown(self) -> Sequence[Row]:
        return self._now.shown

    @property
    def words(self) -> str:
        return self._now.words

    @property
    def order(self) -> str:
        return self._now.order

    @property
    def has_focus(self) -> bool:
        return self.desk.bench.query_one("#tree").has_focus

    @property
    def display(self) -> bool:
        return self.desk.bench.query_one("#tree").display

    def go_to(self, key: str) -> bool:
        """Put the cursor on a row; whether there is one."""
        self.desk.bench.store.update(tree=self._now.on(key))
        return self._now.has(key)

    def is_open(self, key: str) -> bool:
        return self._now.is_open(key)

    def show_all(self) -> None:
        """Without the filter and the order."""
        self.desk.bench.store.update(tree=self._now.whole())
