"""Cuts of many layers at once: uniform pruning, a section's share, one layer's ratio for similar ones, and the resolution of conflicts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_pruner.domain.cuts import Asked, typed_amount
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import plural
from tui_pruner.tui.actions import RATIO, Action
from tui_pruner.tui.conflicts import Trouble, nearest_trouble, troubles
from tui_pruner.tui.controllers.base import Controller
from tui_pruner.tui.controllers.cut import CUT, share_out, type_amount
from tui_pruner.tui.outline import PRUNABLE, SECTIONS, matching_layers
from tui_pruner.tui.state import AppState

if TYPE_CHECKING:
    from tui_pruner.engine.messages import BlockView, LayerView

UNIFORM_PERCENTS = (5, 10)
ANY = "*"


@dataclass(frozen=True)
class Preset:
    """A share for these layers; `percent` is None where it is typed."""

    name: str
    meaning: str
    layers: tuple[str, ...]
    percent: int | None = None


class PresetController(Controller):
    """Sets the ratios of many layers at once."""

    def actions(self) -> Sequence[Action]:
        """Presets, copies, and conflicts."""
        return (
            Action(
                id="presets",
                keys="B",
                title="Uniform pruning",
                help="Remove 5 % or 10 % of everything that can be cut, or a share of backbone, neck or head; of the marked layers where "
                "some are.",
                group=RATIO,
                cli="preview MODEL --cut 'model.*=5%' --cut neck=10%",
                run=self.choose,
                footer="share",
            ),
            Action(
                id="copy-ratio",
                keys="J",
                title="Copy to similar layers",
                help="Copy the ratio of the layer under the cursor to the layers of the same name in other blocks of its type, "
                "and mark them.",
                group=RATIO,
                cli="preview MODEL --cut 'model.*.m.*.cv1=30%'",
                run=self.copy_ratio,
            ),
            Action(
                id="settle",
                keys="T",
                title="Settle a conflict",
                help="Choose which of contradictory ratios stays; the other layers follow it.",
                group=RATIO,
                cli=CUT,
                run=self.settle,
                disabled_reason=no_conflict,
            ),
        )

    def choose(self) -> None:
        """Choose a preset; it replaces the pending cuts."""
        found = {preset.name: preset for preset in presets(self.state.opened.blocks, *self._chosen())}
        choices = [(preset.name, preset.name, preset.meaning) for preset in found.values()]
        text = "Remove the same share of many layers, in place of the pending cuts. Locked layers stay."
        self.dialogs.choose("Uniform pruning", text, choices, lambda name: self._take(found.get(name)))

    def _chosen(self) -> tuple[Collection[str], str]:
        """The layers that a preset is for: the marked ones, or those that the filter shows; empty for all."""
        tree = self.view.tree
        if self.state.marks or not tree.filtered:
            return self.state.marks, "marked"
        return {row.layer.name for row in matching_layers(tree.rows, tree.words) if row.layer}, "shown"

    def copy_ratio(self) -> None:
        """Copy the ratio of the layer under the cursor to the layers of the same name in other blocks, and mark them."""
        layer = self.view.tree.layer
        if not layer:
            self.say("choose a layer whose ratio is to be copied", "warning")
            return
        amount = self.state.pending.amounts.get(layer)
        alike = similar_layers(self.state.opened.blocks, layer)
        if amount is None or not alike:
            self.say(f"{layer} has no ratio to copy" if amount is None else f"no other layer is like {layer}", "warning")
            return
        percent = amount.percent_of(self.state.widths([layer])[layer])
        self.store.update(marks={layer, *alike})
        self._share(self.state.pending, alike, percent)

    def settle(self) -> None:
        """Choose which of contradictory amounts stays; that of the layer under the cursor is proposed first."""
        here = self.view.tree.layer
        trouble = nearest_trouble(troubles(self.state.preview, self.state.pending), here)
        if trouble is None:
            return
        choices = [(str(number), way.words, "") for number, way in enumerate(trouble.ways)]
        own = next((value for (value, _, _), way in zip(choices, trouble.ways) if here in way.stays), "")
        self.dialogs.choose("Settle", trouble.message, choices, lambda chosen: self._settle(trouble, chosen), own)

    def _settle(self, trouble: Trouble, chosen: str) -> None:
        if chosen:
            self.store.request(self.state.pending.put(trouble.ways[int(chosen)].dropped, None))

    def _take(self, preset: Preset | None) -> None:
        if preset is None:
            return
        if preset.percent is not None:
            self._share(self.state.pending.cleared, preset.layers, preset.percent)
            return
        label = f"Remove % of {plural(len(preset.layers), f'{preset.name} layer')}"
        type_amount(self.store, self.dialogs, label, lambda text: self._typed(preset, text))

    def _typed(self, preset: Preset, text: str) -> Asked | None:
        amount = typed_amount(text)
        if amount is None:
            return None
        if amount.percent is None:
            what = "drops whole blocks" if amount.drops else "is one width for layers of many widths"
            raise RequestError(f"{text.strip()} {what}: type a share")
        shared, told = share_out(self.state, self.state.pending.cleared, preset.layers, amount.percent, tell=True)
        self.say(told)
        return shared

    def _share(self, pending: Asked, names: Sequence[str], percent: int) -> None:
        try:
            shared, told = share_out(self.state, pending, names, percent, tell=True)
        except RequestError as error:
            self.say(str(error), "warning")
            return
        self.say(told)
        self.store.request(shared)


def no_conflict(state: AppState) -> str:
    """Why there is nothing to settle; empty where amounts contradict each other or are impossible."""
    return "" if troubles(state.preview, state.pending) else "nothing to settle: no amounts contradict each other"


def presets(blocks: Sequence[BlockView], marks: Collection[str], word: str = "marked") -> list[Preset]:
    """The presets: for the marked or filtered layers if there are some, else for all that can be cut."""
    sections = {section: tuple(_layers(blocks, section, marks)) for section in SECTIONS}
    every = tuple(layer for layers in sections.values() for layer in layers)
    scope = f"of the {plural(len(every), f'{word} layer')}" if marks else f"of all {plural(len(every), 'layer')} that can be cut"
    gentle = [Preset(f"{percent} %", scope, every, percent) for percent in UNIFORM_PERCENTS]
    marked = f"{word} " if marks else ""
    typed = [Preset(section, f"{plural(len(layers), f'{marked}layer')}: type the share", layers) for section, layers in sections.items()]
    return [preset for preset in (*gentle, *typed) if preset.layers]


def _layers(blocks: Sequence[BlockView], section: str, marks: Collection[str]) -> list[str]:
    inside = [layer for block in blocks if block.section == section for layer in block.layers]
    return [layer.name for layer in inside if layer.status in PRUNABLE and (not marks or layer.name in marks)]


def similar_layers(blocks: Sequence[BlockView], name: str) -> list[str]:
    """The layers with the same name in their blocks, of the same types, without the layer itself, in the model's order.

    The types of block and layer must be equal too: m.0.cv1 may be 1x1 in one block and 3x3 in another.
    """
    roles = {layer.name: _role(block, layer) for block in blocks for layer in block.layers if layer.status in PRUNABLE}
    return [other for other, role in roles.items() if other != name and role == roles.get(name)]


def pattern(block: str, layer: str) -> str:
    """A layer's name in its block with the indices of repeated modules replaced: m.0.cv1 of model.6 is m.*.cv1."""
    *places, last = layer.removeprefix(block).lstrip(".").split(".")
    return ".".join([*(ANY if place.isdecimal() else place for place in places), last])


def _role(block: BlockView, layer: LayerView) -> tuple[str, str, str]:
    return block.type, pattern(block.name, layer.name), layer.type
