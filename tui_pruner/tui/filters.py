"""What every line goes through on its way to a terminal that has few colours, or none, or only ASCII."""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from tui_pruner.printable import printable

DEFAULT = RichColor.default()
SAME = {
    "|": "│║┃▏▎▍▌▐▊▉▕┆╎┊",
    "_": "▁▂▃",
    "-": "─━═▔╌╴╶–—−",
    "+": "╭╮╯╰┌┐└┘├┤┬┴┼╔╗╚╝┏┓┗┛",
    "#": "█▀▄▅▆▇",
    ".": "·…•",
    ">": "→▸▶❯",
    "<": "←◀",
    "v": "▼▾↓",
    "^": "▲▴↑",
    "*": "●◆○⭘",
    "x": "×✗✘",
}
TRANSLATION = {ord(sign): plain for plain, signs in reversed(SAME.items()) for sign in signs}
TINTS = frozenset({"green", "yellow", "red"})


class InReverse(LineFilter):
    """Shows in reverse what stands on another ground than the terminal's own: in the tint's colour, or without any."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same text in other styles."""
        return [Segment(text, style and reversed_style(style), control) for text, style, control in segments]


class OnlyPrintable(LineFilter):
    """Leaves out what a terminal would obey: Textual passes on the escape sequences that a file's name or a class name may hold."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same styles on text that takes as many cells."""
        return [Segment(without_orders(text), style, control) for text, style, control in segments]


class OnlyAscii(LineFilter):
    """Replaces what is not ASCII, wherever it comes from: borders, scrollbars, the names of files."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same styles on text of ASCII characters that takes as many cells."""
        return [Segment(as_ascii(text), style, control) for text, style, control in segments]


@lru_cache(1024)
def reversed_style(style: Style) -> Style:
    """The style for a terminal of 16 colours."""
    if style.bgcolor is None or style.bgcolor.is_default:
        return style
    colour = style.bgcolor if style.bgcolor.name in TINTS else DEFAULT
    return style + Style.from_color(colour, DEFAULT) + Style(reverse=True)


def without_orders(text: str) -> str:
    """The text without control characters, cell by cell."""
    return text if text.isprintable() else "".join(sign if printable(sign) == sign else "?" * cell_len(sign) for sign in text)


def as_ascii(text: str) -> str:
    """The text in ASCII, cell by cell."""
    if text.isascii():
        return text
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text.translate(TRANSLATION))
