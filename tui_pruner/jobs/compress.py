"""Compression, from the checkpoint to the export in one job: every stage is a job of its own, recorded in a journal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tui_pruner.domain.errors import DataError, JobError
from tui_pruner.domain.formatting import plural, score
from tui_pruner.domain.results import main_metric, nothing_to_lose, short_metric
from tui_pruner.engine.client import Job, smaller_batch, with_half_the_batch
from tui_pruner.engine.job_messages import (
    ExportParameters,
    ExportResult,
    JobParameters,
    JobProgress,
    PicturedFile,
    ReportParameters,
    ReportResult,
    StageFigures,
    ValidationParameters,
    ValidationResult,
)
from tui_pruner.engine.messages import Message
from tui_pruner.engine.recovery_messages import (
    CompressParameters,
    CompressResult,
    CompressStage,
    FinetuneParameters,
    FinetuneResult,
    PruneParameters,
    PruneResult,
    ReconstructionParameters,
    ReconstructionResult,
)
from tui_pruner.engine.search_messages import (
    BenchParameters,
    BenchResult,
    ModelToTime,
    PlanningParameters,
    PlanningResult,
    PlanPoint,
    ScanDrops,
    ScanParameters,
    ScanResult,
    TrialDrop,
)
from tui_pruner.jobs.cache import CompressionJournal, LiveRecipe
from tui_pruner.jobs.compressible import Compressible, compressible
from tui_pruner.jobs.plan import milestones, name_of
from tui_pruner.jobs.tools import OnProgress

Result = TypeVar("Result", bound=Message)
COMPRESSED = "compressed"
STAGE_OF = {"original": "validate", "plan": "target", "cut": "target"}
"""The recipe's stage of each part with another name."""


def run_compression(parameters: CompressParameters, on_progress: OnProgress) -> CompressResult:
    """Run the job.

    Raises:
        DataError: the data cannot be used, or has no labels while a limit on the drop needs them.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        RequestError: a target that cannot be read, no such criterion, device or format.
        OutputError: the folder cannot be used, or has another compression.
        JobError: a stage ended without a result.
    """
    return Compression(parameters, on_progress).run()


@dataclass
class Reached:
    """A finished point: its plan, its last file, and that file's metrics and size."""

    point: PlanPoint
    file: str
    sha256: str
    metrics: dict[str, float]
    size: dict[str, int]


