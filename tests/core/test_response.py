"""The effect of single channels on the predictions after a refit, compared with real refits; and plans based on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.gpu.conftest import train_until_detecting
from tests.jobs.conftest import draw_splits
from tests.jobs.narrow import SIDE, narrow, short
from tui_pruner.core.model.analysis import Analysis, analyse, trace_model
from tui_pruner.core.model.copies import owners_of_tensors
from tui_pruner.core.pruning.plan import removal_of_step
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.recovery.damage import WeightReaders, repaired_twin
from tui_pruner.core.recovery.disagreement import OriginalPredictions
from tui_pruner.core.recovery.response import Elimination, projections, response_of, samples
from tui_pruner.core.search.elimination import Eliminations
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.planner import Planner
from tui_pruner.core.search.rivals import uniform_search
from tui_pruner.core.search.targets import parse_target


class Two(nn.Module):
    """A layer of six channels that one linear layer reads: what is predicted is linear in the weights that are refitted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.second, self.after = nn.Conv2d(6, 5, 3, bias=False), nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.after(self.second(self.norm(self.first(x)).relu()))
        return found


@pytest.fixture(scope="module")
def two() -> tuple[nn.Module, Analysis, list[Tensor]]:
    torch.manual_seed(0)
    network = Two().eval()
    for norm in (network.norm, network.after):
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    return network, trace_model(network, (1, 3, 16, 16))[1], [torch.rand(4, 3, 16, 16)]


@pytest.mark.parametrize("places", [[2], [4, 1], [0, 5, 3]])
def test_response_of_removed_channels_equals_the_error_of_a_refit_without_them(two, places: list[int]) -> None:
    network, coupling, batches = two
    group = next(group for group in coupling.groups if group.prunable and group.channels == 6)
    readers = WeightReaders(network, batches)
    found = response_of(network, coupling, readers, batches)
    assert found is not None and len(found.outputs) == 4
    elimination, said = Elimination(found), torch.zeros(4)
    for place in places:
        said += elimination.moved[group.number][:, place]
        assert group.number in elimination.remove({group.number: np.array([place])})
    assert np.isinf(elimination.costs(group.number)[places]).all()
    twin = repaired_twin(network, coupling, Removal({group.number: np.sort(places)}), readers, owners_of_tensors(network))
    for number, sample in enumerate(samples(batches)):
        with torch.no_grad():
            was, now = sample.run(network), sample.run(twin)
        generator = torch.Generator().manual_seed(0)
        for _ in range(number):
            projections(was, generator)  # draws the signs of the samples before
        scaled = float(was.norm())
        signs = torch.randint(0, 2, was.shape, generator=generator, dtype=torch.int8) * 2 - 1
        assert float(said[number]) == pytest.approx(float(((now - was) * signs).sum()) / scaled, rel=1e-3, abs=1e-5)


@pytest.fixture(scope="module")
def scenes_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data yaml of eight scenes, of which a network learns the first four."""
    return draw_splits(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def trained(scenes_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """A detector of five layers that finds the squares of its scenes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint = short(tmp_path_factory.mktemp("short"))
        train_until_detecting(checkpoint.model, scenes_yaml.parent)
    return analyse(checkpoint, 64)


def test_planned_cut_meets_targets_and_rules_and_is_closer_than_a_uniform_one(trained: Analysis, scenes_yaml: Path) -> None:
    from tui_pruner.jobs.data.dataset import TRAINING, read_data
    from tui_pruner.jobs.data.pictures import image_batches

    model, coupling = trained.checkpoint.model, trained.coupling
    images = read_data(scenes_yaml, TRAINING).subset(8, 0).images
    scenes = list(image_batches(model, images, 64, "cpu", 4))
    readers = WeightReaders(model, scenes[:1])
    assert response_of(model, coupling, readers, scenes[:1], memory_limit=1000) is None
    found = response_of(model, coupling, readers, scenes[:1])
    assert found is not None and set(found.outputs) == {"class", "box"}
    planner = Planner(trained, rules=Rules(round_to=4))
    targets = [parse_target("flops=70%"), parse_target("params=80%")]
    budget = Eliminations(planner, found).plan(targets, "l2")
    assert budget is not None and budget.step is not None
    assert 0.6 < budget.shares["flops"] <= 0.7 and budget.shares["params"] <= 0.8
    removal = removal_of_step(budget.step, coupling)
    removal.check(coupling)
    assert all(removal.left(coupling.groups[number]) % 4 == 0 for number in removal.places)
    assert Eliminations(Planner(trained, rules=Rules(floor=0.95)), found).plan([parse_target("flops=50%")], "l2") is None
    even = planner.plan(targets, "l2", search=uniform_search).step
    assert even is not None
    judge, owners = OriginalPredictions(model, scenes[1:]), owners_of_tensors(model)
    ours, theirs = (
        sum(judge.distance(repaired_twin(model, coupling, gone, readers, owners)).values())
        for gone in (removal, removal_of_step(even, coupling))
    )
    assert ours < 0.7 * theirs
    further = Planner(trained, removal, Rules(round_to=4))
    again = Eliminations(further, found).plan([parse_target("flops=60%")], "l2")
    assert again is not None and again.step is not None and again.shares["flops"] <= 0.6
    assert all(not np.intersect1d(places, removal.places.get(number, [])).size for number, places in removed_places(again, coupling))
    assert further.base is not NOTHING


def test_plans_of_one_descent_equal_those_planned_alone(tmp_path: Path) -> None:
    analysis = analyse(narrow(tmp_path), SIDE)
    model, batches = analysis.checkpoint.model, [torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))]
    found = response_of(model, analysis.coupling, WeightReaders(model, batches), batches)
    assert found is not None
    shared = Eliminations(planner := Planner(analysis, rules=Rules(round_to=4)), found)
    milder, deeper = (shared.plan([parse_target(share)], "l2") for share in ("flops=85%", "flops=75%"))
    assert milder is not None and 0.75 < milder.shares["flops"] <= 0.85
    assert deeper == Eliminations(planner, found).plan([parse_target("flops=75%")], "l2")


def removed_places(budget, coupling):  # type: ignore[no-untyped-def]
    return removal_of_step(budget.step, coupling).places.items()
