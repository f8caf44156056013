"""How much each channel of a group matters, by torch-pruning's criteria."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock as Mutex
from typing import Any, cast

import numpy as np
import torch
import torch_pruning
from torch import nn

from tui_pruner.core.calibrated import Calibration, Scores
from tui_pruner.core.groups import ChannelGroup, Member
from tui_pruner.core.library import library_group, modules_of
from tui_pruner.errors import RequestError

Criterion = Callable[[], Any]
CRITERIA: dict[str, Criterion] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "bn-scale": lambda: torch_pruning.importance.BNScaleImportance(),
    "lamp": lambda: torch_pruning.importance.LAMPImportance(),
    "fpgm": lambda: torch_pruning.importance.FPGMImportance(),
}
FROM_LABELS: dict[str, Criterion] = {
    "taylor": lambda: torch_pruning.importance.GroupTaylorImportance(),
    "hessian": lambda: torch_pruning.importance.GroupHessianImportance(),
}
FROM_IMAGES = ("obs",)
"""Criteria that read images without labels: `obs` ranks by what a refit of the readers cannot repair."""
NEED_DATA = (*FROM_LABELS, *FROM_IMAGES)
NAMES = (*CRITERIA, "random")


def library_scores(criterion: Criterion, group: ChannelGroup, modules: dict[str, nn.Module]) -> Scores:
    """One score per channel by torch-pruning; by l2 where the criterion has nothing to say of any channel in the group.

    Where torch-pruning knows none of the layers (parameters of modules that are no layers of PyTorch's), the lengths of what they write.
    """
    readable = library_group(group.members, modules)
    if not readable.items:
        return cast(Scores, np.sum([lengths(member, modules) for member in group.producers], axis=0))
    for ranking in (criterion, CRITERIA["l2"]):
        scores = ranking()(readable)
        if scores is not None and torch.isfinite(scores).any():
            break
    # torch-pruning makes as many scores as the first layer has rows, which are several for a channel of attention; the rest are empty.
    return cast(Scores, np.nan_to_num(scores[: group.channels].double().numpy()))


def lengths(member: Member, modules: dict[str, nn.Module]) -> Scores:
    """The length of each channel's slice of a parameter."""
    path, _, name = member.axis.parameter.rpartition(".")
    rows = getattr(modules[path], name).detach().movedim(member.axis.dim, 0).flatten(1).double().pow(2).sum(1).numpy()
    return cast(Scores, np.sqrt(rows[member.indices].sum(1)))


class Ranking:
    """Scores of a model's groups, each computed once per criterion; safe to ask from several threads."""

    def __init__(self, model: nn.Module, seed: int = 0, whole: Ranking | None = None) -> None:
        self._whole = whole
        self._modules = modules_of(model)
        self._seed = seed
        self._calibrations: dict[str, Calibration] = {}
        self._scores: dict[tuple[int, str], Scores] = {}
        self._mutex = Mutex()
        self.version = 0
        """How often scores from data were taken over: rankings of two versions may differ."""

    @property
    def names(self) -> tuple[str, ...]:
        """The criteria that can be asked for now."""
        if self._whole is not None:
            return self._whole.names
        return (*NAMES, *(name for name in NEED_DATA if name in self._calibrations))

    def of_classes(self, model: nn.Module) -> Ranking:
        """The ranking of the same channels in a model that has some of the classes; scores from data are this one's."""
        return Ranking(model, self._seed, self)

    def calibrate(self, calibration: Calibration) -> None:
        """From now on rank by these scores for the criteria that they are of."""
        with self._mutex:
            known = dict.fromkeys(calibration.criteria, calibration)
            self._calibrations |= known
            self.version += 1
            self._scores = {key: scores for key, scores in self._scores.items() if key[1] not in known}

    def check(self, criterion: str) -> None:
        """Refuse a criterion that does not exist, or one that needs data as long as there are no scores from data.

        Raises:
            RequestError: with the criteria that there are, or with what is missing.
        """
        if criterion in self.names:
            return
        if criterion in NEED_DATA:
            raise RequestError(
                f"the criterion {criterion} ranks by calibration images, which this model has not been through: "
                f"calibrate it first (--data DATA.yaml), or use {', '.join(NAMES)}"
            )
        raise RequestError(f"unknown criterion {criterion!r}; there are {', '.join((*NAMES, *NEED_DATA))}")

    def scores(self, group: ChannelGroup, criterion: str = "l2") -> Scores:
        """One score per channel of the group, larger is more important.

        Raises:
            RequestError: no such criterion, or it needs data.
        """
        if self._whole is not None and criterion in NEED_DATA:
            return self._whole.scores(group, criterion)
        key = (group.number, criterion)
        known = self._scores.get(key)
        if known is None:
            self.check(criterion)
            with self._mutex:
                known = self._scores[key] = self._compute(group, criterion)
        return known

    def _compute(self, group: ChannelGroup, criterion: str) -> Scores:
        if criterion == "random":
            return np.random.default_rng((self._seed, group.number)).random(group.channels)
        if criterion in NEED_DATA:
            return self._calibrations[criterion].scores(group, criterion)
        return library_scores(CRITERIA[criterion], group, self._modules)
