"""Ratios for many layers at once: a gentle share of everything that can be cut, or a share of one section."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_pruner.tui.figures import plural
from tui_pruner.tui.outline import PRUNABLE, SECTIONS

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import BlockView

GENTLE = (5, 10)


@dataclass(frozen=True)
class Preset:
    """A share for these layers; `percent` is None where it is typed."""

    name: str
    meaning: str
    layers: tuple[str, ...]
    percent: int | None = None


def presets(blocks: Sequence[BlockView], marks: Collection[str]) -> list[Preset]:
    """What can be chosen: of the marked layers where some are marked, of all that can be cut otherwise."""
    sections = {section: tuple(_layers(blocks, section, marks)) for section in SECTIONS}
    every = tuple(layer for layers in sections.values() for layer in layers)
    whom = f"of the {plural(len(every), 'marked layer')}" if marks else f"of all {plural(len(every), 'layer')} that can be cut"
    gentle = [Preset(f"{percent} %", whom, every, percent) for percent in GENTLE]
    marked = "marked " if marks else ""
    typed = [Preset(section, f"{plural(len(layers), f'{marked}layer')}: type the share", layers) for section, layers in sections.items()]
    return [preset for preset in (*gentle, *typed) if preset.layers]


def _layers(blocks: Sequence[BlockView], section: str, marks: Collection[str]) -> list[str]:
    inside = [layer for block in blocks if block.section == section for layer in block.layers]
    return [layer.name for layer in inside if layer.status in PRUNABLE and (not marks or layer.name in marks)]
