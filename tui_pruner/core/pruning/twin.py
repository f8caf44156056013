"""What a cut model is compared with: the masked twin, which has zeros in place of the removed slices, and the original's outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_pruner.core.model.copies import (
    in_float64,
    modules_of,
    named_tensors,
    owners_of_tensors,
    put_tensor,
    sharing_weights,
    tensor_at,
    with_own,
    without_weights,
)
from tui_pruner.core.model.inputs import Inputs, inputs_of, probe_images
from tui_pruner.core.model.layers import image_channels, stride_of
from tui_pruner.core.model.predictions import Leaves, features_passed_through, predicted
from tui_pruner.core.model.recorded_forward import BUFFER, Recording, continued, outputs_of_modules, record, trained
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import skipping
from tui_pruner.core.tracing.coupling_map import CouplingMap, Indices, Normalised
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.core.tracing.meta_device import Following, training_paths

Change = Callable[[Tensor], Tensor]
Owners = Mapping[str, Sequence[str]]
REMAINS = 1e-9


def masked_twin(model: nn.Module, coupling: CouplingMap, removal: Removal, owners: Owners | None = None) -> nn.Module:
    """A copy of the original in which the removed slices are zero: weights, biases, norm scales and shifts. All shapes stay.

    In a dropped block the last layers of each branch are zero, so that it adds nothing to its input; a block without such layers is
    skipped.

    `owners` has the names under which each tensor is stored, where they are known already.
    """
    zeroed = with_slices(model, coupling, removal, torch.zeros_like, owners)
    return with_masked_normalisations(without_blocks(zeroed, coupling, removal), coupling, removal)


def approximated(coupling: CouplingMap, removal: Removal) -> dict[str, Indices]:
    """Return the channels that are left to each normalisation across channels that loses some, by the path of its module."""
    stays = removal.stays(coupling) if coupling.approximate else {}
    paths = {found.parameter: path for path, found in coupling.approximate.items()}
    return {paths[axis.parameter]: left for axis, left in sorted(stays.items()) if axis.parameter in paths}


def with_masked_normalisations(model: nn.Module, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """Return a copy of a masked twin whose normalisations across channels take their statistics from the channels that are left.

    They are computed from their definition, by sums over a mask, and not by PyTorch's operation.
    """
    left = approximated(coupling, removal)
    if not left:
        return model
    parts = modules_of(model, repeated=True)
    here = {path: [other for other, module in parts if module is model.get_submodule(path)] for path in left}
    changed = with_own(model, [path for paths in here.values() for path in paths])
    for path, kept in left.items():
        for norm in {id(norm): norm for norm in map(changed.get_submodule, here[path])}.values():
            found = coupling.approximate[path]
            mask = torch.zeros(tensor_at(model, found.parameter).numel(), dtype=torch.float64)
            mask[torch.from_numpy(kept)] = 1
            norm.__dict__["forward"] = MethodType(over(mask, found, getattr(norm.forward, "__func__", type(norm).forward)), norm)
    return changed


def over(mask: Tensor, found: Normalised, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward, as a method, with normalisations over a mask; no hooks, since an interruption would leave these in effect."""
    mode = MaskedNormalisations(mask, found)

    def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with mode:
            return function(module, *args, **kwargs)

    return forward


class MaskedNormalisations(TorchFunctionMode):
    """Normalisations across channels with the mean and variance of the channels of a mask alone: PyTorch's, and such by a mean."""

    def __init__(self, mask: Tensor, found: Normalised) -> None:
        super().__init__()
        self._mask = mask
        self._found = found

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a normalisation, or leave another operation as it is."""
        if function in (torch.mean, torch.Tensor.mean) and self._found.rank:
            return mean_over(self._mask, self._found, *args, **(kwargs or {}))
        return OVER.get(function, function)(*((self._mask, *args) if function in OVER else args), **(kwargs or {}))


def layer_norm_over(
    mask: Tensor, input: Tensor, normalized_shape: Any, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise the last dimension by the mean and variance of its masked places."""
    found = normalised(input, mask.to(input), (-1,), eps) * weight
    return found if bias is None else found + bias


