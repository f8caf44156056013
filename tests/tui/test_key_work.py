"""The work for a key: what it does not change is neither composed nor rendered again."""

from __future__ import annotations

from collections import Counter

import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.filter import LineFilter
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tests.tui.helpers import Desk, screen_text
from tui_pruner.tui.panes.widgets import PaneRow, keeps_strips

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
        asked[self.id or (self.parent.id if self.parent else None)] += 1
        return filters(self)

    monkeypatch.setattr(Widget, "get_line_filters", counted)
    await desk.press("right")
    await desk.previewed()
    assert set(asked) == {"header", "tree", "detail", "steps"}
    await desk.press("x")
