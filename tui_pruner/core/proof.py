"""The masked twin: the original model with exactly the removed slices set to zero must compute what the pruned model computes."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_pruner.core.analysis import trace_model
from tui_pruner.core.blocks import image_channels, sequence, stride_of
from tui_pruner.core.checkpoint import Checkpoint
from tui_pruner.core.groups import CouplingMap
from tui_pruner.core.plan import parse_plan, replay
from tui_pruner.core.predictions import predictions
from tui_pruner.core.removal import Removal
from tui_pruner.core.skeleton import sharing_weights
from tui_pruner.errors import PlanError

TOLERANCE = 1e-4
SIDE_IN_STRIDES = 4


@dataclass(frozen=True)
class Proof:
    """How far the pruned model's predictions are from the twin's; `equal` when the relative difference is at most 1e-4.

    `relative_difference` is the worst over the predicted tensors of max|a-b| / max|b|. `approximate` names what cannot be exact.
    """

    equal: bool
    max_abs_difference: float
    relative_difference: float
    approximate: tuple[str, ...]
    seconds: float


def masked_twin(model: nn.Module, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """A copy of the original in which the removed slices are zero: weights, biases, norm scales and shifts. All shapes stay."""
    twin = sharing_weights(model)
    own: dict[str, nn.Parameter] = {}
    stored = dict(twin.named_parameters())
    for member, positions in removal.members(coupling):
        name = member.axis.parameter
        if name not in stored:
            continue
        if name not in own:
            own[name] = nn.Parameter(stored[name].detach().clone(), requires_grad=False)
            path, _, attribute = name.rpartition(".")
            setattr(twin.get_submodule(path), attribute, own[name])
        own[name].data.index_fill_(member.axis.dim, torch.from_numpy(positions), 0.0)
    return twin


def prove(model: nn.Module, pruned: nn.Module, coupling: CouplingMap, removal: Removal, seed: int = 0) -> Proof:
    """Compare a pruned model with the masked twin of its original, in float32 on the CPU, on random images."""
    started = time.perf_counter()
    twin = masked_twin(model, coupling, removal)
    side = SIDE_IN_STRIDES * stride_of(model)
    image = torch.rand(2, image_channels(model), side, side, generator=torch.Generator().manual_seed(seed))
    expected = predictions(twin, head_of(twin), image)
    actual = predictions(pruned, head_of(pruned), image)
    absolute, relative = difference(actual, expected)
    return Proof(relative <= TOLERANCE, absolute, relative, (), time.perf_counter() - started)


def prove_file(original: Checkpoint, pruned: Checkpoint) -> Proof:
    """Compare a file that we wrote with the masked twin of its original, from the plan in the file.

    The file is in half precision, so the twin's weights take the same round trip; where the original is stored in half precision too,
    that changes nothing.

    Raises:
        PlanError: the file has no plan, or its plan is for another original.
    """
    if not pruned.provenance or "plan" not in pruned.provenance:
        raise PlanError(f"{pruned.path} was not written by this program: it has no plan to prove")
    model = copy.deepcopy(original.model).half().float()
    _, coupling = trace_model(model)
    return prove(model, pruned.model, coupling, replay(parse_plan(pruned.provenance["plan"]), coupling, original.sha256))


def head_of(model: nn.Module) -> nn.Module | None:
    """The last block of an Ultralytics model."""
    return sequence(model)[-1][1] if isinstance(getattr(model, "model", None), nn.Sequential) else None


def difference(actual: list[Tensor], expected: list[Tensor]) -> tuple[float, float]:
    """The largest absolute and the largest relative difference; infinite where the shapes or the number of tensors differ."""
    if [t.shape for t in actual] != [t.shape for t in expected]:
        return math.inf, math.inf
    absolute = relative = 0.0
    for a, b in zip(actual, expected, strict=True):
        if not a.is_floating_point() or not a.numel():
            continue
        gap, size = float((a - b).abs().max()), float(b.abs().max())
        if math.isnan(gap):
            return math.inf, math.inf
        absolute, relative = max(absolute, gap), max(relative, gap / (size + 1e-12))
    return absolute, relative
