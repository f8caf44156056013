"""Jobs that make exports, reports, and detections of two stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import file_size, plural, tiny
from tui_pruner.domain.lineage import file_id
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tui_pruner.engine.job_messages import DetectionParameters, DetectionResult, ExportParameters, ReportParameters, StageFile
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.tui.job_specs.job import ModelFile, OpenCheckpoint
    from tui_pruner.tui.state import AppState


EXPORT = "export"
IMAGES = 8


@dataclass(frozen=True)
class Format:
    """An export format: Ultralytics' name, and the suffix of its files or folders."""

    argument: str
    suffix: str
    meaning: str


FORMATS = (
    Format("onnx", ".onnx", "ONNX: compared on images before it is kept"),
    Format("torchscript", ".torchscript", "TorchScript: compared on images before it is kept"),
    Format("openvino", "_openvino_model", "OpenVINO: compared on images before it is kept"),
    Format("engine", ".engine", "TensorRT, on a machine with its GPU"),
    Format("coreml", ".mlpackage", "Core ML"),
    Format("saved_model", "_saved_model", "TensorFlow"),
    Format("litert", ".tflite", "LiteRT"),
    Format("ncnn", "_ncnn_model", "NCNN"),
    Format("mnn", ".mnn", "MNN"),
)
"""The most common formats; `tui-pruner export --format` takes all of Ultralytics'."""


MODULE_FORMATS = (
    Format("onnx", ".onnx", "ONNX: compared on the example inputs before it is kept"),
    Format("pt2", ".pt2", "a program of torch.export: compared on the example inputs before it is kept"),
)
"""The formats of any module."""


def formats_for(checkpoint: OpenCheckpoint) -> Sequence[Format]:
    """The formats that a checkpoint, or a module, can be exported to."""
    return MODULE_FORMATS if checkpoint.opening.module else FORMATS


def export(chosen: Format, checkpoint: OpenCheckpoint, source: ModelFile, output: str, force: bool) -> JobSpec:
    """The job that exports a file of ours; it is compared on validation images if the data is known, else on generated ones."""
    fields = {**checkpoint.fields, "checkpoint": source.path, "sha256": source.sha256, "images": IMAGES}
    if source.path != checkpoint.model.path:
        fields["classes"] = None

    def parameters() -> ExportParameters:
        from tui_pruner.engine.job_messages import ExportParameters

        return ExportParameters(**fields, format=chosen.argument, output=output, force=force)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.job_messages import ExportResult

        result = ExportResult.model_validate(content)
        images = plural(result.images, f"drawn {checkpoint.sample}" if result.drawn else checkpoint.sample)
        what = "module" if checkpoint.opening.module else "checkpoint"
        details = [("size", f"{file_size(result.bytes)}, the {what} {file_size(result.source_bytes)}")]
        if result.relative_difference is not None:
            details.append(("differs by", f"{result.relative_difference:.1e} relative on {images}"))
        if result.output is None:
            return JobOutcome("NOT written: outputs differ from the PyTorch model", details, result.notes)
        by = f" within {tiny(result.relative_difference)}" if result.relative_difference else ""
        word = {True: f"equal{by} on {images}", None: "not compared", False: "not equal"}[result.equal]
        return JobOutcome(f"{word}, {file_size(result.bytes)}", [("file", result.output), *details], result.notes)

    return JobSpec(EXPORT, Path(output).name, output, parameters, take, fields["data"])


REPORT = "report"
SUFFIXES = (".html", ".md")


def report(
    checkpoint: OpenCheckpoint, session: SessionView, plan_file: str, output: str, redact: bool = False, recovered: str = ""
) -> JobSpec:
    """The report on the present steps; `redact`: with neutral names; `recovered`: a file that is measured too."""
    fields, plan = checkpoint.fields, session.plan

    def parameters() -> ReportParameters:
        from tui_pruner.engine.job_messages import ReportParameters

        return ReportParameters(plan=plan, plan_file=plan_file, output=output, redact=redact, recovered=recovered or None, **fields)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.job_messages import ReportResult

        result = ReportResult.model_validate(content)
        verdict = "all proved" if result.proved else "NOT all proved"
        figure = f"{plural(result.steps, 'step')} {verdict}, {file_size(result.bytes)}"
        return JobOutcome(figure, [("file", result.output)], result.notes)

    return JobSpec(REPORT, Path(output).name, output, parameters, take, fields["data"])


DETECT = "detect"
MOST_IMAGES = 24


@dataclass(frozen=True)
class StagePair:
    """Two stages whose detections are compared: their names, and where a job finds them; `key` identifies the pair."""

    titles: tuple[str, str]
    files: tuple[StageFile, StageFile]
    key: str


def stage_file(state: AppState, id: str) -> StageFile | None:
    """The file and plan of a stage for a job; None where they are not known here."""
    from tui_pruner.engine.job_messages import StageFile

    lineage, model = state.lineage, state.opened.model
    root, steps = lineage.root_of(id), lineage.steps_of(id)
    if root is None or not root.path or (steps and root.plan is None):
        return None
    if root.id == file_id(model.content):
        path, sha256, classes = model.path, model.sha256, state.checkpoint.opening.classes
    elif Path(root.path).exists():
        path, sha256, classes = root.path, str((root.plan or {}).get("sha256", "")), None
    else:
        return None
    return StageFile(checkpoint=path, sha256=sha256, classes=classes, plan={**(root.plan or {}), "steps": steps} if steps else None)


def detections(checkpoint: OpenCheckpoint, pair: StagePair, keep: Callable[[DetectionResult], None]) -> JobSpec:
    """The job that runs two stages on the same validation images; `keep` gets the results."""
    fields = {**checkpoint.fields, "images": min(checkpoint.opening.images or MOST_IMAGES, MOST_IMAGES)}

    def parameters() -> DetectionParameters:
        from tui_pruner.engine.job_messages import DetectionParameters

        return DetectionParameters(stages=pair.files, **fields)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.job_messages import DetectionResult

        result = DetectionResult.model_validate(content)
        keep(result)
        changed = sum(bool(one.changed) for one in result.images)
        return JobOutcome(f"detected: {changed} of {plural(len(result.images), 'image')} changed", notes=result.notes)

    return JobSpec(DETECT, f"{pair.titles[0]} {GLYPHS.arrow} {pair.titles[1]}", pair.key, parameters, take, fields["data"])
