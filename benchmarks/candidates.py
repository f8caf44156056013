"""What each program makes of a checkpoint for a wanted share of its operations, by all of its ways that are tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from benchmarks.bench import CHOOSING, Bench
from benchmarks.peer import pruned, recipes, unfolded
from tui_pruner.core.analysis import Analysis, analyse
from tui_pruner.core.budget.planning import Planner
from tui_pruner.core.budget.targets import Target
from tui_pruner.core.session import Session
from tui_pruner.core.surgery import cut
from tui_pruner.engine.scan_messages import ScanParameters
from tui_pruner.jobs.calibrate import rank_by
from tui_pruner.jobs.scan import run_scan
from tui_pruner.jobs.scan_lookup import known_sensitivity

Candidate = tuple[float, str, nn.Module]
"""The wanted share, how it was made, and the network."""
OUR_CRITERIA = ("l2", "bn-scale", "taylor", "hessian")
NEAR_ENOUGH = 0.01


def ours(bench: Bench, shares: Sequence[float]) -> Iterator[Candidate]:
    """Models cut to each share of the operations by each criterion, with a scan of training images and by importance alone."""
    analysis = analyse(bench.checkpoint, bench.imgsz)
    for criterion in OUR_CRITERIA:
        wanted = ScanParameters(data=str(bench.training), images=CHOOSING, criterion=criterion, **bench.subject)
        rank_by(analysis, criterion, wanted, wanted.calibration_images, lambda _: None)
        run_scan(wanted, lambda _: None)
        for words, scan in ((f"scan of {CHOOSING} images", known_sensitivity(analysis, wanted)), ("importance alone", None)):
            for share in shares:
                yield share, f"{criterion}, {words}", planned(analysis, share, criterion, scan)


def planned(analysis: Analysis, share: float, criterion: str, scan: Any) -> nn.Module:
    """The cut that a plan for a share of the operations makes."""
    session = Session(analysis)
    planner = Planner(analysis, session.removal)
    found = planner.plan([Target("flops", share=share)], criterion, planner.priced_by(scan, criterion))
    if found.step is None:
        raise SystemExit(found.stopped)
    session.load(session.plan.model_copy(update={"steps": [found.step]}).plain())
    return cut(analysis.checkpoint.model, analysis.coupling, session.removal)


def theirs(bench: Bench, shares: Sequence[float]) -> Iterator[Candidate]:
    """What each of their recipes makes for each share, where it comes to it."""
    model = unfolded(bench.checkpoint.model)
    bench.add_gradients(model)
    for recipe in recipes():
        for share in shares:
            found = pruned(model, bench.image, recipe, share)
            if found is not None and abs(found[1] - share) <= NEAR_ENOUGH:
                yield share, recipe.words, found[0]
