"""The largest models: how long their trace takes as a whole and per operation beside YOLOv8n's, in turn in one process, and its memory."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from torch import nn

from tests.bench.figures import Figure, compared
from tests.bench.processes import forget_peak, resident_bytes
from tui_pruner.core.model.analysis import smallest_input, trace_model
from tui_pruner.core.model.copies import without_weights
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.tracing.labels import FlowRecord
from tui_pruner.core.tracing.tracer import trace
from tui_pruner.frameworks.ultralytics import open_model

SMALL = "yolov8n"
LARGE = ("yolov9e", "yolo12x", "yolo26x")
WIDE = ("yolov9e", "rtdetr-x")
ROUNDS, WARM_UP = 9, 2
MIB = 1 << 20
MICROSECONDS = 1e6


def opened(name: str) -> nn.Module:
    """A model with random weights."""
    print(f"tracing {name}", file=sys.stderr)
    return open_model(f"{name}.yaml").model


def seconds_and_operations(model: nn.Module) -> tuple[float, int]:
    """From the real model to the coupling map."""
    started = time.perf_counter()
    _, coupling = trace_model(model)
    return time.perf_counter() - started, coupling.operations


def figures_of_time() -> list[Figure]:
    """Every large model: the whole trace, and an operation of it beside one of the small model."""
    models = {name: opened(name) for name in (SMALL, *LARGE)}
    rounds = [{name: seconds_and_operations(model) for name, model in models.items()} for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    small = per_operation([traced[SMALL] for traced in rounds])
    found = []
    for name in LARGE:
        own = [traced[name] for traced in rounds]
        title = f"trace and groups of {name} ({own[0][1]} operations)"
        found.append(Figure(title, median(seconds for seconds, _ in own), "s", target=0.5))
        found.append(compared(f"  per operation, against {SMALL}'s", "us", per_operation(own), small, 1.5))
    return found


def per_operation(traced: Sequence[tuple[float, int]]) -> list[float]:
    """Microseconds per operation, run by run."""
    return [MICROSECONDS * seconds / operations for seconds, operations in traced]


def figures_of_memory(name: str) -> list[Figure]:
    """By how much a trace makes this process grow at most, and the labels that it leaves behind, in MB."""
    model = opened(name)
    skeleton, shape = without_weights(model), smallest_input(model)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what lies free in the process would hide what the trace takes
    before = resident_bytes()
    forget_peak()
    record = trace(skeleton, shape, sequence(skeleton))
    grown = resident_bytes(field="VmHWM") - before
    return [
        Figure(f"memory that the trace of {name} takes", grown / MIB, "MB", target=200),
        Figure("  of it the labels of its record", label_bytes(record) / MIB, "MB", target=200),
    ]


def label_bytes(record: FlowRecord) -> int:
    """The bytes of all labels that a record holds."""
    arrays = [*record.block_outputs.values(), *(entry.labels for entry in (*record.locks, *record.sized))]
    arrays += [labels for union in record.unions for labels in (union.left, union.right)]
    arrays += [part for link in record.links for part in link.parts]
    return sum(labels.nbytes for labels in arrays)


if __name__ == "__main__":
    trace_model(opened(SMALL))  # what the first trace of a process imports is not a memory of labels
    print(json.dumps([asdict(figure) for figure in [*(f for name in WIDE for f in figures_of_memory(name)), *figures_of_time()]]))
