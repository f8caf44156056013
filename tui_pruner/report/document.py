"""A document of sections, and its two formats: one self-contained HTML file, and Markdown."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from tui_pruner.report.diagrams import Diagram, html_diagram, rows_of

Mood = Literal["plain", "good", "bad", "quiet"]


@dataclass(frozen=True)
class Bar:
    """Two lengths on one scale: before, and the part of it that is left; 1 is the longest of the column."""

    before: float
    after: float
    mood: Mood = "plain"


@dataclass(frozen=True)
class Cell:
    """One cell: text, its mood, whether it is code, a relative change, and a bar."""

    text: str
    mood: Mood = "plain"
    code: bool = False
    change: str | None = None
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """Columns, those in `right` with figures, and rows, the last of which is a sum if `total`.

    `legend` explains the bars, in formats that draw them.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: tuple[str, ...] = ()
    total: bool = False
    legend: str = ""


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    detail: str
    change: str = ""
    bar: Bar | None = None
    mood: Mood = "plain"


@dataclass(frozen=True)
class Tiles:
    """Key figures side by side."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Code:
    """Commands, one a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Attachment:
    """A text file inside the document, with its name."""

    name: str
    text: str


@dataclass(frozen=True)
class Pair:
    """An image twice: the bytes of JPEG files, each with its detections in words."""

    name: str
    before: bytes
    after: bytes
    seen_before: str
    seen_after: str


@dataclass(frozen=True)
class Gallery:
    """Pairs of pictures."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Folded:
    """A long table behind a line with its summary; open in print."""

    summary: str
    table: Table


Part = Tiles | Table | Folded | Paragraph | Code | Attachment | Gallery | Diagram


@dataclass(frozen=True)
class Section:
    """A heading and its parts."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """A title, a line below it, and sections; `verdict` is the most important sentence, with its mood."""

    title: str
    subtitle: str
    verdict: str
    mood: Mood
    sections: tuple[Section, ...]
    footer: str


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
<p class="verdict {mood}">{verdict}</p>
</header>
<main>
{sections}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def html(document: Document) -> str:
    """The whole page."""
    return PAGE.format(
        style=Path(__file__).with_name("page.css").read_text(encoding="utf-8"),
        title=escape(document.title),
        subtitle=escape(document.subtitle),
        verdict=escape(document.verdict),
        mood=document.mood,
        sections="\n".join(html_section(found) for found in document.sections),
        footer=escape(document.footer),
    )


def html_section(found: Section) -> str:
    """A heading and its parts."""
    parts = "\n".join(HTML_WRITERS[type(part)](part) for part in found.parts)
    return f"<section>\n<h2>{escape(found.title)}</h2>\n{parts}\n</section>"


def html_tiles(part: Tiles) -> str:
    """The key figures as cards."""
    return f'<div class="tiles">\n{"".join(map(tile, part.tiles))}</div>'


def tile(found: Tile) -> str:
    """One card."""
    change = f'<span class="change">{escape(found.change)}</span>' if found.change else ""
    return (
        f'<div class="tile {found.mood}"><div class="label">{escape(found.label)}{change}</div>'
        f'<div class="value">{escape(found.value)}</div>{bar(found.bar)}<div class="detail">{escape(found.detail)}</div></div>\n'
    )


def html_table(part: Table) -> str:
    """A table, scrollable where the window is too narrow for it."""
    right = [column in part.right for column in part.columns]
    head = "".join(f"<th{CLASS_RIGHT[r]}>{escape(column)}</th>" for column, r in zip(part.columns, right, strict=True))
    rows = "\n".join("<tr>" + "".join(map(html_cell, row, right)) + "</tr>" for row in part.rows)
    total = ' class="total"' if part.total else ""
    legend = f"<p>{escape(part.legend)}</p>\n" if part.legend else ""
    return f'{legend}<div class="wide"><table{total}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def html_folded(part: Folded) -> str:
    """A table that opens."""
    return f"<details><summary>{escape(part.summary)}</summary>\n{html_table(part.table)}\n</details>"


CLASS_RIGHT = {True: ' class="right"', False: ""}


def html_cell(found: Cell, right: bool) -> str:
    """One cell."""
    names = " ".join(name for name, wanted in (("right", right), (found.mood, found.mood != "plain"), ("code", found.code)) if wanted)
    return f'<td class="{names}">{gauge(found)}</td>' if names else f"<td>{gauge(found)}</td>"


def gauge(found: Cell) -> str:
    """A cell's text, with its change and its bar on one line."""
    if found.change is None and found.bar is None:
        return escape(found.text)
    change = "" if found.change is None else f'<span class="change">{escape(found.change)}</span>'
    return f'<div class="gauge">{bar(found.bar)}<span class="figure">{escape(found.text)}</span>{change}</div>'


