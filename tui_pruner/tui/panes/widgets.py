"""Building blocks of panes: lines of text, a scrolling box around them, and a one-line input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ClassVar, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from tui_pruner.tui import colours
from tui_pruner.tui.drawing import strip_of

CLICK = "action"
"""The key of a text's style under which it names the action that a click on it runs."""
Compose = Callable[[int, int], Sequence[Text]]
ComposeAt = Callable[[int], tuple[Sequence[Text], int, int]]
"""For a width: the lines, and the number of the first and how many of them to see."""
Inputs = ParamSpec("Inputs")
ComposeParts = Callable[Inputs, list[Text]]
ONE_MORE = 2
"""Lines to see where a cursor is: its own and the next."""


def lines_of(inputs: Callable[Inputs, tuple[object, ...]]) -> Callable[[ComposeParts[Inputs]], ComposeParts[Inputs]]:
    """Compose lines again only when one of their `inputs` is another object or number, or the palette is another one.

    The inputs are never changed in place, and neither are the lines.
    """

    def decorated(compose: ComposeParts[Inputs]) -> ComposeParts[Inputs]:
        known: tuple[object, ...] = ()
        lines: list[Text] = []

        @wraps(compose)
        def composed(*arguments: Inputs.args, **named: Inputs.kwargs) -> list[Text]:
            nonlocal known, lines
            now = colours.in_use(), *inputs(*arguments, **named)
            if len(known) != len(now) or not all(map(_same, known, now)):
                known, lines = now, compose(*arguments, **named)
            return lines

        return composed

    return decorated


def _same(before: object, now: object) -> bool:
    return before is now or (isinstance(now, int) and before == now)


class KeptStrips(NamedTuple):
    """The strips of a part of a widget that had this size, one for each line, and the lines that were refreshed since."""

    crop: Region
    size: Size
    strips: list[Strip]
    stale: set[int]


AnyWidget = TypeVar("AnyWidget", bound=Widget)


def keeps_strips(widget_class: type[AnyWidget]) -> type[AnyWidget]:
    """Let widgets of this class render a line only after they refreshed it; all of one container are asked when one of them changes."""
    all_kept: WeakKeyDictionary[Widget, KeptStrips] = WeakKeyDictionary()
    refresh, render_lines = widget_class.refresh, widget_class.render_lines

    @wraps(refresh)
    def refresh_and_note(self: AnyWidget, *regions: Region, repaint: bool = True, **options: bool) -> AnyWidget:
        if repaint and regions and self in all_kept:
            top = self.content_offset.y
            all_kept[self].stale.update(top + y for region in regions for y in region.line_range)
        elif repaint:
            all_kept.pop(self, None)
        return refresh(self, *regions, repaint=repaint, **options)

    @wraps(render_lines)
    def render_stale_lines(self: AnyWidget, crop: Region) -> list[Strip]:
        kept = all_kept.get(self)
        if kept is None or (kept.crop, kept.size) != (crop, self.size):
            strips = render_lines(self, crop)
        elif stale := [y for y in kept.stale if crop.y <= y < crop.bottom]:
            first, end = min(stale), max(stale) + 1
            fresh = render_lines(self, Region(crop.x, first, crop.width, end - first))
            strips = [*kept.strips[: first - crop.y], *fresh, *kept.strips[end - crop.y :]]
        else:
            return kept.strips
        all_kept[self] = KeptStrips(crop, self.size, strips, set())
        return strips

    setattr(widget_class, "refresh", refresh_and_note)  # noqa: B010 (mypy takes no assignment to a method)
    setattr(widget_class, "render_lines", render_stale_lines)  # noqa: B010
    return widget_class


