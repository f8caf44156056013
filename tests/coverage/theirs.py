"""`python -m tests.coverage.theirs MODEL`: what torch-pruning's own tracer makes of a model, within a deadline."""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter

import torch
from torch import nn
from torch_pruning.dependency import DependencyGraph, Group

from tests.coverage.limits import peak_bytes, tell, within
from tests.coverage.their_groups import pruned_by, root_of, traced, twin_of
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.model.layers import stride_of
from tui_pruner.core.model.predictions import Gaps, Mismatch, gaps_between
from tui_pruner.core.pruning.twin import Original
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.frameworks.ultralytics import open_model

SECONDS = 120
EVERY = 4
PREDICTIONS = "feeds the model's predictions"


def outcomes(model: nn.Module, graph: DependencyGraph, groups: list[Group], coupling: CouplingMap) -> Counter[str]:
    """What becomes of each group when every fourth channel of its root goes.

    Every fourth, so that the halves of an axis that `chunk` cuts lose equally many. Groups that reach the predictions are left out.
    """
    original = Original(model)
    found: Counter[str] = Counter()
    for group in groups:
        layer = root_of(graph, group)
        if any(mine.lock and mine.lock.reason == PREDICTIONS for mine in coupling.output_groups(layer)):
            found["predictions"] += 1
        else:
            found[outcome(model, graph, group, original)] += 1
    return found


def outcome(model: nn.Module, graph: DependencyGraph, group: Group, original: Original) -> str:
    """ "right", "wrong" (runs, but does not agree with its masked twin) or "broken" (cannot be cut, or does not run)."""
    try:
        root = group[0].dep
        part = graph.get_pruning_group(root.target.module, root.handler, list(range(0, len(group[0].idxs), EVERY)))
        twin, pruned = twin_of(graph, part, model), pruned_by(graph, part, model)
        gaps = compared(original, twin, pruned, torch.float32)
        if not gaps.settled:
            gaps = compared(original, twin, pruned, torch.float64)
    except Mismatch:
        return "wrong"
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError, ZeroDivisionError):
        return "broken"
    return "right" if gaps.agree else "wrong"


def compared(original: Original, twin: nn.Module, pruned: nn.Module, precision: torch.dtype) -> Gaps:
    """How far what both predict is apart."""
    outputs = [original.predictions_of(network, precision) for network in (pruned, twin)]
    return gaps_between(*outputs, original.recording(precision).given, precision)


def main(name: str) -> None:
    """Trace, then cut what there is; each answer is told as soon as it is known, since this process may be ended at any time."""
    warnings.simplefilter("ignore")
    model = open_model(f"{name}.yaml").model
    _, coupling = trace_model(model)
    side = 2 * stride_of(model)
    image = torch.zeros(1, 3, side, side)
    within(SECONDS)
    started = time.process_time()
    graph, groups = traced(model.requires_grad_(True), image)
    tell({"groups": len(groups), "seconds": time.process_time() - started, "peak_bytes": peak_bytes()})
    within(5 * SECONDS)
    tell({"outcomes": outcomes(model, graph, groups, coupling)})


if __name__ == "__main__":
    main(sys.argv[1])
