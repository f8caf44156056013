"""`python -m tests.coverage_any.theirs KIND/NAME`: torch-pruning's own tracer and functions on the same network, within a deadline."""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter

import torch

from tests.coverage.limits import tell, within
from tests.coverage.their_groups import root_of, traced
from tests.coverage.theirs import outcome
from tests.coverage_any.networks import Followed, PublicNetwork, built
from tests.coverage_any.ours import ALONE, PREDICTIONS
from tests.thoroughness import some
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.pruning.twin import Original

SECONDS = 60
"""Processor seconds for the tracing, and as many for the cuts."""


def main(key: str) -> None:
    """Trace, then cut what there is in samples; each answer is told as soon as it is known."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    network = PublicNetwork(*key.split("/", 1))
    model, image = built(network)
    model = Followed(model).eval() if network.kind == "detection" else model
    inputs = Inputs((image,))
    _, coupling = trace_model(model, inputs)
    within(SECONDS)
    started = time.process_time()
    graph, groups = traced(model.requires_grad_(True), image)
    inner = [group for group in groups if not any(mine.reason == PREDICTIONS for mine in coupling.output_groups(root_of(graph, group)))]
    tell({"groups": len(inner), "seconds": time.process_time() - started})
    within(SECONDS)
    original = Original(model, images=inputs)
    tell({"outcomes": Counter(outcome(model, graph, group, original) for group in some(inner, ALONE))})


if __name__ == "__main__":
    main(sys.argv[1])
