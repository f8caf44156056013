"""A document as Markdown, for a pull request's text; pictures stay in the HTML file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tui_pruner.core.reporting.document import Attachment, Cell, Code, Document, Gallery, Paragraph, Section, Table, Tiles

SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_|[]<>#"})
NO_PICTURES = "The pictures themselves are in the HTML form of this report (`-o report.html`)."


def markdown(document: Document) -> str:
    """The whole document."""
    head = [f"# {escaped(document.title)}", escaped(document.subtitle), f"**{escaped(document.verdict)}**"]
    return "\n\n".join([*head, *(section(part) for part in document.sections), f"*{escaped(document.footer)}*"]) + "\n"


def section(found: Section) -> str:
    """A heading and its parts."""
    return "\n\n".join([f"## {escaped(found.title)}", *(WRITERS[type(part)](part) for part in found.parts)])


def tiles(part: Tiles) -> str:
    """The first figures as a table."""
    rows = [[escaped(t.label), escaped(t.value), escaped(t.change), escaped(t.detail)] for t in part.tiles]
    return grid(["", f"before {chr(0x2192)} after", "change", ""], rows, right=())


def table(part: Table) -> str:
    """A table; the row that sums up is bold."""
    rows = [[cell(found) for found in row] for row in part.rows]
    if part.total and rows:
        rows[-1] = [f"**{text}**" if text else "" for text in rows[-1]]
    return grid(part.columns, rows, part.right)


def grid(columns: Any, rows: list[list[str]], right: Any) -> str:
    """A Markdown table."""
    rules = ["---:" if column in right else "---" for column in columns]
    lines = [list(map(escaped, columns)), rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(found: Cell) -> str:
    """One cell; several lines stay in one row."""
    lines = [f"**{escaped(line)}**" if found.mood == "bad" else escaped(line) for line in found.text.splitlines()]
    return "<br>".join(lines) + (f" ({found.change})" if found.change else "")


def gallery(part: Gallery) -> str:
    """What is seen on each image, in words."""
    rows = [[escaped(pair.name), escaped(pair.seen_before), escaped(pair.seen_after)] for pair in part.pairs]
    return f"{grid(['image', 'before', 'after'], rows, right=())}\n\n{NO_PICTURES}"


def attachment(part: Attachment) -> str:
    """A file inside the document, folded away where Markdown can."""
    return f"<details><summary>{escaped(part.name)}</summary>\n\n{fenced(part.text.rstrip(), 'yaml')}\n\n</details>"


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def escaped(text: str) -> str:
    """Text in which nothing is markup."""
    return text.translate(SPECIAL)


WRITERS: dict[type, Callable[[Any], str]] = {
    Tiles: tiles,
    Table: table,
    Paragraph: lambda part: escaped(part.text),
    Code: lambda part: fenced("\n".join(part.lines), "console"),
    Attachment: attachment,
    Gallery: gallery,
}
