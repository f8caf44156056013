"""A report: everything about a plan in one file, proved and measured now, written completely or not at all."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import OutputError, RequestError
from tui_pruner.domain.formatting import command_line, legible
from tui_pruner.engine.job_messages import (
    JobProgress,
    PicturedFile,
    PictureParameters,
    PictureResult,
    ReportParameters,
    ReportResult,
    StageFigures,
    ValidationParameters,
    ValidationResult,
)
from tui_pruner.engine.search_messages import BenchParameters, BenchResult, ModelToTime, ScanParameters
from tui_pruner.jobs.pictures import run_pictures
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import opened, run_validation
from tui_pruner.storage.atomic import check_place, output_error, replace_file
from tui_pruner.storage.error_log import versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.report.facts import Facts, Material, Metrics, SensitivityFacts


def check_report_output(output: Path, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse a path where a report cannot be written.

    Raises:
        OutputError: another suffix, a folder, an existing file without `force`, a missing folder, or no permission.
    """
    if output.suffix.lower() not in suffixes and not output.is_dir():
        raise OutputError(f"{output} is not a report: its name must end in {' or '.join(suffixes)}")
    check_place(output, str(output), "report.html", force)


def write_report(output: Path, text: str) -> None:
    """Write a report, completely or not at all.

    Raises:
        OutputError: the operating system refuses.
    """
    try:
        replace_file(output, legible(text).encode())
    except OSError as error:
        raise output_error(output, error) from error


DRAWN_TASKS = ("detect", "segment", "pose", "obb")
GRAIN = 20
"""Shares of channels are shown in twentieths: the requested ones are that coarse, and no two groups hit them exactly."""


@dataclass(frozen=True)
class ReportMaterial:
    """The options of `report` as they were given; `plan` is the plan's file in its commands."""

    plan: Path
    output: Path
    data: Path | None
    validation_images: int | None
    pictures: int
    imgsz: int | None
    device: str
    classes: int | None
    model: str | None
    latency: bool = False
    stages: tuple[StageFigures, ...] = ()
    redact: bool = False
    recovered: Path | None = None
    pictured: PicturedFile | None = None


