"""The masked twin: the original model with exactly the removed slices set to zero must compute what the pruned model computes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from tui_pruner.core.analysis import trace_checkpoint
from tui_pruner.core.blocks import image_channels, stride_of
from tui_pruner.core.checkpoint import Checkpoint
from tui_pruner.core.checkpoint.stages import stages_of
from tui_pruner.core.groups import CouplingMap
from tui_pruner.core.plan import parse_plan, replay
from tui_pruner.core.probe import probe_images
from tui_pruner.core.recording import Recording, continued, record
from tui_pruner.core.removal import Removal
from tui_pruner.core.sharing import in_float64, with_own
from tui_pruner.core.skeleton import owners_of_tensors, put_tensor, sharing_weights, tensor_at
from tui_pruner.errors import PlanError

TOLERANCE = 1e-4
SIDE_IN_STRIDES = 4
TELLING = 0.01
TINY = 1e-30
LEAST_EFFECT = {torch.float32: 1e-4, torch.float64: 1e-11}


@dataclass(frozen=True)
class Proof:
    """How far the pruned model's predictions are from the twin's.

    `relative_difference` is the worst over the predicted tensors of max|pruned - twin| / max|twin|. `effect` is how far the twin's are
    from the original's, in the same measure: a difference says nothing where the cut itself moves the predictions no further than
    rounding does, so `equal` demands a relative difference of at most 1e-4 and of at most a hundredth of the effect. Where float32 does
    not settle it, float64 does; the figures are those of `precision`. `approximate` names what cannot be exact, `failure` is what PyTorch
    says where the pruned model does not run at all.
    """

    equal: bool
    max_abs_difference: float
    relative_difference: float
    effect: float
    precision: str
    approximate: tuple[str, ...]
    seconds: float
    failure: str = ""


class DoesNotRun(Exception):
    """The pruned model's forward fails, in PyTorch's words: a width that no operation of the trace showed."""


@dataclass(frozen=True)
class Gap:
    """One predicted tensor: its size (largest value), how far pruned and twin are apart, how far twin and original are."""

    size: float
    difference: float
    effect: float

    def telling(self, precision: torch.dtype) -> bool:
        """Whether the effect stands out of the rounding at this precision."""
        return self.effect >= LEAST_EFFECT[precision] * self.size

    def settled(self, precision: torch.dtype) -> bool:
        """Whether this precision suffices: agreement beside an effect that stands out, or a tensor that the cut does not reach at all."""
        return self.agrees(precision) and (self.telling(precision) or self.effect == self.difference == 0.0)

    def agrees(self, precision: torch.dtype) -> bool:
        """Whether the difference is within tolerance, and small beside the effect where that stands out."""
        within = self.difference <= TOLERANCE * self.size
        return within and (not self.telling(precision) or self.difference <= TELLING * self.effect)


def masked_twin(model: nn.Module, coupling: CouplingMap, removal: Removal, owners: Mapping[str, Sequence[str]] | None = None) -> nn.Module:
    """A copy of the original in which the removed slices are zero: weights, biases, norm scales and shifts. All shapes stay.

    Axes that the forward divides by keep their values, as zeros there would be no numbers; the trace made sure that nothing reads them.
    `owners` has the names under which each tensor is stored, where they are known already.
    """
    owners = owners or owners_of_tensors(model)
    own: dict[str, nn.Parameter] = {}
    for member, positions in removal.members(coupling):
        name = member.axis.parameter
        if member.axis in coupling.spared:
            continue
        if name not in own and isinstance(stored := tensor_at(model, name), nn.Parameter):
            own[name] = nn.Parameter(stored.detach().clone(), requires_grad=False)
        if name in own:
            own[name].data.index_fill_(member.axis.dim, torch.from_numpy(positions), 0.0)
    twin = with_own(model, {owner.rpartition(".")[0] for name in own for owner in owners[name]})
    for name, parameter in own.items():
        for owner in owners[name]:
            put_tensor(twin, owner, parameter)
    return twin


class Original:
    """The network that proofs are measured against, with what it computes on their images: once for each precision."""

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.model = sharing_weights(model)
        self._seed = seed
        self._converted: dict[int, Tensor] = {}
        self._recordings: dict[torch.dtype, Recording] = {}

    @cached_property
    def images(self) -> Tensor:
        """The images that a proof is made on."""
        side = SIDE_IN_STRIDES * stride_of(self.model)
        return probe_images(2, image_channels(self.model), side, torch.Generator().manual_seed(self._seed))

    @cached_property
    def owners(self) -> dict[str, tuple[str, ...]]:
        """The names under which each tensor is stored."""
        return owners_of_tensors(self.model)

    @cached_property
    def exact(self) -> nn.Module:
        """The same network in float64."""
        return in_float64(self.model, self._converted)

    def recording(self, precision: torch.dtype) -> Recording:
        """Its predictions, and what its blocks hand out on the way."""
        if precision not in self._recordings:
            network = self.model if precision == torch.float32 else self.exact
            self._recordings[precision] = record(network, self.images.to(precision))
        return self._recordings[precision]

    def predictions_of(self, network: nn.Module, precision: torch.dtype) -> list[Tensor]:
        """What another network predicts on the same images; what it has in common with this one is not computed again."""
        recording = self.recording(precision)
        if precision == torch.float32:
            return continued(network, self.model, recording, self.images)
        return continued(in_float64(network, dict(self._converted)), self.exact, recording, self.images.to(precision))


def prove(
    model: nn.Module, pruned: nn.Module, coupling: CouplingMap, removal: Removal, seed: int = 0, original: Original | None = None
) -> Proof:
    """Compare a pruned model with the masked twin of its original, on the CPU, on random images.

    Who proves many cuts of one model hands in one `original` for all of them, which then is run only once.
    """
    started = time.perf_counter()
    original = original or Original(model, seed)
    twin = masked_twin(original.model, coupling, removal, original.owners)
    precision = torch.float32
    try:
        gaps = compare(original, twin, pruned, precision)
    except DoesNotRun as failure:
        return Proof(False, math.inf, math.inf, math.inf, "float32", (), time.perf_counter() - started, str(failure))
    if not any(gap.telling(precision) for gap in gaps) or not all(gap.settled(precision) for gap in gaps):
        precision = torch.float64
        gaps = compare(original, twin, pruned, precision)
    return Proof(
        equal=all(gap.agrees(precision) for gap in gaps),
        max_abs_difference=max((gap.difference for gap in gaps), default=0.0),
        relative_difference=max((gap.difference / (gap.size + TINY) for gap in gaps), default=0.0),
        effect=max((gap.effect / (gap.size + TINY) for gap in gaps), default=0.0),
        precision=str(precision).removeprefix("torch."),
        approximate=(),
        seconds=time.perf_counter() - started,
    )


def compare(original: Original, twin: nn.Module, pruned: nn.Module, precision: torch.dtype) -> list[Gap]:
    """The three models' predictions on the same images, tensor by tensor.

    Raises:
        DoesNotRun: the pruned model's forward fails.
    """
    expected = original.predictions_of(twin, precision)
    try:
        actual = original.predictions_of(pruned, precision)
    except (RuntimeError, ValueError, IndexError) as error:
        raise DoesNotRun(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if [leaf.shape for leaf in actual] != [leaf.shape for leaf in expected]:
        return [Gap(1.0, math.inf, math.inf)]
    before = original.recording(precision).predictions
    return [Gap(float(b.abs().max()), largest(a - b), largest(b - c)) for a, b, c in zip(actual, expected, before, strict=True)]


def largest(gap: Tensor) -> float:
    """The largest absolute value; infinite where it is no number."""
    value = float(gap.abs().max())
    return math.inf if math.isnan(value) else value


def prove_file(original: Checkpoint, pruned: Checkpoint) -> Proof:
    """Compare a file that we wrote with the masked twin of its original, from the plan in the file.

    The file is in half precision, so the twin's weights take the same round trip; where the original is stored in half precision too,
    that changes nothing.

    Raises:
        PlanError: the file has no plan, its plan is for another original, or it was trained after the cut.
    """
    if not pruned.provenance or "plan" not in pruned.provenance:
        raise PlanError(f"{pruned.path} was not written by this program: it has no plan to prove")
    *_, stage = stages_of(pruned.provenance)
    if stage["kind"] != "prune":
        raise PlanError(
            f"{pruned.path} has changed since it was cut ({stage['kind']}): prove {stage['source']['name']}, which it was made of"
        )
    model = copy.deepcopy(original.model).half().float()
    _, coupling = trace_checkpoint(original)
    return prove(model, pruned.model, coupling, replay(parse_plan(pruned.provenance["plan"]), coupling, original.sha256))
