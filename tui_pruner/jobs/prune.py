"""Pruning as a job: a checkpoint cut by a settled plan, proved against the masked twin, and written."""

from __future__ import annotations

import dataclasses

from tui_pruner.engine.compress_messages import PruneParameters, PruneResult
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.protocol import Check
from tui_pruner.jobs.stock import OnProgress
from tui_pruner.jobs.validate import opened


def run_pruning(parameters: PruneParameters, on_progress: OnProgress) -> PruneResult:
    """The whole job.

    Raises:
        CheckpointError: the checkpoint cannot be used, or is no longer the one that the job was made for.
        PlanError: the plan is for another checkpoint, or impossible on it.
        ProofError: a step is not proved; nothing is written.
        OutputError: the file cannot be written.
        VerificationError: the file failed its checks.
    """
    from tui_pruner.core.analysis import analyse
    from tui_pruner.core.checkpoint import check_output
    from tui_pruner.core.cut_prove_write import cut_prove_write
    from tui_pruner.core.removal import NOTHING
    from tui_pruner.core.session import Session

    def say(doing: str) -> None:
        on_progress(JobProgress(done=0, total=0, doing=doing))

    check_output(parameters.output, parameters.checkpoint, parameters.force)
    say("reading the checkpoint")
    session = Session(analyse(opened(parameters), parameters.imgsz))
    session.load(parameters.plan)
    say("cutting and proving")
    made = cut_prove_write(session, parameters.output, force=parameters.force, on_progress=say)
    return PruneResult(
        output=made.file.output,
        sha256=made.file.sha256,
        bytes=made.file.bytes,
        checks=[Check(name=check.name, ok=check.ok, detail=check.detail) for check in made.file.checks],
        own_names=list(made.file.own_names),
        proof=made.proof.plain(),
        before=dataclasses.asdict(session.arithmetic.widths(NOTHING).size),
        after=dataclasses.asdict(session.widths.size),
    )