@keeps_strips
class Lines(Widget):
    """Lines of text that `compose_lines` gives for a width and a height; only those that changed are painted again.

    `expected`: the width in cells to compose for before the first layout, so that nothing moves after it.
    """

    def __init__(self, id: str | None = None, expected: int = 0) -> None:
        super().__init__(id=id)
        self._expected = expected
        self._compose_lines: Compose | None = None
        self._texts: list[Text] = []
        self._base = Style.null()

    def expect(self, width: int) -> None:
        """Compose for this width until there is a layout, so that the first picture has lines."""
        self._expected = width

    def draw(self, compose_lines: Compose) -> None:
        """Show these lines."""
        self._compose_lines = compose_lines
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row for each line."""
        return len(self._texts)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render lines on one base style, found once for all of them."""
        self._base = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Render one line."""
        width, style = self.content_size.width, self._base
        if y >= len(self._texts):
            return Strip.blank(width, style)
        return strip_of(self._texts[y], self.app.console, width, style)

    def on_resize(self) -> None:
        """Compose for the new width after the layout is complete: during it a new height would be lost."""
        self.call_after_refresh(self.redraw)

    async def on_click(self, event: events.Click) -> None:
        """Run the action that the clicked text names."""
        if name := event.style.meta.get(CLICK):
            await self.screen.run_action(name)

    def redraw(self) -> None:
        """Compose the present lines again."""
        width = self.content_size.width or self._expected
        if self._compose_lines is None or width <= 0:
            return
        before, self._texts = self._texts, list(self._compose_lines(width, self.content_size.height))
        if len(before) != len(self._texts):
            self.refresh(layout=True)
            return
        changed = [y for y, (old, new) in enumerate(zip(before, self._texts)) if old is not new and old != new]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))


def backdrop(widget: Widget, crop: Region) -> list[Strip]:
    """Render a part of a widget's background as one strip for all lines; Textual looks up every line of what panes then cover."""
    strip, background = Strip.blank(crop.width, widget.visual_style.rich_style), widget.background_colors[1]
    for line_filter in widget.get_line_filters():
        strip = strip.apply_filter(line_filter, background)
    return [strip] * crop.height


class PaneRow(Horizontal):
    """Panes side by side."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the background."""
        return backdrop(self, crop)


class PaneColumn(Vertical):
    """Panes one above the other."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the background."""
        return backdrop(self, crop)


ENDS = (
    Binding("home,g", "scroll_home", "Top", show=False),
    Binding("end,G", "scroll_end", "Bottom", show=False),
    Binding("ctrl+u", "half_page(-1)", "Half a page up", show=False),
    Binding("ctrl+d", "half_page(1)", "Half a page down", show=False),
)


