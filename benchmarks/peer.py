"""torch-pruning's own pruner on a YOLOv8: C2f unfolded as its example does, and a ratio for a wanted share of the operations."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.nn.modules import C2PSA, C2f, Conv, Detect, Proto

HALVINGS = 9
CLOSE = 0.002
LAYERS = (nn.Conv2d, nn.Linear)


class Unfolded(nn.Module):
    """A C2f whose two halves are written by convolutions of their own, since torch-pruning's example cuts `chunk` apart.

    Source: examples/yolov8/yolov8_pruning.py of torch-pruning (C2f_v2 there).
    """

    def __init__(self, block: C2f) -> None:
        super().__init__()
        self.cv0, self.cv1 = (half(block.cv1, first) for first in (True, False))
        self.cv2, self.m = block.cv2, block.m
        self.__dict__.update({name: getattr(block, name) for name in ("f", "i", "type")})

    def forward(self, image: Tensor) -> Tensor:
        """The same channels as C2f's."""
        parts = [self.cv0(image), self.cv1(image)]
        parts.extend(block(parts[-1]) for block in self.m)
        whole: Tensor = self.cv2(torch.cat(parts, 1))
        return whole


def half(whole: Conv, first: bool) -> Conv:
    """A convolution with normalisation for the first or the second half of another one's channels."""
    count = whole.conv.out_channels // 2
    rows = slice(0, count) if first else slice(count, 2 * count)
    part = copy.deepcopy(whole)
    part.conv.out_channels = part.bn.num_features = count
    part.conv.weight = nn.Parameter(whole.conv.weight.detach()[rows].clone())
    for name in ("weight", "bias"):
        setattr(part.bn, name, nn.Parameter(getattr(whole.bn, name).detach()[rows].clone()))
    for name in ("running_mean", "running_var"):
        setattr(part.bn, name, getattr(whole.bn, name)[rows].clone())
    return part


def unfolded(model: nn.Module) -> nn.Module:
    """A copy of a model with every C2f unfolded, which computes the same."""
    found = copy.deepcopy(model)
    for parent in list(found.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, C2f):
                setattr(parent, name, Unfolded(child))
    return found


def operations(model: nn.Module, image: Tensor) -> float:
    """What torch-pruning counts for a forward pass; both programs' models are counted by it."""
    return float(tp.utils.count_ops_and_params(copy.deepcopy(model).eval(), image)[0])


@dataclass(frozen=True)
class Recipe:
    """How it is asked to prune: by which criterion, each layer by one share or all by one threshold, and whether the whole head stays."""

    criterion: str
    everywhere: bool
    whole_head: bool

    @property
    def words(self) -> str:
        """For a table."""
        sharing = "one threshold" if self.everywhere else "one share"
        return f"{self.criterion}, {sharing}, {'head kept' if self.whole_head else 'head cut too'}"


CRITERIA: dict[str, Callable[[], Any]] = {
    "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
    "bn-scale": lambda: tp.importance.BNScaleImportance(),
    "fpgm": lambda: tp.importance.FPGMImportance(p=2),
    "taylor": lambda: tp.importance.GroupTaylorImportance(),
}


def recipes() -> Iterator[Recipe]:
    """All that are tried."""
    return itertools.starmap(Recipe, itertools.product(CRITERIA, (False, True), (True, False)))


@dataclass(frozen=True)
class Found:
    """A pruned copy, the share of the operations that it has, and the output channels that its layers keep, by weight."""

    model: nn.Module
    left: float
    kept: Mapping[str, Mapping[int, NDArray[np.int64]]]


def pruned(model: nn.Module, image: Tensor, recipe: Recipe, share: float) -> Found | None:
    """A copy with about `share` of the operations; None where the recipe does not run.

    The gradients of `model` are those that Taylor goes by.
    """
    whole, low, high = operations(model, image), 0.0, 0.95
    best: Found | None = None
    for _ in range(HALVINGS):
        ratio = (low + high) / 2
        made = once(model, image, recipe, ratio)
        if made is None:
            high = ratio
            continue
        found = Found(made[0], operations(made[0], image) / whole, made[1])
        if best is None or abs(found.left - share) < abs(best.left - share):
            best = found
        if abs(found.left - share) < CLOSE:
            break
        low, high = (ratio, high) if found.left > share else (low, ratio)
    return best


def once(model: nn.Module, image: Tensor, recipe: Recipe, ratio: float) -> tuple[nn.Module, Mapping[str, Any]] | None:
    """One pruning by a ratio, with what it keeps; None where the result does not run."""
    found = with_gradients(model)
    heads = [module for module in found.modules() if isinstance(module, Detect)]
    last = [branch[-1] for head in heads for branches in (head.cv2, head.cv3) for branch in branches]
    last += [branch[-1] for head in heads for branch in getattr(head, "cv4", ())] + [m for m in found.modules() if isinstance(m, Proto)]
    ignored = heads if recipe.whole_head else [*last, *(head.dfl for head in heads)]
    ignored += [module for module in found.modules() if isinstance(module, C2PSA)]
    names = {module: name for name, module in found.named_modules()}
    left = {name: np.arange(len(module.weight)) for module, name in names.items() if isinstance(module, LAYERS)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = tp.pruner.MetaPruner(
                found, image, importance=CRITERIA[recipe.criterion](), pruning_ratio=ratio, ignored_layers=ignored,
                global_pruning=recipe.everywhere, max_pruning_ratio=0.9,
            )  # fmt: skip
            for group in pruner.step(interactive=True):
                for dependency, indices in group:
                    name = names.get(dependency.target.module, "")
                    if name in left and dependency.handler.__name__ == "prune_out_channels":
                        left[name] = np.delete(left[name], indices)
                group.prune()
            found.eval()(image)
    except Exception:  # no matter what their tracer or the pruned model stumbles over, the recipe is not a use here
        return None
    found.zero_grad()
    if any(len(left[name]) != len(module.weight) for module, name in names.items() if name in left):
        raise RuntimeError("what torch-pruning cut was followed wrongly")
    return found, {f"{name}.weight": {0: kept} for name, kept in left.items()}


def with_gradients(model: nn.Module) -> nn.Module:
    """A copy that keeps the gradients, in the state in which torch-pruning traces."""
    found = copy.deepcopy(model).eval()
    for mine, other in zip(found.parameters(), model.parameters(), strict=True):
        mine.requires_grad_(True)
        mine.grad = None if other.grad is None else other.grad.clone()
    return found
