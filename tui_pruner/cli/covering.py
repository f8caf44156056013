"""`coverage`: what the program can promise for an architecture, group by group."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.options import Classes, ImageSize, Json
from tui_pruner.cli.output import Output, reserved_stdout

if TYPE_CHECKING:
    from tui_pruner.core.analysis import Analysis

Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Checkpoints, or names of Ultralytics yamls.")]


Plans = Annotated[int, typer.Option("--plans", min=0, help="How many random plans that cut all groups at once are proved as well.")]


def coverage(models: Models, imgsz: ImageSize = None, classes: Classes = None, plans: Plans = 3, as_json: Json = False) -> int:
    """Cut every group of each model alone by a quarter, then all at once at random, and prove each cut; status 1 where one fails."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.world import open_session

        reports = []
        for model in models:
            reports.append(covered(model, open_session(model, imgsz, classes).analysis, plans))
            show(output, reports[-1])
        output.document({"models": reports})
        return 1 if any(report["failed"] or not all(plan["equal"] for plan in report["plans"]) for report in reports) else 0


def show(output: Output, report: dict[str, Any]) -> None:
    """The outcome of one model for people."""
    output.line(
        f"{report['model']}  {report['groups']} groups: {report['equal']} equal, {report['approximate']} approximate, "
        f"{report['failed']} failed, {sum(report['locked'].values())} locked; traced in {report['trace_seconds'] * 1000:.0f} ms"
    )
    for reason, number in report["locked"].items():
        output.line(f"    {number} locked: {reason}")
    for operation, number in report["unknown_operations"].items():
        output.line(f"    no rule for {operation} ({number} times)")
    for failure in report["failures"]:
        output.line(f"    FAILED {failure['layer']}: {failure['detail']}")
    for plan in report["plans"]:
        verdict = "proved" if plan["equal"] else "FAILED"
        output.line(f"    plan {plan['seed']}, {plan['cut']} groups at once: {verdict}, {plan['detail']}")


def covered(model: str, analysis: Analysis, plans: int = 3) -> dict[str, Any]:
    """The outcome of every group of one model, and of random plans that cut all of them."""
    from tui_pruner.core.coverage import Coverage, undisturbed

    coverage = Coverage(analysis)
    with undisturbed():
        trials, all_at_once = list(coverage.trials()), list(coverage.plans(plans))
    outcomes = Counter(trial.outcome for trial in trials)
    failures = [{"layer": trial.group.producers[0].axis.module, "detail": trial.detail} for trial in trials if trial.outcome == "failed"]
    return {
        "model": model,
        "groups": len(trials),
        **{outcome: outcomes[outcome] for outcome in ("equal", "approximate", "failed")},
        "locked": dict(Counter(trial.detail for trial in trials if trial.outcome == "locked")),
        "failures": failures,
        "plans": [
            {
                "seed": plan.seed,
                "cut": plan.cut,
                "whole": plan.whole,
                "equal": plan.outcome in ("equal", "approximate"),
                "detail": plan.detail,
            }
            for plan in all_at_once
        ],
        "unknown_operations": dict(analysis.coupling.unknown_operations),
        "trace_seconds": analysis.coupling.seconds,
    }
