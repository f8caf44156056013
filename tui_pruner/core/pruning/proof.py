"""The masked twin: the original model with exactly the removed slices set to zero must compute what the pruned model computes."""

from __future__ import annotations

import copy
import html
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from tui_pruner.core.model.analysis import trace_checkpoint
from tui_pruner.core.model.checkpoint import Checkpoint, stages_of
from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.predictions import TINY, Gaps, Leaves, Mismatch, Unseen, gaps_between
from tui_pruner.core.model.recorded_forward import BUFFER
from tui_pruner.core.pruning.classes import kept_classes, names_in, only_classes, reduced, shifted
from tui_pruner.core.pruning.masks import MASK, mask_of, sources_of, unlike_the_twin
from tui_pruner.core.pruning.plan import parse_plan, replay
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import by_tensor, cut, narrowed, scaled_queries
from tui_pruner.core.pruning.twin import (
    Change,
    Original,
    Reached,
    approximated,
    nearly_zero,
    random_slices,
    with_masked_normalisations,
    with_slices,
    without_blocks,
)
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.core.tracing.inner_blocks import inside
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.errors import PlanError, ProofError
from tui_pruner.domain.formatting import plural
from tui_pruner.domain.results import NOT_EQUAL, Verdict

TRAINING = "in training: "
"""Prefix of the names of outputs that are computed on the paths of training."""
LIVELY_SEEDS = range(8)
MOST_NAMED = 4
WHOLE = "the model itself"
"""What failed where not even the uncut model runs."""


@dataclass(frozen=True)
class Proof:
    """How far the pruned model's predictions are from the twin's.

    `relative_difference` is the worst over the predicted tensors of max|pruned - twin| / max|twin|. `effect` is how far the twin's are
    from the original's, in the same measure: a difference means nothing where the cut itself moves the predictions no further than rounding
    does, so `equal` demands a relative difference of at most 1e-4 and of at most a hundredth of the effect. Where float32 does not decide,
    float64 does; the figures are those of `precision`. `failure` is PyTorch's message where the pruned model does not run at all.

    `approximate` names the normalisations across channels that lost some, whose statistics are over the remaining ones, in the twin too,
    and the layers of queries that were scaled, which `scaled` names alone. Such a cut does more than masking does, so it is `checked`
    where it agrees with that twin, and never `equal`.
    """

    equal: bool
    max_abs_difference: float
    relative_difference: float
    effect: float
    precision: str
    approximate: tuple[str, ...]
    seconds: float
    failure: str = ""
    not_exercised: tuple[str, ...] = ()
    elements: int = 0
    checked: bool = False
    scaled: tuple[str, ...] = ()

    @classmethod
    def failed(cls, failure: str, seconds: float = 0.0) -> Proof:
        """Return the verdict on a cut that could not be compared, with the reason."""
        return cls(False, math.inf, math.inf, math.inf, "float32", (), seconds, failure)

    @property
    def holds(self) -> bool:
        """Whether the pruned model may be used: it is equal, or approximate by choice and checked."""
        return self.equal or self.checked

    @property
    def verdict(self) -> Verdict:
        """Return the verdict in two words. A cut that no compared output depends on counts as little as one that differs."""
        if self.holds:
            return "equal" if self.equal else "approximate"
        return "not exercised" if self.not_exercised else "not equal"

    @property
    def reason(self) -> str:
        """Return why the pruned model is not proved; empty where it is."""
        if self.holds:
            return "" if self.equal else f"{self._approximation}; {NOT_EQUAL}"
        if self.failure:
            return self.failure
        if self.not_exercised and not self.elements:
            return "not exercised, since no output has a finite number to compare: check the weights and the inputs"
        if self.not_exercised:
            named = ", ".join(self.not_exercised[:MOST_NAMED])
            more = f" and {len(self.not_exercised) - MOST_NAMED} more" if len(self.not_exercised) > MOST_NAMED else ""
            return f"not exercised, since nothing that could be compared depends on it: {named}{more}"
        figures = f"relative difference {self.relative_difference:.1e} where the cut moves the predictions by {self.effect:.1e}"
        return f"the masked twin disagrees: {figures}"

    @property
    def advice(self) -> str:
        """What to do where it does not hold."""
        return "give inputs that the model reads" if self.failure.startswith(WHOLE) else "leave out what the last step cuts"

    @property
    def _approximation(self) -> str:
        normalised = len(set(self.approximate) - set(self.scaled))
        layers = {"a normalisation over what is left": normalised, "a scaled query": len(self.scaled)}
        return " and ".join(f"{plural(count, 'layer')} with {what}" for what, count in layers.items() if count)

    def _repr_html_(self) -> str:
        figures = f"relative difference {self.relative_difference:.1e} where the cut moves the outputs by {self.effect:.1e}"
        return f"<p>{html.escape(self.verdict if self.equal else f'{self.verdict}: {self.reason}')} ({figures})</p>"

    def plain(self) -> dict[str, Any]:
        """Return all fields and the verdict as plain data."""
        named = {name: list(getattr(self, name)) for name in ("approximate", "not_exercised", "scaled")}
        return {**asdict(self), **named, "verdict": self.verdict, "reason": self.reason}


