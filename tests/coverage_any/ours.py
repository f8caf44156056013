"""`python -m tests.coverage_any.ours KIND/NAME`: open a network as any module, cut it, and prove the cuts twice.

Once with the program's own proof, once with a twin in float64 that has nothing of the program but the list of indices that are kept.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor, nn

import tui_pruner as tp
from tests.core.independent import zero_removed_slices
from tests.coverage.limits import NO_MEMORY, peak_bytes, tell, within
from tests.coverage_any.networks import PublicNetwork, built, run, told
from tests.thoroughness import some
from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.coverage import removal_of_one
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.removal import NOTHING, DemandSet, Removal, demand_share
from tui_pruner.core.pruning.resolve import choose
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original
from tui_pruner.core.tracing.coupling_map import ChannelGroup
from tui_pruner.domain.errors import PrunerError

SECONDS = 150
"""Processor seconds that a network may take."""
ALONE = 4
"""This many groups, spread over the network, are cut alone."""
QUARTER = 0.25
EXACT = 1e-9
SLIGHT = 2.0**-50
"""Change of the image, as a share, by which a network shows how far it enlarges rounding."""
MOST_NOISE = 1e-6
VISIBLE = 1e-9
"""A cut that moves the outputs less than this says nothing."""
PREDICTIONS = "feeds the model's predictions"


def judged(groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    """The groups that some layer writes and that are not the predictions themselves."""
    return [group for group in groups if group.producers and not (group.lock and group.lock.reason == PREDICTIONS)]


def widths(groups: Sequence[ChannelGroup]) -> dict[str, object]:
    """How many channels there are to cut, how many of them can be, and why the others cannot."""
    mine = judged(groups)
    locked: Counter[str] = Counter()
    for group in mine:
        if not group.prunable:
            locked[group.reason.partition(" (")[0]] += group.channels
    free = [group for group in mine if group.prunable]
    return {
        "groups": len(mine),
        "free_groups": len(free),
        "channels": sum(group.channels for group in mine),
        "free_channels": sum(group.channels for group in free),
        "locked": dict(locked),
    }


def all_at_once(analysis: Analysis) -> Removal:
    """A quarter of every group that can lose it beside those before."""
    coupling, demand_set = analysis.coupling, DemandSet()
    for group in coupling.groups:
        if group.prunable and group.number not in demand_set.demands:
            wider = DemandSet(demands=copy(demand_set.demands))
            demand_share(coupling, group, QUARTER, wider)
            demand_set = demand_set if wider.contradictions else wider
    groups = coupling.groups
    return Removal({n: choose(analysis, groups[n], demands[0], NOTHING) for n, demands in demand_set.demands.items() if demands[0].count})


class TwoProofs:
    """The verdicts on cuts of one network by the program and by a twin that is not its own."""

    def __init__(self, model: nn.Module, image: Tensor, analysis: Analysis) -> None:
        self.model, self.image, self.analysis = model, image.double(), analysis
        self.own = analysis.checkpoint.model
        self.original = Original(self.own, images=analysis.checkpoint.inputs)
        whole = zero_removed_slices(model, {})
        self.before = self._outputs(whole)
        self.noise = min(largest(self._outputs(whole, self.image * (1 + SLIGHT)), self.before), MOST_NOISE)

    def of(self, removal: Removal) -> dict[str, object]:
        """Both verdicts: "equal", "no effect", "out of memory" or "wrong"; with what is to be said."""
        coupling = self.analysis.coupling
        try:
            pruned = cut(self.own, coupling, removal)
            proof = prove(self.own, pruned, coupling, removal, original=self.original)
        except (PrunerError, RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            return {"ours": "wrong", "twin": "not run", "says": f"{type(error).__name__}: {error}"[:200]}
        try:
            wanted = self._outputs(zero_removed_slices(self.model, removal.kept(coupling)))
            difference, effect = (largest(self._outputs(zero_removed_slices(pruned, {})), wanted), largest(self.before, wanted))
        except RuntimeError as error:
            twin = "out of memory" if any(words in str(error) for words in NO_MEMORY) else "wrong"
            return {"ours": proof.verdict, "twin": twin, "says": str(error)[:200]}
        twin = "wrong" if not difference < max(EXACT, self.noise) else "equal" if effect > VISIBLE else "no effect"
        return {"ours": proof.verdict, "twin": twin, "difference": difference, "effect": effect, "says": proof.reason}

    def _outputs(self, network: nn.Module, image: Tensor | None = None) -> list[Tensor]:
        with torch.no_grad():
            return told(run(network.eval(), self.image if image is None else image))


def largest(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest difference as a share of the largest value, the worst of all outputs."""
    if [a.shape for a in left] != [b.shape for b in right]:
        return float("inf")
    return max((float((a - b).abs().max()) / max(float(b.abs().max()), 1e-300) for a, b in zip(left, right)), default=float("inf"))


def main(key: str) -> None:
    """Everything about one network; what is known early is told early."""
    within(SECONDS)
    torch.set_num_threads(1)
    model, image = built(PublicNetwork(*key.split("/", 1)))
    started = time.process_time()
    session = tp.open(model, example_inputs=(image,))
    analysis = session._steps.analysis
    coupling = analysis.coupling
    tell(
        {
            "side": image.shape[-1],
            "open_seconds": time.process_time() - started,
            "trace_seconds": coupling.seconds,
            "operations": coupling.operations,
            "unknown": dict(coupling.unknown_operations),
            "notes": [note[:200] for note in session.notes],
            **widths(coupling.groups),
        }
    )
    started = time.process_time()
    free = [group for group in judged(coupling.groups) if group.prunable]
    if free:
        proofs = TwoProofs(model, image, analysis)
        tell({"together": proofs.of(all_at_once(analysis))})
        tell({"alone": [{"group": group.number, **proofs.of(removal_of_one(analysis, group))} for group in some(free, ALONE)]})
    tell({"proof_seconds": time.process_time() - started, "peak_bytes": peak_bytes()})


if __name__ == "__main__":
    main(sys.argv[1])
