"""A pane keeps the lines of its cursor in sight when the lines, their number, the width or the height change."""

from collections.abc import Callable

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tui_pruner.tui.panes.widgets import ONE_MORE, Pane

pytestmark = pytest.mark.asyncio(loop_scope="session")


class OnePane(App[None]):
    """A pane that fills the screen."""

    CSS = "Pane { height: 1fr; border: round white; } Lines { height: auto; }"

    def compose(self) -> ComposeResult:
        yield Pane("Lines", id="pane")


def numbered(rows: int, at: int, rows_at: Callable[[int], int] = lambda width: 1):
    """So many entries with the cursor on one of them; each takes as many lines as `rows_at` gives for the width."""

    def compose(width: int) -> tuple[list[Text], int, int]:
        each = rows_at(width)
        return [Text(">" if number == at * each else ".") for number in range(rows * each)], at * each, ONE_MORE

    return compose


async def shows_cursor(pilot: Pilot) -> bool:
    """Whether the cursor's line is in sight, without drawing anything again."""
    for _ in range(4):
        await pilot.pause()
    pane = pilot.app.query_one(Pane)
    seen = [text.plain for text in pane._lines._texts[pane.scroll_offset.y :][: pane.scrollable_content_region.height]]
    return ">" in seen


async def test_cursor_stays_in_sight_in_lists_that_grow_and_shrink():
    async with OnePane().run_test(size=(40, 12)) as pilot:
        for rows, at in ((5, 4), (100, 99), (100, 50), (3, 2), (100, 90)):
            pilot.app.query_one(Pane).draw_at(numbered(rows, at))
            assert await shows_cursor(pilot), (rows, at)


async def test_cursor_stays_in_sight_when_the_window_is_resized_and_nothing_else_draws():
    async with OnePane().run_test(size=(100, 30)) as pilot:
        pilot.app.query_one(Pane).draw_at(numbered(40, 27, lambda width: max(80 // width, 1)))
        assert await shows_cursor(pilot)
        for size in ((100, 8), (30, 8), (30, 30), (100, 6)):
            await pilot.resize_terminal(*size)
            assert await shows_cursor(pilot), size


async def test_cursor_stays_in_sight_when_the_scrollbar_takes_the_width_of_a_line():
    async with OnePane().run_test(size=(40, 12)) as pilot:
        pilot.app.query_one(Pane).draw_at(numbered(20, 19, lambda width: 1 if width >= 38 else 3))
        assert await shows_cursor(pilot)


async def test_a_pane_that_was_scrolled_away_from_its_cursor_stays_there_until_the_cursor_moves_or_it_shows_something_else():
    async with OnePane().run_test(size=(40, 12)) as pilot:
        pane = pilot.app.query_one(Pane)
        pane.draw_at(numbered(100, 50))
        assert await shows_cursor(pilot)
        pane.scroll_home(animate=False)
        pane.draw_at(numbered(100, 50))
        assert not await shows_cursor(pilot)
        pane.draw_at(numbered(100, 51))
        assert await shows_cursor(pilot)
        pane.scroll_home(animate=False)
        pane.draw_at(numbered(100, 51), "Other lines")
        assert await shows_cursor(pilot)
