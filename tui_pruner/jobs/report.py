"""A report: everything about a plan in one file, proved and measured now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner.engine.job_messages import JobProgress, ReportParameters, ReportResult
from tui_pruner.jobs.evidence import Evidence, completed
from tui_pruner.jobs.stock import OnProgress
from tui_pruner.jobs.validate import opened

if TYPE_CHECKING:
    from tui_pruner.core.reporting.facts import Facts
    from tui_pruner.core.session import Session


def run_report(parameters: ReportParameters, on_progress: OnProgress) -> ReportResult:
    """The whole job, on a plan that says which channels it removes.

    Raises:
        OutputError: the file cannot be written.
        DataError: the data cannot be used for this model.
        CheckpointError: the checkpoint cannot be used, or is no longer the one that the job was made for.
        PlanError: the plan does not fit it.
    """
    from tui_pruner.core.analysis import analyse
    from tui_pruner.core.session import Session

    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint"))
    session = Session(analyse(opened(parameters), parameters.imgsz))
    session.load(parameters.plan)
    evidence = Evidence(
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
    )
    facts = make_report(session, evidence, on_progress)
    return ReportResult(
        output=str(evidence.output.resolve()), bytes=evidence.output.stat().st_size, proved=facts.proved, steps=len(facts.steps)
    )


def make_report(session: Session, evidence: Evidence, on_progress: OnProgress) -> Facts:
    """Prove every step, measure what the evidence asks for, and write the file; gives what is in it."""
    from tui_pruner.core.reporting.collecting import facts_of
    from tui_pruner.core.reporting.output import write_report
    from tui_pruner.core.reporting.writing import written_as

    found = facts_of(session, str(evidence.plan), on_progress)
    material = completed(found, session, evidence, on_progress)
    write_report(evidence.output, written_as(evidence.output.suffix, material))
    return material.facts
