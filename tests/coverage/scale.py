"""`python -m tests.coverage.scale MODEL,MODEL,...`: trace the larger scales of an architecture, without cutting them."""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.coverage.limits import tell
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.frameworks.ultralytics import open_model


def traced(name: str) -> dict[str, Any]:
    """How many groups a model has, how many of them are locked, what has no rule, and how long a second trace takes."""
    model = open_model(f"{name}.yaml").model
    trace_model(model)
    started = time.process_time()
    _, coupling = trace_model(model)
    seconds = time.process_time() - started
    produced = [group for group in coupling.groups if group.producers]
    return {
        "groups": len(produced),
        "locked": sum(not group.prunable for group in produced),
        "operations": coupling.operations,
        "unknown_operations": dict(coupling.unknown_operations),
        "warm_seconds": seconds,
    }


if __name__ == "__main__":
    for scale in sys.argv[1].split(","):
        tell({scale: traced(scale)})