def bar(found: Bar | None) -> str:
    """Two lengths, one over the other."""
    if found is None:
        return ""
    was, now = (f"{100 * min(1.0, max(0.0, length)):.2f}%" for length in (found.before, found.after))
    mood = "" if found.mood == "plain" else f" {found.mood}"
    return f'<span class="bar{mood}" aria-hidden="true"><i style="width:{was}"></i><b style="width:{now}"></b></span>'


def html_gallery(part: Gallery) -> str:
    """Pairs of pictures."""
    return f'<div class="gallery">\n{"".join(map(pair, part.pairs))}</div>'


def pair(found: Pair) -> str:
    """An image before and after, side by side."""
    sides = "".join(
        f'<div><img alt="{escape(found.name)} {side}" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'
        f'<span><em>{side}</em> {escape(seen)}</span></div>'
        for side, content, seen in (("before", found.before, found.seen_before), ("after", found.after, found.seen_after))
    )  # fmt: skip
    return f'<figure><div class="pair">{sides}</div><figcaption>{escape(found.name)}</figcaption></figure>\n'


def html_attachment(part: Attachment) -> str:
    """A file inside the document, with a link to save it."""
    content = base64.b64encode(part.text.encode()).decode()
    size = f"{len(part.text.encode()) / 1000:.1f} kB"
    return (
        f'<p>The plan itself is in this document: <a download="{escape(part.name)}" href="data:application/yaml;base64,{content}">'
        f"{escape(part.name)}</a> ({size}).</p>"
    )


HTML_WRITERS: dict[type, Callable[[Any], str]] = {
    Tiles: html_tiles,
    Table: html_table,
    Folded: html_folded,
    Diagram: html_diagram,
    Paragraph: lambda part: f"<p>{escape(part.text)}</p>",
    Code: lambda part: f"<pre><code>{escape(chr(10).join(part.lines))}</code></pre>",
    Attachment: html_attachment,
    Gallery: html_gallery,
}


SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_|[]<>#"})
NO_PICTURES = "The pictures themselves are in the HTML form of this report (`-o report.html`)."


def markdown(document: Document) -> str:
    """The whole document."""
    head = [f"# {escaped(document.title)}", escaped(document.subtitle), f"**{escaped(document.verdict)}**"]
    return "\n\n".join([*head, *(markdown_section(part) for part in document.sections), f"*{escaped(document.footer)}*"]) + "\n"


def markdown_section(found: Section) -> str:
    """A heading and its parts."""
    return "\n\n".join([f"## {escaped(found.title)}", *(MARKDOWN_WRITERS[type(part)](part) for part in found.parts)])


def markdown_tiles(part: Tiles) -> str:
    """The key figures as a table."""
    rows = [[escaped(t.label), escaped(t.value), escaped(t.change), escaped(t.detail)] for t in part.tiles]
    return grid(["", f"before {chr(0x2192)} after", "change", ""], rows, right=())


def markdown_table(part: Table) -> str:
    """A table; the sum's row is bold."""
    rows = [[markdown_cell(found) for found in row] for row in part.rows]
    if part.total and rows:
        rows[-1] = [f"**{text}**" if text else "" for text in rows[-1]]
    return grid(part.columns, rows, part.right)


def grid(columns: Any, rows: list[list[str]], right: Any) -> str:
    """A Markdown table."""
    rules = ["---:" if column in right else "---" for column in columns]
    lines = [list(map(escaped, columns)), rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_cell(found: Cell) -> str:
    """One cell; several lines stay in one row."""
    lines = [f"**{escaped(line)}**" if found.mood == "bad" else escaped(line) for line in found.text.splitlines()]
    return "<br>".join(lines) + (f" ({found.change})" if found.change else "")


def markdown_gallery(part: Gallery) -> str:
    """The detections on each image, in words."""
    rows = [[escaped(pair.name), escaped(pair.seen_before), escaped(pair.seen_after)] for pair in part.pairs]
    return f"{grid(['image', 'before', 'after'], rows, right=())}\n\n{NO_PICTURES}"


def markdown_attachment(part: Attachment) -> str:
    """A file inside the document, folded where Markdown supports that."""
    return f"<details><summary>{escaped(part.name)}</summary>\n\n{fenced(part.text.rstrip(), 'yaml')}\n\n</details>"


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def escaped(text: str) -> str:
    """Text with all markup escaped."""
    return text.translate(SPECIAL)


MARKDOWN_WRITERS: dict[type, Callable[[Any], str]] = {
    Tiles: markdown_tiles,
    Table: markdown_table,
    Folded: lambda part: markdown_table(part.table),
    Diagram: lambda part: grid(
        ["line", "point", part.right, part.up], [list(map(escaped, row)) for row in rows_of(part)], [part.right, part.up]
    ),
    Paragraph: lambda part: escaped(part.text),
    Code: lambda part: fenced("\n".join(part.lines), "console"),
    Attachment: markdown_attachment,
    Gallery: markdown_gallery,
}
