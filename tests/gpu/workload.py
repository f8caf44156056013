"""Every kind of job on one subject, and the figures of each that must not depend on the device."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.gpu.alike import Figures
from tui_pruner.engine.messages import Message
from tui_pruner.jobs.__main__ import KINDS


@dataclass(frozen=True)
class Subject:
    """A checkpoint, the file that was cut from it and the plan of that, and a data set."""

    original: Path
    pruned: Path
    plan: Mapping[str, Any]
    data: Path
    imgsz: int
    images: int
    round_to: int = 16
    runs: int = 2


@dataclass(frozen=True)
class Run:
    """A job: what it is told besides the subject, and what of its result is compared."""

    kind: str
    more: Callable[[Subject, Path], Mapping[str, Any]]
    figures: Callable[[Any], Figures]
    of_pruned: bool = False


def weights(result: Any) -> Figures:
    """All numbers of the network in the file that a job wrote."""
    from tui_pruner.frameworks.ultralytics import read_checkpoint

    state = read_checkpoint(result.output).model.state_dict()
    return {f"weights {name}": tensor.double().numpy() for name, tensor in state.items()}


def scores(result: Any) -> Figures:
    """All scores of a calibration."""
    with np.load(result.scores) as content:
        return {name: content[name] for name in content.files if content[name].dtype.kind == "f"}


def scanned(result: Any) -> Figures:
    """The metric of every trial."""
    return {"baseline": result.baseline, **{f"{row.layer} {row.id} -{row.ratio:.0%}": row.metric for row in result.groups}}


def refitted(result: Any) -> Figures:
    """How far every candidate is from the original, and what each layer's fit came to."""
    fits = {
        f"{fit.layer} {when}": value for fit in result.layers for when, value in (("before", fit.error_before), ("after", fit.error_after))
    }
    return {**{f"distance {name}": value for name, value in result.distance.items()}, **fits, **weights(result)}


def trained(result: Any) -> Figures:
    """Losses and metrics of every epoch, and the weights."""
    curve = {f"epoch {row['epoch']:.0f} {name}": value for row in result.curve for name, value in row.items() if name != "time"}
    return {**curve, **weights(result)}


def timed(result: Any) -> Figures:
    """What was timed; how long it took is the device's own."""
    return {f"{place} {name}": getattr(one, name) for place, one in enumerate(result.models) for name in ("parameters", "imgsz", "batch")}


def gated(result: Any) -> Figures:
    """By how much each metric fell, and how sure that is; how long it took is the device's own."""
    return {f"{one.name} {name}": getattr(one, name) for one in result.metrics for name in ("original", "pruned", "low", "high")}


def drawn(result: Any) -> Figures:
    """How much was found on each picture."""
    return {f"{one.image} {name}": sum(getattr(one, name).values()) for one in result.pictures for name in ("before", "after")}


def detected(result: Any) -> Figures:
    """What both stages found on every image: places and scores, the surest first."""
    stages = ((f"{one.image} {when}", getattr(one, when)) for one in result.images for when in ("before", "after"))
    boxes = {f"{stage} {number}": box for stage, found in stages for number, box in enumerate(found)}
    return {f"{name} sides": np.array(box.sides) for name, box in boxes.items()} | {
        f"{name} score": box.score for name, box in boxes.items()
    }


def planned(result: Any) -> Figures:
    """The amounts of every point, and how its rivals did."""
    found: Figures = {}
    for number, point in enumerate(result.points):
        found |= {f"{number} {name}": value for name, value in {**point.amounts, **point.shares, **(point.measured or {})}.items()}
        found |= {f"{number} {rival.name}": rival.distance for rival in point.rivals}
    return found