class Stopped(Exception):
    """The comparison cannot be made; the message says why."""


def prove(
    model: nn.Module, pruned: nn.Module, coupling: CouplingMap, removal: Removal, seed: int = 0, original: Original | None = None
) -> Proof:
    """Compare a pruned model with the masked twin of its original, on the CPU, on random images.

    To prove many cuts of one model, pass one `original` for all of them: it then runs only once.

    Raises:
        ProofError: no tensor is found in what the model returns.
    """
    started = time.perf_counter()
    original = original or Original(model, seed)
    try:
        cutting = Cutting(original, pruned, coupling, removal)
        gaps = cutting.gaps()
        missing = cutting.not_exercised(gaps) if gaps.agree else ()
    except Unseen as error:
        raise ProofError(f"there is nothing to prove: {error}") from None
    except (Stopped, Mismatch) as failure:
        return Proof.failed(str(failure), time.perf_counter() - started)
    agrees = gaps.agree and not missing
    scaled = tuple(dict.fromkeys(Axis(query.parameters[0], 0).module for query, _ in scaled_queries(coupling, removal)))
    changed = (*approximated(coupling, removal), *scaled)
    return Proof(
        equal=agrees and not changed,
        checked=agrees and bool(changed),
        max_abs_difference=max((gap.difference for gap in gaps.by_place.values()), default=0.0),
        relative_difference=max((gap.difference / (gap.size + TINY) for gap in gaps.by_place.values()), default=0.0),
        effect=max((gap.effect / (gap.size + TINY) for gap in gaps.by_place.values()), default=0.0),
        precision=str(gaps.precision).removeprefix("torch."),
        approximate=changed,
        seconds=time.perf_counter() - started,
        not_exercised=missing,
        elements=gaps.elements,
        scaled=scaled,
    )


