"""The model as rows: sections, blocks and layers; which of them are visible, and which one has the cursor."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from tui_pruner.domain.formatting import plural

if TYPE_CHECKING:
    from tui_pruner.engine.messages import BlockView, LayerView

SECTIONS = ("backbone", "neck", "head", "all blocks")
"""The last of them: any module, whose own blocks may have the names of the others."""
PRUNABLE = ("free", "coupled", "linked")
IN_MODEL = ""
Weight = tuple[int, int]
"""The parameters and FLOPs of a row."""
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
        """The single layer of this row: a layer's own row, or a block that consists of one."""
        return self.layers[0] if self.kind != "section" and len(self.layers) == 1 else None

    @property
    def prunable(self) -> list[str]:
        """The names of the layers below this row that can be cut."""
        return [layer.name for layer in self.layers if layer.status in PRUNABLE]

    @property
    def words(self) -> str:
        """The text that the filter searches."""
        states = " ".join(sorted({layer.status for layer in self.layers})) if self.kind != "section" else ""
        full = self.layer.name if self.layer else self.key
        return f"{self.name} {full} {self.type} {self.section} {states}".lower()


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
"""The order by drop: layers that can be cut, lowest drop first, once a scan has measured them; unmeasured ones last."""
ORDERS: Mapping[str, Callable[[Row], int]] = {"by FLOPs": lambda row: row.flops, "by parameters": lambda row: row.parameters}


def visible(
    rows: Sequence[Row], expanded: Collection[str], words: str = "", order: str = IN_MODEL, drops: Mapping[str, float] = NO_DROPS
) -> list[Row]:
    """The visible rows: inside open parents; with a filter, matching rows and their parents; in another order, layers only."""
    if order == BY_DROP:
        found = matching_layers(rows, words)
        return [_as_top_level(row) for row in sorted(found, key=lambda row: drops.get(row.layer.name, math.inf) if row.layer else 0.0)]
    if order:
        return [_as_top_level(row) for row in sorted(matching_layers(rows, words), key=ORDERS[order], reverse=True)]
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
    """The filter with this word added, or removed if it has it."""
    given = words.split()
    return " ".join([other for other in given if other != word] if word in given else [*given, word])


def _as_top_level(row: Row) -> Row:
    layer = row.layer
    assert layer is not None
    name = row.name if row.kind == "block" else layer.name.removeprefix("model.")
    return replace(row, depth=0, name=name, expandable=False)


def matches(row: Row, words: str) -> bool:
    """Whether a block or layer has all of these words in its filter text."""
    return row.kind != "section" and all(word in row.words for word in words.lower().split())


def row_of(rows: Sequence[Row], module: str) -> Row | None:
    """The row that shows a module: its own; the last layer inside it, which writes its output channels; or its parent."""
    own = [row for row in rows if row.kind != "section" and (row.key == module or (row.layer is not None and row.layer.name == module))]
    inside = [row for row in rows if row.layer is not None and row.layer.name.startswith(f"{module}.")]
    around = [row for row in rows if row.kind == "block" and module.startswith(f"{row.key}.")]
    return next((found[-1] for found in (own, inside, around) if found), None)


def nearest(rows: Sequence[Row], words: str, here: str) -> str:
    """The cursor's row among matching ones: the one that is named exactly, else `here`, else the first."""
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


def _weighed(row: Row, weights: Mapping[str, Weight]) -> Row:
    found = weights.get(row.key)
    return replace(row, parameters=found[0], flops=found[1]) if found else row