def reported(result: Any) -> Figures:
    """What a report says in its tables, without its commands, which name files of their own."""
    lines = [line for line in Path(result.output).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return {"proved": str(result.proved), **{f"row {number}": line for number, line in enumerate(lines)}}


def agreed(result: Any) -> Figures:
    """Whether an exported file computes what its network does."""
    return {"equal": str(result.equal)}


def stopped(result: Any) -> Figures:
    """Whether a latency was found to be out of reach."""
    return {"out of reach": str("out of reach" in result.plan.stopped)}


def output(name: str, **more: Any) -> Callable[[Subject, Path], dict[str, Any]]:
    """A file that the job writes into its folder, and what else it is told."""
    return lambda subject, folder: {"output": str(folder / name), **more}


RUNS = {
    "validate": Run("validate", lambda subject, folder: {"plan": subject.plan}, lambda result: dict(result.metrics)),
    "gate": Run(
        "gate",
        lambda subject, folder: {"against": str(subject.original), "max_latency": 1.0, "runs": subject.runs},
        gated,
        of_pruned=True,
    ),
    "calibrate": Run("calibrate", lambda subject, folder: {}, scores),
    "calibrate without labels": Run("calibrate", lambda subject, folder: {"criteria": ["obs"]}, scores),
    "scan": Run("scan", lambda subject, folder: {"ratios": [0.5]}, scanned),
    "recalibrate": Run("recalibrate", output("recalibrated.pt"), weights, of_pruned=True),
    "reconstruct": Run(
        "reconstruct",
        lambda subject, folder: {"output": str(folder / "refitted.pt"), "original": str(subject.original), "batch": 4},
        refitted,
        of_pruned=True,
    ),
    "finetune": Run(
        "finetune",
        lambda subject, folder: {"output": str(folder / "trained.pt"), "epochs": 1, "batch": 4, "teacher": str(subject.original)},
        trained,
        of_pruned=True,
    ),
    "train sparsely": Run("finetune", output("sparse.pt", epochs=1, batch=4, sparsity=1e-2), trained),
    "bench": Run(
        "bench",
        lambda subject, folder: {
            "models": [{"checkpoint": str(file)} for file in (subject.original, subject.pruned)],
            "blocks": True,
            "suggest": True,
            "runs": subject.runs,
        },
        timed,
    ),
    "search-latency": Run(
        "search-latency",
        lambda subject, folder: {"data": "", "targets": ["latency=1%"], "runs": subject.runs},
        stopped,
    ),
    "export onnx": Run("export", output("out.onnx", format="onnx"), agreed, of_pruned=True),
    "export torchscript": Run("export", output("out.torchscript", format="torchscript"), agreed, of_pruned=True),
    "picture": Run("picture", lambda subject, folder: {"plan": subject.plan, "pictures": 2, "folder": str(folder)}, drawn),
    "detect": Run(
        "detect",
        lambda subject, folder: {
            "stages": [
                {"checkpoint": str(subject.original), "plan": None},
                {"checkpoint": str(subject.original), "plan": subject.plan},
            ]
        },
        detected,
    ),
    "report": Run(
        "report",
        lambda subject, folder: {**output("report.md", plan_file="plan.yaml", pictures=1)(subject, folder), "plan": subject.plan},
        reported,
    ),
    "plan": Run(
        "plan",
        lambda subject, folder: {"points": [["flops=60%"]], "round_to": subject.round_to, "batch": 4, "validated": subject.images},
        planned,
    ),
}


def parameters(run: Run, subject: Subject, device: str, folder: Path) -> Message:
    """What a job is told."""
    from tui_pruner.frameworks.ultralytics import read_checkpoint

    checkpoint = read_checkpoint(subject.pruned if run.of_pruned else subject.original)
    shared = {
        "checkpoint": checkpoint.path,
        "sha256": checkpoint.sha256,
        "data": str(subject.data),
        "images": subject.images,
        "imgsz": subject.imgsz,
        "device": device,
    }
    wanted = KINDS[run.kind].parameters
    given = {**shared, **run.more(subject, folder)}
    return wanted(**{name: value for name, value in given.items() if name in wanted.model_fields})


def function_of(kind: str) -> Callable[..., Any]:
    """The function that a job's process calls."""
    place = KINDS[kind]
    found: Callable[..., Any] = getattr(importlib.import_module(place.module), place.function)
    return found
