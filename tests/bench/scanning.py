"""What a trial of the sensitivity scan costs, against a copy of the model that is pruned and validated like any other.

A scan uses all cores, Ultralytics all but one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import time
from dataclasses import asdict

from tests.bench.figures import Figure
from tests.bench.sandbox import CHECKPOINT
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.search.sensitivity import Trial, trials_of
from tui_pruner.engine.search_messages import ScanParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.scan.scan import run_scan
from tui_pruner.jobs.validate import measure
from tui_pruner.storage.paths import demo_folder

IMAGES, SIDE, RATIO, EVERY = 64, 160, 0.3, 6
TOLERANCE = 1e-4


def one_by_one(analysis: Analysis, trials: list[Trial], parameters: ScanParameters) -> dict[str, float]:
    """Each trial on a copy of its own: pruned and validated like any other model."""
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    found = {}
    for trial in trials:
        pruned = cut(copy.deepcopy(analysis.checkpoint.model), analysis.coupling, trial.removal)
        result = measure(pruned, data, parameters, lambda progress: None)
        found[trial.digest] = result.metrics["metrics/mAP50-95(B)"]
    return found


def scanning_figures() -> list[Figure]:
    """Seconds a trial both ways, in turn in one process, and how far their metrics are apart."""
    print("scanning", file=sys.stderr)
    sha256 = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    parameters = ScanParameters(
        checkpoint=str(CHECKPOINT), sha256=sha256, data=str(demo_folder() / "digits.yaml"), images=IMAGES, imgsz=SIDE, ratios=[RATIO]
    )
    analysis = analyse(open_model(str(CHECKPOINT)), SIDE)
    trials, _ = trials_of(analysis, parameters.ratios, parameters.criterion)
    distinct = list({trial.digest: trial for trial in trials}.values())
    sample = distinct[::EVERY]
    one_by_one(analysis, sample[:1], parameters)  # what is imported and warmed up once
    started = time.perf_counter()
    known = one_by_one(analysis, sample[: len(sample) // 2], parameters)
    first = time.perf_counter() - started
    result = run_scan(parameters, lambda progress: None)
    started = time.perf_counter()
    known |= one_by_one(analysis, sample[len(sample) // 2 :], parameters)
    naive = (first + time.perf_counter() - started) / len(sample)
    scanned = {trial.digest: row.metric for trial, row in zip(trials, result.groups, strict=True)}
    apart = max(abs(scanned[digest] - metric) for digest, metric in known.items())
    return [
        Figure(f"one of {len(distinct)} trials of a scan, against copy, prune, validate", result.seconds / len(distinct), "s", naive, 0.2),
        Figure("  their metrics apart, in units of 1e-4", apart / TOLERANCE, "", target=1.0),
    ]


if __name__ == "__main__":
    print(json.dumps([asdict(figure) for figure in scanning_figures()]))
