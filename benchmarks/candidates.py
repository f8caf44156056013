"""What each program makes of a checkpoint for a wanted share of its operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from benchmarks.bench import UNLABELLED, Bench, Kept
from benchmarks.peer import pruned, recipes, unfolded
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.plan import parse_plan, replay
from tui_pruner.core.pruning.proved_cut import proved_cut
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import by_tensor
from tui_pruner.core.search.planner import Planner
from tui_pruner.core.search.rivals import evenly
from tui_pruner.core.search.targets import Target
from tui_pruner.engine.search_messages import PlanningParameters
from tui_pruner.jobs.calibrate import rank_by
from tui_pruner.jobs.plan import run_planning

NEAR_ENOUGH = 0.01
CRITERION = "obs"


@dataclass(frozen=True)
class Candidate:
    """A pruned network, how it was made, and what of: the network that a refit is fitted to, with what each weight kept of it."""

    share: float
    way: str
    model: nn.Module
    original: nn.Module
    kept: Kept


def ours(bench: Bench) -> Iterator[Candidate]:
    """The plans by measured damage: whole plans compete, refitted, on unlabelled training images; nothing else is tried here."""
    points = [[f"flops={100 * share:g}%"] for share in bench.about.shares]
    wanted = PlanningParameters(
        data=str(bench.all_images), images=UNLABELLED, points=points, criterion=CRITERION, validated=0, **bench.fields
    )
    found = run_planning(wanted, lambda _: None)
    analysis = analyse(bench.checkpoint, bench.about.imgsz)
    for share, point in zip(bench.about.shares, found.points, strict=True):
        if point.plan is not None:
            yield made(analysis, share, f"{CRITERION}, {point.chosen}", point.plan)


def uniform(bench: Bench) -> Iterator[Candidate]:
    """One share of everything, ranked as ours are."""
    analysis = analyse(bench.checkpoint, bench.about.imgsz)
    wanted = PlanningParameters(data=str(bench.all_images), images=UNLABELLED, points=[], criterion=CRITERION, **bench.fields)
    rank_by(analysis, CRITERION, wanted, UNLABELLED, lambda _: None)
    session = PruningSession(analysis)
    planner = Planner(analysis, session.removal)
    for share in bench.about.shares:
        step = planner.plan([Target("flops", share=share)], CRITERION, search=evenly).step
        if step is not None:
            plan = session.plan.model_copy(update={"steps": [step]}).plain()
            yield made(analysis, share, f"{CRITERION}, one share of all layers", plan)


def made(analysis: Analysis, share: float, way: str, plan: object) -> Candidate:
    """The proved cut of a plan."""
    checkpoint, coupling = analysis.checkpoint, analysis.coupling
    removal = replay(parse_plan(plan), coupling, checkpoint.sha256)
    return Candidate(share, way, proved_cut(checkpoint, coupling, removal), checkpoint.model, by_tensor(removal.stays(coupling)))


def theirs(bench: Bench) -> Iterator[Candidate]:
    """What each of torch-pruning's recipes makes for each share, where it comes to it."""
    model = unfolded(bench.checkpoint.model)
    bench.add_gradients(model)
    for recipe in recipes():
        for share in bench.about.shares:
            found = pruned(model, bench.image, recipe, share)
            if found is not None and abs(found.left - share) <= NEAR_ENOUGH:
                yield Candidate(share, recipe.words, found.model, model, found.kept)
