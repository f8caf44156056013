"""Writes what a job made of a pruned file: verified, as `prune` writes, with one more stage in its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.protocol import Check, WriteResult
from tui_pruner.jobs.stock import OnProgress

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.checkpoint import Checkpoint


class Destination(Protocol):
    """Where a job's parameters say that its file goes."""

    output: str
    force: bool


def write_stage(
    model: nn.Module, source: Checkpoint, destination: Destination, provenance: Mapping[str, Any], on_progress: OnProgress
) -> WriteResult:
    """Write a model that was made of the source.

    Raises:
        OutputError: the file cannot be written.
        VerificationError: it failed its checks in a clean process.
    """
    from tui_pruner.core.checkpoint.writing import write_model

    written = write_model(
        model,
        source,
        destination.output,
        provenance,
        destination.force,
        lambda doing: on_progress(JobProgress(done=0, total=0, doing=doing)),
    )
    checks = [Check(name=check.name, ok=check.ok, detail=check.detail) for check in written.checks]
    return WriteResult(output=written.output, sha256=written.sha256, bytes=written.bytes, checks=checks, own_names=list(written.own_names))
