"""What a refit and a search for plans cost, beside a forward pass over the same images in the same process.

The bundled checkpoint; every cache is empty, since the report has a home of its own.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median

import torch

from tests.bench.figures import Figure
from tests.bench.sandbox import CHECKPOINT
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import by_tensor, cut
from tui_pruner.core.recovery.reconstruction import reconstruct
from tui_pruner.domain.cuts import parse_request
from tui_pruner.engine.search_messages import PlanningParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.jobs.data.dataset import held_apart, without_labels
from tui_pruner.jobs.data.pictures import StoredImages
from tui_pruner.jobs.plan import run_planning
from tui_pruner.storage.paths import demo_folder

SIDE, BATCH = 160, 16
REFITTED, PLANNED = 128, 64
FRONT = ("90%", "75%", "50%", "35%", "25%")
FORWARDS = 5
MOST_REFIT, MOST_FAST, MOST_FRONT = 24.0, 57.0, 1700.0
"""Forward passes over the same images that 8 s, 10 s and 300 s are on two cores with nothing else to do."""


def images(count: int) -> tuple[StoredImages, StoredImages]:
    """Images to work on, and others that are held out."""
    data = held_apart(without_labels(demo_folder() / "digits.yaml"), count, 0)
    model = open_model(str(CHECKPOINT)).model
    working, held_out = (StoredImages(model, part, SIDE, BATCH) for part in data)
    return working, held_out


def forward(batches: Sequence[torch.Tensor]) -> float:
    """Seconds of a pass of the original over all batches: the median of some, after one that warms up."""
    model = open_model(str(CHECKPOINT)).model.eval()

    def once() -> None:
        with torch.no_grad():
            for batch in batches:
                model(batch)

    once()
    return median(seconds_of(once) for _ in range(FORWARDS))


def seconds_of(work: Callable[[], object]) -> float:
    """From its start to its end."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def refit_figures() -> list[Figure]:
    """The refit of half of every layer."""
    working, held_out = images(REFITTED)
    analysis = analyse(open_model(str(CHECKPOINT)), SIDE)
    session = PruningSession(analysis)
    session.apply([parse_request("*=30%")])
    pruned = cut(copy.deepcopy(analysis.checkpoint.model), analysis.coupling, session.removal)
    kept = by_tensor(session.removal.stays(analysis.coupling))
    ours = seconds_of(lambda: reconstruct(analysis.checkpoint.model, pruned, kept, working, held_out))
    return [Figure(f"refit on {REFITTED} images, against a forward of them", ours, "s", forward(list(working)), MOST_REFIT)]


def planning_figures() -> list[Figure]:
    """Without trials, and a front of five points with them."""
    sha256 = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    wanted = PlanningParameters(
        checkpoint=str(CHECKPOINT), sha256=sha256, data=str(demo_folder() / "digits.yaml"), images=PLANNED, imgsz=SIDE, device="cpu",
        points=[["flops=50%"]], fast=True,
    )  # fmt: skip
    theirs = forward(list(images(PLANNED)[0]))
    fast = seconds_of(lambda: run_planning(wanted, lambda _: None))
    points = [[f"flops={share}"] for share in FRONT]
    whole = seconds_of(lambda: run_planning(wanted.model_copy(update={"points": points, "fast": False}), lambda _: None))
    return [
        Figure(f"a plan without trials on {PLANNED} images, against a forward", fast, "s", theirs, MOST_FAST),
        Figure(f"a front of {len(FRONT)} points with trials, against a forward", whole, "s", theirs, MOST_FRONT),
    ]


if __name__ == "__main__":
    print("refitting and planning", file=sys.stderr)
    print(json.dumps([asdict(figure) for figure in [*refit_figures(), *planning_figures()]]))
