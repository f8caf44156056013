"""`python -m tests.coverage.their_channels`: torch-pruning's groups of the networks that its tracer finishes, a line for each.

The last line says what became of its cuts of the groups on which the two of us differ.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict

import torch
from torch import nn

from tests.coverage.limits import tell, within
from tests.coverage.networks import NAMES, SIDE, network, small
from tests.coverage.their_groups import root_of, shares, traced
from tests.coverage.theirs import outcome
from tui_pruner.core.pruning.twin import Original

SECONDS = 120


def groups_of(name: str) -> list[dict[str, object]]:
    """All groups of one network."""
    model = network(name).requires_grad_(True)
    graph, groups = traced(model, torch.zeros(1, 3, SIDE, SIDE, device=next(model.parameters()).device))
    return [{"root": root_of(graph, group), "shares": [asdict(share) for share in shares(graph, group)]} for group in groups]


def outcomes(model: nn.Module) -> dict[str, str]:
    """What becomes of each group by its root: "right", "wrong" or "broken"."""
    graph, groups = traced(model.requires_grad_(True), torch.zeros(1, 3, SIDE, SIDE))
    original = Original(model)
    return {root_of(graph, group): outcome(model, graph, group, original) for group in groups}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    within(SECONDS)
    for name in NAMES:
        tell({name: groups_of(name)})
    tell({"outcomes": {"yolov3-tiny": outcomes(network("yolov3-tiny")), "ConvNeXt": outcomes(small("ConvNeXt"))}})
