"""A document as one HTML file with everything in it: no script, no address of anything outside."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from tui_pruner.core.reporting.document import Attachment, Bar, Cell, Code, Document, Gallery, Pair, Paragraph, Section, Table, Tile, Tiles

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
        sections="\n".join(section(found) for found in document.sections),
        footer=escape(document.footer),
    )


def section(found: Section) -> str:
    """A heading and its parts."""
    parts = "\n".join(WRITERS[type(part)](part) for part in found.parts)
    return f"<section>\n<h2>{escape(found.title)}</h2>\n{parts}\n</section>"


def tiles(part: Tiles) -> str:
    """The first figures as cards."""
    return f'<div class="tiles">\n{"".join(map(tile, part.tiles))}</div>'


def tile(found: Tile) -> str:
    """One card."""
    change = f'<span class="change">{escape(found.change)}</span>' if found.change else ""
    return (
        f'<div class="tile {found.mood}"><div class="label">{escape(found.label)}{change}</div>'
        f'<div class="value">{escape(found.value)}</div>{bar(found.bar)}<div class="detail">{escape(found.detail)}</div></div>\n'
    )


def table(part: Table) -> str:
    """A table that scrolls by itself where the window is too narrow for it."""
    right = [column in part.right for column in part.columns]
    head = "".join(f"<th{CLASS_RIGHT[r]}>{escape(column)}</th>" for column, r in zip(part.columns, right, strict=True))
    rows = "\n".join("<tr>" + "".join(map(cell, row, right)) + "</tr>" for row in part.rows)
    total = ' class="total"' if part.total else ""
    legend = f"<p>{escape(part.legend)}</p>\n" if part.legend else ""
    return f'{legend}<div class="wide"><table{total}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


CLASS_RIGHT = {True: ' class="right"', False: ""}


def cell(found: Cell, right: bool) -> str:
    """One cell."""
    names = " ".join(name for name, wanted in (("right", right), (found.mood, found.mood != "plain"), ("code", found.code)) if wanted)
    return f'<td class="{names}">{gauge(found)}</td>' if names else f"<td>{gauge(found)}</td>"


def gauge(found: Cell) -> str:
    """A cell's words, with the change and the bar that belong to them on one line."""
    if found.change is None and found.bar is None:
        return escape(found.text)
    change = "" if found.change is None else f'<span class="change">{escape(found.change)}</span>'
    return f'<div class="gauge">{bar(found.bar)}<span class="figure">{escape(found.text)}</span>{change}</div>'


def bar(found: Bar | None) -> str:
    """Two lengths, one over the other."""
    if found is None:
        return ""
    was, now = (f"{100 * min(1.0, max(0.0, length)):.2f}%" for length in (found.before, found.after))
    return f'<span class="bar" aria-hidden="true"><i style="width:{was}"></i><b style="width:{now}"></b></span>'


def gallery(part: Gallery) -> str:
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


def attachment(part: Attachment) -> str:
    """A file inside the document, to be saved from it."""
    content = base64.b64encode(part.text.encode()).decode()
    size = f"{len(part.text.encode()) / 1000:.1f} kB"
    return (
        f'<p>The plan itself is in this document: <a download="{escape(part.name)}" href="data:application/yaml;base64,{content}">'
        f"{escape(part.name)}</a> ({size}).</p>"
    )


WRITERS: dict[type, Callable[[Any], str]] = {
    Tiles: tiles,
    Table: table,
    Paragraph: lambda part: f"<p>{escape(part.text)}</p>",
    Code: lambda part: f"<pre><code>{escape(chr(10).join(part.lines))}</code></pre>",
    Attachment: attachment,
    Gallery: gallery,
}
