"""The help (all keys, grouped), the first-run hint, and the palette: every action by name, with the reason if it is disabled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen

from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.tui import colours
from tui_pruner.tui.actions import GROUPS, PALETTE_KEY, PANE_MOVES, PANE_TITLES, TREE, Action, key_of, shown
from tui_pruner.tui.drawing import GLYPHS, fit, wrapped
from tui_pruner.tui.panes.widgets import ENDS, Lines
from tui_pruner.tui.screens.base import ActionScreen

HINT_WIDTH = 51


def is_now() -> bool:
    """Whether the user has not dismissed the hint yet."""
    return not _file().exists()


def is_over() -> None:
    """Record that the hint was dismissed; if that cannot be written, it is shown again."""
    with contextlib.suppress(OSError):
        replace_file(_file(), b"")


def hint() -> Lines:
    """The hint as a widget."""
    lines = Lines(id="hint", expected=HINT_WIDTH)
    lines.border_title = "The first keys"
    lines.border_subtitle = "any key closes this"
    lines.draw(lambda width, _: hint_lines())
    return lines


def hint_lines() -> list[Text]:
    """Four lines: the keys, and what they are for."""
    words = (
        ("up down enter", f"look around; {key_of('explain')} explains a layer"),
        (f"{GLYPHS.horizontal}, {key_of('apply')}", "how much goes, then cut and prove it"),
        (f"{key_of('target')}, {key_of('compress')}, {key_of('lineage')}", "reach a size; a recipe; all stages"),
        (f"{key_of('undo')}, {key_of('write')}, {key_of('help')}", "undo, write the file, all other keys"),
    )
    space = max(len(keys) for keys, _ in words)
    return [Text.assemble((keys.ljust(space), f"bold {colours.WARNING}"), f"  {meaning}") for keys, meaning in words]


def _file() -> Path:
    return paths.state_folder() / "first-run-is-over"


KEYS = 12
"""Cells of the longest keys and words, which must not be cut."""
WIDTH = 100
BORDERS = 7
WORDS = (
    ("free", "is cut alone"),
    ("coupled", "is cut together with others: the detail pane lists them and why"),
    ("linked", "must keep as many channels as the other part of its split"),
    ("locked", "cannot be cut: the reason is in the detail pane"),
    ("affected", "changes because of another layer's cut"),
    ("fewer inputs", "only gets fewer inputs"),
)


class HelpBox(VerticalScroll):
    """The scrolling box of the help, with the motion keys of every pane."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        *ENDS,
    ]

    def action_half_page(self, way: int) -> None:
        """Scroll by half a page."""
        self.scroll_relative(y=way * max(self.scrollable_content_region.height // 2, 1), animate=False)


class HelpScreen(ModalScreen[None]):
    """Shows the keys, those of a pane first, and the terms of the tree."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "leave", "Close", show=False)]

    def __init__(self, actions: Sequence[tuple[Action, str]], pane: str = TREE) -> None:
        super().__init__()
        self._actions = actions
        self._pane = pane

    def compose(self) -> ComposeResult:
        """Compose the help."""
        with HelpBox(classes="dialog help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "up down pgup pgdn scroll    Esc close"
            lines = Lines(expected=min(WIDTH, self.app.size.width * 96 // 100) - BORDERS)
            lines.draw(lambda width, _: help_lines(self._actions, width, self._pane))
            yield lines

    def action_leave(self) -> None:
        """Close the help."""
        self.dismiss(None)


def help_lines(actions: Sequence[tuple[Action, str]], width: int, pane: str = TREE) -> list[Text]:
    """The keys of a pane, then all others by group and by pane, then the terms of the tree.

    `actions`: each with the reason if it is disabled, else an empty text.
    """
    lines = _pane_lines(actions, pane, width)
    for group in GROUPS:
        members = [entry for entry in actions if entry[0].group == group and not entry[0].pane]
        lines += _part(group, [_told(*entry) for entry in members], width)
    for other in PANE_TITLES:
        if other != pane:
            lines += _pane_lines(actions, other, width)
    lines.append(Text("Words in the tree", colours.HEADING))
    for word, meaning in WORDS:
        lines += _entry(word, colours.BLUE, meaning, width)
    return [*lines, Text(), Text(f"{PALETTE_KEY} lists every action by name", colours.MUTED)]


def _pane_lines(actions: Sequence[tuple[Action, str]], pane: str, width: int) -> list[Text]:
    own = [_told(*entry) for entry in actions if entry[0].pane == pane]
    return _part(PANE_TITLES.get(pane, pane), [*PANE_MOVES.get(pane, ()), *own], width)


def _keys_of(action: Action) -> str:
    return shown(action).replace(GLYPHS.horizontal, action.keys)


def _told(action: Action, reason: str) -> tuple[str, str]:
    return _keys_of(action), f"{action.help} Not now: {reason}." if reason else action.help


def _part(title: str, entries: Sequence[tuple[str, str]], width: int) -> list[Text]:
    lines = [Text(title, colours.HEADING)]
    for keys, meaning in entries:
        lines += _entry(keys, f"bold {colours.WARNING}", meaning, width)
    return [*lines, Text()]


def _entry(key: str, style: str, meaning: str, width: int) -> list[Text]:
    space = max(width - KEYS - 4, 10)
    return [
        Text.assemble("  ", (fit(key if number == 0 else "", KEYS), style), "  ", line)
        for number, line in enumerate(wrapped(meaning, space))
    ]


def with_keys(title: Content, action: Action) -> Content:
    """A title of the palette, followed by the keys that do the same; nothing where only the palette has the action."""
    keys = _keys_of(action)
    return title if keys == PALETTE_KEY else Content.assemble(title, "   ", (keys, colours.WARNING))


class ActionProvider(Provider):
    """Finds actions by their titles; a screen without actions has no palette."""

    async def discover(self) -> Hits:
        """Offer every action before anything is typed."""
        for screen, action in self.offered():
            run = partial(screen.call_later, screen.action_run, action.id)
            yield DiscoveryHit(with_keys(Content(action.title), action), run, text=action.title, help=screen.help_of(action))

    async def search(self, query: str) -> Hits:
        """Offer the actions whose titles match."""
        matcher = self.matcher(query)
        for screen, action in self.offered():
            score = matcher.match(action.title)
            if score > 0:
                run = partial(screen.call_later, screen.action_run, action.id)
                display = with_keys(matcher.highlight(action.title), action)
                yield Hit(score, display, run, text=action.title, help=screen.help_of(action))

    def offered(self) -> Iterator[tuple[ActionScreen, Action]]:
        """The actions of the screen that is open."""
        if isinstance(self.screen, ActionScreen):
            for action in self.screen.registry:
                yield self.screen, action
