"""`plan` on data: one target or a whole front, by measured damage, with the competing plans, and the front as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.cli.commands.plan import bounds
from tui_pruner.cli.job_runs import run_job
from tui_pruner.cli.output import Output, change, progress_of, say
from tui_pruner.domain.errors import OutputError, RequestError
from tui_pruner.domain.results import main_metric
from tui_pruner.engine.search_messages import PlanningParameters, PlanningResult, PlanPoint

if TYPE_CHECKING:
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.search.planner import Planner


WIDTH, HEIGHT, MARGIN = 640, 400, 56


def picture(found: PlanningResult) -> str:
    """A self-contained SVG: a dot for each point with its target, the original at 100 %, axes with their values."""
    points = [(share_of(point), value_of(point), " ".join(point.targets)) for point in found.points if point.plan]
    original = main_metric(found.original or {})
    known = [(share, value, name) for share, value, name in points if value is not None]
    if original:
        known.append((1.0, original[1], "original"))
    top = max((value for _, value, _ in known), default=1.0) or 1.0
    low = min((share for share, _, _ in known), default=0.0)
    label = original[0] if original else "distance from the original's outputs"

    def x(share: float) -> float:
        return MARGIN + (share - low) / ((1.0 - low) or 1.0) * (WIDTH - 2 * MARGIN)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)

    known.sort()
    line = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value, _ in known)
    dots = "".join(
        f'<circle cx="{x(share):.1f}" cy="{y(value):.1f}" r="4" fill="#2563eb"/>'
        f'<text x="{x(share):.1f}" y="{y(value) - 9:.1f}" text-anchor="middle">{escape(name)}: {value:.4g}</text>'
        for share, value, name in known
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<path d="M{MARGIN},{MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}" fill="none" stroke="#6b7280"/>'
        f'<polyline points="{line}" fill="none" stroke="#2563eb"/>{dots}'
        f'<text x="{MARGIN}" y="{HEIGHT - MARGIN + 18}">{100 * low:.0f} % left</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 18}" text-anchor="end">100 %</text>'
        f'<text x="{MARGIN}" y="{MARGIN - 20}">{escape(label)}</text></svg>\n'
    )


def share_of(point: PlanPoint) -> float:
    """The remaining share by the measure of the point's last target."""
    return point.shares[point.targets[-1].partition("=")[0]]


def value_of(point: PlanPoint) -> float | None:
    """The metric of the refitted model, or else its distance from the original's outputs."""
    found = main_metric(point.measured or {})
    if found:
        return found[1]
    return point.rivals[0].distance if point.rivals else None


IMAGES = 64


@dataclass(frozen=True)
class MeasuredPlan:
    """The options of the command line."""

    model: str
    targets: list[str]
    front: str | None
    output: Path | None
    plan: Path | None
    criterion: str
    round_to: int
    floor: float
    protect: list[str]
    fast: bool
    force: bool
    data: Path
    images: int | None
    imgsz: int | None
    device: str
    classes: int | None
    keep_classes: str | None = None

    @property
    def points(self) -> list[list[str]]:
        """The targets of each plan."""
        return [[*self.targets, target] for target in targets_of_front(self.front)] if self.front else [self.targets]


def targets_of_front(text: str) -> list[str]:
    """ "flops=90%,70%" as ["flops=90%", "flops=70%"]; a measure may be repeated.

    Raises:
        RequestError: no measure or no amount.
    """
    measure, equals, amounts = text.partition("=")
    found = [amount.strip().removeprefix(f"{measure}=") for amount in amounts.split(",") if amount.strip()]
    if not equals or not found:
        raise RequestError(f"cannot read the front {text!r}: write what is to be left, such as flops=90%,70%,50%")
    return [f"{measure.strip()}={amount}" for amount in found]


def plan_on_data(results: Output, asked: MeasuredPlan) -> int:
    """Plan, show the rivals, and write the requested files; status 1 where no target can be met."""
    from tui_pruner.cli.job_runs import CalibrationData
    from tui_pruner.cli.session import open_session, remark
    from tui_pruner.core.search.ladders import Rules
    from tui_pruner.core.search.planner import Planner
    from tui_pruner.core.search.targets import parse_target

    for targets in asked.points:
        for target in targets:
            parse_target(target)
    check_outputs(asked.points, bool(asked.front), asked.output, asked.force)
    data = CalibrationData(asked.data, IMAGES, asked.device)
    session = open_session(asked.model, asked.imgsz, asked.classes, asked.plan, (), data, keep_classes=asked.keep_classes)
    planner = Planner(session.analysis, session.removal, Rules(asked.floor, asked.round_to, tuple(asked.protect)))
    remark(session)
    found = PlanningResult.model_validate(run_job("plan", parameters_of(asked, session), progress_of("plan"), ends_early=False))
    for note in found.notes:
        say(note)
    document = {"range": bounds(planner.range), "images": found.images, "held_out": found.held_out, "seconds": found.seconds}
    files = written_front(asked, found) if asked.front else [save(asked, found.points[0])]
    return show_plans(results, found, files, document, planner, bool(asked.front), str(asked.output) if asked.output else None)


