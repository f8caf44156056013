"""What a key press costs inside the engine on YOLOv8x: new figures, a dry run, and the memory that they take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from statistics import median, quantiles
from typing import Any

from tests.bench.figures import Figure
from tests.bench.processes import forget_peak, resident_bytes
from tui_pruner.engine.requests import CheckShapes, Open
from tui_pruner.engine.service import Service

MODEL = "yolov8x.yaml"
MIB = 1 << 20
MARKED = 10
CHANGES = 300
DRY_RUNS = 15
WARM_UP = 3

Requests = list[dict[str, Any]]


def marked_layers(service: Service) -> list[str]:
    """Ten layers that can be cut, spread over the whole model."""
    coupling, layers = service.session.analysis.coupling, service.session.analysis.layers
    free = [layer.name for layer in layers.values() if any(group.prunable for group in coupling.output_groups(layer.path))]
    return free[:: len(free) // MARKED][:MARKED]


def changes(layers: list[str]) -> Iterator[tuple[str, Requests]]:
    """A person who goes from layer to layer and changes one ratio after the other."""
    percent = dict.fromkeys(layers, 10)
    for number in range(CHANGES):
        layer = layers[number // 5 % len(layers)]
        percent[layer] = 5 + number * 7 % 60
        yield layer, [{"layer": name, "amount": f"{value}%"} for name, value in percent.items()]


def seconds_of_change(service: Service, layer: str, requests: Requests) -> float:
    """Both answers to one change of ratio, as the lines that the engine writes."""
    started = time.perf_counter()
    answer = service.answer("preview", {"requests": requests, "layer": layer})
    json.dumps(answer.model_dump(mode="json", by_alias=True))  # type: ignore[union-attr]
    return time.perf_counter() - started


def seconds_of_dry_run(service: Service, requests: Requests) -> float:
    """PyTorch's word on the shapes."""
    started = time.perf_counter()
    answer = service.call(CheckShapes(requests=requests)).result()
    if not answer.ok:  # type: ignore[attr-defined]
        raise RuntimeError(f"the dry run failed: {answer}")
    return time.perf_counter() - started


def peak_growth(work: Callable[[], list[float]]) -> tuple[list[float], float]:
    """What some work gives, and by how many bytes memory grew at most while it ran."""
    before = resident_bytes()
    forget_peak()
    return work(), resident_bytes(field="VmHWM") - before


def previewing_figures() -> list[Figure]:
    """Open the model, wait until the engine is warm, and turn the knobs."""
    print(f"previewing {MODEL}", file=sys.stderr)
    service = Service(lambda event, data: None)
    service.call(Open(path=MODEL))
    service.slow.submit(lambda: None).result()
    asked = list(changes(marked_layers(service)))
    for layer, requests in asked[:WARM_UP]:
        seconds_of_change(service, layer, requests)
        seconds_of_dry_run(service, requests)
    changing, grown = peak_growth(lambda: [1000 * seconds_of_change(service, layer, requests) for layer, requests in asked])
    drying, grown_dry = peak_growth(lambda: [1000 * seconds_of_dry_run(service, requests) for _, requests in asked[-DRY_RUNS:]])
    weights = sum(tensor.nbytes for tensor in service.session.analysis.checkpoint.model.state_dict().values())
    return [
        Figure(f"a change of ratio on YOLOv8x, {MARKED} layers marked, p95", quantiles(changing, n=20)[-1], "ms", target=16),
        Figure("  its median", median(changing), "ms"),
        Figure("a dry run of YOLOv8x at 640, median", median(drying), "ms", target=150),
        Figure("memory that previews take, against the weights", grown / MIB, "MB", weights / MIB, 0.1),
        Figure("memory that dry runs take, against the weights", grown_dry / MIB, "MB", weights / MIB, 0.1),
    ]


if __name__ == "__main__":
    print(json.dumps([asdict(figure) for figure in previewing_figures()]))
