"""`python -m tests.coverage.ours MODEL`: what `tui-pruner coverage` says of a model, with the time and memory that it takes."""

from __future__ import annotations

import sys
import time

from torch import nn

from tests.bench.processes import forget_peak, resident_bytes
from tests.coverage.limits import peak_bytes, tell
from tui_pruner.cli.commands.inspect import covered
from tui_pruner.core.model.analysis import analyse, trace_model
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.frameworks.ultralytics import open_model

SIDE = 64
WARM = 3


def warm_trace(checkpoint: Checkpoint) -> dict[str, float]:
    """Processor seconds of the fastest of three traces after the first, and by how much memory grew in them."""
    before = resident_bytes()
    forget_peak()
    seconds = min(seconds_of(checkpoint.model) for _ in range(WARM))
    return {"warm_seconds": seconds, "trace_bytes": resident_bytes(field="VmHWM") - before}


def seconds_of(model: nn.Module) -> float:
    """Processor seconds of one trace."""
    started = time.process_time()
    trace_model(model)
    return time.process_time() - started


def main(name: str) -> None:
    """Everything about one model; what is known early is told early."""
    checkpoint = open_model(f"{name}.yaml")
    analysis = analyse(checkpoint, SIDE)
    warm = warm_trace(checkpoint)
    tell({"operations": analysis.coupling.operations, **warm})
    started = time.process_time()
    report = covered(name, analysis)
    tell({**report, "cover_seconds": time.process_time() - started, "peak_bytes": peak_bytes()})


if __name__ == "__main__":
    main(sys.argv[1])
