"""A report as a document that knows no format: sections of tables, figures, code and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mood = Literal["plain", "good", "bad", "quiet"]


@dataclass(frozen=True)
class Bar:
    """Two lengths on one scale: before, and the part of it that is left; 1 is the longest of the column."""

    before: float
    after: float


@dataclass(frozen=True)
class Cell:
    """One cell: words, the mood they are in, whether they are names in code, the relative change to them, and a bar beside them."""

    text: str
    mood: Mood = "plain"
    code: bool = False
    change: str | None = None
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """Columns, of which those in `right` hold figures, and rows, the last of which sums up where `total` says so.

    `legend` says how to read the bars, in forms that draw them.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: tuple[str, ...] = ()
    total: bool = False
    legend: str = ""


@dataclass(frozen=True)
class Tile:
    """A figure that a reader looks for first."""

    label: str
    value: str
    detail: str
    change: str = ""
    bar: Bar | None = None
    mood: Mood = "plain"


@dataclass(frozen=True)
class Tiles:
    """Figures side by side."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Code:
    """Commands, each on a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Attachment:
    """A file inside the document: a text with its name."""

    name: str
    text: str


@dataclass(frozen=True)
class Pair:
    """An image twice: as JPEG files' bytes, each with what is seen there."""

    name: str
    before: bytes
    after: bytes
    seen_before: str
    seen_after: str


@dataclass(frozen=True)
class Gallery:
    """Pairs of pictures."""

    pairs: tuple[Pair, ...]


Part = Tiles | Table | Paragraph | Code | Attachment | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """A title, a line under it, and sections; `verdict` is the one sentence that matters, with its mood."""

    title: str
    subtitle: str
    verdict: str
    mood: Mood
    sections: tuple[Section, ...]
    footer: str
