"""How much each channel of a group matters, by torch-pruning's criteria."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock as Mutex
from typing import Any, cast

import numpy as np
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from tui_pruner.core.groups import ChannelGroup
from tui_pruner.core.library import library_group, modules_of
from tui_pruner.errors import RequestError

Scores = NDArray[np.float64]
CRITERIA: dict[str, Callable[[], Any]] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "bn-scale": lambda: torch_pruning.importance.BNScaleImportance(),
    "lamp": lambda: torch_pruning.importance.LAMPImportance(),
    "fpgm": lambda: torch_pruning.importance.FPGMImportance(),
}
NEED_DATA = ("taylor", "hessian")
NAMES = (*CRITERIA, "random")


def check_criterion(name: str) -> None:
    """Refuse a criterion that does not exist or cannot be computed from weights alone.

    Raises:
        RequestError: with the criteria that there are.
    """
    if name in NEED_DATA:
        raise RequestError(
            f"the criterion {name} needs gradients from calibration images, which a cut cannot take yet; use {', '.join(NAMES)}"
        )
    if name not in NAMES:
        raise RequestError(f"unknown criterion {name!r}; there are {', '.join(NAMES)}")


class Ranking:
    """Scores of a model's groups, each computed once per criterion; safe to ask from several threads."""

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self._modules = modules_of(model)
        self._seed = seed
        self._scores: dict[tuple[int, str], Scores] = {}
        self._mutex = Mutex()

    def scores(self, group: ChannelGroup, criterion: str = "l2") -> Scores:
        """One score per channel of the group, larger is more important."""
        key = (group.number, criterion)
        if key not in self._scores:
            check_criterion(criterion)
            with self._mutex:
                self._scores[key] = self._compute(group, criterion)
        return self._scores[key]

    def _compute(self, group: ChannelGroup, criterion: str) -> Scores:
        if criterion == "random":
            return np.random.default_rng((self._seed, group.number)).random(group.channels)
        scores = CRITERIA[criterion]()(library_group(group.members, self._modules))
        if scores is None or len(scores) != group.channels:
            scores = CRITERIA["l2"]()(library_group(group.members, self._modules))
        return cast(Scores, np.nan_to_num(scores.double().numpy()))
