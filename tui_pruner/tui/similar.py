"""Which layers do the same in other blocks: the same module name in blocks of the same type, wherever they are repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui_pruner.tui.outline import PRUNABLE

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import BlockView, LayerView

ANY = "*"


def similar_layers(blocks: Sequence[BlockView], name: str) -> list[str]:
    """The layers that can be cut and are to their blocks what this one is to its own, without it, in the model's order.

    They are of the same kind as well: what is called m.0.cv1 is 1x1 in one block and 3x3 in another where their insides differ.
    """
    roles = {layer.name: _role(block, layer) for block in blocks for layer in block.layers if layer.status in PRUNABLE}
    return [other for other, role in roles.items() if other != name and role == roles.get(name)]


def pattern(block: str, layer: str) -> str:
    """A layer's name in its block with the places of repeated modules left open: m.0.cv1 of model.6 is m.*.cv1."""
    *places, last = layer.removeprefix(block).lstrip(".").split(".")
    return ".".join([*(ANY if place.isdecimal() else place for place in places), last])


def _role(block: BlockView, layer: LayerView) -> tuple[str, str, str]:
    return block.type, pattern(block.name, layer.name), layer.type
