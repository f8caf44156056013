"""Writes a pruned model: into a temporary file beside the target, verified in a clean process, and only then moved into place."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tui_pruner.core.checkpoint.contents import checkpoint_dictionary, for_saving, provenance_of, with_numberings, with_trust
from tui_pruner.core.checkpoint.output import check_output, output_error, require_writable
from tui_pruner.core.checkpoint.record import Checkpoint
from tui_pruner.core.checkpoint.stages import stages_of
from tui_pruner.core.checkpoint.stock import stock_tasks
from tui_pruner.core.checkpoint.verification import CheckResult, verify
from tui_pruner.disk import temporary_beside, write_durably
from tui_pruner.errors import OutputError, VerificationError
from tui_pruner.leftovers import remove_leftovers


@dataclass(frozen=True)
class WrittenFile:
    """A checkpoint that is in its place: its size in bytes, its SHA-256, and the checks that it passed before it got there.

    `own_names`: what it takes from modules of its user's, as the trusted file did that it was made from; without trust it is not opened.
    """

    output: str
    sha256: str
    bytes: int
    checks: tuple[CheckResult, ...]
    own_names: tuple[str, ...] = ()


def write_checkpoint(
    pruned: nn.Module,
    source: Checkpoint,
    output: str | Path,
    *,
    plan: dict[str, Any],
    kept: dict[str, dict[str, list[int]]],
    proof: dict[str, Any],
    dropped: Sequence[str] = (),
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
) -> WrittenFile:
    """Save the pruned model as a file that stock Ultralytics loads without this program; the source is never opened for writing.

    Raises OutputError when the place is not usable, or nothing that is made from the source can be written, and VerificationError when
    the file fails a check; then nothing is left behind and a file that was there before is as it was.
    """
    return write_model(pruned, source, output, provenance_of(source, plan, kept, proof, dropped), force, on_progress)


def write_model(
    pruned: nn.Module,
    source: Checkpoint,
    output: str | Path,
    provenance: Mapping[str, Any],
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
) -> WrittenFile:
    """Save a model that was made of the source, with what its file is to say about where it comes from; else as `write_checkpoint`."""
    target = check_output(output, source.path, force)
    require_writable(source)
    remove_leftovers()
    _require_unfused(pruned)
    on_progress("serialising")
    saved = for_saving(pruned, source, cut=was_cut(provenance))
    data = _serialised(checkpoint_dictionary(saved, source, with_trust(with_numberings(provenance, saved), source)))
    try:
        with temporary_beside(target) as temporary:
            on_progress(f"writing {len(data) / 1e6:.1f} MB")
            write_durably(temporary, data)
            on_progress("verifying in a clean process")
            checks = verify(temporary, saved, source.own_names)
            _move_into_place(temporary, target, force)
    except OSError as error:
        raise output_error(output, error) from error
    on_progress("done")
    return WrittenFile(str(output), hashlib.sha256(data).hexdigest(), len(data), checks, source.own_names if source.trusted else ())


def was_cut(provenance: Mapping[str, Any]) -> bool:
    """Return whether a model has other shapes than its architecture: it was pruned at some stage, and not masked alone."""
    return any(stage["kind"] == "prune" for stage in stages_of(provenance))


def _require_unfused(pruned: nn.Module) -> None:
    if not isinstance(pruned, stock_tasks().BaseModel):
        raise OutputError(f"a {type(pruned).__name__} is no Ultralytics model and cannot be saved as one")
    if pruned.is_fused():
        raise OutputError("the model is fused, so it could not be trained again: save the unfused one")


def _serialised(dictionary: dict[str, Any]) -> memoryview:
    """The file's bytes; made in memory so that a full disk is an error of the operating system with a name."""
    buffer = io.BytesIO()
    try:
        torch.save(dictionary, buffer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise VerificationError(f"nothing was written: the model holds what no file can hold ({error}): open the original again") from error
    return buffer.getbuffer()


def _move_into_place(temporary: Path, target: Path, force: bool) -> None:
    """In one step; without `force` a file that has appeared in the meantime is not overwritten."""
    if not force:
        _claim(temporary, target)
    else:
        temporary.replace(target)


def _claim(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # this file system has no hard links
        try:
            temporary.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
