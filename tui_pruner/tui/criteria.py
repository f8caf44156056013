"""The criteria that say which channels go first, as people choose between them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """A criterion: the engine's name for it, what it is called, and what it goes by; `needs_data` where images must be scored first."""

    name: str
    label: str
    meaning: str
    needs_data: bool = False


CRITERIA = (
    Criterion("l2", "L2", "length of a channel's weights"),
    Criterion("l1", "L1", "sum of a channel's absolute weights"),
    Criterion("bn-scale", "BN scale", "the scale of its batch norm"),
    Criterion("lamp", "LAMP", "weight against all stronger channels"),
    Criterion("fpgm", "FPGM", "distance to the other channels"),
    Criterion("random", "random", "by a seed, to compare with"),
    Criterion("taylor", "Taylor", "gradient of the loss on images", needs_data=True),
    Criterion("hessian", "Hessian", "curvature of the loss on images", needs_data=True),
)
_BY_NAME = {criterion.name: criterion for criterion in CRITERIA}


def criterion_of(name: str) -> Criterion:
    """The criterion that the engine calls so; one that is not in the table is called by its name."""
    return _BY_NAME.get(name, Criterion(name, name, ""))
