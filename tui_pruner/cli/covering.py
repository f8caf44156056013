"""`coverage`: what the program can promise for an architecture, group by group."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.options import Classes, ImageSize, Json
from tui_pruner.cli.output import reserved_stdout

if TYPE_CHECKING:
    from tui_pruner.core.analysis import Analysis

Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Checkpoints, or names of Ultralytics yamls.")]


def coverage(models: Models, imgsz: ImageSize = None, classes: Classes = None, as_json: Json = False) -> int:
    """Cut every group of each model alone by a quarter, and prove each cut; status 1 where one fails."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.world import open_session

        reports = []
        for model in models:
            report = covered(model, open_session(model, imgsz, classes).analysis)
            reports.append(report)
            output.line(
                f"{model}  {report['groups']} groups: {report['equal']} equal, {report['approximate']} approximate, "
                f"{report['failed']} failed, {sum(report['locked'].values())} locked; traced in {report['trace_seconds'] * 1000:.0f} ms"
            )
            for reason, number in report["locked"].items():
                output.line(f"    {number} locked: {reason}")
            for failure in report["failures"]:
                output.line(f"    FAILED {failure['layer']}: {failure['detail']}")
        output.document({"models": reports})
        return 1 if any(report["failed"] for report in reports) else 0


def covered(model: str, analysis: Analysis) -> dict[str, Any]:
    """The outcome of every group of one model."""
    from tui_pruner.core.coverage import cover

    trials = list(cover(analysis))
    outcomes = Counter(trial.outcome for trial in trials)
    failures = [{"layer": trial.group.producers[0].axis.module, "detail": trial.detail} for trial in trials if trial.outcome == "failed"]
    return {
        "model": model,
        "groups": len(trials),
        **{outcome: outcomes[outcome] for outcome in ("equal", "approximate", "failed")},
        "locked": dict(Counter(trial.detail for trial in trials if trial.outcome == "locked")),
        "failures": failures,
        "unknown_operations": dict(analysis.coupling.unknown_operations),
        "trace_seconds": analysis.coupling.seconds,
    }
