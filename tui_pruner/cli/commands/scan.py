"""`scan`: how much every group alone costs in accuracy, and the plan of all that cost little."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import CalibrationImages, Classes, Criterion, Data, Device, ImageSize, Json, Model, needed
from tui_pruner.cli.output import Output, progress_of, reserved_stdout, say
from tui_pruner.domain.errors import OutputError, RequestError
from tui_pruner.domain.formatting import large

if TYPE_CHECKING:
    from tui_pruner.core.model.analysis import Analysis
    from tui_pruner.core.pruning.plan import Plan
    from tui_pruner.engine.search_messages import ScanParameters, ScanResult

RUN = {"remarks", "cached", "seconds"}
"""Fields that differ between two runs of one scan; they are not in the file."""
Ratios = Annotated[str, typer.Option("--ratios", metavar="LIST", help="Shares of a group's channels to remove, separated by commas.")]
ScanImages = Annotated[int, typer.Option("--images", min=1, help="Validate on this many images, chosen by a seed.")]
Written = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write all results: .csv, or else JSON.")]
SavePlan = Annotated[
    Path | None, typer.Option("--save-plan", "--plan", metavar="FILE", help="Write the plan of all groups that drop at most --max-drop.")
]
EXECUTORS = ("local", "ray")
"""As in `jobs/scan/executors.py`, which need not be imported for it; a test compares the two."""
Executor = Annotated[
    str, typer.Option("--executor", metavar="|".join(EXECUTORS), help="Run the trials on this machine or on a Ray cluster.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine; each takes a GPU or a share of the cores.")]
Address = Annotated[str, typer.Option("--address", help="The Ray cluster: auto, host:port, or ray://host:port.")]
GpusPerTask = Annotated[
    float | None,
    typer.Option("--gpus-per-task", min=0.0, help="GPUs of a Ray task, 0.5 shares one; by default 1 where the cluster has any."),
]
CpusPerTask = Annotated[float, typer.Option("--cpus-per-task", min=0.0, help="Cores of a Ray task.")]
MaxDrop = Annotated[float, typer.Option("--max-drop", min=0.0, help="The largest drop of the metric per group, for --save-plan.")]


def scan(
    model: Model,
    data: Data = None,
    ratios: Ratios = "10%,30%,50%",
    images: ScanImages = 64,
    criterion: Criterion = "l2",
    calibration_images: CalibrationImages = 64,
    output: Written = None,
    save_plan: SavePlan = None,
    max_drop: MaxDrop = 0.01,
    executor: Executor = "local",
    workers: Workers = 1,
    address: Address = "auto",
    gpus_per_task: GpusPerTask = None,
    cpus_per_task: CpusPerTask = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """The sensitivity of every group: each alone with its linked parts, without surgery. A killed scan resumes."""
    with reserved_stdout(as_json) as results:
        data_set, shares = needed(data), parse_ratios(ratios)
        if executor not in EXECUTORS:
            raise RequestError(f"no executor {executor!r}: it is one of {', '.join(EXECUTORS)}")
        from tui_pruner.core.model.analysis import analyse
        from tui_pruner.core.pruning.plan import save_plan as write_plan
        from tui_pruner.engine.search_messages import ScanExecutor, ScanParameters
        from tui_pruner.frameworks.ultralytics import open_model
        from tui_pruner.jobs.scan.scan import run_scan
        from tui_pruner.storage.atomic import check_place

        for file, what, example in ((output, "the scan", "scan.json"), (save_plan, "the plan", "plan.yaml")):
            if file:
                check_place(file, f"{what} {file}", example, force)
        analysis = analyse(open_model(model, classes), imgsz)
        where = ScanExecutor(
            name=executor, workers=workers, address=address, gpus_per_task=gpus_per_task, cpus_per_task=cpus_per_task,
        )  # fmt: skip
        parameters = ScanParameters(
            checkpoint=model, sha256=analysis.checkpoint.sha256, data=data_set, images=images, imgsz=analysis.imgsz, device=device,
            classes=classes, ratios=shares, criterion=criterion, calibration_images=calibration_images, executor=where,
        )  # fmt: skip
        found = run_scan(parameters, progress_of("scan"))
        say_remarks(found)
        if output:
            write(output, found)
        if save_plan:
            write_plan(save_plan, plan_of(analysis, parameters, found, max_drop))
        results.document({**found.model_dump(), "output": str(output) if output else None, "plan": str(save_plan) if save_plan else None})
        show(results, found)
        for file in (output, save_plan):
            if file:
                results.line(f"saved {file}")
        return 0


def say_remarks(found: ScanResult) -> None:
    """Say what a scan notes, and which cuts it skipped and why."""
    for note in (*found.notes, *found.remarks):
        say(note)
    for failure in found.failed:
        say(f"skipped {failure.layer} -{failure.ratio:.0%}: {failure.error}")


def parse_ratios(text: str) -> list[float]:
    """Parse shares between 0 and 1, ascending, from "10%,0.3".

    Raises:
        RequestError: a number is not such a share.
    """
    from tui_pruner.domain.cuts import parse_amount

    shares = [parse_amount(part).remove for part in text.split(",")]
    if None in shares:
        raise RequestError(f"--ratios {text!r}: give shares of a group's channels to remove, such as 10%,30%,50%")
    return sorted({share for share in shares if share is not None})


def write(file: Path, found: ScanResult) -> None:
    """Write all results as CSV or JSON, by the file's suffix; the same for the same scan, however often it was interrupted.

    Raises:
        OutputError: it cannot be written.
    """
    from tui_pruner.storage.atomic import replace_file

    try:
        replace_file(file, as_csv(found) if file.suffix.lower() == ".csv" else json.dumps(found.model_dump(exclude=RUN), indent=1).encode())
    except OSError as error:
        raise OutputError(f"the scan {file} cannot be written: {error.strerror or error}") from None


def as_csv(found: ScanResult) -> bytes:
    """A line for each group and ratio; linked groups are separated by spaces."""
    stream = io.StringIO()
    rows = [row.model_dump() for row in found.groups]
    writer = csv.DictWriter(stream, list(type(found.groups[0]).model_fields) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "along": " ".join(map(str, row["along"]))} for row in rows)
    return stream.getvalue().encode()


def plan_of(analysis: Analysis, parameters: ScanParameters, found: ScanResult, max_drop: float) -> Plan:
    """One step with all groups, each by the largest ratio whose own trial costs at most this drop.

    Raises:
        RequestError: there is none.
    """
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.search.sensitivity import survivors, trials_of
    from tui_pruner.jobs.calibrate import rank_by

    rank_by(analysis, parameters.criterion, parameters, parameters.calibration_images, progress_of("calibrate"))
    trials, _ = trials_of(analysis, parameters.ratios, parameters.criterion)
    drops = {(row.id, row.ratio): row.drop for row in found.groups}
    by_digest = {trial.digest: drops[trial.group, trial.ratio] for trial in trials if (trial.group, trial.ratio) in drops}
    session = PruningSession(analysis)
    step = survivors(analysis, trials, by_digest, max_drop, parameters.criterion)
    session.load(session.plan.model_copy(update={"steps": [step]}).plain())
    return session.plan


def show(results: Output, found: ScanResult, sample: str = "image") -> None:
    """Show the groups by their cost at the largest ratio, cheapest first; `sample`: what one input is called."""
    trials = found.distinct
    ratios = sorted({row.ratio for row in trials})
    by_group: dict[int, dict[float, float]] = {}
    names, sizes = {row.id: row.layer for row in trials}, {row.id: row.flops for row in trials}
    for row in trials:
        by_group.setdefault(row.id, {})[row.ratio] = row.drop
    ordered = sorted(by_group, key=lambda number: (by_group[number].get(ratios[-1], 1.0), number))
    columns = [f"-{ratio:.0%}" for ratio in ratios]
    rows = [
        [number, names[number], *(f"{-by_group[number][r]:+.4f}" if r in by_group[number] else "" for r in ratios), large(sizes[number])]
        for number in ordered
    ]
    on = f" on {found.images} {sample}s" if found.images else ""
    results.line(f"{found.name} {found.baseline:.4f}{on}; the change with one group cut, the cheapest first")
    results.table(["group", "layer", *columns, "FLOPs left"], rows, right=["group", *columns, "FLOPs left"])
    results.line(f"{len(trials)} trials  {found.seconds:.1f} s  ({found.cached} known before)")