@dataclass(frozen=True)
class Cutting:
    """A cut to prove: the original, the pruned model, and what was removed."""

    original: Original
    pruned: nn.Module
    coupling: CouplingMap
    removal: Removal

    @cached_property
    def names(self) -> set[str]:
        """The parameters and buffers that lost something; of dropped blocks those that silence them, or all."""
        silenced = {name for path in self.removal.dropped for name in self.coupling.inner[path].silenced}
        skipped = [path for path in self.removal.dropped if not self.coupling.inner[path].silenced]
        parameters = [name for name, _ in self.original.model.named_parameters()] if skipped else []
        lost = {member.axis.parameter for member, _ in self.removal.members(self.coupling)}
        return lost | silenced | {name for name in parameters if inside(name, skipped)}

    @cached_property
    def reached(self) -> Reached:
        """By name of each compared output: the parameters and buffers that it is computed from."""
        paths = self.original.paths
        if not self.names & paths.idle:
            return paths.reached
        return {**paths.reached, **{TRAINING + place: names for place, names in paths.reached_in_training.items()}}

    @cached_property
    def kept(self) -> list[int] | None:
        """The numbers of the classes that are left; None where all are."""
        return kept_classes(self.coupling, self.removal)

    def gaps(self) -> Gaps:
        """Return the comparison with the twin: in float32, and where that does not decide in float64.

        Raises:
            Stopped: a network does not run.
            Mismatch: the pruned model's output has another structure.
            Unseen: no tensor is found in it.
        """
        self.check_names()
        gaps = self.compared(torch.zeros_like, torch.float32)
        if not gaps.settled:
            gaps = self.compared(torch.zeros_like, torch.float64)
        return self.compared(nearly_zero, torch.float64) if gaps.undefined else gaps

    def compared(self, change: Change, precision: torch.dtype) -> Gaps:
        """Return the comparison with a twin whose removed slices are changed in this way."""
        original, trains = self.original, len(self.reached) > len(self.original.paths.reached)
        twin = self._twin(change)
        with failures_described(WHOLE):
            before = self.unmasked(original.recording(precision).given)
        with failures_described("the masked twin"):
            expected = self.masked(original.predictions_of(twin, precision))
        with failures_described("the pruned model"):
            actual = original.predictions_of(self.pruned, precision)
        if trains:
            with failures_described(f"{WHOLE} in training"):
                before = before | self._in_training(self.unmasked(original.trained(precision)), narrow=True)
            with failures_described("the masked twin in training"):
                expected = expected | self._in_training(self.masked(original.trained_like(twin, precision)), narrow=True)
            with failures_described("the pruned model in training"):
                actual = actual | self._in_training(original.trained_like(self.pruned, precision))
        return gaps_between(actual, expected, before, precision)

    def not_exercised(self, gaps: Gaps) -> tuple[str, ...]:
        """Return the modules where the comparison could not tell a wrong cut from a right one, in the model's order.

        These are the cut modules that no compared output depends on; and all cut modules where the cut changes no output, unless the same
        cut is right with other weights.
        """
        missing = self.names.difference(*(self.reached.get(place, set()) for place in gaps.compared))
        if not missing and self.names and not gaps.telling and not self._right_when_alive():
            missing = self.names
        return tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in self.original.owners if name in missing))

    def _right_when_alive(self) -> bool:
        """Whether the same cut is right with random removed slices, and the pruned model has exactly the weights that the cut leaves."""
        model, coupling, removal = self.original.model, self.coupling, self.removal
        again = dict(named_tensors(cut(model, coupling, removal)))
        if not all(name in again and torch.equal(tensor, again[name]) for name, tensor in named_tensors(self.pruned)):
            return False
        for seed in LIVELY_SEEDS:
            alive = with_slices(model, coupling, removal, random_slices(seed), self.original.owners)
            original = Original(alive, images=self.original.inputs, paths=self.original.paths)
            cutting = Cutting(original, cut(alive, coupling, removal), coupling, removal)
            gaps = cutting.gaps()
            if not gaps.telling and gaps.agree:
                gaps = cutting.within()
            if gaps.telling or not gaps.agree:
                return gaps.agree
        return False

    def within(self) -> Gaps:
        """Return the comparison of the outputs of the layers that read cut channels, since later layers may multiply them by zero.

        An untrained network may have zeros in the last layer of a branch, and a head that gets its classes as text has no layers before
        them.
        """
        twin = self._twin(torch.zeros_like)
        cut_here = [(member.axis.module, member.role == "in") for member, _ in self.removal.members(self.coupling)]
        readers = {path for path, reads in cut_here if reads} - {path for path, reads in cut_here if not reads}
        lost = self.removal.counts(self.coupling)
        whole = {path for path in self.removal.dropped if not any(lost[number] for number in self.coupling.inner[path].outputs)}
        actual, expected, before = (
            self.original.outputs_of_modules(one, sorted(readers | whole)) for one in (self.pruned, twin, self.original.model)
        )
        return gaps_between(actual, self.masked(expected), self.unmasked(before), torch.float64)

    def masked(self, leaves: Leaves) -> Leaves:
        """Return the twin's outputs, reduced to the kept classes."""
        return leaves if self.kept is None else reduced(leaves, self.original.model, self.kept)

    def unmasked(self, leaves: Leaves) -> Leaves:
        """Return the original's outputs, reduced to as many classes; where only classes are cut, to other classes than those kept.

        The effect is measured against them: a right cut of classes changes no output of the classes that stay.
        """
        if self.kept is None:
            return leaves
        classes = only_classes(self.coupling, self.removal)
        alone = self.removal.places.keys() == classes.places.keys() and not self.removal.dropped
        count = self.coupling.groups[self.coupling.classes or 0].channels
        return reduced(leaves, self.original.model, shifted(self.kept, count) if alone else self.kept)

    def check_names(self) -> None:
        """Refuse a pruned model whose class names differ from those of the original.

        Raises:
            Mismatch: they do.
        """
        names = names_in(self.original.model)
        wanted = names if self.kept is None else {new: names.get(old, str(old)) for new, old in enumerate(self.kept)}
        if names_in(self.pruned) != wanted:
            raise Mismatch(f"the pruned model's classes are {names_in(self.pruned)} in place of {wanted}")

    def _twin(self, change: Change) -> nn.Module:
        """Return the original with the removed slices changed, and without the dropped blocks that no slices silence."""
        changed = with_slices(self.original.model, self.coupling, self.removal, change, self.original.owners)
        return with_masked_normalisations(without_blocks(changed, self.coupling, self.removal), self.coupling, self.removal)

    def _in_training(self, leaves: Leaves, narrow: bool = False) -> Leaves:
        """Name outputs as those of training; of the buffers of an uncut network keep only what the cut leaves."""
        kept = by_tensor(self.removal.stays(self.coupling)) if narrow else {}
        return {TRAINING + place: narrowed(leaf, kept[name]) if (name := place.removeprefix(BUFFER)) in kept else leaf
                for place, leaf in leaves.items() if not inside(place.removeprefix(BUFFER), self.removal.dropped)}  # fmt: skip


