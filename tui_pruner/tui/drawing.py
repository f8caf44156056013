"""The screen's signs (Unicode, or ASCII where the terminal supports no more), bars, curves, cells, and short figures."""

from __future__ import annotations

import importlib
import locale
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.strip import Strip
from textual.widget import Widget

from tui_pruner.domain.formatting import legible, score
from tui_pruner.storage.settings import is_on

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Glyphs:
    """One set of signs; each is a single cell wide, except that `blocks` and `levels` are ladders of such signs, and
    `wires` has one for each set of sides: 1 up, 2 down, 4 left, 8 right."""

    arrow: str
    down: str
    up: str
    times: str
    minus: str
    about: str
    mark: str
    lit: str
    opened: str
    closed: str
    pending: str
    good: str
    bad: str
    dot: str
    ellipsis: str
    line: str
    track: str
    cut: str
    blocks: str
    levels: str
    spinner: str
    horizontal: str
    wires: str


UNICODE = Glyphs(
    arrow="→",
    down="▼",
    up="▲",
    times="×",
    minus="−",
    about="±",
    mark="●",
    lit="◆",
    opened="▾",
    closed="▸",
    pending="▸",
    good="✓",
    bad="✗",
    dot="·",
    ellipsis="…",
    line="━",
    track="─",
    cut="│",
    blocks=" ▏▎▍▌▋▊▉█",
    levels=" ▁▂▃▄▅▆▇█",
    spinner="⠋⠙⠸⠴⠦⠇",
    horizontal="←→",
    wires=" │││─╯╮┤─╰╭├─┴┬┼",
)
ASCII = Glyphs(
    arrow=">",
    down="",
    up="+",
    times="x",
    minus="-",
    about="+-",
    mark="*",
    lit="#",
    opened="v",
    closed=">",
    pending=">",
    good="ok",
    bad="x",
    dot="-",
    ellipsis="~",
    line="#",
    track=".",
    cut="|",
    blocks=" #",
    levels=" .:-=+*#%@",
    spinner="|/-\\",
    horizontal="left/right",
    wires=" |||-+++-+++-+++",
)


def wants_ascii() -> bool:
    """Whether the user asked for ASCII (TUI_PRUNER_ASCII) or the locale cannot carry Unicode."""
    return is_on("TUI_PRUNER_ASCII") or _asks_for_c() or "utf" not in locale.getpreferredencoding(False).lower()


def _asks_for_c() -> bool:
    """Whether the locale's name is C: Python then uses its UTF-8 mode, which does not describe the terminal."""
    return next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "") in ("C", "POSIX")


def wants_calm() -> bool:
    """Whether the user wants a screen without motion (TUI_PRUNER_CALM)."""
    return is_on("TUI_PRUNER_CALM")


CALM = wants_calm()
SIGNS = ASCII if wants_ascii() else UNICODE
GLYPHS = replace(SIGNS, spinner=SIGNS.pending) if CALM else SIGNS


def fit(text: str, width: int, right: bool = False) -> str:
    """The text in exactly `width` cells: padded, or cut with an ellipsis."""
    text = legible(text)
    missing = width - cell_len(text)
    if missing >= 0:
        return " " * missing + text if right else text + " " * missing
    if width <= 0:
        return ""
    while cell_len(text) > width - 1:
        text = text[:-1]
    return fit(text + GLYPHS.ellipsis, width)


def fit_middle(text: str, width: int) -> str:
    """Fit the text into `width` cells, cut in the middle so that beginning and end remain."""
    text = legible(text)
    if cell_len(text) <= width:
        return text
    if width < 3:
        return text[: max(width, 0)]
    end = (width - 1) // 2
    return text[: width - 1 - end] + GLYPHS.ellipsis + text[-end:]


def fit_clauses(text: str, width: int) -> str:
    """Fit the text into `width` cells by dropping its last clauses; only a first clause that is too long is cut."""
    text = legible(text)
    while cell_len(text) > width and ", " in text:
        text = text.rpartition(", ")[0]
    return fit(text, width).rstrip()


