"""An open explanation as text: the sentence, the path hop by hop, affected layers; and the channel flow of every block.

The flow shows what each block reads and writes, from where, and why consecutive widths need not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from tui_pruner.domain.formatting import plural
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import GLYPHS, fit, wrapped
from tui_pruner.tui.outline import TreeState
from tui_pruner.tui.panes.widgets import CLICK

if TYPE_CHECKING:
    from tui_pruner.engine.messages import ExplainResult
    from tui_pruner.engine.requests import FlowPart, FlowResult, FlowView


@dataclass(frozen=True)
class Origin:
    """The view to return to: that of the tree, and whether the map was shown."""

    tree: TreeState
    on_map: bool


@dataclass(frozen=True)
class OpenExplanation:
    """The explanation, the view `home` to return to, and the last chosen hop of the path or affected layer."""

    found: ExplainResult
    home: Origin
    chosen: int | None = None

    @property
    def stops(self) -> list[str]:
        """The module paths of the hops, then of the affected layers."""
        return [hop.at for hop in self.found.path] + [touched.layer for touched in self.found.touches]

    @property
    def stop(self) -> str:
        """The module path of the chosen hop; empty when none is."""
        return "" if self.chosen is None else self.stops[self.chosen]

    @property
    def path(self) -> Sequence[str]:
        """The module paths to highlight: the hops, or without a second end all affected layers."""
        return [hop.at for hop in self.found.path] if self.found.second else [self.found.first, *self.stops]

    def moved(self, by: int) -> OpenExplanation:
        """Move to a later or earlier hop, staying at the ends; from none to the first or the last."""
        last = len(self.stops) - 1
        if last < 0:
            return self
        start = self.chosen if self.chosen is not None else -1 if by > 0 else last + 1
        return self.at(start + by)

    def at(self, number: int) -> OpenExplanation:
        """Move to this hop, or the nearest one."""
        return replace(self, chosen=min(max(number, 0), len(self.stops) - 1)) if self.stops else self


def short(name: str) -> str:
    """A module path without the common prefix."""
    return name.removeprefix("model.")


Cells = tuple[str, str, str]
GAP = "  "
INDENT = 4
ON_ANOTHER = "on another layer or block: the path to it"


def explain_title(explanation: OpenExplanation, after_steps: bool = False) -> str:
    """The two ends of the explanation; `after_steps`: the model was cut since, and the channels are those of the checkpoint."""
    ends = [short(name) for name in (explanation.found.first, explanation.found.second) if name]
    where = " in the checkpoint" if after_steps else ""
    return f"Explain {f' {GLYPHS.arrow} '.join(ends)}{where}"


def explain_lines(explanation: OpenExplanation, width: int) -> tuple[list[Text], int]:
    """All lines of at most `width` cells, and the number of the chosen hop's line; 0 where none is chosen."""
    found = explanation.found
    path: list[Cells] = [(short(hop.at), hop.operation, hop.detail) for hop in found.path]
    touches: list[Cells] = [(short(touched.layer), f"{touched.role} {touched.channels}", touched.because) for touched in found.touches]
    lines = [*_sentence(explanation, width), Text()]
    if path:
        lines.append(_heading("Path", plural(len(path), "hop")))
        chosen = len(lines) + _line_of(path, explanation.chosen, width)
        lines += [*_table(path, explanation.chosen, 0, width), Text()]
    if touches:
        lines.append(_heading(f"A cut of {short(found.first)} touches", plural(len({cells[0] for cells in touches}), "layer")))
        below = len(lines)
        lines += [*_table(touches, explanation.chosen, len(path), width), Text()]
    number = explanation.chosen
    line = 0 if number is None else chosen if number < len(path) else below + _line_of(touches, number - len(path), width)
    return [*lines, *(_hint(key, does, width) for key, does in _hints(with_path=bool(found.second)))], line


