"""The flow of channels as lines of text: what each block reads and writes, from where, and why widths in a row need not match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.domain.formatting import plural
from tui_pruner.tui.actions.keymap import key_of
from tui_pruner.tui.panes.explanation import short
from tui_pruner.tui.theme import colours
from tui_pruner.tui.theme.drawing import fit, wrapped
from tui_pruner.tui.theme.glyphs import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.engine.requests import FlowPart, FlowResult, FlowView

NUMBER = 7
"""Cells of a column of widths."""
INDENT = 4
RANGE = 11
WAITING = "following the channels through the model"
MARKED = "another width, see below"
MEANING = "Marked blocks read another number than the block before writes, or than the last convolution listed before them does."


@dataclass(frozen=True)
class OpenFlow:
    """What is shown of the flow: the engine's answer, None until it is there."""

    found: FlowResult | None = None

    @property
    def different(self) -> list[int]:
        """The blocks whose widths differ from those before them, by their index."""
        return [block.index for block in self.found.blocks if block.mismatch] if self.found else []


def flow_title(flow: OpenFlow) -> str:
    """What the channels were followed through."""
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
    """One line, and for the chosen block where its channels come from."""
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
    """Where the channels come from: the blocks that are read, and behind those that only join or hand on, the layers that write."""
    lines = [_part("reads", part, _named(part), width) for part in block.sources]
    if any(part.layers or part.index >= 0 for part in block.origins):
        lines += [_part("from", part, _written(part), width) for part in block.origins]
    return lines


def _part(verb: str, part: FlowPart, words: str, width: int) -> Text:
    text = f"{fit(verb, 6)}{fit(span(part), RANGE)}{words}"
    return Text(fit(" " * INDENT + text, width).rstrip(), colours.TEXT if verb == "reads" else colours.GOOD)


def span(part: FlowPart) -> str:
    """The places that channels have among those that a block reads: "128..191"."""
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
