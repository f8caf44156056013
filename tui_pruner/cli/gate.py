"""`gate`: may a pruned model be merged? Status 0 yes, 1 no."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import Classes, Data, Device, Images, ImageSize, Json, needed
from tui_pruner.cli.output import Output, reserved_stdout, say, tell_progress

if TYPE_CHECKING:
    from tui_pruner.engine.gate_messages import GateResult

Pruned = Annotated[str, typer.Argument(metavar="PRUNED", help="The model that may be merged.")]
Against = Annotated[str, typer.Option("--against", metavar="ORIGINAL", help="The model that it is measured against.")]
MaxDrop = Annotated[float, typer.Option("--max-drop", min=0, max=1, help="How much of the metric may be lost, such as 0.01 of mAP50-95.")]
MaxLatency = Annotated[
    float | None, typer.Option("--max-latency", min=0.01, help="The share of the original's latency that it may take, such as 0.8.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Say no where the interval reaches beyond what is allowed: for many images.")]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the verdict as JUnit XML too.")]
Markdown = Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write a summary for a pull request too.")]


def gate(
    pruned: Pruned,
    against: Against,
    data: Data = None,
    max_drop: MaxDrop = 0.01,
    max_latency: MaxLatency = None,
    images: Images = None,
    strict: Strict = False,
    junit: Junit = None,
    markdown: Markdown = None,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Latency: samples of each model, taken in turns.")] = 50,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """May PRUNED be merged? Status 0 yes, 1 no. Both models see the same images; no only where the loss is more than chance.

    The drop of the metric has a 95 % interval, by resampling the images for both models alike. No: the whole interval lies above
    --max-drop, or that of the latency's ratio above --max-latency. With --strict, yes only where the whole interval lies within.
    """
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.checkpoint import open_model
        from tui_pruner.engine.gate_messages import GateParameters
        from tui_pruner.jobs.gate import run_gate
        from tui_pruner.model_file import is_architecture
        from tui_pruner.whole_file import check_place

        for place, example in ((junit, "gate.xml"), (markdown, "gate.md")):
            if place is not None:
                check_place(place, f"the report {place}", example, force=True)
        chosen = needed(data)
        checkpoint = open_model(pruned, classes if is_architecture(pruned) else None)
        parameters = GateParameters(
            checkpoint=pruned,
            sha256=checkpoint.sha256,
            data=chosen,
            images=images,
            imgsz=imgsz or checkpoint.default_imgsz,
            device=device,
            classes=classes,
            against=against,
            max_drop=max_drop,
            max_latency=max_latency,
            strict=strict,
            runs=runs,
        )
        result = run_gate(parameters, tell_progress)
        for note in result.notes:
            say(note)
        keep(result, junit, markdown)
        output.document(result.model_dump())
        show(output, result)
        return 0 if result.verdict == "yes" else 1


def keep(result: GateResult, junit: Path | None, markdown: Path | None) -> None:
    """Write the reports that were asked for.

    Raises:
        OutputError: one cannot be written.
    """
    from tui_pruner.errors import OutputError
    from tui_pruner.jobs.gate_report import junit as as_junit
    from tui_pruner.jobs.gate_report import markdown as as_markdown
    from tui_pruner.whole_file import replace_file

    for place, content in ((junit, as_junit(result)), (markdown, as_markdown(result).encode())):
        if place is None:
            continue
        try:
            replace_file(place, content)
        except OSError as error:
            raise OutputError(f"the report {place} cannot be written: {error.strerror or error}") from None


def show(output: Output, result: GateResult) -> None:
    """Show the verdict and what it rests on."""
    from tui_pruner.jobs.gate import short
    from tui_pruner.jobs.gate_report import advice

    rows = [
        [short(one.name), f"{one.original:.4f}", f"{one.pruned:.4f}", f"{-one.drop:+.4f}", f"{-one.high:+.4f} to {-one.low:+.4f}",
         f"{-one.allowed:+.4f}"]
        for one in result.metrics
    ]  # fmt: skip
    if one := result.latency:
        rows.append(
            ["latency, ms", f"{one.original_ms:.2f}", f"{one.pruned_ms:.2f}", f"x{one.ratio:.3f}", f"x{one.low:.3f} to x{one.high:.3f}",
             f"x{one.allowed:.3f}"]
        )  # fmt: skip
    columns = ["", "original", "pruned", "change", "95 % interval", "allowed"]
    output.table(columns, rows, right=columns[1:])
    output.line(f"{result.images} images, the same for both models; {result.seconds:.1f} s")
    for reason in result.reasons:
        output.line(reason)
    if more := advice(result):
        output.line(more)
    output.line(f"{result.verdict}: {'it may' if result.verdict == 'yes' else 'it must not'} be merged")
