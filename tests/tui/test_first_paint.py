"""The first paint of a pane has its lines, and no work is done twice for it."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import Any

import pytest
from textual.css import stylesheet

from tests.tui.conftest import Start
from tests.tui.helpers import Desk, until
from tui_pruner.tui import colours
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.map import MapPane
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens import loading
from tui_pruner.tui.screens.help import HelpScreen
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.workbench import Workbench

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_map_has_its_lines_before_its_first_layout(desk: Desk):
    pane = desk.bench.query_one(MapPane)
    pane._lines._texts = []
    assert not pane.scrollable_content_region.width
    desk.bench.store.view.on_map = True
    pane.show(desk.bench.store)
    drawn = [line.plain for line in pane._lines._texts]
    desk.bench.store.view.on_map = False
    assert any("0 Conv" in line for line in drawn)
    await desk.press("m")
    assert [line.plain for line in pane._lines._texts] == drawn
    await desk.press("escape")


@pytest.mark.parametrize(("width", "expected"), [(60, "-narrow"), (120, "-wide")])
async def test_workbench_is_laid_out_for_its_size_from_the_first_paint(
    start: Start, monkeypatch: pytest.MonkeyPatch, width: int, expected: str
):
    arranged: list[bool] = []
    mounted = Workbench.on_mount
    monkeypatch.setattr(Workbench, "on_mount", lambda screen: (arranged.append(screen.has_class(expected)), mounted(screen))[1])
    async with start(size=(width, 20)):
        assert arranged == [True]


async def test_stylesheet_is_parsed_once_until_the_colours_change(monkeypatch: pytest.MonkeyPatch):
    parsed: Counter[tuple[Any, ...]] = Counter()
    theirs = stylesheet.parse

    def counted(scope: str, css: str, read_from: Any, **options: Any) -> Any:
        parsed[(scope, css, read_from)] += 1
        return theirs(scope, css, read_from, **options)

    monkeypatch.setattr(stylesheet, "parse", counted)
    app = PrunerApp(None)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen), "the start screen")
        await pilot.pause()
        ours = next(key for key in parsed if "#too-small" in key[1])
        assert parsed[ours] == 1
        assert str(app.screen.styles.background.hex).lower() == app.current_theme.background
        app.use_palette("light")
        await until(pilot, lambda: parsed[ours] == 2, "the other colours")
        await until(pilot, lambda: str(app.screen.styles.background.hex).lower() == app.current_theme.background, "their ground")


async def test_help_is_styled_where_its_key_came_before_the_first_frame(monkeypatch: pytest.MonkeyPatch):
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(loading, "start_engine", never)
    read = PrunerApp._read_other_styles
    monkeypatch.setattr(PrunerApp, "_read_other_styles", lambda app: None)
    app = PrunerApp(Opening("best.pt"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen) and bool(app.screen.query(".dialog")), "the help")
        dialog = app.screen.query_one(".dialog")
        assert dialog.outer_size.width != 100
        read(app)
        await until(pilot, lambda: dialog.outer_size.width == 100, "its width")


async def test_keys_that_do_nothing_while_a_model_is_loaded_are_dimmed(monkeypatch: pytest.MonkeyPatch):
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(loading, "start_engine", never)
    app = PrunerApp(Opening("best.pt"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: bool(app.screen.query("#footer")), "the footer")
        (text,) = app.screen.query_one("#footer", Lines)._texts
        styles = {text.plain[span.start : span.end].strip(): str(span.style) for span in text.spans if isinstance(span.style, str)}
    assert styles["mark"] == styles["space"] == colours.FAINT
    assert styles["quit"] == colours.TEXT and styles["help"] == colours.TEXT


async def test_garbage_collector_is_enabled_again_after_the_first_screen():
    gc.disable()
    try:
        app = PrunerApp(None)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, gc.isenabled, "the collector")
    finally:
        gc.enable()
