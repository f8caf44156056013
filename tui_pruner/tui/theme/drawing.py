"""Bars, curves and cells drawn with characters."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
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

from tui_pruner.domain.formatting import legible
from tui_pruner.tui.theme.glyphs import GLYPHS

if TYPE_CHECKING:
    from PIL.Image import Image


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
    """The text in at most `width` cells, cut in the middle so that its beginning and its end stay."""
    text = legible(text)
    if cell_len(text) <= width:
        return text
    if width < 3:
        return text[: max(width, 0)]
    end = (width - 1) // 2
    return text[: width - 1 - end] + GLYPHS.ellipsis + text[-end:]


def fit_clauses(text: str, width: int) -> str:
    """The text in at most `width` cells, without its last clauses where it is too long; only a first one that is too long is cut."""
    text = legible(text)
    while cell_len(text) > width and ", " in text:
        text = text.rpartition(", ")[0]
    return fit(text, width).rstrip()


def bar(fraction: float, width: int) -> str:
    """A solid bar of up to `width` cells in steps of an eighth; anything above zero shows at least its first step."""
    steps = len(GLYPHS.blocks) - 1
    filled = round(min(max(fraction, 0.0), 1.0) * width * steps)
    if fraction > 0:
        filled = max(filled, 1)
    whole, rest = divmod(filled, steps)
    return fit(GLYPHS.blocks[-1] * whole + (GLYPHS.blocks[rest] if rest else ""), width)


def slider(fraction: float, width: int, on: str, off: str) -> Text:
    """A thin line of `width` cells whose first part is lit."""
    lit = round(min(max(fraction, 0.0), 1.0) * width)
    if fraction > 0:
        lit = max(lit, 1)
    return Text.assemble((GLYPHS.line * lit, on), (GLYPHS.track * (width - lit), off))


def resample(values: Sequence[float], width: int) -> list[float]:
    """The curve at `width` evenly spaced places, each the mean of what falls on it."""
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
    """The curve as `height` rows of `width` cells, top row first; values lie between 0 and 1."""
    steps = len(GLYPHS.levels) - 1
    tops = [max(round(min(max(value, 0.0), 1.0) * height * steps), 1) for value in resample(values, width)]
    rows = []
    for row in reversed(range(height)):
        floor = row * steps
        rows.append("".join(GLYPHS.levels[min(max(top - floor, 0), steps)] for top in tops))
    return rows


def cut_column(cut_at: float, width: int) -> int:
    """How many columns of a curve of `width` cells lie before the cut: none for no cut, at least one for any."""
    if cut_at <= 0:
        return 0
    return min(max(round(cut_at * width), 1), width)


def wrapped(text: str, width: int, style: str = "") -> list[Text]:
    """The text in lines of at most `width` cells, broken between words."""
    lines: list[str] = []
    for word in legible(text).split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [Text(line, style) for line in lines]


def broken(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, broken between words, and within a word that is longer than a line."""
    lines = [""]
    for line in wrapped(text, width):
        lines += [line.plain[at : at + width] for at in range(0, len(line.plain), width)]
    return lines[1:] or lines


Pixel = tuple[int, int, int]
UPPER_HALF = "▀"


def half_blocks(pixels: Sequence[Pixel], width: int) -> list[list[Segment]]:
    """Rows of cells, each with two pixels one above the other; `pixels` come row by row, an even number of rows of `width` each."""
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
    """A picture in just the pixels of these cells, and its sixels: more than half a second of work, so in a thread."""
    package: Any = importlib.import_module("textual_image.widget.sixel")
    cell = package.get_cell_size()
    fitting = picture.resize((cells[0] * cell.width, cells[1] * cell.height))
    return fitting, package.image_to_sixels(fitting, None, None)


def sixel_widget(picture: Image, sixels: str) -> Widget:
    """The widget of textual-image for a picture whose sixels are there already; it encodes again where only a part is in sight."""
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
    """One line of text as a strip of exactly `width` cells on a base style."""
    style = base + console.get_style(text.style)
    return Strip(text.render(console)).apply_style(style).adjust_cell_length(width, base)
