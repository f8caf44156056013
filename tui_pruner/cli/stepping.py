"""`steps`: a plan's steps one by one, two of its states side by side, and names for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import Classes, Criterion, Cuts, Data, Device, ImageSize, Json, Model, PlanFile, RoundTo, Steps
from tui_pruner.cli.output import Output, change, count, reserved_stdout
from tui_pruner.errors import RequestError

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import Comparison

Ends = tuple[int, int]


def steps(
    model: Model,
    cut: Cuts = None,
    plan: PlanFile = None,
    steps: Steps = None,
    compare: Annotated[Ends | None, typer.Option("--compare", metavar="A B", help="Put the states after these steps side by side.")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", metavar="N=WORDS", help="Name a step; repeatable.")] = None,
    save_plan: Annotated[Path | None, typer.Option("--save-plan", metavar="FILE", help="Write the plan as YAML.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    data: Data = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """The steps of a plan with their sizes; --cut adds one, --compare looks at two, --save-plan keeps them. Nothing is proved."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.calibrating import CalibrationData
        from tui_pruner.cli.world import open_session, remark, requests_from
        from tui_pruner.core.plan import save_plan as write_plan
        from tui_pruner.core.step_views import comparison_view, session_view
        from tui_pruner.whole_file import check_place

        requests = requests_from(cut, criterion, round_to, plan is not None)
        if save_plan:
            check_place(save_plan, f"the plan {save_plan}", "plan.yaml", force)
        session = open_session(model, imgsz, classes, plan, requests, CalibrationData(data, device=device), steps)
        if requests:
            session.apply(requests)
        for text in name or ():
            session.rename(*parse_name(text))
        remark(session, *(note for applied in session.steps for note in applied.notes))
        view = session_view(session)
        found = comparison_view(session, *compare) if compare else None
        results.document(
            {
                "original": view.original.model_dump(),
                "steps": [step.model_dump(exclude={"proof"}) for step in view.steps],
                "comparison": found.model_dump() if found else None,
                "plan": str(save_plan) if save_plan else None,
            }
        )
        rows = [["", "checkpoint", count(view.original.parameters), count(view.original.flops)]]
        rows += [[str(step.number), step.title, count(step.totals.parameters), count(step.totals.flops)] for step in view.steps]
        results.table(["step", "what", "parameters", "FLOPs"], rows, right=["parameters", "FLOPs"])
        if found:
            show_comparison(results, found)
        if save_plan:
            write_plan(save_plan, session.plan)
            results.line(f"saved {save_plan}")
        return 0


def parse_name(text: str) -> tuple[int, str]:
    """The step and its name in N=WORDS.

    Raises:
        RequestError: it is not of that form.
    """
    number, equals, words = text.partition("=")
    if not equals or not number.strip().isdigit():
        raise RequestError(f"--name {text!r} is not N=WORDS, such as --name 2='second half'")
    return int(number), words


def show_comparison(results: Output, found: Comparison) -> None:
    """Two states for people."""
    results.line()
    results.line(f"step {found.first} > step {found.second}")
    results.line(f"parameters {change(found.before.parameters, found.after.parameters)}")
    results.line(f"FLOPs      {change(found.before.flops, found.after.flops)}")
    rows = [[name, f"{w.in_before} > {w.in_after}", f"{w.out_before} > {w.out_after}"] for name, w in found.layers.items()]
    results.table(["layer", "in", "out"], rows)
