"""The work for a key: what it does not change is neither composed nor rendered again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.filter import LineFilter
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tests.tui.helpers import Desk, screen_text
from tui_pruner.domain.cuts import Amount
from tui_pruner.tui import colours
from tui_pruner.tui.colours import DARK, LIGHT
from tui_pruner.tui.panes import bars
from tui_pruner.tui.panes.detail import detail_lines
from tui_pruner.tui.panes.widgets import PaneColumn, PaneRow, keeps_strips
from tui_pruner.tui.screens.workbench import Workbench

pytestmark = pytest.mark.asyncio(loop_scope="session")


TITLES = ("Removes", "Importance", "Also affected", "Block")


@keeps_strips
class Letters(Widget):
    """Lines of one letter; `rendered` counts the lines of each rendering."""

    DEFAULT_CSS = "Letters { width: 1fr; border: round white; }"

    def __init__(self, letter: str) -> None:
        super().__init__()
        self.letter = letter
        self.rendered: list[list[int]] = []

    def get_line_filters(self) -> list[LineFilter]:
        self.rendered.append([])
        return []

    def render_line(self, y: int) -> Strip:
        self.rendered[-1].append(y)
        return Strip([Segment(self.letter * self.content_size.width)])


class TwoPanes(App[None]):
    """Two panes side by side."""

    def compose(self) -> ComposeResult:
        with PaneRow():
            yield Letters("a")
            yield Letters("b")


async def test_changed_line_is_rendered_alone_and_the_pane_beside_it_not_at_all():
    async with TwoPanes().run_test(size=(20, 8)) as pilot:
        left, right = pilot.app.query(Letters)
        await pilot.pause()
        left.rendered, right.rendered = [], []
        left.letter = "c"
        left.refresh(Region(0, 2, 8, 1))
        await pilot.pause()
        assert (left.rendered, right.rendered) == ([[2]], [])
        assert [line[1] for line in screen_text(pilot.app).splitlines()[1:-1]] == list("aacaaa")


async def test_pane_is_rendered_whole_when_it_is_refreshed_resized_or_gets_another_title():
    async with TwoPanes().run_test(size=(20, 8)) as pilot:
        left, right = pilot.app.query(Letters)
        left.letter = "c"
        left.refresh()
        await pilot.pause()
        assert screen_text(pilot.app).splitlines()[1:-1] == [f"│{'c' * 8}││{'b' * 8}│"] * 6
        right.letter = "d"
        await pilot.resize_terminal(24, 8)
        await pilot.pause()
        assert screen_text(pilot.app).splitlines()[1:-1] == [f"│{'c' * 10}││{'d' * 10}│"] * 6
        left.border_title = "Title"
        await pilot.pause()
        assert "Title" in screen_text(pilot.app).splitlines()[0]
        right.styles.border = ("round", "red")
        right.display = False
        await pilot.pause()
        assert screen_text(pilot.app).splitlines()[1:-1] == [f"│{'c' * 22}│"] * 6


async def test_line_under_the_mouse_is_found_without_losing_one_that_is_to_be_rendered():
    async with TwoPanes().run_test(size=(20, 8)) as pilot:
        left = pilot.app.query(Letters).first()
        await pilot.pause()
        left.letter = "c"
        left.refresh(Region(0, 2, 8, 1))
        assert left.render_lines(Region(0, 1, 10, 1))[0].text == f"│{'a' * 8}│"
        await pilot.pause()
        assert [line[1] for line in screen_text(pilot.app).splitlines()[1:-1]] == list("aacaaa")


async def test_ratio_key_renders_only_the_panes_that_show_it(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go("model.5")
    await desk.press("right")
    await desk.previewed()
    asked, filters = Counter[str | None](), Widget.get_line_filters

    def counted(self: Widget) -> object:
        if not isinstance(self, (PaneRow, PaneColumn, Workbench)):  # whose background is a single strip
            asked[self.id or (self.parent.id if self.parent else None)] += 1
        return filters(self)

    monkeypatch.setattr(Widget, "get_line_filters", counted)
    await desk.press("right")
    await desk.previewed()
    assert set(asked) == {"header", "tree", "detail", "steps"}
    await desk.press("x")


async def test_header_is_composed_once_for_a_ratio_key(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go("model.5")
    await desk.press("right")
    await desk.previewed()
    composed, header_lines = [], bars.header_lines
    monkeypatch.setattr(bars, "header_lines", lambda state, width: composed.append(width) or header_lines(state, width))
    before = desk.state.after
    await desk.press("right")
    await desk.until(lambda: desk.state.after != before, "the figures of the other ratio")
    assert composed == [120]
    await desk.press("x")


async def test_detail_composes_again_only_what_a_change_concerns(desk: Desk):
    await desk.go("model.5")
    await desk.press("3", "0", "enter")
    await desk.previewed()
    row, state = desk.tree.row, replace(desk.state)

    def parts() -> dict[str, object]:
        lines = detail_lines(row, state, 50, 60)
        return {title: next(line for line in lines if line.plain.startswith(title)) for title in TITLES}

    first = parts()
    state.pending = state.pending.put(["model.5"], Amount.share(31))
    second = parts()
    assert {title for title in first if first[title] is not second[title]} == {"Removes"}
    state.detail, state.preview = state.detail.model_copy(), state.preview.model_copy()
    assert not any(line is second[title] for title, line in parts().items())
    third = parts()
    colours.use(LIGHT)
    try:
        assert not any(line is third[title] for title, line in parts().items())
    finally:
        colours.use(DARK)
    await desk.press("x")
