"""`plan`: which cuts reach a target, and a comparison of criteria at that target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.options import CalibrationImages, Classes, Data, Device, Images, ImageSize, Json, KeepClasses, Model, PlanFile, RoundTo
from tui_pruner.cli.output import Output, change, progress_of, reserved_stdout, say
from tui_pruner.domain.errors import RequestError

if TYPE_CHECKING:
    from tui_pruner.core.pruning.plan import Cut, Step
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.search.planner import Budget, LatencyFound, Planner, Range
    from tui_pruner.core.search.targets import Pricing, Target
    from tui_pruner.domain.cuts import Request

QUICK = 64
"""Images of the validations that compare criteria, without --images."""
LATENCY_RUNS = 50
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="MEASURE=LEFT", help="flops=70%, params=2.1M, bytes=0.5, latency=70% (measured); repeatable."),
]
Protected = Annotated[
    list[str] | None, typer.Option("--protect", metavar="LAYER", help="Leave this layer, block or glob alone; repeatable.")
]
Floor = Annotated[float, typer.Option("--floor", min=0.0, max=0.99, help="The share of its channels that every layer keeps.")]
Compare = Annotated[bool, typer.Option("--compare-criteria", help="Compare all criteria at the same target (needs --data).")]


Front = Annotated[
    str | None,
    typer.Option("--front", metavar="MEASURE=A,B,...", help="Several plans at once: flops=90%,70%,50% (needs --data and -o FOLDER)."),
]
Ranked = Annotated[
    str | None, typer.Option("--criterion", help="Which channels go first; by default obs where the plan is measured on --data, else l2.")
]
Fast = Annotated[bool, typer.Option("--fast", help="Take the plan by measured damage without trying whole plans.")]


def plan(
    model: Model,
    target: Targets = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the plan as YAML.")] = None,
    plan: PlanFile = None,
    keep_classes: KeepClasses = None,
    criterion: Ranked = None,
    front: Front = None,
    fast: Fast = False,
    round_to: RoundTo = 1,
    floor: Floor = 0.25,
    protect: Protected = None,
    compare_criteria: Compare = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    data: Data = None,
    images: Images = None,
    calibration_images: CalibrationImages = 64,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """The cuts that reach a target, as a plan; without a target the range that can be reached. Status 1 where it is out of reach.

    With --data the damage of every layer is measured on unlabelled training images, whole plans (a uniform cut among them) are refitted and
    compared with the original's outputs on images held out. The closest is taken, or one about as close with the best worst output.
    """
    with reserved_stdout(as_json) as results:
        measured_on_data = data is not None and bool(target or front) and not compare_criteria and "latency" not in "".join(target or ())
        if front and not measured_on_data:
            raise RequestError("--front measures plans: give --data DATA.yaml, and no latency")
        if measured_on_data:
            from tui_pruner.cli.commands.plan_front import MeasuredPlan, plan_on_data

            assert data is not None
            asked = MeasuredPlan(
                model, target or [], front, output, plan, criterion or "obs", round_to, floor, protect or [], fast, force, data,
                images, imgsz, device, classes, keep_classes,
            )  # fmt: skip
            return plan_on_data(results, asked)
        criterion = criterion or "l2"
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import open_session, remark
        from tui_pruner.core.pruning.plan import save_plan
        from tui_pruner.core.search.ladders import Rules
        from tui_pruner.core.search.planner import Planner
        from tui_pruner.core.search.targets import latency_apart, parse_target
        from tui_pruner.storage.atomic import check_place

        targets = [parse_target(text) for text in target or ()]
        rules = Rules(floor, round_to, tuple(protect or ()))
        if output:
            check_place(output, f"the plan {output}", "plan.yaml", force)
        if compare_criteria and (not targets or data is None):
            raise RequestError("--compare-criteria measures plans for one target: give --target flops=70% and --data DATA.yaml")
        if compare_criteria and latency_apart(targets)[1] is not None:
            raise RequestError("--compare-criteria measures plans of one size: give a target by flops, params or bytes")
        wanted = ranked_by(criterion, compare_criteria)
        session = open_session(
            model, imgsz, classes, plan, wanted, CalibrationData(data, calibration_images, device), keep_classes=keep_classes
        )
        planner = Planner(session.analysis, session.removal, rules)
        remark(session)
        if not targets:
            show_range(results, planner)
            return 0
        pricing = pricing_of(planner, criterion, data, images or QUICK, device, classes)
        found, latency = found_by(planner, targets, criterion, pricing, device)
        if found.step is None:
            results.document({**document(planner, found, latency), "plan": None, "output": None, "criteria": None})
            say(f"tui-pruner: {found.stopped}")
            return 1
        session.load(session.plan.model_copy(update={"steps": [*session.plan.steps, found.step]}).plain())
        if output:
            save_plan(output, session.plan, session.analysis.checkpoint.path, typed=True)
        compared = None
        if compare_criteria:
            assert data is not None
            measuring = Measuring(data, images or QUICK, device, classes)
            compared = [measured(name, planner, targets, session, measuring) for name in session.analysis.ranking.names]
        plain = session.plan.plain()
        whole = {**document(planner, found, latency), "plan": plain, "output": str(output) if output else None, "criteria": compared}
        results.document(whole)
        show(results, planner, found, latency)
        show_comparison(results, compared or [])
        if output:
            results.line(f"saved {output}")
        return 0


def found_by(
    planner: Planner, targets: list[Target], criterion: str, pricing: Pricing | None, device: str
) -> tuple[Budget, LatencyFound | None]:
    """The cuts that reach targets, by arithmetic; for a latency target by timing plans, with the measurements."""
    from tui_pruner.core.search.targets import latency_apart
    from tui_pruner.jobs.latency import clock_of, search_latency
    from tui_pruner.jobs.tools import choose_device

    if latency_apart(targets)[1] is None:
        return planner.plan(targets, criterion, pricing), None
    clock = clock_of(planner.analysis, choose_device(device), LATENCY_RUNS, progress_of("latency"))
    found = search_latency(planner, targets, criterion, pricing, clock)
    return found.budget, found


def pricing_of(planner: Planner, criterion: str, data: Path | None, images: int, device: str, classes: int | None) -> Pricing | None:
    """Prices by a stored scan of this checkpoint on this data, where it covers all that can be cut."""
    from tui_pruner.engine.search_messages import ScanParameters
    from tui_pruner.jobs.scan.executors import known_sensitivity

    if data is None:
        return None
    analysis = planner.analysis
    scanned = ScanParameters(
        checkpoint=analysis.checkpoint.path, sha256=analysis.checkpoint.sha256, data=str(data), images=images, imgsz=analysis.imgsz,
        device=device, classes=classes, criterion=criterion,
    )  # fmt: skip
    pricing = planner.priced_by(known_sensitivity(analysis, scanned), criterion)
    if pricing is None:
        say("ranked by importance: no scan of this checkpoint on this data (tui-pruner scan makes one)")
    else:
        say(f"ranked by the scan on {images} images")
    return pricing


@dataclass(frozen=True)
class Measuring:
    """How the plans of a comparison are validated: on the first images of a seeded order."""

    data: Path
    images: int
    device: str
    classes: int | None

    def metrics(self, session: PruningSession, step: Step, name: str) -> dict[str, float]:
        """The quick validation of the checkpoint under a session's plan with another last step; cached or measured."""
        from tui_pruner.core.pruning.plan import replay
        from tui_pruner.core.pruning.proved_cut import proved_cut
        from tui_pruner.engine.job_messages import ValidationParameters
        from tui_pruner.jobs import cache
        from tui_pruner.jobs.data.dataset import read_data
        from tui_pruner.jobs.validate import measure

        analysis = session.analysis
        checkpoint, coupling = analysis.checkpoint, analysis.coupling
        plan = session.plan.model_copy(update={"steps": [*session.plan.steps[:-1], step]})
        parameters = ValidationParameters(
            checkpoint=checkpoint.path, sha256=checkpoint.sha256, plan=plan.plain(), data=str(self.data), images=self.images,
            imgsz=analysis.imgsz, device=self.device, classes=self.classes,
        )  # fmt: skip
        data = read_data(self.data).subset(self.images, parameters.seed)
        key = cache.key_of(parameters, data.digest())
        known = cache.load(key)
        if known is None:
            pruned = proved_cut(checkpoint, coupling, replay(plan, coupling, checkpoint.sha256))
            known = measure(pruned, data, parameters, progress_of(f"validate {name}"))
            cache.store(key, known)
        return known.metrics