@dataclass(frozen=True)
class TreeState:
    """The view of the tree: open rows, filter words, order, and the cursor among visible rows. Methods return a new state.

    `drops`: the drops of a scan, by layer.
    """

    rows: tuple[Row, ...] = ()
    expanded: frozenset[str] = frozenset()
    words: str = ""
    order: str = IN_MODEL
    drops: Mapping[str, float] = field(default_factory=lambda: NO_DROPS)
    shown: tuple[Row, ...] = ()
    cursor: int = 0

    @classmethod
    def of(cls, blocks: Sequence[BlockView], drops: Mapping[str, float] = NO_DROPS) -> TreeState:
        """The initial state of a model: sections open, the cursor on the first block."""
        rows = tuple(outline(blocks))
        sections = frozenset(row.key for row in rows if row.kind == "section")
        return cls(rows, sections, drops=drops, cursor=1 if len(rows) > 1 else 0)._with()

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self.shown[self.cursor] if self.cursor < len(self.shown) else None

    @property
    def key(self) -> str:
        """The key of the row under the cursor; empty where no row is visible."""
        return self.row.key if self.row else ""

    @property
    def layer(self) -> str:
        """The name of the layer under the cursor; empty where it is not a layer."""
        return self.row.layer.name if self.row and self.row.layer else ""

    @property
    def filtered(self) -> bool:
        """Whether a filter hides rows."""
        return bool(self.words.strip())

    def has(self, key: str) -> bool:
        """Whether the model has a row with this key."""
        return any(row.key == key for row in self.rows)

    def key_of(self, module: str) -> str:
        """The row that shows a module; empty where none does."""
        row = row_of(self.rows, module)
        return row.key if row else ""

    def is_open(self, key: str) -> bool:
        """Whether the rows below a row are visible."""
        return key in self.expanded

    def at(self, number: int) -> TreeState:
        """Move the cursor to the visible row of this number, or the nearest one."""
        return replace(self, cursor=min(max(number, 0), max(len(self.shown) - 1, 0)))

    def moved(self, lines: int) -> TreeState:
        """Move the cursor by this many rows."""
        return self.at(self.cursor + lines)

    def on(self, key: str) -> TreeState:
        """Move the cursor to a row, with its parents opened; unchanged if it does not exist."""
        by_key = {row.key: row for row in self.rows}
        if key not in by_key:
            return self._with()
        opened, parent = set(self.expanded), by_key[key].parent
        while parent:
            opened.add(parent)
            parent = by_key[parent].parent
        return self._with(key, expanded=frozenset(opened))

    def showing(self, key: str) -> TreeState:
        """Move the cursor to a row even if filter and order hide it."""
        hidden = (self.filtered or bool(self.order)) and key not in {row.key for row in self.shown}
        return (self.whole() if hidden else self).on(key)

    def filter(self, words: str) -> TreeState:
        """Show only rows that match all of these words, with their parents, the cursor on the first match."""
        if words == self.words:
            return self
        if not words.strip():
            return replace(self, words=words).on(self.key)
        return self._with(nearest(self.rows, words, self.key), words=words)

    def whole(self) -> TreeState:
        """Remove filter and order, keeping the cursor."""
        return replace(self, words="", order=IN_MODEL).on(self.key)

    def ordered(self) -> TreeState:
        """Order the layers by the next key, largest first; after the last one as in the model."""
        orders = [IN_MODEL, *ORDERS, *([BY_DROP] if self.drops else [])]
        order = orders[(orders.index(self.order) + 1) % len(orders)]
        return replace(self._with(order=order), cursor=0) if order else replace(self, order=order).on(self.key)

    def ordered_by(self, order: str) -> TreeState:
        """Order the layers by this key; as in the model where they are already ordered by it, or it is unavailable now."""
        if order == self.order or (order == BY_DROP and not self.drops):
            order = IN_MODEL
        return replace(self._with(order=order), cursor=0) if order else replace(self, order=order).on(self.key)

    def toggled(self) -> TreeState:
        """Open or close the row under the cursor; on a layer, close its block; in another order, show the row in the model."""
        row = self.row
        if row is None:
            return self
        if self.order:
            return replace(self, order=IN_MODEL).on(row.key)
        if not row.expandable and row.kind != "layer":
            return self
        key = row.parent if row.kind == "layer" else row.key
        return self._with(key, expanded=self.expanded ^ {key})

    def all_toggled(self) -> TreeState:
        """Open every block, or close all if they are open."""
        blocks = {row.key for row in self.rows if row.kind == "block" and row.expandable}
        expanded = self.expanded ^ (blocks if blocks <= self.expanded else blocks - self.expanded)
        row = self.row
        keep = "" if row is None else row.parent if row.kind == "layer" and not blocks <= expanded else row.key
        return self._with(keep, expanded=expanded)

    def next_of(self, layers: Collection[str]) -> TreeState:
        """Move the cursor to the next row whose layer is one of these, wrapping around."""
        keys = [row.key for row in self.rows if row.layer is not None and row.layer.name in layers]
        if not keys:
            return self
        order = [row.key for row in self.rows]
        here = order.index(self.key) if self.row else 0
        later = [key for key in keys if order.index(key) > here]
        return self.on((later or keys)[0])

    def weighed(self, weights: Mapping[str, Weight]) -> TreeState:
        """Set the rows' present costs, by which layers can be ordered; a section costs the sum of its blocks."""
        rows = tuple(_weighed(row, weights) for row in self.rows)
        return self if rows == self.rows else self._with(self.key, rows=rows)

    def measured(self, drops: Mapping[str, float]) -> TreeState:
        """Set the drops of a scan, by which layers can be ordered."""
        return self._with(self.key, drops=drops)

    def _with(self, keep: str = "", **changes: Any) -> TreeState:
        changed = replace(self, **changes)
        shown = tuple(visible(changed.rows, changed.expanded, changed.words, changed.order, changed.drops))
        keys = [row.key for row in shown]
        cursor = keys.index(keep) if keep in keys else min(self.cursor, max(len(keys) - 1, 0))
        return replace(changed, shown=shown, cursor=cursor)