@keeps_strips
class Pane(VerticalScroll, inherit_bindings=False, can_focus=True):
    """A scrolling box around lines; left and right are left to the ratio."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        *ENDS,
    ]

    def __init__(self, title: str, id: str) -> None:
        super().__init__(id=id)
        self._title = self.border_title = title
        self._lines = Lines()
        self._seen: tuple[object, ...] | None = None
        """The lines last scrolled to, and among how many, of what and in what space."""

    def action_half_page(self, way: int) -> None:
        """Scroll by half a page."""
        self.scroll_relative(y=way * max(self.scrollable_content_region.height // 2, 1), animate=False)

    def compose(self) -> ComposeResult:
        """The lines."""
        yield self._lines

    def on_resize(self) -> None:
        """Compose for the new height, even behind another screen, where nothing else draws."""
        self.call_after_refresh(self._lines.redraw)

    def expect(self, width: int) -> None:
        """Compose for this width until there is a layout."""
        self._lines.expect(width)

    def draw(self, compose_lines: Compose, title: str = "", to_end: bool = False) -> None:
        """Show these lines; `to_end` scrolls to the newest."""
        self._seen = None
        self._show(compose_lines, title)
        if to_end:
            self.scroll_end(animate=False)

    def draw_at(self, compose_at: ComposeAt, title: str = "") -> None:
        """Show these lines, and scroll to some of them where those are others than before, or among others, or in another space."""

        def compose(width: int, _: int) -> Sequence[Text]:
            lines, at, rows = compose_at(width)
            before, self._seen = self._seen, (title, at, rows, len(lines), self.size)
            if self._seen != before:
                self.call_after_refresh(self.scroll_to_region, Region(0, at, 1, rows), animate=False, force=True)
            return lines

        self._show(compose, title)

    def _show(self, compose_lines: Compose, title: str) -> None:
        if title and title != self._title:
            self._title = self.border_title = title  # setting it paints the whole pane again, even if it is the same
        self._lines.draw(lambda width, _: compose_lines(width, self.scrollable_content_region.height))


ENTRY_KEYS = ("enter confirm  escape cancel", "enter  escape", "")
"""The keys of a line, in as many words as leave cells to type in."""
LEAST_TO_TYPE, ENTRY_MARGINS = 10, 5


class EntryInput(Input):
    """An input that passes on what is typed at once, not through a message."""

    async def action_submit(self) -> None:
        """Pass the typed text to the line."""
        if isinstance(self.parent, EntryLine):
            self.parent.action_done()


@keeps_strips
class EntryLine(Horizontal):
    """A label and an input in one line, hidden until it is opened.

    It calls back directly, not through messages: keys typed fast, or sent in one piece over a slow line,
    must find the effects of the previous keys complete.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "done", "Done", show=False),
        Binding("up", "step(-1)", "Up", show=False),
        Binding("down", "step(1)", "Down", show=False),
        Binding("escape", "leave", "Leave", show=False),
    ]

    def __init__(self, hint: str, id: str) -> None:
        super().__init__(id=id)
        self._label = Static(markup=False)
        self._input = EntryInput(placeholder=hint, select_on_focus=False, compact=True)
        self._input.cursor_blink = False
        self._keys = Static(ENTRY_KEYS[0], markup=False, classes="keys")
        self._typed: Callable[[str], None] = lambda _: None
        self._done: Callable[[str], None] = lambda _: None
        self._left: Callable[[], None] = lambda: None
        self._stepped: Callable[[int], None] | None = None
        self.display = False

    def connect(
        self,
        done: Callable[[str], None],
        left: Callable[[], None],
        typed: Callable[[str], None] | None = None,
        stepped: Callable[[int], None] | None = None,
    ) -> None:
        """Set the callables for enter, escape, typing, and up and down (-1 and 1), which otherwise act like enter."""
        self._done, self._left, self._stepped = done, left, stepped
        self._typed = typed or (lambda _: None)

    def compose(self) -> ComposeResult:
        """The label and the input."""
        yield self._label
        yield self._input
        yield self._keys

    def open(self, label: str, text: str = "", replacing: bool = False) -> None:
        """Open the line and focus it; `replacing` selects its text, so that typing replaces it."""
        self._label.update(label)
        self._input.value = text
        spare = self.app.size.width - len(label) - max(len(self._input.placeholder), LEAST_TO_TYPE) - ENTRY_MARGINS
        self._keys.update(next(words for words in ENTRY_KEYS if len(words) <= max(spare, 0)))
        self._keys.remove_class("idle")
        self.display = True
        # Not focus(), which waits for its turn: keys that follow at once must land in the input.
        self.screen.set_focus(self._input)
        self._input.cursor_position = len(text)
        if replacing:
            self._input.select_all()

    def show(self, label: str, text: str) -> None:
        """Show the line without focus; an empty text hides it."""
        self._label.update(label)
        self._input.value = text
        self._keys.add_class("idle")
        self.display = bool(text.strip())

    def close(self) -> None:
        """Hide and clear the line."""
        self._input.value = ""
        self.display = False

    @property
    def text(self) -> str:
        """The typed text."""
        return self._input.value

    @on(Input.Changed)
    def changed(self, event: Input.Changed) -> None:
        """Pass on the typed text, unless more has been typed since."""
        event.stop()
        if self.display and event.value == self._input.value:
            self._typed(event.value)

    def action_done(self) -> None:
        """Submit the typed text."""
        self._done(self._input.value)

    @property
    def typing(self) -> bool:
        """Whether the line has the focus."""
        return self.screen.focused is self._input

    def action_step(self, lines: int) -> None:
        """Move within the line's list, or submit the typed text."""
        if self._stepped is None:
            self.action_done()
        else:
            self._stepped(lines)

    def action_leave(self) -> None:
        """Leave without submitting."""
        self._left()