def ranked_by(criterion: str, all_of_them: bool) -> list[Request]:
    """Requests with the criteria that channels will be ranked by, so that the data for them is checked and read."""
    from tui_pruner.domain.criteria import NEED_DATA
    from tui_pruner.domain.cuts import Request

    return [Request("", "", name) for name in (criterion, *(NEED_DATA if all_of_them else ()))]


def measured(name: str, planner: Planner, targets: list[Target], session: PruningSession, measuring: Measuring) -> dict[str, Any]:
    """The result of one criterion at the targets; the session's own step for them is replaced."""
    from tui_pruner.domain.results import main_metric

    found = planner.plan(targets, name)
    if found.step is None:
        return {"criterion": name, "reached": found.shares, "metric": None, "value": None, "stopped": found.stopped}
    metric, value = main_metric(measuring.metrics(session, found.step, name)) or (None, None)
    return {"criterion": name, "reached": found.shares, "metric": metric, "value": value, "stopped": ""}


def document(planner: Planner, found: Budget, latency: LatencyFound | None = None) -> dict[str, Any]:
    """The range and the result of a search, for scripts; the latency as shares of the checkpoint's, where it was measured."""
    return {
        "range": bounds(planner.range),
        "reached": found.shares,
        "latency": {name: asdict(getattr(latency, name)) for name in ("latency", "least")} if latency else None,
        "satisfied": found.step is not None,
        "stopped": found.stopped,
    }


