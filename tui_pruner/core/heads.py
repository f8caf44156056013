"""Whole attention heads as a cut of its own: all that belongs to a head goes, and the module has one head less."""

from __future__ import annotations

from collections.abc import Sequence

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.blocks import Layer
from tui_pruner.core.groups import CouplingMap, Link
from tui_pruner.core.linking import Demand, Wishes
from tui_pruner.core.removal import Removal
from tui_pruner.core.requests import Request
from tui_pruner.errors import RequestError


def collect_heads(analysis: Analysis, request: Request, count: int, layers: Sequence[Layer], base: Removal, wishes: Wishes) -> None:
    """Demand the least important heads of every attention among these layers.

    Raises:
        RequestError: no attention here can lose a head, or not so many.
    """
    found = [(layer, link) for layer in layers if (link := heads_of(analysis.coupling, layer.path)) is not None]
    if not found:
        raise RequestError(f"{request.layer!r} has no attention that could lose heads: name its qkv layer, such as model.10.m.0.attn.qkv")
    for layer, link in found:
        heads = base.parts_left(analysis.coupling, link)
        if count >= len(heads):
            most = f"at most heads:{len(heads) - 1}" if len(heads) > 1 else "give a share of its channels"
            raise RequestError(f"{layer.name} has {len(heads)} heads: heads:{count} would leave none; {most}")
        wishes.asked.append(layer.name)
        for head in sorted(heads, key=lambda head: importance(analysis, head, base, request.criterion))[:count]:
            for group in (analysis.coupling.groups[number] for number in head):
                wishes.add(group, Demand(base.left(group), layer.name, request))


def heads_of(coupling: CouplingMap, layer: str) -> Link | None:
    """The link whose parts are the heads that a layer writes, all of them free."""
    written = {group.number for group in coupling.output_groups(layer) if group.prunable}
    links = [link for group in coupling.output_groups(layer) for link in coupling.links_of(group) if link.heads]
    widest = max(links, key=lambda link: sum(map(len, link.parts)), default=None)
    return widest if widest is not None and written == {number for part in widest.parts for number in part} else None


def importance(analysis: Analysis, head: Sequence[int], base: Removal, criterion: str) -> float:
    """What the channels of a head that are still there amount to."""
    groups = (analysis.coupling.groups[number] for number in head)
    return float(sum(analysis.ranked(base).scores(group, criterion)[base.remaining(group)].sum() for group in groups))