def completed(
    facts: Facts, session: PruningSession, wanted: ReportMaterial, recovered: Checkpoint | None, on_progress: OnProgress
) -> Material:
    """The facts, completed with measurements on images, commands and versions; nothing unproved is measured.

    Raises:
        DataError: the data cannot be used for this model.
    """
    from tui_pruner.core.pruning.plan import dump_yaml
    from tui_pruner.report.facts import Material, PictureFacts

    unmeasured = [] if facts.proved else ["nothing was measured: figures of a model that is not proved would say nothing of the plan"]
    asked, wanted = wanted, wanted if facts.proved else dataclasses.replace(wanted, data=None, latency=False)
    with tempfile.TemporaryDirectory(prefix="tui-pruner-pictures-") as folder:
        metrics = accuracy(session, wanted, on_progress)
        drawn = pictures(session, wanted, recovered, folder, on_progress)
        images = tuple((Path(folder, p.before_file).read_bytes(), Path(folder, p.after_file).read_bytes()) for p in drawn.pictures)
    stages = [*wanted.stages, *recovered_stages(session, wanted, recovered, metrics, on_progress)]
    found = {
        "metrics": metrics,
        "stages": stages,
        "pictured_stage": wanted.pictured.stage if wanted.pictured else stages[-1].name if recovered and stages else "",
        "latency": latency(session, wanted, on_progress),
        "sensitivity": sensitivity(session, wanted),
        "pictures": [PictureFacts(image=p.image, before=p.before, after=p.after) for p in drawn.pictures],
        "confidence": drawn.confidence,
        "notes": [*facts.notes, *unmeasured, *drawn.notes],
        "commands": commands(facts, asked),
        "versions": versions(),
        "created": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    return Material(facts.model_copy(update=found), dump_yaml(session.plan), images)


def accuracy(session: PruningSession, wanted: ReportMaterial, on_progress: OnProgress) -> Metrics | None:
    """The quick validation without and with the plan; cached results are reused."""
    from tui_pruner.core.pruning.proved_cut import plan_of_classes
    from tui_pruner.report.facts import Metrics

    if wanted.data is None:
        return None

    whole = session.plan.plain()

    def validation(plan: dict[str, object] | None, of: str) -> ValidationResult:
        return run_validation(ValidationParameters(plan=plan, **common_fields(session, wanted)), doing(f"validate {of}", on_progress))

    before, after = validation(plan_of_classes(whole), "the checkpoint"), validation(whole, "the pruned model")
    steps: list[ValidationResult | None]
    if plan_of_classes(whole) is None:  # otherwise steps before the classes were cut were measured on other labels
        earlier = [session.plan.model_copy(update={"steps": session.plan.steps[:count]}) for count in range(1, len(session.steps))]
        steps = [*(validation(plan.plain(), f"step {count}") for count, plan in enumerate(earlier, start=1)), after]
    else:
        steps = [*[None] * (len(session.steps) - 1), after]
    return Metrics(data=str(wanted.data), imgsz=session.analysis.imgsz, before=before, after=after, steps=steps)


def recovered_stages(
    session: PruningSession, wanted: ReportMaterial, checkpoint: Checkpoint | None, metrics: Metrics | None, on_progress: OnProgress
) -> list[StageFigures]:
    """The original, the cut model and the models recovered from it, measured alike; earlier files only where they still exist.

    Raises:
        RequestError: the file does not have the plan's model.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.preview import Arithmetic

    if checkpoint is None or metrics is None:
        return []
    size, cut, whole = (
        Arithmetic(analyse(checkpoint, session.analysis.imgsz)).whole.size,
        session.widths.size,
        session.arithmetic.whole.size,
    )
    if (size.parameters, size.flops) != (cut.parameters, cut.flops):
        raise RequestError(f"{checkpoint.path} is not this plan's model: it computes {size.flops:,} FLOPs, not {cut.flops:,}")
    measured = [("original", whole, metrics.before), ("cut", cut, metrics.after)]
    for name, file, sha256 in recovered_files(Path(checkpoint.path), checkpoint):
        changed = {"checkpoint": str(file), "sha256": sha256, "classes": None}
        parameters = ValidationParameters(**{**common_fields(session, wanted), **changed})
        measured.append((name, size, run_validation(parameters, doing(f"validate the {name} model", on_progress))))
    return [
        StageFigures(name=name, metrics=of.metrics, flops=cost.flops, parameters=cost.parameters, interval=of.interval)
        for name, cost, of in measured
    ]


NO_RECORD = (
    "the recovered file has no record of its cut: it has the shapes of this plan's model, but may be of another model or other channels"
)
RECOVERED_BY = {"reconstruct": "refitted", "recalibrate": "recalibrated", "finetune": "fine-tuned"}


def recovered_files(file: Path, checkpoint: Checkpoint) -> Iterator[tuple[str, Path, str]]:
    """The files on the way from the cut to this one, each by its stage: those that still exist beside it, and itself."""
    from tui_pruner.core.model.checkpoint import stages_of
    from tui_pruner.jobs.cache import sha256_of

    made = stages_of(checkpoint.provenance)
    for stage, next_one in itertools.pairwise(made):
        source = next_one["source"]
        before = file.parent / Path(str(source["name"])).name
        if stage["kind"] in RECOVERED_BY and before != file and sha256_of(before) == source["sha256"]:
            yield RECOVERED_BY[stage["kind"]], before, source["sha256"]
    yield RECOVERED_BY.get(made[-1]["kind"], "recovered") if made else "recovered", file, checkpoint.sha256


def latency(session: PruningSession, wanted: ReportMaterial, on_progress: OnProgress) -> BenchResult | None:
    """Both models timed in turns, block by block, if requested."""
    from tui_pruner.jobs.latency import run_bench

    if not wanted.latency:
        return None
    checkpoint = session.analysis.checkpoint.path
    timed = [ModelToTime(checkpoint=checkpoint, classes=wanted.classes, plan=plan) for plan in (None, session.plan.plain())]
    parameters = BenchParameters(models=timed, imgsz=session.analysis.imgsz, blocks=True, device=wanted.device)
    return run_bench(parameters, doing("latency", on_progress))


def sensitivity(session: PruningSession, wanted: ReportMaterial) -> list[SensitivityFacts]:
    """The results of a scan on the same images for each group, by the criterion of the plan's first cut; empty without a scan."""
    from tui_pruner.core.search.sensitivity import layer_of
    from tui_pruner.jobs.scan.executors import known_sensitivity
    from tui_pruner.report.facts import SensitivityFacts

    cuts = [cut for applied in session.steps for cut in applied.step.cuts]
    if wanted.data is None or not cuts:
        return []
    analysis = session.analysis
    try:
        known = known_sensitivity(analysis, ScanParameters(criterion=cuts[0].criterion, **common_fields(session, wanted)))
    except RequestError:  # a criterion that needs scores which this session does not have
        return []
    if known is None:
        return []
    groups = [(number, analysis.coupling.groups[number]) for number in sorted(known.drops)]
    found = [
        SensitivityFacts(
            layer=layer_of(analysis, group),
            drops={round(GRAIN * share) / GRAIN: drop for share, drop in known.drops[number].items()},
            taken=len(session.removal.of(group)) / group.channels,
        )
        for number, group in groups
    ]
    return [one for place, one in enumerate(found) if one not in found[:place]]  # parts of one layer that are only removed together


def pictures(
    session: PruningSession, wanted: ReportMaterial, checkpoint: Checkpoint | None, folder: str, on_progress: OnProgress
) -> PictureResult:
    """Images with the detections of both models, drawn into a folder."""
    if wanted.data is None or wanted.pictures == 0 or session.analysis.checkpoint.task not in DRAWN_TASKS:
        return PictureResult(pictures=[], confidence=0.0)
    shown = wanted.pictured
    drawn = shown or checkpoint
    parameters = PictureParameters(
        plan=session.plan.plain(), pictures=wanted.pictures, folder=folder, redact=wanted.redact,
        recovered=drawn.path if drawn else None, recovered_sha256=drawn.sha256 if drawn else "", **common_fields(session, wanted),
    )  # fmt: skip
    return run_pictures(parameters, doing("pictures", on_progress))


def common_fields(session: PruningSession, wanted: ReportMaterial) -> dict[str, Any]:
    """The parameters that all jobs on this checkpoint and data share."""
    checkpoint = session.analysis.checkpoint
    return {
        "checkpoint": checkpoint.path,
        "sha256": checkpoint.sha256,
        "data": str(wanted.data),
        "images": wanted.validation_images,
        "imgsz": session.analysis.imgsz,
        "device": wanted.device,
        "classes": wanted.classes,
    }


def doing(what: str, on_progress: OnProgress) -> OnProgress:
    """Report progress as that of a part."""
    return lambda progress: on_progress(progress.model_copy(update={"doing": f"{what} {progress.doing}".rstrip()}))


def commands(facts: Facts, wanted: ReportMaterial) -> list[str]:
    """The commands that reproduce the pruned file, its proof, the metrics and this report."""
    model, plan = facts.model.path, str(wanted.plan)
    pruned = f"{Path(model).stem}-pruned.pt"
    shared = [*option("--imgsz", wanted.imgsz), *option("--classes", wanted.classes)]
    data = option("--data", wanted.data)
    lines: list[list[object]] = [
        ["prune", model, "--plan", plan, "-o", pruned, *shared],
        ["prove", model, pruned, *option("--classes", wanted.classes)],
        ["validate", model, "--plan", plan, *data, *option("--images", wanted.validation_images), *shared] if data else [],
        [
            "report",
            plan,
            *option("--model", wanted.model),
            *data,
            *counts(wanted),
            *option("--recovered", wanted.recovered),
            *(["--latency"] if wanted.latency else []),
            *(["--redact"] if wanted.redact else []),
            *shared,
            "-o",
            wanted.output,
        ],
    ]
    return [command_line(["tui-pruner", *line]) for line in lines if line]


def counts(wanted: ReportMaterial) -> list[str]:
    """The options that say how many images."""
    if wanted.data is None:
        return []
    return ["--images", str(wanted.pictures), *option("--validation-images", wanted.validation_images)]


def option(name: str, value: object) -> list[str]:
    """An option as typed; empty where it was not given."""
    return [] if value is None else [name, str(value)]


def run_report(parameters: ReportParameters, on_progress: OnProgress) -> ReportResult:
    """Run the job, on a plan with its channels.

    Raises:
        OutputError: the file cannot be written.
        DataError: the data cannot be used for this model.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        PlanError: the plan does not fit it.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.session import PruningSession

    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    session = PruningSession(analyse(opened(parameters), parameters.imgsz))
    session.load(parameters.plan)
    wanted = ReportMaterial(
        plan=Path(parameters.plan_file),
        output=Path(parameters.output),
        data=Path(parameters.data) if parameters.data else None,
        validation_images=parameters.images,
        pictures=parameters.pictures,
        imgsz=parameters.imgsz,
        device=parameters.device,
        classes=parameters.classes,
        model=parameters.checkpoint,
        stages=tuple(parameters.stages),
        redact=parameters.redact,
        recovered=Path(parameters.recovered) if parameters.recovered and parameters.data else None,
        pictured=parameters.pictured,
    )
    facts = make_report(session, wanted, on_progress)
    return ReportResult(
        output=str(wanted.output.resolve()), bytes=wanted.output.stat().st_size, proved=facts.proved, steps=len(facts.steps)
    )


def make_report(session: PruningSession, wanted: ReportMaterial, on_progress: OnProgress) -> Facts:
    """Prove every step, measure what was requested, and write the file; return its content, with the names that it has.

    Raises:
        RequestError: the recovered file is of another model or another cut.
    """
    from tui_pruner.core.pruning.proved_cut import check_recovered
    from tui_pruner.frameworks.ultralytics import open_model
    from tui_pruner.report.facts import facts_of
    from tui_pruner.report.sections import written_as

    recovered = open_model(str(wanted.recovered)) if wanted.recovered else None
    known = recovered is None or check_recovered(recovered, session.analysis, session.removal, str(wanted.plan))
    found = facts_of(session, str(wanted.plan), on_progress)
    found = found if known else found.model_copy(update={"notes": [*found.notes, NO_RECORD]})
    material = completed(found, session, wanted, recovered, on_progress)
    shown = neutral(material, wanted) if wanted.redact else material
    write_report(wanted.output, written_as(wanted.output.suffix, shown))
    return shown.facts


def neutral(material: Material, wanted: ReportMaterial) -> Material:
    """The material with neutral names, also in the commands."""
    from tui_pruner.report.privacy import NeutralNames, redacted

    facts = material.facts
    names = NeutralNames.of(facts.model.path, str(wanted.data) if wanted.data else None, str(wanted.plan), facts.model.names)
    model = names.file(facts.model.path)
    shown = dataclasses.replace(
        wanted,
        plan=Path(names.file(str(wanted.plan))),
        output=Path(f"report{wanted.output.suffix}"),
        data=Path(names.file(str(wanted.data))) if wanted.data else None,
        model=model if wanted.model else None,
        recovered=Path("recovered.pt") if wanted.recovered else None,
    )
    named = facts.model_copy(update={"model": facts.model.model_copy(update={"path": model})})
    return redacted(material, names, commands(named, shown))
