"""Measured damage: what a refit cannot repair, by the formula and by hand, and plans that use it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.copies import owners_of_tensors
from tui_pruner.core.pruning.preview import Size
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.recovery.damage import (
    Damage,
    WeightReaders,
    _Sums,
    inverted,
    inverted_by_rows,
    measure_damage,
    obs_scores,
    repaired_twin,
)
from tui_pruner.core.recovery.disagreement import OriginalPredictions
from tui_pruner.core.search.measured_damage import SHARES, curves_of, trials_of
from tui_pruner.core.search.planner import Budget, Planner
from tui_pruner.core.search.rivals import KNAPSACK, UNIFORM, Knapsack, Rival, Tried, planning_methods, ranked, rivals
from tui_pruner.core.search.targets import Goal, parse_target, uniform


def pictures(count: int, side: int = 64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(4, 3, side, side, generator=generator) for _ in range(count)]


def test_damage_equals_the_error_that_least_squares_leaves() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)).eval()
    batches = pictures(3, side=12)
    reader = WeightReaders(network, batches, ridge=1e-9).by_weight["1.weight"]
    with torch.no_grad():
        inputs = torch.cat([network[0](batch).permute(0, 2, 3, 1).reshape(-1, 6) for batch in batches]).double()
        outputs = inputs @ network[1].weight.detach().double().flatten(1).t()
    centred, wanted = inputs - inputs.mean(0), outputs - outputs.mean(0)
    found = reader.unrepairable(np.arange(6)[:, None])
    for channel in range(6):
        rest = [other for other in range(6) if other != channel]
        left = wanted - centred[:, rest] @ torch.linalg.lstsq(centred[:, rest], wanted).solution
        assert found[channel] == pytest.approx(float(left.square().sum() / wanted.square().sum()), rel=0.05)


@pytest.fixture(scope="module")
def trained(demo_checkpoint):  # type: ignore[no-untyped-def]
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.frameworks.ultralytics import open_model

    return analyse(open_model(str(demo_checkpoint)), 64)


@pytest.fixture(scope="module")
def readers(trained: Analysis, scenes: list[Tensor]) -> WeightReaders:
    return WeightReaders(trained.checkpoint.model, scenes)


@pytest.fixture(scope="module")
def scenes(trained: Analysis, demo_data) -> list[Tensor]:  # type: ignore[no-untyped-def]
    from tui_pruner.jobs.data.dataset import TRAINING, read_data
    from tui_pruner.jobs.data.pictures import image_batches

    images = read_data(demo_data, TRAINING).subset(12, 0).images
    return list(image_batches(trained.checkpoint.model, images, 64, "cpu", 4))


def removed(analysis: Analysis, layer: str, count: int) -> Removal:
    group = analysis.coupling.output_groups(layer)[0]
    return Removal({group.number: np.arange(count)})


def test_repaired_twin_is_closer_than_the_masked_one_and_the_model_does_not_change(
    trained: Analysis, readers: WeightReaders, scenes: list[Tensor]
) -> None:
    from tui_pruner.core.pruning.twin import masked_twin

    model, removal = trained.checkpoint.model, removed(trained, "model.4.m.0.cv1.conv", 12)
    before = copy.deepcopy(model.state_dict())
    owners = owners_of_tensors(model)
    judge = OriginalPredictions(model, scenes[2:])
    masked = sum(judge.distance(masked_twin(model, trained.coupling, removal, owners)).values())
    repaired = sum(judge.distance(repaired_twin(model, trained.coupling, removal, readers, owners)).values())
    assert 0 < repaired < 0.7 * masked
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_distance_is_the_same_when_resumed_from_the_first_changed_block(
    trained: Analysis, readers: WeightReaders, scenes: list[Tensor]
) -> None:
    model = trained.checkpoint.model
    twin = repaired_twin(model, trained.coupling, removed(trained, "model.12.m.0.cv1.conv", 20), readers, owners_of_tensors(model))
    whole, resuming = (OriginalPredictions(model, scenes[:1], resuming=how).distance(twin) for how in (False, True))
    assert whole.keys() == resuming.keys() == {"class", "box"}
    assert resuming == pytest.approx(whole, rel=1e-5)
    assert whole["box"] > 0


def test_obs_ranks_redundant_channels_first(trained: Analysis, readers: WeightReaders, scenes: list[Tensor]) -> None:
    model = copy.deepcopy(trained.checkpoint.model)
    layer = model.get_submodule("model.4.m.0.cv1")
    with torch.no_grad():  # channels 3 and 20 become one
        for tensor in (layer.conv.weight, layer.bn.weight, layer.bn.bias, layer.bn.running_mean, layer.bn.running_var):
            tensor[20] = tensor[3]
    group = trained.coupling.output_groups("model.4.m.0.cv1.conv")[0]
    before, after = readers.scores(group), WeightReaders(model, scenes).scores(group)
    assert before is not None and after is not None
    l2 = {found.number: trained.ranking.scores(found) for found in trained.coupling.groups if found.prunable}
    assert after[3] < before[3] / 5 and after[20] < before[20] / 5
    everything = {found.number: scores for found, scores in obs_scores(trained.coupling, readers, l2)}
    assert set(everything) == {found.number for found in trained.coupling.groups if found.prunable}


@pytest.fixture(scope="module")
def damage(trained: Analysis, readers: WeightReaders, scenes: list[Tensor]) -> tuple[Planner, Damage]:
    planner = Planner(trained)
    trials = list(trials_of(trained, planner.ladders.ladders, NOTHING, "l2", (0.3, 0.75)))
    return planner, measure_damage(
        trained.checkpoint.model,
        trained.coupling,
        readers,
        trials,
        OriginalPredictions(trained.checkpoint.model, scenes[:1], resuming=True),
    )


def test_every_ladder_is_tried_and_larger_cuts_have_more_damage(damage: tuple[Planner, Damage]) -> None:
    planner, found = damage
    ladders = planner.ladders.ladders
    curves = curves_of(ladders, found)
    assert curves.covers(ladders) and len(found.trials) == 2 * len(ladders)
    assert found.base == {"class": 0.0, "box": 0.0}
    for ladder in ladders:
        for costs in curves.curves[ladder.groups].values():
            assert costs[0] == 0 and (np.diff(costs) >= 0).all() and len(costs) == len(ladder.rungs)


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_knapsack_meets_the_target_with_no_more_damage_than_the_greedy_descent(damage: tuple[Planner, Damage], share: float) -> None:
    planner, found = damage
    ladders, goals = planner.ladders.ladders, [Goal("flops", share)]
    curves = curves_of(ladders, found)
    start = planner.descend(goals, curves.pricing)
    descent_end = Knapsack(planner.arithmetic, NOTHING, ladders, curves, goals, start).run()

    def worst(widths) -> float:  # type: ignore[no-untyped-def]
        totals: dict[str, float] = {}
        for ladder in ladders:
            rung = int(np.argmin(np.abs(ladder.rungs.sum(1) - widths.counts[list(ladder.groups)].sum())))
            for name, costs in curves.curves[ladder.groups].items():
                totals[name] = totals.get(name, 0.0) + costs[rung]
        return max(totals.values())

    assert descent_end.met and descent_end.widths.size.flops <= share * planner.original.flops
    assert worst(descent_end.widths) <= 1.01 * worst(start.widths)
    even = uniform(planner.arithmetic, NOTHING, ladders, goals)
    assert even.met and 0.97 * share <= even.widths.size.flops / planner.original.flops <= share
    assert worst(descent_end.widths) < worst(even.widths)


def test_rival_with_the_best_worst_output_is_chosen_among_close_ones() -> None:
    def tried(name: str, class_: float, box: float) -> Tried:
        outputs = {"class": class_, "box": box}
        return Tried(Rival(name, Budget(None, Size(0, 0, 0), {}), NOTHING), 1.0, (class_ + box) / 2, outputs, nn.Identity())

    def names(*found: Tried) -> list[str]:
        return [one.rival.name for one in ranked(found)]

    one_sided, balanced, far = tried("one-sided", 0.070, 0.098), tried("balanced", 0.094, 0.076), tried("far", 0.090, 0.090)
    assert names(far, one_sided, balanced) == ["balanced", "one-sided", "far"]
    assert names(balanced, tried(UNIFORM, 0.070, 0.098)) == [UNIFORM, "balanced"]
    assert names(tried("closer", 0.02, 0.10), balanced) == ["closer", "balanced"] and names() == []


def test_rivals_are_different_plans_for_one_target_including_the_uniform_one(damage: tuple[Planner, Damage]) -> None:
    planner, found = damage
    searches = planning_methods(planner, "l2", curves_of(planner.ladders.ladders, found), None)
    assert list(searches) == ["uniform", "importance", "damage", "knapsack"]
    plans, _ = rivals(planner, [parse_target("flops=70%"), parse_target("params=80%")], "l2", searches)
    assert {UNIFORM, KNAPSACK} <= {plan.name for plan in plans} | {KNAPSACK}
    assert all(plan.budget.shares["flops"] <= 0.7 and plan.budget.shares["params"] <= 0.8 for plan in plans)
    none, budget = rivals(planner, [parse_target("flops=1%")], "l2", searches)
    assert none == [] and "out of reach" in budget.stopped


def test_default_trials_reach_the_default_floor() -> None:
    assert max(SHARES) == 0.75


def test_inverse_from_few_rows_equals_the_inverse_of_the_covariance() -> None:
    torch.manual_seed(0)
    inputs, scaled = torch.randn(14, 40, dtype=torch.float64) + 0.5, torch.randn(40, 6, dtype=torch.float64)
    found = []
    for few in (True, False):
        sums = _Sums(torch.zeros(40, 40, dtype=torch.float64), None)
        sums.add(inputs[:8])
        sums.add(inputs[8:])
        assert len(sums.few) == 2
        if not few:
            sums.gram += inputs.t() @ inputs
        mean = sums.total / sums.rows
        found.append(((inverted_by_rows if few else inverted)(sums, mean, scaled, 1e-2), sums.gram))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-8, atol=1e-8)