def _hints(with_path: bool) -> list[tuple[str, str]]:
    other_end = [] if with_path else [(key_of("explain"), ON_ANOTHER)]
    return [
        *other_end,
        (f"{key_of('hop-1')} {key_of('hop-minus-1')}", "next and previous hop: the tree follows"),
        ("enter", "to the chosen one"),
        (key_of("back"), "back to where you were"),
        (key_of("path-to"), "type another end"),
    ]


def stop_line(explanation: OpenExplanation, width: int) -> Text:
    """The chosen hop in one line, for a screen that shows only the tree; the sentence where none is chosen."""
    found, number = explanation.found, explanation.chosen
    if number is None:
        return Text(fit(found.summary, width).rstrip(), colours.HEADING)
    if number < len(found.path):
        hop = found.path[number]
        said = f"{short(hop.at)} {hop.operation} {hop.detail}"
    else:
        touched = found.touches[number - len(found.path)]
        said = f"{short(touched.layer)} {touched.role} {touched.channels}: {touched.because}"
    return Text(fit(f"{number + 1}/{len(explanation.stops)} {said}", width).rstrip(), colours.HEADING)


def _sentence(explanation: OpenExplanation, width: int) -> list[Text]:
    lost = explanation.found.second and not explanation.found.path
    return wrapped(explanation.found.summary, width, colours.WARNING if lost else colours.STRONG)


def _heading(title: str, counted: str) -> Text:
    return Text.assemble((title, colours.HEADING), (f"{GAP}{counted}", colours.MUTED))


def _hint(key: str, does: str, width: int) -> Text:
    return Text.assemble((fit(key, 8), f"bold {colours.WARNING}"), (fit(does, width - 8).rstrip(), colours.MUTED))


def _table(rows: Sequence[Cells], chosen: int | None, first: int, width: int) -> list[Text]:
    lines = []
    for number, row in enumerate(rows, start=first):
        for line in _row(row, _widths(rows, width), width, number == chosen):
            line.stylize(Style(meta={CLICK: f"run('visit', {number})"}))
            lines.append(line)
    return lines


