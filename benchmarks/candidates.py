"""What each program makes of a checkpoint for a wanted share of its operations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from benchmarks.bench import Bench, Kept
from benchmarks.peer import pruned, recipes, unfolded
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.plan import parse_plan, replay
from tui_pruner.core.pruning.proved_cut import proved_cut
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import by_tensor
from tui_pruner.core.search.planner import Planner
from tui_pruner.core.search.rivals import uniform_search
from tui_pruner.core.search.targets import Target
from tui_pruner.engine.search_messages import PlanningParameters
from tui_pruner.jobs.calibrate import rank_by
from tui_pruner.jobs.data.dataset import TRAINING, held_apart, read_data
from tui_pruner.jobs.plan import Images, Readers, eliminations, run_planning

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


def ours(bench: Bench, shares: Sequence[float], searched: Collection[str] = ()) -> Iterator[Candidate]:
    """The plans by measured damage: whole plans compete, refitted, on unlabelled training images; nothing else is tried here."""
    found = run_planning(planning(bench, shares), lambda _: None)
    analysis = analyse(bench.checkpoint, bench.about.imgsz)
    for share, point in zip(shares, found.points, strict=True):
        if point.plan is not None:
            yield made(analysis, share, point.chosen, point.plan)


def response(bench: Bench, shares: Sequence[float], searched: Collection[str] = ()) -> Iterator[Candidate]:
    """The plans that follow the predictions channel by channel, taken as they are: one of the rivals of ours, without a trial."""
    analysis, wanted = analyse(bench.checkpoint, bench.about.imgsz), planning(bench, ())
    session = PruningSession(analysis)
    planner = Planner(analysis, session.removal)
    images = Images.read(bench.checkpoint.model, held_apart(read_data(wanted.data, TRAINING), wanted.images, wanted.seed), wanted)
    with Readers(images, wanted) as readers:
        thinning = eliminations(planner, readers, lambda _: None)
        for share in sorted(shares, reverse=True):
            budget = thinning and thinning.plan([Target("flops", share=share)], CRITERION)
            if budget and budget.step is not None:
                yield made(analysis, share, "without trials", session.plan.model_copy(update={"steps": [budget.step]}).plain())


def uniform(bench: Bench, shares: Sequence[float], searched: Collection[str] = ()) -> Iterator[Candidate]:
    """One share of everything, ranked as ours are."""
    analysis = analyse(bench.checkpoint, bench.about.imgsz)
    rank_by(analysis, CRITERION, planning(bench, ()), bench.about.unlabelled, lambda _: None)
    session = PruningSession(analysis)
    planner = Planner(analysis, session.removal)
    for share in shares:
        step = planner.plan([Target("flops", share=share)], CRITERION, search=uniform_search).step
        if step is not None:
            plan = session.plan.model_copy(update={"steps": [step]}).plain()
            yield made(analysis, share, f"{CRITERION}, one share of all layers", plan)


def planning(bench: Bench, shares: Sequence[float]) -> PlanningParameters:
    """What the job is asked for."""
    points = [[f"flops={100 * share:g}%"] for share in shares]
    data, images = str(bench.own_data), bench.about.unlabelled
    return PlanningParameters(data=data, images=images, points=points, criterion=CRITERION, validated=0, **bench.fields)


def made(analysis: Analysis, share: float, way: str, plan: object) -> Candidate:
    """The proved cut of a plan."""
    checkpoint, coupling = analysis.checkpoint, analysis.coupling
    removal = replay(parse_plan(plan), coupling, checkpoint.sha256)
    return Candidate(share, way, proved_cut(checkpoint, coupling, removal), checkpoint.model, by_tensor(removal.stays(coupling)))


def theirs(bench: Bench, shares: Sequence[float], searched: Collection[str] = ()) -> Iterator[Candidate]:
    """What each of torch-pruning's recipes makes for each share, where it comes to it; `searched`: by these criteria alone."""
    model = unfolded(bench.checkpoint.model)
    bench.add_gradients(model)
    for recipe in recipes():
        if searched and recipe.criterion not in searched:
            continue
        for share in shares:
            found = pruned(model, bench.image, recipe, share)
            if found is not None and abs(found.left - share) <= NEAR_ENOUGH:
                yield Candidate(share, recipe.words, found.model, model, found.kept)