@contextmanager
def failures_described(what: str) -> Iterator[None]:
    """Turn a failure of a forward into words that name the network that failed.

    Raises:
        Stopped: it failed; with PyTorch's message.
    """
    try:
        yield
    except (Unseen, MemoryError):
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Stopped(f"{what} does not run: {first}") from error


def prove_file(original: Checkpoint, pruned: Checkpoint) -> Proof:
    """Compare a file that we wrote with the masked twin of its original, by the plan in the file.

    The file is in half precision, so the twin's weights are rounded in the same way; where the original is stored in half precision too,
    that changes nothing. A masked file must have exactly the weights of the twin that the cut is proved against.

    Raises:
        PlanError: the file has no plan, its plan is for another original, or it was trained after the cut.
    """
    if not pruned.provenance or "plan" not in pruned.provenance:
        raise PlanError(f"{pruned.path} was not written by this program: it has no plan to prove")
    stages = stages_of(pruned.provenance)
    stage = stages[-1]
    if stage["kind"] not in ("prune", MASK):
        raise PlanError(
            f"{pruned.path} has changed since it was cut ({stage['kind']}): prove {stage['source']['name']}, which it was made of"
        )
    model = copy.deepcopy(original.model).half().float()
    _, coupling = trace_checkpoint(original)
    plan = parse_plan(pruned.provenance["plan"])
    if {original.sha256, plan.sha256} <= {source["sha256"] for source in sources_of(stages)}:
        plan = plan.model_copy(update={"sha256": original.sha256})
    removal = replay(plan, coupling, original.sha256)
    if stage["kind"] != MASK:
        return prove(model, pruned.model, coupling, removal)
    mask = mask_of(pruned.model, pruned.provenance)
    if mask is None:
        raise PlanError(f"{pruned.path} says that it is masked, but not by slices of its own: mask {original.path} again")
    other = unlike_the_twin(mask, with_slices(model, coupling, removal, torch.zeros_like), pruned.model)
    return Proof.failed(other) if other else prove(model, cut(model, coupling, removal), coupling, removal)
