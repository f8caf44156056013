"""Pruning as a job: a plan with its channels is cut, proved, written and checked."""

from __future__ import annotations

import dataclasses

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.messages import Check
from tui_pruner.engine.recovery_messages import PruneParameters, PruneResult
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import opened


def run_pruning(parameters: PruneParameters, on_progress: OnProgress) -> PruneResult:
    """Run the job.

    Raises:
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        PlanError: the plan is for another checkpoint, or impossible on it.
        ProofError: a step is not proved; nothing is written.
        OutputError: the file cannot be written.
        VerificationError: the file failed its checks.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.removal import NOTHING
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.frameworks.ultralytics import check_output
    from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

    def say(doing: str) -> None:
        on_progress(JobProgress(done=0, total=0, doing=doing))

    check_output(parameters.output, parameters.checkpoint, parameters.force)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    session = PruningSession(analyse(opened(parameters), parameters.imgsz))
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