def _widths(rows: Sequence[Cells], width: int) -> tuple[int, int]:
    names = min(max(len(row[0]) for row in rows), width // 3)
    return names, min(max(len(row[1]) for row in rows), width - names - 2 * len(GAP) - 2)


def _row(row: Cells, widths: tuple[int, int], width: int, chosen: bool) -> list[Text]:
    name, what, detail = row
    sign = f"{GLYPHS.pending} " if chosen else "  "
    first = Text.assemble((sign, colours.WARNING), fit(name, widths[0]), GAP, (fit(what, widths[1]), colours.BLUE))
    lines = [first]
    if first.cell_len + len(GAP) + len(detail) <= width:
        first.append(GAP + detail, colours.MUTED)
    else:
        lines += [Text.assemble(" " * INDENT, more) for more in wrapped(detail, width - INDENT, colours.MUTED)]
    if chosen:
        for line in lines:
            line.append(" " * (width - line.cell_len))
            line.stylize(f"bold on {colours.SELECTION}")
    return lines


def _line_of(rows: Sequence[Cells], number: int | None, width: int) -> int:
    before = rows[: number or 0]
    return sum(len(_row(row, _widths(rows, width), width, False)) for row in before)


NUMBER = 7
"""Cells of a column of widths."""
RANGE = 11
WAITING = "following the channels through the model"
MARKED = "another width, see below"
MEANING = "Marked blocks read another number than the block before writes, or than the last convolution listed before them does."


@dataclass(frozen=True)
class OpenFlow:
    """The shown channel flow: the engine's answer, None until it arrives."""

    found: FlowResult | None = None

    @property
    def different(self) -> list[int]:
        """The indices of the blocks whose widths differ from those before them."""
        return [block.index for block in self.found.blocks if block.mismatch] if self.found else []


def flow_title(flow: OpenFlow) -> str:
    """The model state of the channel flow."""
    after = f" after {plural(flow.found.steps, 'step')}" if flow.found and flow.found.steps else ""
    return f"Channel flow{after}"


def flow_lines(flow: OpenFlow, at: int, width: int) -> tuple[list[Text], int, int]:
    """All lines of at most `width` cells, the block with the index `at` with its sources; and the first and the number of its lines."""
    if flow.found is None:
        return [Text(WAITING, colours.MUTED)], 0, 1
    names = width - 3 * NUMBER - 2
    sign = next((sign for sign in (f"   {GLYPHS.lit} {MARKED}", f"   {GLYPHS.lit} {MARKED.split(',')[0]}") if len(sign) + 6 <= names), "")
    heading = Text.assemble(("Block", colours.HEADING), (fit(sign, names - 5), colours.MUTED))
    lines = [Text.assemble("  ", heading, (_numbers("reads", "before", "writes"), colours.MUTED))]
    first = rows = 0
    for block in flow.found.blocks:
        own = _block(block, names, width, block.index == at)
        if block.index == at:
            first, rows = len(lines), len(own)
        lines += own
    keys = f"{key_of('hop-1')} and {key_of('hop-minus-1')} go to the next and the previous one, {key_of('back')} leaves."
    return [*lines, Text(), *wrapped(f"{MEANING} {keys}", width, colours.MUTED)], first, rows


def _block(block: FlowView, names: int, width: int, chosen: bool) -> list[Text]:
    """A block's line, and for the chosen block the sources of its channels."""
    differs = block.mismatch is not None
    name = f"{block.index} {block.type}"
    sign = GLYPHS.pending if chosen else GLYPHS.lit if differs else " "
    first = Text.assemble(
        (f"{sign} ", colours.WARNING),
        (fit(name, names), colours.STRONG if chosen else colours.TEXT),
        (_numbers(str(block.reads), str(block.previous), str(block.writes)), colours.BLUE if differs else colours.MUTED),
    )
    if not chosen:
        return [first]
    first.append(" " * (width - first.cell_len))
    first.stylize(f"bold on {colours.SELECTION}")
    return [first, *_sources(block, width), *_reason(block, width)]


def _sources(block: FlowView, width: int) -> list[Text]:
    """The sources of a block's channels: the blocks that it reads, and behind those that only join or pass on, the writing layers."""
    lines = [_part("reads", part, _named(part), width) for part in block.sources]
    if any(part.layers or part.index >= 0 for part in block.origins):
        lines += [_part("from", part, _written(part), width) for part in block.origins]
    return lines


def _part(verb: str, part: FlowPart, words: str, width: int) -> Text:
    text = f"{fit(verb, 6)}{fit(span(part), RANGE)}{words}"
    return Text(fit(" " * INDENT + text, width).rstrip(), colours.TEXT if verb == "reads" else colours.GOOD)


def span(part: FlowPart) -> str:
    """The positions of channels among those that a block reads: "128..191"."""
    return f"{part.offset}..{part.offset + part.channels - 1}"


def _named(part: FlowPart) -> str:
    where = "the image" if part.index < 0 else f"block {part.index}"
    return f"{where}, {plural(part.channels, 'channel')}{f' at offset {part.offset}' if part.offset else ''}"


def _written(part: FlowPart) -> str:
    if part.index < 0:
        return "the image"
    return f"block {part.index}{': ' if part.layers else ''}{', '.join(short(layer) for layer in part.layers)}"


def _reason(block: FlowView, width: int) -> list[Text]:
    if block.mismatch is None:
        return []
    lines = wrapped(f"no mismatch: block {block.index} {block.mismatch}", width - INDENT, colours.WARNING)
    return [Text.assemble(" " * INDENT, line) for line in lines]


def _numbers(*words: str) -> str:
    return "".join(fit(word, NUMBER, right=True) for word in words)
