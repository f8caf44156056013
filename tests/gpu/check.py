"""`python -m tests.gpu.check [REPORT]`: every kind of job on the CPU and on the first GPU, for a report to send to the maintainers.

It runs the bundled checkpoint on the bundled images, in some ten minutes, and reads and writes nothing else than a temporary folder and the
report. Exit status 0: all figures agree; 1: some do not, or a job failed; 2: no GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.bench.report import machine
from tests.bench.sandbox import CHECKPOINT, temporary_home
from tests.gpu.alike import Figures, differences, largest
from tests.gpu.workload import RUNS, Subject, function_of, parameters

REPORT = "gpu-check.json"
FRAMES = 6
"""Lines of a traceback that the report has."""


@dataclass(frozen=True)
class Allowed:
    """How far figures may be apart on a real GPU, as a share of the largest number, and which ones are compared there."""

    tolerance: float
    compared: Callable[[str], bool] = lambda name: True


METRICS = Allowed(0.05, lambda name: "metrics/" in name or "baseline" in name)
TRAINED = Allowed(0.25, lambda name: "metrics/" in name)
"""A training on a GPU draws other augmentations, in worker processes, and rounds to half precision."""
ALLOWED = {
    "validate": METRICS,
    "calibrate": Allowed(0.1),
    "calibrate without labels": Allowed(0.1),
    "gate": METRICS,
    "scan": Allowed(0.1),
    "recalibrate": Allowed(0.02),
    "reconstruct": Allowed(0.1, lambda name: name.startswith("distance")),
    "finetune": TRAINED,
    "train sparsely": TRAINED,
    "bench": Allowed(0.0),
    "search-latency": Allowed(0.0),
    "export onnx": Allowed(0.0),
    "export torchscript": Allowed(0.0),
    "picture": Allowed(0.25),
    "detect": Allowed(0.1, lambda name: name.endswith("score")),
    "report": Allowed(0.0, lambda name: name == "proved"),
    "plan": Allowed(0.25, lambda name: name.endswith(("flops", "params", "bytes"))),
}
"""Convolutions on a GPU round their inputs to TF32's 10 bits by default, and sum in another order."""


def bundled(folder: Path) -> Subject:
    """The bundled checkpoint, itself with a tenth of its channels cut, and the bundled images."""
    from tests.jobs.narrow import save
    from tui_pruner.frameworks.ultralytics import read_checkpoint

    whole = read_checkpoint(CHECKPOINT)
    pruned = save(whole, folder / "pruned.pt", "10%")
    return Subject(
        CHECKPOINT, Path(pruned.path), pruned.provenance["plan"], CHECKPOINT.with_name("digits.yaml"), whole.default_imgsz, 32, runs=30
    )


def checked(name: str, subject: Subject, device: str, folder: Path) -> dict[str, Any]:
    """One job on the CPU and on a device: seconds, memory, and how far its figures are apart."""
    found: dict[str, Any] = {"job": name, "seconds": {}, "differences": [], "error": ""}
    figures: list[Figures] = []
    for place in ("cpu", device):
        own = folder / f"{name} {place}"
        own.mkdir(parents=True)
        os.environ["XDG_CACHE_HOME"] = str(own / "cache")
        torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        try:
            result = function_of(RUNS[name].kind)(parameters(RUNS[name], subject, place, own), lambda progress: None)
            figures.append(RUNS[name].figures(result))
        except Exception:
            found["error"] = f"on {place}: " + "".join(traceback.format_exc().splitlines(keepends=True)[-FRAMES:])
            return found
        found["seconds"][place] = round(time.perf_counter() - started, 2)
        if place == device:
            found["peak_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
            found["times"] = times_of(result)
    allowed = ALLOWED[name]
    here, there = ({key: value for key, value in side.items() if allowed.compared(key)} for side in figures)
    return {**found, "compared": len(here), **verdict(here, there, allowed.tolerance)}


def verdict(here: Mapping[str, Any], there: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """What is said of two sets of figures; none at all agree with nothing."""
    found = differences(here, there, tolerance) if here else ["no figures to compare"]
    return {"tolerance": tolerance, "largest_difference": min(largest(here, there), sys.float_info.max), "differences": found}


def times_of(result: Any) -> dict[str, float]:
    """The latencies in a result, by the place of their model."""
    return {str(place): one.median_ms for place, one in enumerate(getattr(result, "models", []))}


def about(device: str) -> dict[str, Any]:
    """The machine, the GPU and the libraries."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "machine": machine(),
        "gpu": torch.cuda.get_device_name(device),
        "capability": list(torch.cuda.get_device_capability(device)),
        "memory_mib": properties.total_memory >> 20,
        "gpus": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32": torch.backends.cudnn.allow_tf32,
    }


def check(report: Path, device: str = "cuda:0", names: Iterable[str] = RUNS, make: Callable[[Path], Subject] = bundled) -> int:
    """Run jobs on both, say each verdict, and write the report; gives the exit status."""
    with tempfile.TemporaryDirectory(prefix="tui-pruner-gpu-") as work:
        subject, jobs = make(Path(work)), []
        for name in names:
            jobs.append(found := checked(name, subject, device, Path(work)))
            print(line_of(found), flush=True)
            report.write_text(json.dumps({**about(device), "jobs": jobs}, indent=1) + "\n")
    wrong = [found["job"] for found in jobs if found["error"] or found["differences"]]
    print(
        f"{len(jobs) - len(wrong)} of {len(jobs)} jobs agree; send {report} to the maintainers"
        + (f"; look at {', '.join(wrong)}" if wrong else "")
    )
    return 1 if wrong else 0


def line_of(found: Mapping[str, Any]) -> str:
    """A job's verdict in one line."""
    if found["error"]:
        return f"{found['job']}: failed {found['error'].strip().splitlines()[-1]}"
    seconds = ", ".join(f"{place} {value:.1f} s" for place, value in found["seconds"].items())
    said = found["differences"][0] if found["differences"] else f"agrees to {found['largest_difference']:.2g}"
    return f"{found['job']}: {said} ({seconds}, {found['peak_mib']:.0f} MiB)"


def main(arguments: list[str]) -> int:
    """Check the first GPU, where there is one."""
    if not torch.cuda.is_available():
        print(f"no GPU that torch {torch.__version__} can use here (built for CUDA {torch.version.cuda}): nothing was checked")
        return 2
    report, visible = Path(arguments[0] if arguments else REPORT).absolute(), os.environ.get("CUDA_VISIBLE_DEVICES")
    with temporary_home():
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        return check(report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
