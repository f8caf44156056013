"""Any small model that Ultralytics' yaml can say, under any plan: what is cut is proved and counted right, what is not cut is explained."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.core.conftest import proof_of
from tests.core.random_models import architectures
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.preview import Arithmetic
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.resolve import Resolution, resolve
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.criteria import NAMES
from tui_pruner.domain.cuts import Request
from tui_pruner.frameworks.ultralytics import build_from_yaml

PROFILES = {
    "default": settings(max_examples=50, derandomize=True, phases=[Phase.generate, Phase.shrink]),
    "thorough": settings(max_examples=2000, phases=[Phase.generate, Phase.shrink], print_blob=True),
    "brief": settings(max_examples=40, derandomize=True, phases=[Phase.generate]),
}
"""The default draws the same examples every time, `make thorough` others every time; the mutation check needs no smallest example."""
PROFILE = settings(
    PROFILES[os.environ.get("TUI_PRUNER_PROPERTY", "default")], database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


FOUND = [
    ([-1, 1, "DWConvTranspose2d", [24, 2, 2]], "l2"),  # a transposed convolution in groups, with a bias
    ([-1, 1, "DWConvTranspose2d", [8, 2, 2]], "l2"),  # a depthwise one
    ([-1, 1, "Conv", [16, 3, 1, None, 2]], "fpgm"),  # torch-pruning repeats a matrix as if it were a vector
]


@dataclass
class Tally:
    """What the examples met: a property that never meets anything holds for nothing."""

    examples: int = 0
    blocks: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    removed: int = 0
    contradictions: int = 0
    refusals: int = 0

    def __str__(self) -> str:
        met = f"{len(self.blocks)} kinds of blocks, {self.groups} groups cut, {self.removed} channels removed"
        return f"{self.examples} examples: {met}, {self.contradictions} contradictions, {self.refusals} refusals"


def opened(architecture: dict[str, Any], folder: Path) -> Analysis:
    path = folder / "random.yaml"
    path.write_text(yaml.safe_dump(architecture))
    return analyse(build_from_yaml(str(path)), imgsz=64)


def plans(analysis: Analysis) -> st.SearchStrategy[list[Request]]:
    """Requests for some layers by name, or for whole blocks, or for everything."""
    free = [name for name, layer in analysis.layers.items() if any(g.prunable for g in analysis.coupling.output_groups(layer.path))]
    names = [*free, *free, *free, *analysis.layers, *(str(block.index) for block in analysis.blocks if block.layers), "*"]
    ratio = st.integers(1, 95).map(lambda share: f"{share}%")
    amount = st.one_of(ratio, ratio, ratio, st.integers(1, 24).map(lambda width: f"keep:{width}"))
    request = st.builds(Request, st.sampled_from(names), amount, st.sampled_from(NAMES), st.sampled_from([1, 1, 2, 4, 8]))
    everything = st.builds(Request, st.just("*"), ratio, st.sampled_from(NAMES), st.sampled_from([1, 1, 2, 8]))
    return st.one_of(st.lists(request, min_size=1, max_size=4), everything.map(lambda request: [request]))


def check_explanations(found: Resolution, analysis: Analysis) -> None:
    """Nothing in contradiction is cut, and a plan that cuts nothing says why."""
    for contradiction in found.contradictions:
        group = analysis.coupling.groups[contradiction.group]
        assert not analysis.coupling.linked_system(group) & set(found.removal.places)
    assert found.removal.places or found.contradictions or found.refusals or found.notes


def check_predicted_size(analysis: Analysis, removal: Removal) -> None:
    """The preview's widths and parameters are those of the pruned model."""
    pruned = cut(analysis.checkpoint.model, analysis.coupling, removal)
    tensors = {**dict(pruned.named_parameters()), **dict(pruned.named_buffers())}
    widths = Arithmetic(analysis).widths(removal)
    for axis in analysis.coupling.sizes:
        assert widths.axis(axis) == tensors[axis.parameter].shape[axis.dim], axis
    assert widths.size.parameters == sum(parameter.numel() for parameter in pruned.parameters())
    kept = removal.kept(analysis.coupling)
    assert all(len(places) == tensors[name].shape[int(dim)] for name, dims in kept.items() for dim, places in dims.items())


def check_steps(analysis: Analysis, steps: Iterable[Sequence[Request]], tally: Tally) -> None:
    """Take the steps of a plan one on top of the other, and hold the program to its promise."""
    assert not analysis.coupling.unknown_operations
    base = NOTHING
    for requests in steps:
        found = resolve(analysis, requests, base)
        check_explanations(found, analysis)
        base = base.together(found.removal)
        tally.contradictions += len(found.contradictions)
        tally.refusals += len(found.refusals)
    tally.examples += 1
    tally.groups += len(base.places)
    tally.removed += int(np.sum(base.counts(analysis.coupling)))
    if base.places:
        check_predicted_size(analysis, base)
        proof = proof_of(analysis, base)
        assert proof.equal, proof


def test_every_random_plan_on_every_random_model_is_proved_or_explained(tmp_path):
    tally = Tally()

    @PROFILE
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        architecture = data.draw(architectures(), "architecture")
        tally.blocks.update(row[2] for row in architecture["backbone"] + architecture["head"])
        analysis = opened(architecture, tmp_path)
        check_steps(analysis, data.draw(st.lists(plans(analysis), min_size=1, max_size=2), "plan"), tally)

    holds()
    print(tally)
    assert tally.groups > 3 * tally.examples
    assert len(tally.blocks) >= min(45, tally.examples // 3)


@pytest.mark.parametrize(("block", "criterion"), FOUND)
def test_failures_once_found_by_random_models_do_not_return(block, criterion, tmp_path):
    backbone = [[-1, 1, "Conv", [24, 3, 2]], [-1, 1, "AConv", [8]], block]
    analysis = opened({"nc": 3, "reg_max": 4, "backbone": backbone, "head": [[[2], 1, "Detect", ["nc"]]]}, tmp_path)
    tally = Tally()
    check_steps(analysis, [[Request("*", "30%", criterion)]], tally)
    assert tally.removed > 0
