"""The criteria that rank channels: their names, what they measure, and the data that they need."""

from __future__ import annotations

from dataclasses import dataclass

from tui_pruner.domain.errors import RequestError


@dataclass(frozen=True)
class Criterion:
    """A criterion: the engine's name for it, its name for display, and what it measures.

    `needs`: the data for its scores, images with labels or images alone; empty where the weights suffice.
    """

    name: str
    label: str
    meaning: str
    needs: str = ""


LABELS, IMAGES = "labels", "images"
REPAIR = "obs"
"""The default criterion of plans by measured damage."""

CRITERIA = (
    Criterion("l2", "L2", "length of a channel's weights"),
    Criterion("l1", "L1", "sum of a channel's absolute weights"),
    Criterion("bn-scale", "BN scale", "the scale of its batch norm"),
    Criterion("lamp", "LAMP", "weight against all stronger channels"),
    Criterion("fpgm", "FPGM", "distance to the other channels"),
    Criterion("random", "random", "by a seed, to compare with"),
    Criterion("taylor", "Taylor", "gradient of the loss on images", needs=LABELS),
    Criterion("hessian", "Hessian", "curvature of the loss on images", needs=LABELS),
    Criterion(REPAIR, "OBS", "what a refit cannot repair, no labels", needs=IMAGES),
)
_BY_NAME = {criterion.name: criterion for criterion in CRITERIA}


def criterion_of(name: str) -> Criterion:
    """The criterion of this name; one that is not in the table has its name as the label."""
    return _BY_NAME.get(name, Criterion(name, name, ""))


def scored_with(name: str) -> list[str]:
    """The criteria that one calibration scores together with this one: those that need the same data."""
    needs = criterion_of(name).needs
    return [criterion.name for criterion in CRITERIA if needs and criterion.needs == needs]


FROM_IMAGES = tuple(criterion.name for criterion in CRITERIA if criterion.needs == IMAGES)
"""Criteria that read images without labels: `obs` ranks by the error that no refit of the readers repairs."""
NEED_DATA = (*(criterion.name for criterion in CRITERIA if criterion.needs == LABELS), *FROM_IMAGES)
NAMES = tuple(criterion.name for criterion in CRITERIA if not criterion.needs)
"""Criteria that need only the weights."""


def demand_criterion(name: str) -> None:
    """Refuse a criterion that does not exist.

    Raises:
        RequestError: there is none of this name.
    """
    if name not in _BY_NAME:
        raise RequestError(f"unknown criterion {name!r}; there are {', '.join((*NAMES, *NEED_DATA))}")
