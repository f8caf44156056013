"""The stages that a model went through, each made of the file before: pruned, recalibrated, fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tui_pruner import __version__
from tui_pruner.core.checkpoint.record import Checkpoint
from tui_pruner.errors import CheckpointError, ProofError

FORMAT = 1
SPARSE = "sparse training"
"""The one stage that may come before the first cut."""


def stages_with(source: Checkpoint, kind: str, **details: Any) -> list[dict[str, Any]]:
    """The stages of a file that is made of the source now: those of the source, and this one with the file that it starts from."""
    return [*stages_of(source.provenance), {"kind": kind, "source": {"name": file_name(source), "sha256": source.sha256}, **details}]


def stages_of(provenance: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The stages that a file records, the oldest first; a file from before there were stages was pruned once."""
    if not provenance:
        return []
    return list(provenance.get("stages") or [{"kind": "prune", "source": provenance["source"]}])


def next_stage(source: Checkpoint, kind: str, **details: Any) -> dict[str, Any]:
    """What a file says of itself that has the source's structure and plan, but other weights or statistics.

    Raises:
        CheckpointError: the source was not pruned, and this is nothing that is done before.
        ProofError: the source was cut without a proof.
    """
    demand_proved(source)
    if not source.provenance and kind == SPARSE:
        return {
            "format": FORMAT,
            "version": __version__,
            "original_yaml": source.original_yaml,
            "stages": stages_with(source, kind, **details),
        }
    if not source.provenance:
        raise CheckpointError(f"{source.path} was not pruned by this program: prune it first, or use Ultralytics' own train()")
    return {**source.provenance, "stages": stages_with(source, kind, **details)}


def demand_proved(source: Checkpoint) -> None:
    """Refuse a file whose cut was written although its proof failed, as this program once did; one trained since stands by itself.

    Raises:
        ProofError: it is one.
    """
    stages = stages_of(source.provenance)
    proof = (source.provenance or {}).get("proof")
    if stages and stages[-1]["kind"] in ("prune", "mask") and isinstance(proof, Mapping) and proof.get("equal") is False:
        raise ProofError(f"{source.path} was cut without a proof (its twin disagreed): prune {stages[-1]['source']['name']} again")


def file_name(source: Checkpoint) -> str:
    """A file's name without its folder."""
    return source.path.replace("\\", "/").rsplit("/", 1)[-1]
