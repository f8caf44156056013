"""Conflicting amounts and their resolutions: one amount stays and the others follow it, or none stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_pruner.domain.formatting import plural
from tui_pruner.tui.drawing import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.domain.cuts import Asked
    from tui_pruner.engine.messages import Conflict, PreviewResult


@dataclass(frozen=True)
class WayOut:
    """One resolution: whose amounts `stays`, and the layers whose amounts are `dropped`."""

    words: str
    stays: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Trouble:
    """Layers whose amounts cannot be applied, why, and the resolutions."""

    title: str
    layers: tuple[str, ...]
    message: str
    ways: tuple[WayOut, ...]


def troubles(preview: PreviewResult | None, asked: Asked) -> list[Trouble]:
    """Everything that prevents applying: contradictions one by one, then all impossible amounts together."""
    if preview is None or not asked:
        return []
    found = [_contradiction(conflict, asked) for conflict in preview.conflicts]
    refused = [refusal for refusal in preview.refused if refusal.layer in asked.amounts]
    if refused:
        layers = tuple(refusal.layer for refusal in refused)
        more = f"; and {len(refused) - 1} more like it" if len(refused) > 1 else ""
        found.append(Trouble("cannot be done", layers, f"{refused[0].message}{more}", (_clear(layers),)))
    return found


def nearest_trouble(found: Sequence[Trouble], layer: str) -> Trouble | None:
    """The conflict that a layer is in; otherwise the first."""
    return next((trouble for trouble in found if layer in trouble.layers), found[0] if found else None)


def _contradiction(conflict: Conflict, asked: Asked) -> Trouble:
    layers = tuple(layer for layer in conflict.layers if layer in asked.amounts)
    by_amount: dict[str, list[str]] = {}
    for layer in layers:
        by_amount.setdefault(asked.amounts[layer].written(GLYPHS.minus), []).append(layer)
    # Alike in words and still contradictory, as exact widths of layers that are not equally wide: then it is one layer or another.
    sides = list(by_amount.values()) if len(by_amount) > 1 else [[layer] for layer in layers]
    ways = [_keep(asked, side, layers) for side in sides] if len(sides) > 1 else []
    return Trouble("conflict", layers, conflict.message, (*ways, _clear(layers)))


def _keep(asked: Asked, side: Sequence[str], layers: Iterable[str]) -> WayOut:
    dropped = tuple(layer for layer in layers if layer not in side)
    follows = "is also affected" if len(dropped) == 1 else "are also affected"
    return WayOut(f"{asked.amounts[side[0]].written(GLYPHS.minus)} of {_named(side)}; {_named(dropped)} {follows}", tuple(side), dropped)


def _clear(layers: tuple[str, ...]) -> WayOut:
    return WayOut(f"nothing of {_named(layers)}", (), layers)


def _named(layers: Sequence[str]) -> str:
    return " and ".join(layers) if len(layers) < 3 else f"{layers[0]} and {plural(len(layers) - 1, 'other layer')}"