def bar(fraction: float, width: int) -> str:
    """Draw a solid bar of up to `width` cells in steps of an eighth; anything above zero shows at least its first step."""
    steps = len(GLYPHS.blocks) - 1
    filled = round(min(max(fraction, 0.0), 1.0) * width * steps)
    if fraction > 0:
        filled = max(filled, 1)
    whole, rest = divmod(filled, steps)
    return fit(GLYPHS.blocks[-1] * whole + (GLYPHS.blocks[rest] if rest else ""), width)


def slider(fraction: float, width: int, on: str, off: str) -> Text:
    """Draw a thin line of `width` cells whose first part is lit."""
    lit = round(min(max(fraction, 0.0), 1.0) * width)
    if fraction > 0:
        lit = max(lit, 1)
    return Text.assemble((GLYPHS.line * lit, on), (GLYPHS.track * (width - lit), off))


def resample(values: Sequence[float], width: int) -> list[float]:
    """Resample the curve at `width` evenly spaced positions, each the mean of its interval."""
    if not values or width <= 0:
        return []
    means = []
    for column in range(width):
        first = column * len(values) // width
        last = max((column + 1) * len(values) // width, first + 1)
        part = values[first:last]
        means.append(sum(part) / len(part))
    return means


def curve(values: Sequence[float], width: int, height: int = 1) -> list[str]:
    """Draw the curve as `height` rows of `width` cells, top row first; values lie between 0 and 1."""
    return _curve(tuple(values), width, height)


@lru_cache(64)
def _curve(values: tuple[float, ...], width: int, height: int) -> list[str]:
    steps = len(GLYPHS.levels) - 1
    tops = [max(round(min(max(value, 0.0), 1.0) * height * steps), 1) for value in resample(values, width)]
    rows = []
    for row in reversed(range(height)):
        floor = row * steps
        rows.append("".join(GLYPHS.levels[min(max(top - floor, 0), steps)] for top in tops))
    return rows


def cut_column(cut_at: float, width: int) -> int:
    """The number of columns of a curve of `width` cells before the cut: none for no cut, at least one for any."""
    if cut_at <= 0:
        return 0
    return min(max(round(cut_at * width), 1), width)


def wrapped(text: str, width: int, style: str = "") -> list[Text]:
    """Wrap the text in lines of at most `width` cells, between words."""
    lines: list[str] = []
    for word in legible(text).split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [Text(line, style) for line in lines]


def broken(text: str, width: int) -> list[str]:
    """Wrap the text in lines of at most `width` cells, between words, and within a word that is longer than a line."""
    lines = [""]
    for line in wrapped(text, width):
        lines += [line.plain[at : at + width] for at in range(0, len(line.plain), width)]
    return lines[1:] or lines


Pixel = tuple[int, int, int]
UPPER_HALF = "▀"


def half_blocks(pixels: Sequence[Pixel], width: int) -> list[list[Segment]]:
    """Draw pixels as rows of cells, two pixels one above the other in each; `pixels`: an even number of rows of `width` each."""
    rows = []
    for start in range(0, len(pixels) - width, 2 * width):
        pairs = zip(pixels[start : start + width], pixels[start + width : start + 2 * width], strict=True)
        rows.append([half_block(upper, lower) for upper, lower in pairs])
    return rows


@lru_cache(4096)
def half_block(upper: Pixel, lower: Pixel) -> Segment:
    """One cell with two pixels."""
    return Segment(UPPER_HALF, Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))


def sixels_of(picture: Image, cells: tuple[int, int]) -> tuple[Image, str]:
    """Scale a picture to the pixels of these cells and encode its sixels: more than half a second of work, so call it in a thread."""
    package: Any = importlib.import_module("textual_image.widget.sixel")
    cell = package.get_cell_size()
    fitting = picture.resize((cells[0] * cell.width, cells[1] * cell.height))
    return fitting, package.image_to_sixels(fitting, None, None)


