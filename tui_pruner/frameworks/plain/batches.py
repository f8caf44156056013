"""What is done on batches of a module's inputs: plans that compete, scores of its channels, and refits.

Labels are for the user's loss alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.inputs import Inputs, batches_of, each_batch, ending, enough
from tui_pruner.core.pruning.importance import Calibration, Gradients, Ranking, by_axis, calibrated_axes
from tui_pruner.core.pruning.plan import Step
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import by_tensor, scaled_queries
from tui_pruner.core.recovery.damage import WeightReaders, measure_damage, obs_scores
from tui_pruner.core.recovery.disagreement import OriginalPredictions
from tui_pruner.core.recovery.reconstruction import OnLayer, Recovered, recover
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.measured_damage import FEW_SHARES, curves_of, trials_of
from tui_pruner.core.search.planner import Budget, Planner
from tui_pruner.core.search.rivals import KNAPSACK, UNIFORM, Rival, RivalComparison, Tried, planning_methods, ranked, rivals
from tui_pruner.core.search.targets import Target
from tui_pruner.domain.errors import DataError, OutOfReach, PrunerError, RequestError, out_of_memory, user_code
from tui_pruner.frameworks.plain.adapters import FORWARDS, in_a_batch
from tui_pruner.frameworks.plain.module import COARSE, TOLERANCES, OpenedModule, independent

Loss = Callable[[nn.Module, Any], Tensor]
JUDGED_ON = 2
"""How many batches the damage of single layers is measured on."""
COMPETING = (UNIFORM, KNAPSACK)
"""The ways to plan whose results are cut, refitted and compared: each takes a whole refit, and these two differ most."""
HELD_OUT = 4
"""One batch in this many is held out to judge what was fitted on the others."""
LONGEST = 160


def usable_batches(module: OpenedModule, given: Any, samples: int | None = None, needed: bool = True) -> list[Inputs]:
    """Batches as arguments, with at most this many samples, in a precision that can be computed in.

    Raises:
        RequestError: there is none, they do not end, or an item is not a batch.
    """
    of_images = module.inputs is not None and module.inputs.forward in set(FORWARDS.values())
    some = ending(given) if samples is None else enough(given, samples)
    found = [in_a_batch(batch) if of_images else batch for batch in batches_of(some, module.inputs)]
    if needed and not found:
        raise RequestError(
            "no batch: give tensors, tuples of arguments or dicts of arguments by name; a generator that was used has none left"
        )
    return [batch.computable() for batch in found]


def apart(batches: Sequence[Inputs]) -> tuple[list[Inputs], list[Inputs]]:
    """Split batches into those to work on and those to judge by; the same where there is only one."""
    held_out = list(batches[HELD_OUT - 1 :: HELD_OUT]) or list(batches[1:2])
    working = [batch for batch in batches if all(batch is not other for other in held_out)]
    return working, held_out or working


@contextmanager
def on_batches() -> Iterator[None]:
    """Work on a user's batches with random numbers from a separate state; what the forward raises on them becomes a sentence.

    Raises:
        RequestError: the model does not run on them.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        except PrunerError:
            raise
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            if out_of_memory(error):
                raise
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)[:LONGEST]
            raise RequestError(f"the model does not run on these batches ({said}): give them as its forward reads them") from error


@dataclass(frozen=True)
class PlanOnBatches:
    """A plan that reaches targets, the plans that were cut and refitted to compare them, the best first, and the scores by batches.

    `trials`: how many cuts of single layers were measured.
    """

    chosen: Rival
    tried: Sequence[Tried]
    scores: Calibration
    trials: int

    @property
    def budget(self) -> Budget:
        """The plan's step with the size that is left."""
        return self.chosen.budget

    @property
    def step(self) -> Step:
        """The plan's step."""
        assert self.budget.step is not None
        return self.budget.step


