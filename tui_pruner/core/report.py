"""The coupling map as plain data, for scripts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.groups import ChannelGroup
from tui_pruner.core.standing import standing
from tui_pruner.core.views import short_names


def coupling_report(analysis: Analysis) -> dict[str, Any]:
    """Groups with their members, links and locks; how many convolutions are free, coupled, linked, locked; what no rule knew."""
    coupling, names = analysis.coupling, short_names(analysis)
    statuses = Counter(
        standing(coupling, layer, names).status
        for layer in analysis.layers.values()
        if isinstance(analysis.skeleton.get_submodule(layer.path), nn.modules.conv._ConvNd)
    )
    return {
        "groups": [group_report(analysis, group, names) for group in coupling.groups],
        "droppable": [
            {"block": block.path, "type": block.type, "adds_to_its_input": bool(block.silenced)} for block in coupling.inner.values()
        ],
        "links": [
            {"id": link.number, "operation": link.operation, "module": link.module, "parts": [list(part) for part in link.parts]}
            for link in coupling.links
        ],
        "convolutions": {
            "total": sum(statuses.values()),
            **{status: statuses[status] for status in ("free", "coupled", "linked", "locked")},
        },
        "unknown_operations": dict(coupling.unknown_operations),
        "operations": coupling.operations,
        "seconds": coupling.seconds,
    }


def group_report(analysis: Analysis, group: ChannelGroup, names: dict[str, str]) -> dict[str, Any]:
    """One group: `channels` of a member are the indices on its dimension."""
    lock = group.lock
    return {
        "id": group.number,
        "channels": group.channels,
        "prunable": group.prunable,
        "reason": group.reason,
        "lock": {"reason": lock.reason, "operation": lock.operation, "module": lock.module, "dim": lock.dim} if lock else None,
        "linked": [other.number for other in analysis.coupling.linked_groups(group)],
        "members": [
            {
                "layer": layer_of(member.axis.module, names),
                "parameter": member.axis.parameter,
                "dim": member.axis.dim,
                "role": "out" if member.produces and member.role == "depthwise" else member.role or "unused",
                "channels": sorted(int(index) for index in member.indices.reshape(-1)),
            }
            for member in group.members
        ],
    }


def layer_of(module: str, names: dict[str, str]) -> str:
    """The layer that a parameter's module belongs to: itself, or the Conv block around a norm."""
    if module in names:
        return names[module]
    parent = module.rpartition(".")[0]
    return parent if parent in names.values() else module