@dataclass
class Compression:
    """One run through all stages; stages in the journal are not repeated."""

    parameters: CompressParameters
    on_progress: OnProgress
    stages: list[CompressStage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    worked: bool = field(default=False, init=False)
    """Whether anything was computed since the last stage was reported, instead of read from the journal."""
    since: float = field(default_factory=time.perf_counter, init=False)
    interval: tuple[float, float] | None = field(default=None, init=False)
    """The interval of the metric that was measured last."""
    validated_images: int = field(default=0, init=False)
    """How many images the last validation had."""

    def run(self) -> CompressResult:
        """Run all stages."""
        from tui_pruner.core.pruning.proved_cut import plan_of_classes

        started = time.perf_counter()
        asked = self.parameters
        self.folder = Path(asked.folder).expanduser().resolve()
        self._points()
        self.source.demand_possible(asked)
        self.labels = asked.measured and self.source.can_measure
        if asked.max_drop is not None and not self.labels:
            raise DataError(self.source.unmeasured("--max-drop"))
        if asked.scanned and not self.source.can_measure:
            raise DataError(self.source.unmeasured("a scan"))
        self.journal = CompressionJournal(self.folder, asked, self.source.content)
        self.recipe = LiveRecipe(self.folder, asked, self.journal.resumed)
        asked = self._starting("validate")
        original = self._validated("original", asked.checkpoint, asked.sha256, plan_of_classes(asked.plan))
        counted = [plural(self.validated_images, self.source.sample)] if self.validated_images else []
        self._tell("original", metrics=original, details=counted)
        self.notes += nothing_to_lose(original, asked.module is not None) if self.labels else []
        reached, stopped = self._walk(original)
        result = CompressResult(
            stages=self.stages, output=None, original=original, metrics={}, stopped=stopped, seconds=0.0, notes=self.notes
        )
        if reached is not None:
            result = self._concluded(result, reached)
        return result.model_copy(update={"stages": self.stages, "notes": self.notes, "seconds": time.perf_counter() - started})

    def _walk(self, original: dict[str, float]) -> tuple[Reached | None, str]:
        """Return the last point within the limit, and why it is not the last of all."""
        points = self._planned()
        good: Reached | None = None
        for number, point in enumerate(points):
            name = name_of(point.targets)
            if point.plan is None:
                return good, f"{' '.join(point.targets)}: {point.stopped}"
            plan = self.folder / f"{name}.yaml"
            self._save_plan(plan, point)
            self._tell(f"plan {name}", str(plan), size=sizes(point), details=[f"taken: {point.chosen}"])
            found = self._worked_out(name, point, original, last=number == len(points) - 1)
            lost = drop(original, found.metrics)
            if self.parameters.max_drop is not None and (lost is None or lost > self.parameters.max_drop):
                return good, f"{' '.join(point.targets)} loses {lost or 0:.4f}, more than the {self.parameters.max_drop:g} that may be lost"
            good = found
        return good, ""

    def _worked_out(self, name: str, point: PlanPoint, original: dict[str, float], last: bool) -> Reached:
        """Cut, refit, and fine-tune where it is the last point, or where the refit alone loses too much."""
        size, fields = sizes(point), self._fields()
        cut_file = self._file(f"{name}-cut{self.source.suffix}")
        assert point.plan is not None
        made = self._job(
            f"cut {name}", "prune", PruneParameters(**{**fields, "data": ""}, plan=point.plan, output=cut_file, force=True), PruneResult
        )
        metrics = self._validated(f"cut {name}", cut_file, made.sha256)
        proof = f"proved: relative difference {made.proof['relative_difference']:.1e}"
        self._tell(f"cut {name}", cut_file, metrics, made.after, [proof])
        reached = Reached(point, cut_file, made.sha256, metrics, size)
        asked = self._starting("refit")
        if asked.refit and self.source.can_refit:
            reached = self._refitted(name, reached)
        lost = drop(original, reached.metrics)
        too_much = asked.max_drop is not None and (lost is None or lost > asked.max_drop)
        if not (last or too_much):
            return reached
        return self._finetuned(name, reached) if self._starting("fine-tune").epochs else reached

    def _refitted(self, name: str, cut: Reached) -> Reached:
        asked, file = self.parameters, self._file(f"{name}-refitted{self.source.suffix}")
        fields = {**self._fields(), "checkpoint": cut.file, "sha256": cut.sha256, "images": asked.refit_images or asked.images}
        refit = self._job(
            f"refit {name}",
            "reconstruct",
            ReconstructionParameters(**fields, original=asked.checkpoint, batch=asked.batch, output=file, force=True),
            ReconstructionResult,
        )
        metrics = self._validated(f"refit {name}", file, refit.sha256)
        self._tell(f"refit {name}", file, metrics, cut.size, [f"kept: {refit.kept}, distance {refit.distance[refit.kept]:.4f}"])
        return Reached(cut.point, file, refit.sha256, metrics, cut.size)

    def _finetuned(self, name: str, reached: Reached) -> Reached:
        asked = self.parameters
        file = self._file(f"{name}-finetuned{self.source.suffix}")
        parameters = FinetuneParameters(
            **{**self._fields(), "checkpoint": reached.file, "sha256": reached.sha256, "images": None},
            epochs=asked.epochs, lr0=asked.lr0, batch=asked.batch, patience=asked.patience,
            teacher=asked.checkpoint if asked.taught else None, project=str(self.folder / "training"), resume=True, output=file, force=True,
        )  # fmt: skip
        trained = self._job(f"fine-tune {name}", "finetune", parameters, FinetuneResult)
        metrics = self._validated(f"fine-tune {name}", file, trained.sha256)
        kept = f"epoch {trained.best_epoch} of {trained.epochs} was best" if trained.best_epoch else "no epoch was better than the refit"
        details = [kept] if trained.epochs else trained.notes or ["trained by the module's own function"]
        self._tell(f"fine-tune {name}", file, metrics, reached.size, details, trained.curve)
        return Reached(reached.point, file, trained.sha256, metrics, reached.size)

    def _concluded(self, result: CompressResult, reached: Reached) -> CompressResult:
        """Time, export and report the result, and rename it."""
        asked = self._starting("bench")
        output = self.folder / f"{COMPRESSED}{self.source.suffix}"
        self.source.copy(Path(reached.file), output)
        update: dict[str, Any] = {
            "output": str(output),
            "metrics": reached.metrics,
            **{of: {"before": self.whole[of], "after": reached.size[of]} for of in ("flops", "parameters")},
        }
        if asked.bench:
            entries = [ModelToTime(checkpoint=asked.checkpoint, classes=asked.classes), ModelToTime(checkpoint=str(output))]
            timing = BenchParameters(models=entries, imgsz=asked.imgsz, runs=asked.bench, device=asked.device, module=asked.module)
            timed = self._job("bench", "bench", timing, BenchResult).models[1]
            update["latency"] = timed.ratio
            span = f"{timed.ratio_low:.3f} to {timed.ratio_high:.3f} of the original's, 95 % sure"
            self._tell("bench", None, size=reached.size, details=[f"{timed.median_ms:.2f} ms, {span}"], latency=timed.ratio)
        asked = self._starting("export")
        if asked.format:
            exporting = ExportParameters(
                **{**self._fields(), "checkpoint": str(output), "sha256": reached.sha256, "images": 8},
                format=asked.format,
                output=self.source.export_to(output, asked.format),
                force=True,
            )
            exported = self._job("export", "export", exporting, ExportResult)
            self.notes += exported.notes
            update["exported"] = exported.output
            compared = "not compared" if exported.relative_difference is None else f"difference {exported.relative_difference:.1e}"
            details = [compared, *([] if exported.output else ["not written"])]
            self._tell("export", exported.output, size=reached.size, details=details)
        if self._starting("report").report:
            update["report"] = self._reported(reached)
        return result.model_copy(update=update)

    def _reported(self, reached: Reached) -> str:
        asked = self.parameters
        assert reached.point.plan is not None
        made_by = next(stage.name for stage in self.stages if stage.output == reached.file)
        pictured = PicturedFile(path=reached.file, sha256=reached.sha256, stage=made_by)
        figures = [StageFigures(**stage.model_dump(include=set(StageFigures.model_fields))) for stage in self.stages]
        parameters = ReportParameters(
            **{**self._fields(), "data": asked.data if self.labels else "", "images": asked.validated},
            plan=reached.point.plan, plan_file=str(self.folder / f"{name_of(reached.point.targets)}.yaml"),
            output=self._file(asked.report), stages=figures, redact=asked.redact, pictured=pictured,
        )  # fmt: skip
        Path(parameters.output).unlink(missing_ok=True)
        made = self._job("report", "report", parameters, ReportResult, kept=False)
        self._tell("report", made.output, size=reached.size)
        return made.output

    def _points(self) -> list[list[str]]:
        """Return the targets of each point; without a target the plan so far is the only point."""
        asked = self.parameters
        if not asked.targets and asked.plan:
            return []
        return milestones(asked.targets, asked.step if asked.max_drop is not None else None)

    def _planned(self) -> list[PlanPoint]:
        """Return the plan of each point, by a scan if requested."""
        drops = self._scanned() if self._starting("scan").scanned else None
        asked = self._starting("target")
        points = self._points()
        if not points:
            return [self._plan_so_far()]
        parameters = PlanningParameters(
            **self._fields(), plan=asked.plan, points=points, criterion=self.source.criterion_for(asked), round_to=asked.round_to,
            floor=asked.floor, protect=asked.protect, fast=asked.fast, batch=asked.batch, validated=0, scan=drops,
        )  # fmt: skip
        planned = self._job("plan", "plan", parameters, PlanningResult)
        self.notes += planned.notes
        return planned.points

    def _scanned(self) -> ScanDrops:
        """Scan the original."""
        asked = self.parameters
        fields = {**self._fields(), "images": asked.scanned}
        parameters = ScanParameters(**fields, ratios=asked.ratios, criterion=asked.criterion, calibration_images=asked.images or 64)
        found = self._job("scan", "scan", parameters, ScanResult)
        worst = max(found.groups, key=lambda trial: trial.drop, default=None)
        details = [f"{plural(len(found.groups), 'trial')} on {plural(found.images, self.source.sample)}"]
        details += [f"most is lost by {worst.layer} at {worst.ratio:.0%}: {worst.drop:.4f}"] if worst else []
        self._tell("scan", details=details)
        self.notes += found.notes
        trials = [TrialDrop(group=trial.id, channels=trial.channels, drop=trial.drop) for trial in found.groups]
        return ScanDrops(baseline=found.baseline, trials=trials)

    def _plan_so_far(self) -> PlanPoint:
        """Return the given plan as the only point."""
        point = PlanPoint(targets=["plan"], plan=self.parameters.plan, chosen="the plan that was given")
        return point.model_copy(update=self.source.size(self.parameters.plan))

    def _starting(self, stage: str) -> CompressParameters:
        """Return the parameters with which a stage starts; until then it may be edited in the folder's recipe."""
        self.stage = stage
        self.parameters = self.recipe.starting(stage, self.parameters)
        self.source.demand_possible(self.parameters)
        return self.parameters

    def _validated(self, name: str, file: str, sha256: str, plan: dict[str, Any] | None = None) -> dict[str, float]:
        """Return a file's metrics on the validation split, under a plan; empty where that has no labels."""
        if not self.labels:
            return {}
        changed = {"checkpoint": file, "sha256": sha256, "images": self.parameters.validated, "plan": plan}
        found = self._job(f"validate {name}", "validate", ValidationParameters(**{**self._fields(), **changed}), ValidationResult)
        self.interval, self.validated_images = found.interval, found.images
        return found.metrics

    def _job(self, name: str, kind: str, parameters: Message, result: type[Result], kept: bool = True) -> Result:
        """Return a stage's result: from the journal, or from a job."""
        found = self.journal.find(kind, parameters) if kept else None
        if found is None:
            found = self._run(name, kind, parameters)
            self.journal.keep(kind, parameters, found)
            self.worked = True
        return result.model_validate(found)

    def _run(self, name: str, kind: str, parameters: Message) -> dict[str, Any]:
        def tell(progress: JobProgress) -> None:
            doing = f"{name}: {progress.doing}" if progress.doing else name
            self.on_progress(progress.model_copy(update={"doing": doing, "stage": self.stage}))

        tell(JobProgress(done=0, total=0))
        while True:
            try:
                return asyncio.run(Job(kind, parameters, tell).run())
            except JobError as error:
                smaller = with_half_the_batch(parameters, error)
                if smaller is None:
                    raise
                self.notes.append(smaller_batch(parameters, smaller))
                parameters = smaller

    def _tell(
        self, name: str, output: str | None = None, metrics: dict[str, float] | None = None, size: dict[str, int] | None = None,
        details: list[str] | None = None, curve: list[dict[str, float]] | None = None, latency: float | None = None,
    ) -> None:  # fmt: skip
        size = size or (self.whole if name == "original" else {})
        now = time.perf_counter()
        self.stages.append(
            CompressStage(
                name=name, output=output, metrics=metrics or {}, flops=size.get("flops", 0), parameters=size.get("parameters", 0),
                seconds=now - self.since, kept=not self.worked, details=details or [],
                curve=curve or [], interval=self.interval if metrics else None, latency=latency,
            )
        )  # fmt: skip
        self.worked, self.since = False, now
        stage = name.split()[0]
        came_to = "; ".join(filter(None, (measured_words(metrics or {}), *(details or [])))) or "done"
        self.on_progress(
            JobProgress(
                done=0, total=0, doing=f"{name}: done", metrics=metrics or {}, stage=STAGE_OF.get(stage, stage), figure=came_to
            )
        )  # fmt: skip

    @cached_property
    def whole(self) -> dict[str, int]:
        """The size of what is compressed."""
        return self.source.size(None)

    @cached_property
    def source(self) -> Compressible:
        """What is compressed."""
        return compressible(self.parameters)

    def _fields(self) -> dict[str, Any]:
        """Return the parameters that all jobs on the checkpoint and the data share."""
        return self.parameters.model_dump(include=set(JobParameters.model_fields))

    def _file(self, name: str) -> str:
        return str(self.folder / name)

    def _save_plan(self, file: Path, point: PlanPoint) -> None:
        from tui_pruner.core.pruning.plan import parse_plan, save_plan

        save_plan(file, parse_plan(point.plan), self.parameters.checkpoint)


def measured_words(metrics: dict[str, float]) -> str:
    """Return the main metric in words; empty where none was measured."""
    found = short_metric(metrics)
    return f"{found[0]} {score(found[1])}" if found else ""


def sizes(point: PlanPoint) -> dict[str, int]:
    """Return the size of a point's model in words."""
    return {"parameters": point.parameters, "flops": point.flops, "bytes": point.bytes}


def drop(original: dict[str, float], metrics: dict[str, float]) -> float | None:
    """Return the largest drop of the main metric and the other mAPs of the task; None where nothing was measured."""
    main = main_metric(original)
    if main is None or not metrics:
        return None
    compared = [name for name in original if name.startswith("metrics/mAP50-95") and name in metrics] or [main[0]]
    return max(original[name] - metrics[name] for name in compared)
