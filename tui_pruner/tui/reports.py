"""A report as a job: one file about all steps, with the validation where the data is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.tui.figures import file_size, plural
from tui_pruner.tui.queued_job import Outcome, Wanted

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ReportParameters
    from tui_pruner.engine.protocol import SessionView
    from tui_pruner.tui.subject import Subject

KIND = "report"
SUFFIXES = (".html", ".md")


def report(subject: Subject, session: SessionView, plan_file: str, output: str) -> Wanted:
    """The job on the session's steps as they are now."""
    fields, plan = subject.fields, session.plan

    def parameters() -> ReportParameters:
        from tui_pruner.engine.job_messages import ReportParameters

        return ReportParameters(plan=plan, plan_file=plan_file, output=output, **fields)

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.job_messages import ReportResult

        result = ReportResult.model_validate(content)
        verdict = "all proved" if result.proved else "NOT all proved"
        figure = f"{plural(result.steps, 'step')} {verdict}, {file_size(result.bytes)}"
        return Outcome(figure, [("file", result.output)], result.notes)

    return Wanted(KIND, Path(output).name, output, parameters, take, fields["data"])
