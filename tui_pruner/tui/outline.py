"""The model as rows: sections, blocks, layers, and which of them are visible."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tui_pruner.tui.figures import plural

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import BlockView, LayerView

SECTIONS = ("backbone", "neck", "head")
PRUNABLE = ("free", "coupled", "linked")
IN_MODEL = ""
NO_DROPS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Row:
    """One line of the tree. `layers` are all layers below it (or the one that it is), `depth` its indentation."""

    key: str
    kind: Literal["section", "block", "layer"]
    depth: int
    name: str
    type: str
    section: str
    parent: str
    inputs: int
    outputs: int
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    layers: tuple[LayerView, ...]
    expandable: bool
    sources: tuple[int, ...] = ()

    @property
    def layer(self) -> LayerView | None:
        """The one layer that this row is about: a layer's own row, or a block that consists of one."""
        return self.layers[0] if self.kind != "section" and len(self.layers) == 1 else None

    @property
    def prunable(self) -> list[str]:
        """The names of the layers below this row that can be cut."""
        return [layer.name for layer in self.layers if layer.status in PRUNABLE]

    @property
    def words(self) -> str:
        """What the filter looks in."""
        states = " ".join(sorted({layer.status for layer in self.layers})) if self.kind != "section" else ""
        full = self.layer.name if self.layer else self.key
        return f"{self.name} {full} {self.type} {self.section} {states}".lower()


@dataclass(frozen=True)
class Standpoint:
    """How somebody looks at the model: the row under the cursor, the open rows, the filter's words, the order, and whether on the map."""

    key: str
    expanded: frozenset[str]
    words: str = ""
    order: str = ""
    on_map: bool = False


def outline(blocks: Sequence[BlockView]) -> list[Row]:
    """All rows of the model in the order of the tree."""
    rows: list[Row] = []
    for section in SECTIONS:
        inside = [block for block in blocks if block.section == section]
        if not inside:
            continue
        rows.append(_section_row(section, inside))
        for block in inside:
            rows.append(_block_row(block))
            if len(block.layers) > 1:
                rows.extend(_layer_row(block, layer) for layer in block.layers)
    return rows


BY_DROP = "by drop"
"""The layers that can be cut at the least cost first, once a scan has measured them; those that it has not come last."""
ORDERS: Mapping[str, Callable[[Row], int]] = {"by FLOPs": lambda row: row.flops, "by parameters": lambda row: row.parameters}


def visible(
    rows: Sequence[Row], expanded: Collection[str], words: str = "", order: str = IN_MODEL, drops: Mapping[str, float] = NO_DROPS
) -> list[Row]:
    """The rows to show: inside open parents; with a filter, those that match and what they stand in; in another order, layers only."""
    if order == BY_DROP:
        found = matching_layers(rows, words)
        return [_standing_alone(row) for row in sorted(found, key=lambda row: drops.get(row.layer.name, math.inf) if row.layer else 0.0)]
    if order:
        return [_standing_alone(row) for row in sorted(matching_layers(rows, words), key=ORDERS[order], reverse=True)]
    if words.strip():
        return _matching(rows, words)
    opened = {row.key for row in rows if row.key in expanded}
    shown: set[str] = set()
    for row in rows:
        if not row.parent or (row.parent in opened and row.parent in shown):
            shown.add(row.key)
    return [row for row in rows if row.key in shown]


def matching_layers(rows: Sequence[Row], words: str = "") -> list[Row]:
    """The rows of all layers that the filter lets through."""
    return [row for row in rows if row.layer is not None and matches(row, words)]


def with_word(words: str, word: str) -> str:
    """The filter with this word added, or taken away where it has it."""
    given = words.split()
    return " ".join([other for other in given if other != word] if word in given else [*given, word])


def _standing_alone(row: Row) -> Row:
    layer = row.layer
    assert layer is not None
    name = row.name if row.kind == "block" else layer.name.removeprefix("model.")
    return replace(row, depth=0, name=name, expandable=False)


def matches(row: Row, words: str) -> bool:
    """Whether a block or layer has all of these words in what the filter looks in."""
    return row.kind != "section" and all(word in row.words for word in words.lower().split())


def row_of(rows: Sequence[Row], module: str) -> Row | None:
    """The row that shows a module: its own; the last layer inside it, where its operation's channels are written; or what it is in."""
    own = [row for row in rows if row.kind != "section" and (row.key == module or (row.layer is not None and row.layer.name == module))]
    inside = [row for row in rows if row.layer is not None and row.layer.name.startswith(f"{module}.")]
    around = [row for row in rows if row.kind == "block" and module.startswith(f"{row.key}.")]
    return next((found[-1] for found in (own, inside, around) if found), None)


def nearest(rows: Sequence[Row], words: str, here: str) -> str:
    """Where the cursor goes among rows that match: to the one that is named exactly, else stay `here`, else the first."""
    matching = [row for row in rows if matches(row, words)]
    exact = [row.key for row in matching if words.strip().lower() in (row.key, row.key.removeprefix("model."), row.name.lower())]
    keys = [row.key for row in matching]
    return exact[0] if exact else here if here in keys else keys[0] if keys else ""


def _matching(rows: Sequence[Row], words: str) -> list[Row]:
    by_key = {row.key: row for row in rows}
    shown: set[str] = set()
    for row in rows:
        if not matches(row, words):
            continue
        key = row.key
        while key:
            shown.add(key)
            key = by_key[key].parent
    return [row for row in rows if row.key in shown]


def _section_row(section: str, blocks: Sequence[BlockView]) -> Row:
    layers = tuple(layer for block in blocks for layer in block.layers)
    return Row(
        key=section,
        kind="section",
        depth=0,
        name=section.capitalize(),
        type=plural(len(blocks), "block"),
        section=section,
        parent="",
        inputs=blocks[0].in_channels,
        outputs=blocks[-1].out_channels,
        output_shape=(),
        parameters=sum(block.parameters for block in blocks),
        flops=sum(block.flops for block in blocks),
        layers=layers,
        expandable=True,
    )


def _block_row(block: BlockView) -> Row:
    return Row(
        key=block.name,
        kind="block",
        depth=1,
        name=f"{block.index} {block.type}",
        type=block.layers[0].type if len(block.layers) == 1 else plural(len(block.layers), "layer") if block.layers else "",
        section=block.section,
        parent=block.section,
        inputs=block.in_channels,
        outputs=block.out_channels,
        output_shape=tuple(block.output_shape),
        parameters=block.parameters,
        flops=block.flops,
        layers=tuple(block.layers),
        expandable=len(block.layers) > 1,
        sources=tuple(block.from_),
    )


def _layer_row(block: BlockView, layer: LayerView) -> Row:
    return Row(
        key=layer.name,
        kind="layer",
        depth=2,
        name=layer.name.removeprefix(block.name + "."),
        type=layer.type,
        section=block.section,
        parent=block.name,
        inputs=layer.in_channels,
        outputs=layer.out_channels,
        output_shape=(),
        parameters=layer.parameters,
        flops=layer.flops,
        layers=(layer,),
        expandable=False,
    )
