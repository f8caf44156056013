"""What travels between the program and the job that compresses a model: everything from the plan to the export, stage by stage."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.job_messages import JobParameters, StageFigures
from tui_pruner.engine.protocol import Message, WriteResult


class PruneParameters(JobParameters):
    """What a pruning job is: a checkpoint, a settled plan, and the file to write; no `data`, no images."""

    data: str = ""
    plan: dict[str, Any]
    output: str
    force: bool = False


class PruneResult(WriteResult):
    """The written file, the proof of the very model in it, and its size beside the checkpoint's (parameters, flops, bytes)."""

    proof: dict[str, Any]
    before: dict[str, int]
    after: dict[str, int]


class CompressParameters(JobParameters):
    """What a compression is: the checkpoint, the plan so far, what shall be left, and the folder that everything is written to.

    Plans are made and refitted on `images` of the training split, without labels. `max_drop`: how much of the original's main metric may
    be lost; the targets are then approached in points of `step` hundredths, and the last good one is taken. `epochs`: of fine-tuning, with
    the original as teacher where `taught`; 0: none. `validated`: images of the validation split, None: all. `format`: of the export, empty:
    none. `bench`: samples of each model's latency, 0: none. `report`: how the report's file is called, empty: none.
    """

    images: int | None = 64
    plan: dict[str, Any] | None = None
    targets: list[str]
    max_drop: float | None = None
    step: int = 10
    criterion: str = "obs"
    round_to: int = 1
    floor: float = 0.25
    protect: list[str] = []
    fast: bool = False
    epochs: int = 0
    lr0: float | None = None
    taught: bool = True
    batch: int = 16
    validated: int | None = None
    format: str = "onnx"
    bench: int = 50
    report: str = "report.html"
    folder: str
    force: bool = False


class CompressStage(StageFigures):
    """One stage that is done, with the file that it wrote; `kept`: it was done by an earlier run."""

    output: str | None = None
    seconds: float = 0.0
    kept: bool = False


class CompressResult(Message):
    """All stages, the file that came out of them (None: no point of the way was good enough, and `stopped` says why)."""

    stages: list[CompressStage]
    output: str | None
    original: dict[str, float]
    metrics: dict[str, float]
    flops: dict[str, int] = {}
    parameters: dict[str, int] = {}
    latency: float | None = None
    exported: str | None = None
    report: str | None = None
    stopped: str = ""
    seconds: float
    notes: list[str] = []
