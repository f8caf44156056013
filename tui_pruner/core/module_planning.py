"""Plans and scores for any module from batches of its inputs, in this process: what jobs do for checkpoints on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.budget.damages import FEW_SHARES, curves_of, trials_of
from tui_pruner.core.budget.ladders import Rules
from tui_pruner.core.budget.planning import Planner
from tui_pruner.core.budget.rivals import KNAPSACK, UNIFORM, Ring, rivals, ways
from tui_pruner.core.budget.targets import Target
from tui_pruner.core.calibrated import Calibration
from tui_pruner.core.calibration import Gradients, by_axis, calibrated_axes
from tui_pruner.core.importance import Ranking
from tui_pruner.core.inputs import Inputs
from tui_pruner.core.opened_module import independent
from tui_pruner.core.plan import Step
from tui_pruner.core.recovery.damage import measure_damage
from tui_pruner.core.recovery.disagreement import Original
from tui_pruner.core.recovery.moments import Readers, obs_scores
from tui_pruner.core.removal import Removal
from tui_pruner.errors import DataError, RequestError

Loss = Callable[[nn.Module, Any], Tensor]
JUDGED_ON = 2
"""Batches by which the damage of single layers is measured."""
COMPETING = (UNIFORM, KNAPSACK)
"""The ways to plan whose results are cut, refitted and compared: each takes a whole refit, and these two are the furthest apart."""
TOLERANCES = (0.01, 0.05, 0.2, 1.0)
"""How far below its goal a plan may end, as parts of the goal: a small module has few widths, so that the nearest may be far below."""
HELD_OUT = 4
"""One batch in so many judges what was fitted on the others."""


def apart(batches: Sequence[Inputs]) -> tuple[list[Inputs], list[Inputs]]:
    """Batches to work on and others to judge by; the same where there is only one."""
    held_out = list(batches[HELD_OUT - 1 :: HELD_OUT]) or list(batches[1:2])
    working = [batch for batch in batches if all(batch is not other for other in held_out)]
    return working, held_out or working


def planned_on(
    analysis: Analysis,
    base: Removal,
    targets: Sequence[Target],
    working: Sequence[Inputs],
    held_out: Sequence[Inputs],
    device: torch.device,
) -> Step:
    """The step that reaches targets at the least distance from the original's outputs: whole plans, cut, refitted and compared.

    Raises:
        RequestError: the targets are out of reach.
    """
    original = independent(analysis.checkpoint.model).to(device)
    readers = Readers(original, working)
    try:
        calibrate_without_labels(analysis, readers, sum(len(batch) for batch in working))
        planner = Planner(analysis, base)
        trials = list(trials_of(analysis, planner.ladders.ladders, base, "obs", FEW_SHARES))
        damage = measure_damage(original, analysis.coupling, readers, trials, Original(original, held_out[:JUDGED_ON]))
    finally:
        readers.close()
    curves = curves_of(planner.ladders.ladders, damage)
    for tolerance in TOLERANCES:
        planner.rules = replace(planner.rules, tolerance=tolerance)
        searches = {name: search for name, search in ways(planner, "obs", curves, None).items() if name in COMPETING}
        found, budget = rivals(planner, targets, "obs", searches)
        if found:
            break
    else:
        raise RequestError(budget.stopped)
    ring = Ring(planner, original, working, held_out, Original(original, held_out))
    best = min(ring.tried(found), key=lambda tried: tried.distance) if len(found) > 1 else None
    step = best.rival.budget.step if best else found[0].budget.step
    assert step is not None
    return step


def planned_by(analysis: Analysis, base: Removal, targets: Sequence[Target], criterion: str) -> Step:
    """The step that reaches targets by the importance of channels alone.

    Raises:
        RequestError: the targets are out of reach, or there is no such criterion.
    """
    budget = None
    for tolerance in TOLERANCES:
        budget = Planner(analysis, base, Rules(tolerance=tolerance)).plan(targets, criterion)
        if budget.step is not None:
            return budget.step
    raise RequestError(budget.stopped if budget else "there is no target")


def calibrate_without_labels(analysis: Analysis, readers: Readers, samples: int) -> None:
    """Give an analysis the scores that need inputs alone."""
    ranking = Ranking(analysis.checkpoint.model)
    otherwise = {group.number: ranking.scores(group) for group in analysis.coupling.groups if group.prunable}
    axes = by_axis("obs", analysis.coupling, obs_scores(analysis.coupling, readers, otherwise))
    analysis.ranking.calibrate(Calibration(analysis.checkpoint.sha256, samples, (), axes))


def calibrate_by_loss(analysis: Analysis, batches: Iterable[Any], loss: Loss, device: torch.device) -> None:
    """Give an analysis the scores that need gradients of a loss, batch by batch.

    Raises:
        DataError: there is no batch, or the loss or a gradient is no number.
    """
    twin = independent(analysis.checkpoint.model).to(device).requires_grad_(True)
    parameters = dict(twin.named_parameters())
    mean = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    square = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    done = 0
    for done, batch in enumerate(batches, start=1):
        value = loss(twin, batch)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad or not bool(torch.isfinite(value)):
            raise DataError(f"the loss on batch {done} is no finite number that can be differentiated: loss(model, batch) must return one")
        for name, gradient in zip(parameters, torch.autograd.grad(value, list(parameters.values()), allow_unused=True), strict=True):
            if gradient is not None:
                mean[name] += gradient
                square[name] += gradient.square()
    if not done:
        raise DataError("there is no batch to rank by: give batches as loss(model, batch) reads them")
    found = Gradients(done, {name: total / done for name, total in mean.items()}, {name: total / done for name, total in square.items()})
    axes = calibrated_axes(twin, analysis.coupling, found)
    analysis.ranking.calibrate(Calibration(analysis.checkpoint.sha256, done, (), axes))