def sixel_widget(picture: Image, sixels: str) -> Widget:
    """Make textual-image's widget for a picture with encoded sixels; it encodes again where only a part is visible."""
    package: Any = importlib.import_module("textual_image.widget.sixel")

    class EncodedPicture(package._ImageSixelImpl):  # type: ignore[misc]
        def _image_to_sixels(self, image: Image, *options: Any, **more: Any) -> str:
            return sixels if image.size == picture.size else str(super()._image_to_sixels(image, *options, **more))

    class SixelPicture(package.Image, Renderable=package._NoopRenderable):  # type: ignore[misc,call-arg]
        def compose(self) -> ComposeResult:
            yield EncodedPicture(self.image)

    made: Widget = SixelPicture(picture)
    return made


def strip_of(text: Text, console: Console, width: int, base: Style) -> Strip:
    """Make a strip of exactly `width` cells of one line of text, on a base style."""
    style = base + console.get_style(text.style)
    return Strip(text.render(console)).apply_style(style).adjust_cell_length(width, base)


def change(before: float, after: float) -> str:
    """The relative change with its direction: "▼27%", "▲3%"; empty when nothing changed."""
    if before <= 0 or before == after:
        return ""
    percent = 100 * abs(after - before) / before
    sign = (GLYPHS.down or GLYPHS.minus) if after < before else GLYPHS.up
    if percent < 0.05:
        return f"{sign}<0.1%"
    return f"{sign}{percent:.1f}%" if percent < 9.95 else f"{sign}{percent:.0f}%"


def signed(text: str, negative: bool) -> str:
    """A figure with the sign in front of it: −0.21M."""
    return f"{GLYPHS.minus if negative else '+'}{text}"


def titled(title: str) -> str:
    """A step's title with the screen's own minus: model.5 −30%."""
    return re.sub(r"(?<= )-(?=\d)", GLYPHS.minus, title)


def spread(percents: Sequence[int]) -> str:
    """The least and the most that is removed, in percent: −30%, or −10…50%."""
    low, high = min(percents), max(percents)
    return f"{GLYPHS.minus}{low if low == high else f'{low}{GLYPHS.ellipsis}{high}'}%"


def saving(before: float, after: float, figure: Callable[[float], str]) -> str:
    """The saving of a cut, formatted by `figure`, without a sign unless it adds: 212K, and −3K for an increase."""
    return figure(before - after) if after <= before else signed(figure(after - before), True)


def fall(drop: float) -> str:
    """The drop of a metric without a sign: .012; +.003 for a rise, and 0 for less than a thousandth."""
    return "0" if abs(drop) < 0.0005 else score(drop) if drop > 0 else f"+{score(-drop)}"


def drop(fall: float) -> str:
    """The drop of a metric with a sign: −.012; +.003 for a rise, and 0 for less than a thousandth."""
    if abs(fall) < 0.0005:
        return "0"
    return f"{GLYPHS.minus if fall > 0 else '+'}{score(abs(fall))}"


def gain(before: float, after: float) -> str:
    """The change of a metric with a sign: −.012 for a drop, +.003 for a rise, and 0 for less than a thousandth.

    It is the difference of the two figures as they are shown.
    """
    return drop(round(before, 3) - round(after, 3))


def relative(before: float, after: float) -> str:
    """The change of a metric as a share of what it was, of the figures as they are shown: " (−2.3%)"; empty below a tenth of a percent."""
    before, after = round(before, 3), round(after, 3)
    percent = 100 * (after - before) / before if before else 0.0
    return f" ({GLYPHS.minus if percent < 0 else '+'}{abs(percent):.1f}%)" if abs(percent) >= 0.05 else ""


def shape(sizes: Sequence[int]) -> str:
    """An output shape: 64×80×80."""
    return GLYPHS.times.join(str(size) for size in sizes)


def arrow(before: object, after: object) -> str:
    """Before and after, or one of them when they are the same: 64→45."""
    return str(before) if before == after else f"{before}{GLYPHS.arrow}{after}"