def show_plans(
    results: Output, found: PlanningResult, files: Sequence[str | None], document: dict[str, Any], planner: Planner, front: bool,
    output: str | None,
) -> int:  # fmt: skip
    """Show a plan with its rivals, or a whole front; status 1 where no target can be met. `files`: each plan's, where it was written."""
    rows = [point_document(point, found.original, file) for point, file in zip(found.points, files, strict=True)]
    if front:
        results.document({**document, "front": rows, "output": output})
        show_front(results, found)
        return 0 if any(point.plan for point in found.points) else 1
    (point,), original, reach = found.points, planner.original, planner.range
    done = {"plan": point.plan, "output": files[0], "satisfied": point.plan is not None, "latency": None, "criteria": None}
    results.document({**document, **rows[0], **done})
    if point.plan is None:
        say(f"tui-pruner: {point.stopped}")
        return 1
    for measure, share in point.shares.items():
        reachable = f"; reachable: {reach.text(measure)}" if measure in reach.least else ", timed"
        results.line(f"{measure:<6} {100 * share:.2f} % left{reachable}")
    results.line(f"parameters {change(original.parameters, point.parameters)}")
    results.line(f"FLOPs      {change(original.flops, point.flops)}")
    show_rivals(results, point)
    results.table(["cut", ""], [[layer, amount] for layer, amount in point.amounts.items()])
    if files[0]:
        results.line(f"saved {files[0]}")
    return 0


def check_outputs(points: Sequence[Sequence[str]], front: bool, output: Path | None, force: bool) -> None:
    """Refuse paths that cannot be written to, before anything heavy starts.

    Raises:
        OutputError: why.
    """
    from tui_pruner.storage.atomic import check_place

    if front and output is None:
        raise OutputError("a front is several plans: give a folder with -o FOLDER")
    if output is None:
        return
    if not front:
        check_place(output, f"the plan {output}", "plan.yaml", force)
        return
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, and a front is written to a folder: choose another name")
    taken = [name for name in (*map(file_of, points), "front.json") if (output / name).exists()]
    if taken and not force:
        raise OutputError(f"{output / taken[0]} exists already: choose another folder or give --force")


def parameters_of(asked: MeasuredPlan, session: PruningSession) -> PlanningParameters:
    """The job's parameters."""
    from tui_pruner.storage.yaml import everywhere

    checkpoint = session.analysis.checkpoint
    return PlanningParameters(
        checkpoint=checkpoint.path,
        sha256=checkpoint.sha256,
        data=everywhere(asked.data),
        images=asked.images or IMAGES,
        imgsz=session.analysis.imgsz,
        device=asked.device,
        classes=asked.classes,
        plan=session.plan.plain() if session.steps else None,
        points=asked.points,
        criterion=asked.criterion,
        round_to=asked.round_to,
        floor=asked.floor,
        protect=asked.protect,
        fast=asked.fast,
        scanned=asked.images or IMAGES,
        validated=None if asked.front else 0,
    )


def file_of(targets: Sequence[str]) -> str:
    """A point's file: flops-70.yaml."""
    from tui_pruner.jobs.plan import name_of

    return f"{name_of(targets)}.yaml"


def written_front(asked: MeasuredPlan, found: PlanningResult) -> list[str | None]:
    """Write the plans, the table as JSON and the picture; return each plan's file."""
    from tui_pruner.core.pruning.plan import parse_plan, save_plan
    from tui_pruner.storage.atomic import replace_file

    assert asked.output is not None
    asked.output.mkdir(parents=True, exist_ok=True)
    files: list[str | None] = []
    for point in found.points:
        file = asked.output / file_of(point.targets)
        if point.plan is not None:
            save_plan(file, parse_plan(point.plan), asked.model, typed=True)
        files.append(str(file) if point.plan is not None else None)
    rows = [point_document(point, found.original, file) for point, file in zip(found.points, files, strict=True)]
    replace_file(asked.output / "front.json", json.dumps({"original": found.original, "front": rows}, indent=1).encode())
    replace_file(asked.output / "front.svg", picture(found).encode())
    return files


def point_document(point: PlanPoint, original: dict[str, float] | None, file: str | None) -> dict[str, Any]:
    """A point for scripts: `expected` is the distance from the original's outputs, `measured` the refitted model's metrics."""
    best = point.rivals[0] if point.rivals else None
    return {
        "target": " ".join(point.targets),
        "reached": point.shares,
        "parameters": point.parameters,
        "flops": point.flops,
        "bytes": point.bytes,
        "chosen": point.chosen,
        "rivals": [rival.model_dump() for rival in point.rivals],
        "expected": best.distance if best else None,
        "measured": point.measured,
        "original": original,
        "plan": file,
        "stopped": point.stopped,
    }


def save(asked: MeasuredPlan, point: PlanPoint) -> str | None:
    """Write the plan, if there is one and a file was requested."""
    from tui_pruner.core.pruning.plan import parse_plan, save_plan

    if point.plan is None or asked.output is None:
        return None
    save_plan(asked.output, parse_plan(point.plan), asked.model, typed=True)
    return str(asked.output)


def show_rivals(results: Output, point: PlanPoint) -> None:
    """Show the competing plans, closest to the original first."""
    rows = [
        [rival.name, f"{rival.distance_cut:.4f}", f"{rival.distance:.4f}", "taken" if rival.name == point.chosen else ""]
        for rival in point.rivals
    ]
    if rows:
        results.table(["plan", "distance as cut", "refitted", ""], rows, right=["distance as cut", "refitted"])


def show_front(results: Output, found: PlanningResult) -> None:
    """One line a point."""
    name = (main_metric(found.original or {}) or ("metric", 0.0))[0]
    rows = []
    for point in found.points:
        value = main_metric(point.measured or {})
        share = ", ".join(f"{100 * point.shares[target.partition('=')[0]]:.1f} %" for target in point.targets if point.shares)
        distance = f"{point.rivals[0].distance:.4f}" if point.rivals else ""
        rows.append([" ".join(point.targets), share, point.chosen or point.stopped, distance, f"{value[1]:.4f}" if value else ""])
    columns = ["target", "left", "plan", "distance", name]
    results.table(columns, rows, right=["left", "distance", name])
    before = main_metric(found.original or {})
    if before:
        results.line(f"the original: {before[0]} {before[1]:.4f}; the plans' metrics are those of their refitted models")
