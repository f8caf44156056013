"""Labels of what a forward computes from its parameters: kernels that are masked, normalised or mixed before anything reads them.

An element of a weight belongs to two channels at once: the one that it writes and the one that it reads. So what is computed from weights
has several strands of labels, each of them a tensor like an activation's. A strand also knows what makes the values zero where a channel
is gone: a kernel that does not vanish there would go on reading the channel, and one that is divided by what vanishes is not a number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from torch import Tensor

from tui_pruner.core.flow.labels import Axis, changing, compact

Causes = frozenset[frozenset[Axis]]
"""Sets of parameter axes. Where all axes of any one set are zero at a channel, the values of that channel are zero too."""
NEVER: Causes = frozenset()
ALWAYS: Causes = frozenset([frozenset()])


def any_of(*causes: Causes) -> Causes:
    """What makes a product zero: whatever makes one of its factors zero."""
    return frozenset().union(*causes)


def all_of(*causes: Causes) -> Causes:
    """What makes a sum zero: all of its terms being zero."""
    return frozenset(frozenset().union(*sets) for sets in product(*causes)) if causes else NEVER


@dataclass(frozen=True)
class Strand:
    """One channel for each element, and what makes the elements of a channel zero."""

    labels: Tensor
    zero: Causes = NEVER

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The dimensions along which the channel changes."""
        return tuple(changing(self.labels))

    @property
    def present(self) -> bool:
        """Whether any element is of a channel at all."""
        (small,) = compact(self.labels)
        return bool((small != 0).any())

    def expanded(self, shape: tuple[int, ...]) -> Strand:
        """The same channels in a tensor that is broadcast."""
        return replace(self, labels=self.labels.expand(shape))


@dataclass(frozen=True)
class Computed:
    """The strands of a value that was computed from parameters."""

    strands: tuple[Strand, ...]

    @cached_property
    def changing(self) -> tuple[Strand, ...]:
        """The strands of more than one channel."""
        return tuple(strand for strand in self.strands if strand.dims)

    @property
    def crossed(self) -> bool:
        """Whether elements belong to several channels."""
        return len(self.changing) > 1

    def as_elements(self) -> Tensor | None:
        """Element labels where there is but one strand of several channels; None where strands would compete for an element."""
        if self.crossed:
            return None
        return next((strand.labels for strand in (*self.changing, *self.strands)), None)
