"""What a trace leaves behind: operations, unions, links, locks and work, all in terms of labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tui_pruner.core.flow.labels import Axis, Labels, LabelSource

Role = Literal["out", "in", "depthwise", "norm", "scale"]


@dataclass(frozen=True)
class Operation:
    """One operation that ran: its aten name, the module whose forward called it, and what it did to channels."""

    index: int
    name: str
    module: str
    detail: str = ""


@dataclass(frozen=True)
class Union:
    """Labels that an operation made one and the same channel, pairwise."""

    operation: int
    left: Labels
    right: Labels


@dataclass(frozen=True)
class LinkedLabels:
    """An axis cut into equal parts: each part must lose equally many channels. Of `heads`, one may also go as a whole."""

    operation: int
    parts: tuple[Labels, ...]
    heads: bool = False


@dataclass(frozen=True)
class LockedLabels:
    """Labels that may not be removed, and why. A lower rank is the better explanation where several apply."""

    operation: int
    labels: Labels
    reason: str
    dim: int
    rank: int


@dataclass(frozen=True)
class SizedLabels:
    """Labels that went through an operation with sizes in its arguments, which the forward may have computed or may name.

    `place` says where: the module's class and how many operations it had run.
    """

    operation: int
    labels: Labels
    place: tuple[str, int]


@dataclass(frozen=True)
class ProductLabels:
    """A convolution or matrix product by something else than a stored weight: which of all that ran, in order, and the labels that its
    work is proportional to, a vector for each factor."""

    operation: int
    place: int
    factors: tuple[Labels, ...]


@dataclass(frozen=True)
class InnerLabels:
    """The channels that a repeat within a block reads and hands out, equally many, with its class and what silences it."""

    type: str
    inputs: Labels
    outputs: Labels
    silenced: tuple[str, ...]


@dataclass
class FlowRecord:
    """Everything that one run of the model told about its channels.

    `spared`: axes that something is divided by, so that zeros in a removed channel would make it no number; `relied`: axes whose zeros in a
    removed channel make a computed weight forget it.
    """

    source: LabelSource = field(default_factory=LabelSource)
    operations: list[Operation] = field(default_factory=list)
    unions: list[Union] = field(default_factory=list)
    links: list[LinkedLabels] = field(default_factory=list)
    sized: list[SizedLabels] = field(default_factory=list)
    products: list[ProductLabels] = field(default_factory=list)
    locks: list[LockedLabels] = field(default_factory=list)
    roles: dict[Axis, Role] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    spared: set[Axis] = field(default_factory=set)
    relied: set[Axis] = field(default_factory=set)
    block_outputs: dict[str, Labels] = field(default_factory=dict)
    inner: dict[str, InnerLabels] = field(default_factory=dict)

    def note(self, name: str, module: str) -> Operation:
        """Add an operation, and give it its number."""
        operation = Operation(len(self.operations), name, module)
        self.operations.append(operation)
        return operation

    def unify(self, operation: int, left: Labels, right: Labels) -> None:
        """Make two vectors of labels the same channels; positions that are no channels on either side are left out."""
        both = (left != 0) & (right != 0) & (left != right)
        if both.any():
            self.unions.append(Union(operation, left[both], right[both]))

    def lock(self, operation: int, labels: Labels, reason: str, dim: int = 1, rank: int = 5) -> None:
        """Forbid the removal of these labels."""
        present = np.zeros(self.source.count, dtype=bool)
        present[labels] = True
        present[0] = False
        found = np.flatnonzero(present)
        if len(found):
            self.locks.append(LockedLabels(operation, found, reason, dim, rank))