def group_norm_over(mask: Tensor, input: Tensor, num_groups: int, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise each group of channels, [batch, channels, ...], by the mean and variance of its masked channels at all places."""
    grouped = input.reshape(len(input), num_groups, -1, *input.shape[2:])
    aligned = mask.to(input).view(1, num_groups, -1, *[1] * (input.ndim - 2))
    places = [-1, *[1] * (input.ndim - 2)]
    found = normalised(grouped, aligned, tuple(range(2, grouped.ndim)), eps).reshape(input.shape) * weight.view(places)
    return found if bias is None else found + bias.view(places)


def rms_norm_over(mask: Tensor, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divide by the root of the mean of squares of the masked places of the last dimension."""
    kept = mask.to(input)
    squares = (input.square() * kept).sum(-1, keepdim=True) / kept.sum()
    found = input * (squares + (torch.finfo(input.dtype).eps if eps is None else eps)).rsqrt()
    return found if weight is None else found * weight


def mean_over(
    mask: Tensor,
    found: Normalised,
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A mean; of its masked places where it is of a tensor of the rank, and along the dimension, that a normalisation takes it along."""
    dim, values = axis if dim is None else dim, input if dtype is None else input.to(dtype)
    dims = [one % input.ndim for one in ([dim] if isinstance(dim, int) else dim or range(input.ndim))]
    if input.ndim != found.rank or dims != [found.dim]:
        return torch.mean(values, dims, keepdim or keepdims)
    aligned = mask.to(values).view([-1 if place == found.dim else 1 for place in range(input.ndim)])
    return (values * aligned).sum(found.dim, keepdim or keepdims) / mask.sum().to(values)


def normalised(values: Tensor, mask: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """Values less their masked mean, by the root of their masked variance."""
    mask = mask.expand(values.shape)
    count = mask.sum(dims, keepdim=True)
    centred = values - (values * mask).sum(dims, keepdim=True) / count
    return centred / ((centred * mask).square().sum(dims, keepdim=True) / count + eps).sqrt()


OVER: dict[Any, Callable[..., Tensor]] = {F.layer_norm: layer_norm_over, F.group_norm: group_norm_over, F.rms_norm: rms_norm_over}


def without_blocks(model: nn.Module, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """Return a copy of a model that skips the dropped blocks that no zeros can silence; everything else is shared."""
    skipped = [path for path in removal.dropped if not coupling.inner[path].silenced]
    return skipping(with_own(model, {path.rpartition(".")[0] for path in skipped}), skipped) if skipped else model


def with_slices(model: nn.Module, coupling: CouplingMap, removal: Removal, change: Change, owners: Owners | None = None) -> nn.Module:
    """Return a copy of a model in which the slices of parameters that a removal takes are changed; everything else is shared.

    Of dropped blocks these are the parameters that silence them.

    Axes that the forward divides by keep their values, since zeros there would give NaN; the trace made sure that no output depends on
    them. The bias of a removed class is minus infinity, which makes the class never likely; with zero it would be as likely as not.
    """
    owners = owners or owners_of_tensors(model)
    own: dict[str, nn.Parameter] = {}
    classes = set[Axis]()
    if coupling.classes is not None and coupling.classes in removal.places:
        classes = {member.axis for member in coupling.groups[coupling.classes].members}
    for axis, positions in slices_of(model, coupling, removal):
        name, dim = axis.parameter, axis.dim
        if name not in own:
            own[name] = nn.Parameter(tensor_at(model, name).detach().clone(), requires_grad=False)
        places = torch.from_numpy(positions).to(own[name].device)
        was = own[name].data.index_select(dim, places)
        never = axis in classes and was.ndim == 1 and change in MASKS
        own[name].data.index_copy_(dim, places, torch.full_like(was, -torch.inf) if never else change(was))
    for name in (name for path in removal.dropped for name in coupling.inner[path].silenced):
        stored = tensor_at(model, name)
        own[name] = nn.Parameter(change(stored.detach()), requires_grad=False)
    changed = with_own(model, {owner.rpartition(".")[0] for name in own for owner in owners[name]})
    for name, parameter in own.items():
        for owner in owners[name]:
            put_tensor(changed, owner, parameter)
    return changed


def slices_of(model: nn.Module, coupling: CouplingMap, removal: Removal) -> Iterator[tuple[Axis, Indices]]:
    """Return the slices of parameters that a removal takes, except those that the forward divides by."""
    for member, positions in removal.members(coupling):
        if member.axis not in coupling.spared and isinstance(tensor_at(model, member.axis.parameter), nn.Parameter):
            yield member.axis, positions


def masked_slices(model: nn.Module, coupling: CouplingMap, removal: Removal) -> dict[str, dict[str, list[int]]]:
    """Return the slices that are zero in the masked twin as plain data: parameter -> dimension -> indices."""
    gone: dict[Axis, list[Indices]] = {}
    for axis, positions in slices_of(model, coupling, removal):
        gone.setdefault(axis, []).append(positions)
    for name in (name for path in removal.dropped for name in coupling.inner[path].silenced):
        gone[Axis(name, 0)] = [np.arange(len(tensor_at(model, name)))]
    masked: dict[str, dict[str, list[int]]] = {}
    for axis, parts in gone.items():
        masked.setdefault(axis.parameter, {})[str(axis.dim)] = np.unique(np.concatenate(parts)).tolist()
    return masked


def nearly_zero(slices: Tensor) -> Tensor:
    """Return removed slices scaled to almost zero, for forwards that would divide zero by zero."""
    return slices * REMAINS


MASKS: tuple[Change, ...] = (torch.zeros_like, nearly_zero)


def random_slices(seed: int) -> Change:
    """Return a change of slices to random numbers, so that a wrong cut shows; biases and scales are positive, so that ReLU passes."""
    generator = torch.Generator().manual_seed(seed)

    def change(slices: Tensor) -> Tensor:
        values = torch.randn(slices.shape, generator=generator, dtype=torch.float64)
        return (values.abs() + 1 if values.ndim == 1 else values).to(slices.dtype)

    return change


SIDE_IN_STRIDES = 4
SEEDS = (0, 1)
LOG = logging.getLogger(__name__)
Reached = Mapping[str, set[str]]


class Paths:
    """Which parameters the outputs of a model are computed from, in evaluation and on the paths of training; the same for all cuts."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self._model = model
        self._inputs = inputs

    @cached_property
    def reached(self) -> Reached:
        """By name of each output: the parameters and buffers that it is computed from."""
        return dependences(self._model, self._inputs)

    @cached_property
    def idle(self) -> set[str]:
        """The parameters and buffers that no prediction depends on: in training, the modules above them may take other paths."""
        return {name for name, tensor in named_tensors(self._model) if tensor.ndim}.difference(*self.reached.values())

    @cached_property
    def reached_in_training(self) -> Reached:
        """Like `reached`, on the paths of training, with the buffers that they write to as outputs too.

        Empty where these paths cannot be run, or where their results are random.
        """
        try:
            reached = dependences(self._model, self._inputs, self.idle)
            first, second = (trained(self._model, self._inputs.to(least_of(self._model)), self.idle, reached, seed) for seed in SEEDS)
        except Exception as error:  # training paths must not keep a cut from being proved
            LOG.info("the paths of training cannot be run: %s", error)
            return {}
        same = all(torch.equal(first[place], second[place]) for place in first if isinstance(first[place], Tensor))
        return reached if same else {}


class Original:
    """What a model computes, once for each precision. `images` [n, channels, ...] are drawn where no inputs are given.

    `paths` are the model's own, where they are known. A model in float64 is never run in a lower precision.
    """

    def __init__(self, model: nn.Module, seed: int = 0, images: Inputs | Tensor | None = None, paths: Paths | None = None) -> None:
        self.model = sharing_weights(model)
        self.inputs = inputs_of(drawn_for(self.model, seed) if images is None else images)
        self.paths = paths or Paths(self.model, self.inputs)
        self._least = least_of(self.model)
        self._converted: dict[int, Tensor] = {}
        self._recordings: dict[torch.dtype, Recording] = {}
        self._trained: dict[torch.dtype, Leaves] = {}

    @cached_property
    def owners(self) -> dict[str, tuple[str, ...]]:
        """The names under which each tensor is stored."""
        return owners_of_tensors(self.model)

    @cached_property
    def exact(self) -> nn.Module:
        """The same network in float64."""
        return in_float64(self.model, self._converted)

    def recording(self, precision: torch.dtype) -> Recording:
        """Its predictions, and the outputs of its blocks."""
        if precision not in self._recordings:
            self._recordings[precision] = record(self._at(precision), self._given(precision))
        return self._recordings[precision]

    def predictions_of(self, network: nn.Module, precision: torch.dtype) -> Leaves:
        """What another network predicts on the same images; what both networks have in common is not computed again."""
        recording, given = self.recording(precision), self._given(precision)
        leaves: Leaves = continued(self._as_exact(network, precision), self._at(precision), recording, given)
        return leaves

    def trained(self, precision: torch.dtype) -> Leaves:
        """What it predicts on the paths of training."""
        if precision not in self._trained:
            self._trained[precision] = self.trained_like(self._at(precision), precision)
        return self._trained[precision]

    def trained_like(self, network: nn.Module, precision: torch.dtype) -> Leaves:
        """What another network predicts on the paths of training."""
        return trained(self._as_exact(network, precision), self._given(precision), self.paths.idle, self.paths.reached_in_training)

    def outputs_of_modules(self, network: nn.Module, paths: Iterable[str]) -> Leaves:
        """The outputs of some modules of another network on the same images, and its predictions, in float64."""
        return outputs_of_modules(self._as_exact(network, torch.float64), self._given(torch.float64), paths)

    def _at(self, precision: torch.dtype) -> nn.Module:
        return self.model if self._plain(precision) else self.exact

    def _as_exact(self, network: nn.Module, precision: torch.dtype) -> nn.Module:
        return network if self._plain(precision) else in_float64(network, dict(self._converted))

    def _plain(self, precision: torch.dtype) -> bool:
        """Whether the model runs in its own precision."""
        return precision == torch.float32 == self._least

    def _given(self, precision: torch.dtype) -> Inputs:
        return self.inputs.to(precision if self._plain(precision) else torch.float64)


def least_of(model: nn.Module) -> torch.dtype:
    """The lowest precision that a model runs in: float64 where any of its tensors has that."""
    return torch.float64 if any(tensor.dtype in (torch.float64, torch.complex128) for _, tensor in named_tensors(model)) else torch.float32


def drawn_for(model: nn.Module, seed: int) -> Tensor:
    """Return images that a proof can be made on."""
    side = SIDE_IN_STRIDES * stride_of(model)
    return probe_images(2, image_channels(model), side, torch.Generator().manual_seed(seed))


def dependences(model: nn.Module, inputs: Inputs, idle: Iterable[str] = ()) -> Reached:
    """By name of each output: the parameters and buffers that it is computed from, found without computing it.

    With `idle` parameters, on the paths of training that they are on; then the buffers that these paths write to count as outputs too.
    """
    skeleton, given = without_weights(model), inputs.on_meta()
    with torch.no_grad(), features_passed_through(skeleton) as features, Following(skeleton) as following, training_paths(skeleton, idle):
        leaves = predicted(given.run(skeleton), features)
    follows = following.dependence
    state = {BUFFER + name: {name} | follows.read_by([tensor]) for name, tensor in follows.state.items()} if idle else {}
    return {place: follows.read_by([leaf]) for place, leaf in leaves.items() if isinstance(leaf, Tensor)} | state
