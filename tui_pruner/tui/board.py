"""What the workbench knows right now: the model, the session, what is asked for, and what the engine answered last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from tui_pruner.tui.amounts import Asked, Room

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import BlockShape, Detail, DryRun, LayerView, OpenResult, PreviewResult, SessionView, Totals, Width
    from tui_pruner.tui.latencies import Timed
    from tui_pruner.tui.scans import Scanned


@dataclass(frozen=True)
class Change:
    """A layer's outputs and inputs in the checkpoint, after the steps, and after what is asked for."""

    outputs: tuple[int, int, int]
    inputs: tuple[int, int, int]

    @property
    def gone(self) -> bool:
        """Whether the layer went with a dropped block."""
        return self.outputs[1] == 0

    @property
    def pending(self) -> bool:
        """Whether the amounts that are asked for change its outputs."""
        return self.outputs[1] != self.outputs[2]

    @property
    def reads_less(self) -> bool:
        """Whether only its inputs shrink with the amounts that are asked for."""
        return not self.pending and self.inputs[1] != self.inputs[2]

    @property
    def stepped(self) -> bool:
        """Whether an applied step has cut its outputs."""
        return self.outputs[0] != self.outputs[1]


@dataclass
class Board:
    """The state behind the workbench; the widgets read it, the screen changes it.

    `no_preview`, `no_detail` and `no_dry_run`: why the engine gave none, in one line; empty where it did, or was not asked yet.
    """

    opened: OpenResult
    session: SessionView
    asked: Asked = field(default_factory=Asked)
    marks: set[str] = field(default_factory=set)
    preview: PreviewResult | None = None
    detail: Detail | None = None
    dry_run: DryRun | None = None
    scan: Scanned | None = None
    timed: Timed | None = None
    no_preview: str = ""
    no_detail: str = ""
    no_dry_run: str = ""

    @cached_property
    def layers(self) -> dict[str, LayerView]:
        """Every layer of the checkpoint by name."""
        return {layer.name: layer for block in self.opened.blocks for layer in block.layers}

    @cached_property
    def known(self) -> set[str]:
        """Everything that an amount can be asked of: layers, and the inner blocks that can be dropped."""
        return {*self.layers, *(path for block in self.opened.blocks for path in block.droppable)}

    @property
    def after(self) -> Totals:
        """The totals with the steps and what is asked for."""
        return self.preview.after if self.preview and self.asked else self.session.current

    @property
    def shapes(self) -> Sequence[BlockShape]:
        """The blocks' output shapes before and after."""
        return self.preview.blocks if self.preview and self.asked else self.session.blocks

    def change(self, layer: LayerView) -> Change:
        """How a layer's widths move."""
        stepped = self.session.layers.get(layer.name)
        planned = self.preview.layers.get(layer.name) if self.preview and self.asked else stepped
        return Change(
            outputs=(layer.out_channels, _outputs(stepped, layer), _outputs(planned, layer)),
            inputs=(layer.in_channels, _inputs(stepped, layer), _inputs(planned, layer)),
        )

    def in_conflict(self, layer: str) -> bool:
        """Whether this layer's amount clashes with another one's, or was refused."""
        if self.preview is None or not self.asked:
            return False
        return any(layer in conflict.layers for conflict in self.preview.conflicts) or any(
            layer == refused.layer or layer.startswith(f"{refused.layer}.") for refused in self.preview.refused
        )

    @property
    def clash(self) -> str:
        """Why what is asked for cannot be applied; empty when it can."""
        if self.preview is None or not self.asked:
            return ""
        problems = [conflict.message for conflict in self.preview.conflicts] + [refused.message for refused in self.preview.refused]
        return problems[0] if problems else ""

    def targets(self, prunable: Sequence[str]) -> list[str]:
        """The layers that a ratio key changes: the marked ones, or those under the cursor."""
        return sorted(self.marks) or list(prunable)

    def inner_blocks(self, layers: Sequence[str]) -> list[str]:
        """The innermost blocks around these layers that the model can do without."""
        return list(dict.fromkeys(block for layer in layers if (block := self.layers[layer].drops_with)))

    def widths(self, layers: Sequence[str]) -> dict[str, int]:
        """The present widths of these layers."""
        known = self.layers
        return {layer: self.change(known[layer]).outputs[1] for layer in layers}

    def rooms(self, layers: Sequence[str]) -> dict[str, Room]:
        """What there is to take of these layers now."""
        known = self.layers
        return {layer: _room(known[layer], width) for layer, width in self.widths(layers).items()}


def _room(layer: LayerView, width: int) -> Room:
    return Room(width, layer.widest_group * width // max(layer.out_channels, 1))


def _outputs(width: Width | None, layer: LayerView) -> int:
    return width.out_after if width else layer.out_channels


def _inputs(width: Width | None, layer: LayerView) -> int:
    return width.in_after if width else layer.in_channels
