"""The network that proofs are measured against: what it computes on their images, and from which of its parameters."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from tui_pruner.core.blocks import image_channels, stride_of
from tui_pruner.core.flow.dependence import Following, training_paths
from tui_pruner.core.inputs import Inputs, inputs_of
from tui_pruner.core.predictions import Leaves, handed_through, predicted
from tui_pruner.core.probe import probe_images
from tui_pruner.core.recording import BUFFER, Recording, continued, record, tapped, trained
from tui_pruner.core.sharing import in_float64
from tui_pruner.core.skeleton import named_tensors, owners_of_tensors, sharing_weights, without_weights

SIDE_IN_STRIDES = 4
SEEDS = (0, 1)
LOG = logging.getLogger(__name__)
Reached = Mapping[str, set[str]]


class Paths:
    """From which parameters the outputs of a model are computed, in evaluation and on the paths of training: the same for all cuts."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self._model = model
        self._inputs = inputs

    @cached_property
    def reached(self) -> Reached:
        """By place in the output: the parameters and buffers that it is computed from."""
        return dependences(self._model, self._inputs)

    @cached_property
    def idle(self) -> set[str]:
        """The parameters and buffers that no prediction depends on: the modules above them have other paths in training."""
        return {name for name, tensor in named_tensors(self._model) if tensor.ndim}.difference(*self.reached.values())

    @cached_property
    def reached_in_training(self) -> Reached:
        """The same as `reached` on the paths of training, with the buffers that they give new values.

        Nothing where these paths cannot be run, or where chance decides what they compute.
        """
        try:
            reached = dependences(self._model, self._inputs, self.idle)
            first, second = (trained(self._model, self._inputs.to(least_of(self._model)), self.idle, reached, seed) for seed in SEEDS)
        except Exception as error:  # whatever a forward does in training, it is not what is proved first of all
            LOG.info("the paths of training cannot be run: %s", error)
            return {}
        same = all(torch.equal(first[place], second[place]) for place in first if isinstance(first[place], Tensor))
        return reached if same else {}


class Original:
    """What a model computes, once for each precision. `images` [n, channels, ...] are drawn where no inputs are given.

    `paths` are the model's own, where they are known. A model in float64 is never run at less.
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
        """Its predictions, and what its blocks hand out on the way."""
        if precision not in self._recordings:
            self._recordings[precision] = record(self._at(precision), self._given(precision))
        return self._recordings[precision]

    def predictions_of(self, network: nn.Module, precision: torch.dtype) -> Leaves:
        """What another network predicts on the same images; what it has in common with this one is not computed again."""
        recording, given = self.recording(precision), self._given(precision)
        leaves: Leaves = continued(self._as_exact(network, precision), self._at(precision), recording, given)
        return leaves

    def trained(self, precision: torch.dtype) -> Leaves:
        """What it predicts on the paths of training."""
        if precision not in self._trained:
            self._trained[precision] = self.trained_like(self._at(precision), precision)
        return self._trained[precision]

    def trained_like(self, network: nn.Module, precision: torch.dtype) -> Leaves:
        """What another network predicts on them."""
        return trained(self._as_exact(network, precision), self._given(precision), self.paths.idle, self.paths.reached_in_training)

    def tapped(self, network: nn.Module, paths: Iterable[str]) -> Leaves:
        """What some modules of another network hand out on the same images, and its predictions, at double precision."""
        return tapped(self._as_exact(network, torch.float64), self._given(torch.float64), paths)

    def _at(self, precision: torch.dtype) -> nn.Module:
        return self.model if self._plain(precision) else self.exact

    def _as_exact(self, network: nn.Module, precision: torch.dtype) -> nn.Module:
        return network if self._plain(precision) else in_float64(network, dict(self._converted))

    def _plain(self, precision: torch.dtype) -> bool:
        """Whether the model is run as it is."""
        return precision == torch.float32 == self._least

    def _given(self, precision: torch.dtype) -> Inputs:
        return self.inputs.to(precision if self._plain(precision) else torch.float64)


def least_of(model: nn.Module) -> torch.dtype:
    """The precision that a model is run at where nothing else is needed: float64 where any of its tensors has that."""
    return torch.float64 if any(tensor.dtype in (torch.float64, torch.complex128) for _, tensor in named_tensors(model)) else torch.float32


def drawn_for(model: nn.Module, seed: int) -> Tensor:
    """Return images that a proof can be made on."""
    side = SIDE_IN_STRIDES * stride_of(model)
    return probe_images(2, image_channels(model), side, torch.Generator().manual_seed(seed))


def dependences(model: nn.Module, inputs: Inputs, idle: Iterable[str] = ()) -> Reached:
    """By place in the output: the parameters and buffers that it is computed from, found out without computing it.

    With `idle` parameters on the paths of training that they lie on, where the buffers that these write count as output too.
    """
    skeleton, given = without_weights(model), inputs.on_meta()
    with torch.no_grad(), handed_through(skeleton) as features, Following(skeleton) as following, training_paths(skeleton, idle):
        leaves = predicted(given.run(skeleton), features)
    follows = following.dependence
    state = {BUFFER + name: {name} | follows.read_by([tensor]) for name, tensor in follows.state.items()} if idle else {}
    return {place: follows.read_by([leaf]) for place, leaf in leaves.items() if isinstance(leaf, Tensor)} | state
