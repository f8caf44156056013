"""What is measured for a report: accuracy and latency before and after, recovered models, sensitivity, and pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.job_messages import (
    PicturedFile,
    PictureParameters,
    PictureResult,
    StageFigures,
    ValidationParameters,
    ValidationResult,
)
from tui_pruner.engine.search_messages import BenchParameters, BenchResult, ModelToTime, ScanParameters
from tui_pruner.jobs.data.pictures import run_pictures
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import run_validation
from tui_pruner.storage.model_file import ModuleNames

if TYPE_CHECKING:
    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.pruning.preview import Size
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.report.facts import Metrics, SensitivityFacts

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
    module: ModuleNames | None = None

    @property
    def measured_by(self) -> str:
        """The data, or the user's function for a module; empty where the model is not measured."""
        return self.module.evaluate if self.module else str(self.data or "")


def accuracy(session: PruningSession, wanted: ReportMaterial, on_progress: OnProgress) -> Metrics | None:
    """The quick validation without and with the plan; cached results are reused."""
    from tui_pruner.core.pruning.proved_cut import plan_of_classes
    from tui_pruner.report.facts import Metrics

    if not wanted.measured_by:
        return None

    whole = session.plan.plain()

    def validation(plan: dict[str, object] | None, of: str) -> ValidationResult:
        return measured(ValidationParameters(plan=plan, **common_fields(session, wanted)), doing(f"validate {of}", on_progress))

    start = "the module" if wanted.module else "the checkpoint"
    before, after = validation(plan_of_classes(whole), start), validation(whole, "the pruned model")
    steps: list[ValidationResult | None]
    if plan_of_classes(whole) is None:  # otherwise steps before the classes were cut were measured on other labels
        earlier = [session.plan.model_copy(update={"steps": session.plan.steps[:count]}) for count in range(1, len(session.steps))]
        steps = [*(validation(plan.plain(), f"step {count}") for count, plan in enumerate(earlier, start=1)), after]
    else:
        steps = [*[None] * (len(session.steps) - 1), after]
    return Metrics(data=wanted.measured_by, imgsz=session.analysis.imgsz, before=before, after=after, steps=steps)


def measured(parameters: ValidationParameters, on_progress: OnProgress) -> ValidationResult:
    """A validation: by Ultralytics, of a module by the user's function."""
    if parameters.module is None:
        return run_validation(parameters, on_progress)
    from tui_pruner.jobs.any_module import figures

    return figures.run_validation(parameters, on_progress)


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
    return stages_in(measured)


def of_folder(session: PruningSession, wanted: ReportMaterial, metrics: Metrics | None, on_progress: OnProgress) -> list[StageFigures]:
    """The original, the cut module and the folder that was recovered from it, measured alike; empty where there is none."""
    if wanted.recovered is None or metrics is None or wanted.module is None:
        return []
    from tui_pruner.frameworks.plain.module_file import about_of

    changed = {"checkpoint": str(wanted.recovered), "sha256": ""}
    found = measured(
        ValidationParameters(**{**common_fields(session, wanted), **changed}), doing("validate the recovered module", on_progress)
    )
    name = "fine-tuned" if about_of(wanted.recovered).get("refit") == "trained" else "refitted"
    whole, cut = session.arithmetic.whole.size, session.widths.size
    return stages_in([("original", whole, metrics.before), ("cut", cut, metrics.after), (name, cut, found)])


def stages_in(measured: Iterable[tuple[str, Size, ValidationResult]]) -> list[StageFigures]:
    """The figures of stages, from the name, the size and the validation of each."""
    return [
        StageFigures(name=name, metrics=of.metrics, flops=cost.flops, parameters=cost.parameters, interval=of.interval)
        for name, cost, of in measured
    ]


def demand_same_cut(session: PruningSession, folder: Path) -> None:
    """Refuse a folder with another module than the plan's.

    Raises:
        RequestError: it is of another cut.
        PlanError: it is of another module.
    """
    import numpy as np

    from tui_pruner.core.pruning.plan import read_plan
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.frameworks.plain.module_file import PLAN

    own = PruningSession(session.analysis)
    own.load(read_plan(folder / PLAN).plain())
    first, other = own.removal, session.removal
    same = first.places.keys() == other.places.keys() and all(np.array_equal(other.places[group], at) for group, at in first.places.items())
    if not same or first.dropped != other.dropped:
        raise RequestError(f"{folder} is not this plan's module: its own plan removes other channels")


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
    start = wanted.module.build if wanted.module else checkpoint
    timed = [ModelToTime(checkpoint=start, classes=wanted.classes, plan=plan) for plan in (None, session.plan.plain())]
    parameters = BenchParameters(models=timed, imgsz=session.analysis.imgsz, blocks=True, device=wanted.device, module=wanted.module)
    if wanted.module:
        from tui_pruner.jobs.any_module import figures

        return figures.run_bench(parameters, doing("latency", on_progress))
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
        "checkpoint": wanted.module.build if wanted.module else checkpoint.path,
        "sha256": checkpoint.sha256,
        "module": wanted.module,
        "data": str(wanted.data),
        "images": wanted.validation_images,
        "imgsz": session.analysis.imgsz,
        "device": wanted.device,
        "classes": wanted.classes,
    }


def doing(what: str, on_progress: OnProgress) -> OnProgress:
    """Report progress as that of a part."""
    return lambda progress: on_progress(progress.model_copy(update={"doing": f"{what} {progress.doing}".rstrip()}))