def planned_on(
    analysis: Analysis,
    base: Removal,
    targets: Sequence[Target],
    batches: tuple[Sequence[Inputs], Sequence[Inputs]],
    device: torch.device,
    criterion: str,
    rules: Rules | None = None,
    refit: bool = False,
    on_part: Callable[[str], None] = lambda part: None,
) -> PlanOnBatches:
    """The plan that reaches targets at the least distance from the original's outputs: plans that are cut, refitted and compared.

    `batches`: to work on, and to judge by. `criterion` ranks the channels of each layer. `refit`: a plan without rivals is refitted too.

    Raises:
        OutOfReach: no plan reaches the targets.
    """
    working, held_out = batches
    original = independent(analysis.checkpoint.model).to(device)
    on_part("reading the layers' inputs")
    readers = WeightReaders(original, working)
    try:
        scores = scores_without_labels(analysis, readers, sum(len(batch) for batch in working))
        analysis.ranking.calibrate(scores)
        planner = Planner(analysis, base, rules or Rules())
        trials = list(trials_of(analysis, planner.ladders.ladders, base, criterion, FEW_SHARES))
        on_part("measuring the damage of each layer")
        damage = measure_damage(original, analysis.coupling, readers, trials, OriginalPredictions(original, held_out[:JUDGED_ON]))
    finally:
        readers.close()
    curves = curves_of(planner.ladders.ladders, damage)
    for tolerance in TOLERANCES:
        planner.rules = replace(planner.rules, tolerance=tolerance)
        searches = {name: search for name, search in planning_methods(planner, criterion, curves, None).items() if name in COMPETING}
        found, budget = rivals(planner, targets, criterion, searches)
        if found:
            break
    else:
        raise OutOfReach(budget.stopped)
    ring = RivalComparison(planner, original, working, held_out, OriginalPredictions(original, held_out))
    tried = ranked(list(ring.tried(found, lambda rival: on_part(rival.name)))) if refit or len(found) > 1 else []
    return PlanOnBatches(tried[0].rival if tried else found[0], tried, scores, len(trials))


def scores_without_labels(analysis: Analysis, readers: WeightReaders, samples: int) -> Calibration:
    """Compute the scores that need only inputs."""
    ranking = Ranking(analysis.checkpoint.model)
    otherwise = {group.number: ranking.scores(group) for group in analysis.coupling.groups if group.prunable}
    axes = by_axis("obs", analysis.coupling, obs_scores(analysis.coupling, readers, otherwise))
    return Calibration(analysis.checkpoint.sha256, samples, (), axes)


def scores_by_loss(analysis: Analysis, batches: Iterable[Any], loss: Loss, device: torch.device) -> Calibration:
    """Compute the scores that need gradients of a loss, batch by batch.

    Raises:
        DataError: no batch, or the loss or a gradient is NaN.
    """
    twin = independent(analysis.checkpoint.model).to(device).requires_grad_(True)
    parameters = dict(twin.named_parameters())
    mean = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    square = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    done = 0
    for done, batch in enumerate(each_batch(batches), start=1):
        finer = tree_map(lambda leaf: leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in COARSE else leaf, batch)
        with user_code("loss"):
            value = loss(twin, finer)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad or not bool(torch.isfinite(value)):
            raise DataError(f"the loss on batch {done} is not finite or has no gradient: loss(model, batch) must return such a number")
        gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise DataError(
                f"the loss on batch {done} depends on no parameter of the model: have loss(model, batch) run the model it is given"
            )
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                mean[name] += gradient
                square[name] += gradient.square()
    if not done:
        raise DataError("no batch to rank by: give batches as loss(model, batch) reads them")
    found = Gradients(done, {name: total / done for name, total in mean.items()}, {name: total / done for name, total in square.items()})
    return Calibration(analysis.checkpoint.sha256, done, (), calibrated_axes(twin, analysis.coupling, found))


def refitted(
    session: PruningSession,
    pruned: nn.Module,
    working: Sequence[Inputs],
    held_out: Sequence[Inputs],
    on_layer: OnLayer = lambda fit, done, total: None,
) -> Recovered:
    """Refit what a session's cuts changed to the original's outputs; `pruned` is the module with them."""
    opened, coupling = session.analysis.checkpoint, session.analysis.coupling
    assert isinstance(opened, OpenedModule)
    original, small = (independent(model).to(opened.device) for model in (opened.model, pruned))
    queries = scaled_queries(coupling, session.removal)
    scaled = {name for query, _ in queries for name in query.parameters}  # a refit to the original's values would undo the scale
    kept = by_tensor(session.removal.stays(coupling))
    return recover(original, small, kept, working, held_out, frozen=scaled, on_layer=on_layer)
