"""Facts as a report has them, made by hand, and the page that they make."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.engine.messages import CutRequest, ModelInfo, ProofView, StepView, Totals
from tui_pruner.engine.search_messages import BenchedModel, BenchResult
from tui_pruner.report.facts import BlockFacts, Cost, Facts, Material, Metrics, SensitivityFacts
from tui_pruner.report.sections import written_as

MAP = "metrics/mAP50-95(B)"
WHOLE, LEFT = Totals(parameters=1000, flops=4000, bytes=2000), Totals(parameters=600, flops=2000, bytes=1200)
PLAN = """
checkpoint: orchard.pt
sha256: "0"
steps:
- {name: without medlar, cuts: [{layer: classes, amount: "keep:quince"}]}
"""
PROOF = ProofView(equal=True, max_abs_difference=0.0, relative_difference=1e-7, effect=0.1, approximate=[], seconds=0.1)


def measured(value: float, low: float | None = None, high: float | None = None) -> ValidationResult:
    """A validation with its interval."""
    interval = None if low is None or high is None else (low, high)
    return ValidationResult(metrics={MAP: value}, interval=interval, images=64, seconds=1.0)


def timed(ratio: float, low: float, high: float) -> BenchResult:
    """Two models timed in turns."""
    shared: dict[str, Any] = {"parameters": 1, "p90_ms": 2.0, "runs": 50, "device": "cpu", "threads": 1, "imgsz": 64, "batch": 1}
    return BenchResult(
        models=[
            BenchedModel(model="a", median_ms=10.0, ratio=1.0, ratio_low=1.0, ratio_high=1.0, verdict="reference", **shared),
            BenchedModel(model="b", median_ms=10 * ratio, ratio=ratio, ratio_low=low, ratio_high=high, verdict="faster", **shared),
        ]
    )


def metrics(before: float, after: ValidationResult, steps: list[ValidationResult | None] | None = None) -> Metrics:
    """Validations on a data set in a folder of someone's own."""
    return Metrics(data="/srv/private/fruit.yaml", imgsz=640, before=measured(before), after=after, steps=steps or [])


def facts(**changed: Any) -> Facts:
    """A plan of one step on a model of one block."""
    step = StepView(
        number=1,
        title="a cut",
        requests=[CutRequest(layer="model.0", amount="40%")],
        totals=changed.get("after", LEFT),
        notes=[],
        proof=PROOF,
    )
    fields: dict[str, Any] = {
        "plan": "/srv/private/plans/plan.yaml",
        "model": ModelInfo(
            path="/srv/private/orchard.pt", sha256="0" * 64, family="YOLOv8", task="detect", classes=2, stride=32, parameters=1000,
            flops=4000, imgsz=640, names=["quince", "medlar"],
        ),
        "before": WHOLE,
        "after": LEFT,
        "blocks": [
            BlockFacts(
                index=0, name="model.0", type="Conv", section="backbone", shape_before=[16, 8, 8], shape_after=[10, 8, 8],
                before=Cost(parameters=1000, flops=4000), after=Cost(parameters=600, flops=2000),
            )
        ],
        "elsewhere_before": Cost(parameters=0, flops=0),
        "elsewhere_after": Cost(parameters=0, flops=0),
        "layers": {},
        "groups": [],
        "steps": [step],
        "versions": {"tui-pruner": "0"},
        "created": "2026-01-01",
    }  # fmt: skip
    return Facts(**{**fields, **changed})


def stage(name: str, value: float | None = None, flops: int = 2000, **more: Any) -> StageFigures:
    """A stage of a compression."""
    return StageFigures(name=name, metrics={} if value is None else {MAP: value}, flops=flops, parameters=flops // 4, **more)


def sensitive(layer: str, drop: float) -> SensitivityFacts:
    """A group that a scan looked at."""
    return SensitivityFacts(layer=layer, drops={0.3: drop}, taken=0.3)


def page(suffix: str = ".html", **changed: Any) -> str:
    """The page without its style sheet, or another form of it."""
    text = written_as(suffix, Material(facts(**changed), PLAN))
    return text[: text.index("<style>")] + text[text.index("</style>") :] if "<style>" in text else text