def show_range(results: Output, planner: Planner) -> None:
    """Show the reachable range."""
    reach = planner.range
    results.document({"range": bounds(reach)})
    for measure in reach.least:
        results.line(f"reachable: {measure} {reach.text(measure)}")


def bounds(reach: Range) -> dict[str, dict[str, float]]:
    """The reachable range, by measure."""
    return {measure: {"least": reach.least[measure], "most": reach.most[measure]} for measure in reach.least}


def show(results: Output, planner: Planner, found: Budget, latency: LatencyFound | None = None) -> None:
    """The range, the sizes and the cuts for people."""
    if latency:
        results.line(f"latency {latency.latency.as_share} of the checkpoint's; the smallest plan takes {latency.least.as_share}")
    for measure in found.shares:
        results.line(f"{measure:<6} {100 * found.shares[measure]:.2f} % left; reachable: {planner.range.text(measure)}")
    results.line(f"parameters {change(planner.original.parameters, found.size.parameters)}")
    results.line(f"FLOPs      {change(planner.original.flops, found.size.flops)}")
    cuts = found.step.cuts if found.step else []
    results.table(["cut", "", "channels"], [[cut.layer, cut.amount, removed(cut)] for cut in cuts], right=["channels"])


def removed(cut: Cut) -> str:
    """How many output channels of its layers a cut removes, or the blocks that it drops."""
    if cut.drops:
        return "all"
    return f"-{sum(len(indices) for dims in cut.removes.values() for indices in dims.values())}"


def show_comparison(results: Output, rows: list[dict[str, Any]]) -> None:
    """The criteria side by side, the best first."""
    if not rows:
        return
    measures = list(rows[0]["reached"])
    ordered = sorted(rows, key=lambda row: -(row["value"] if row["value"] is not None else -1.0))
    cells = [
        [
            row["criterion"],
            *(f"{100 * row['reached'][measure]:.1f} %" for measure in measures),
            f"{row['value']:.4f}" if row["value"] is not None else row["stopped"],
        ]
        for row in ordered
    ]
    metric = next((row["metric"] for row in rows if row["metric"]), "metric")
    results.line()
    results.table(["criterion", *measures, metric], cells, right=measures)
