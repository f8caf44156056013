"""Files made by jobs: another format of the model, compared with it before it is kept, and a report about all steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import file_size, plural
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ExportParameters, ReportParameters
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.tui.job_specs.job import ModelFile, OpenCheckpoint


EXPORT = "export"
IMAGES = 8


@dataclass(frozen=True)
class Format:
    """A format by Ultralytics' name for it, and how its files or folders end."""

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
"""Those that people ask for most; `tui-pruner export --format` takes all of Ultralytics'."""


def export(chosen: Format, checkpoint: OpenCheckpoint, source: ModelFile, output: str, force: bool) -> JobSpec:
    """The job that exports a file of ours; compared on validation images where the data is known, on drawn ones elsewhere."""
    fields = {**checkpoint.fields, "checkpoint": source.path, "sha256": source.sha256, "images": IMAGES}
    if source.path != checkpoint.model.path:
        fields["classes"] = None

    def parameters() -> ExportParameters:
        from tui_pruner.engine.job_messages import ExportParameters

        return ExportParameters(**fields, format=chosen.argument, output=output, force=force)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.job_messages import ExportResult

        result = ExportResult.model_validate(content)
        images = plural(result.images, "drawn image" if result.drawn else "image")
        details = [("size", f"{file_size(result.bytes)}, the checkpoint {file_size(result.source_bytes)}")]
        if result.relative_difference is not None:
            details.append(("differs by", f"{result.relative_difference:.1e} relative on {images}"))
        if result.output is None:
            return JobOutcome("NOT written: outputs differ from the PyTorch model", details, result.notes)
        word = {True: f"equal on {images}", None: "not compared", False: "not equal"}[result.equal]
        return JobOutcome(f"{file_size(result.bytes)}, {word}", [("file", result.output), *details], result.notes)

    return JobSpec(EXPORT, Path(output).name, output, parameters, take, fields["data"])


REPORT = "report"
SUFFIXES = (".html", ".md")


def report(
    checkpoint: OpenCheckpoint, session: SessionView, plan_file: str, output: str, redact: bool = False, recovered: str = ""
) -> JobSpec:
    """The job on the session's steps as they are now; `redact`: with neutral names; `recovered`: a file that is measured too."""
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
