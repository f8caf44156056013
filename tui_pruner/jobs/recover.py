"""Stages of a checkpoint: cut and proved; recovered on unlabelled images by re-estimated normalisation statistics, or by a refit."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tui_pruner import __version__
from tui_pruner.domain.errors import CheckpointError, DataError, PlanError, RequestError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.messages import Check, WriteResult
from tui_pruner.engine.recovery_messages import (
    LayerFit,
    PruneParameters,
    PruneResult,
    RecalibrationParameters,
    RecalibrationResult,
    ReconstructionParameters,
    ReconstructionResult,
)
from tui_pruner.jobs.data.dataset import DataSet, held_apart, without_labels
from tui_pruner.jobs.data.pictures import StoredImages, image_batches
from tui_pruner.jobs.tools import OnProgress, choose_device
from tui_pruner.jobs.validate import fitting_side, opened, skipped
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.recovery.reconstruction import Fit, Recalibrated, Recovered


def run_pruning(parameters: PruneParameters, on_progress: OnProgress) -> PruneResult:
    """Cut a checkpoint by a plan, prove it, write it, and check the file.

    Raises:
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        PlanError: the plan is for another checkpoint, or impossible on it.
        ProofError: a step is not proved; nothing is written.
        OutputError: the file cannot be written.
        VerificationError: the file failed its checks.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.removal import NOTHING
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.frameworks.ultralytics import check_output
    from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

    def say(doing: str) -> None:
        on_progress(JobProgress(done=0, total=0, doing=doing))

    check_output(parameters.output, parameters.checkpoint, parameters.force)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    session = PruningSession(analyse(opened(parameters), parameters.imgsz))
    session.load(parameters.plan)
    say("cutting and proving")
    made = cut_prove_write(session, parameters.output, force=parameters.force, on_progress=say)
    return PruneResult(
        output=made.file.output,
        sha256=made.file.sha256,
        bytes=made.file.bytes,
        checks=[Check(name=check.name, ok=check.ok, detail=check.detail) for check in made.file.checks],
        own_names=list(made.file.own_names),
        proof=made.proof.plain(),
        before=dataclasses.asdict(session.arithmetic.widths(NOTHING).size),
        after=dataclasses.asdict(session.widths.size),
    )


class Destination(Protocol):
    """Parameters of a job that say where its file goes."""

    output: str
    force: bool


def write_stage(
    model: nn.Module, source: Checkpoint, destination: Destination, provenance: Mapping[str, Any], on_progress: OnProgress
) -> WriteResult:
    """Write a model that was made from the source.

    Raises:
        OutputError: the file cannot be written.
        VerificationError: it failed its checks in a clean process.
    """
    from tui_pruner.frameworks.ultralytics.writing import write_model

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


ONE_VALUE = "Expected more than 1 value per channel"


def run_recalibration(parameters: RecalibrationParameters, on_progress: OnProgress) -> RecalibrationResult:
    """Run the job: the file's model with new statistics and the same weights, verified and written.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the file cannot be used, was not pruned, or changed since the job was created.
        RequestError: no such device, or a model without such statistics.
        OutputError: the file cannot be written.
        VerificationError: the new file failed its checks.
    """
    from tui_pruner.core.model.checkpoint import next_stage
    from tui_pruner.frameworks.ultralytics import check_output, require_writable

    started = time.perf_counter()
    check_output(parameters.output, parameters.checkpoint, parameters.force)
    data = unlabelled(parameters)
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoint", begun=False))
    checkpoint = opened(parameters)
    require_writable(checkpoint, parameters.output)
    next_stage(checkpoint, "recalibrate")
    found = recalibrated(checkpoint.model, data, parameters, on_progress)
    notes = [] if found.images == len(data.images) else [skipped(len(data.images) - found.images, data)]
    provenance = next_stage(checkpoint, "recalibrate", images=found.images, layers=found.layers)
    written = write_stage(found.model, checkpoint, parameters, provenance, on_progress)
    return RecalibrationResult(
        **written.model_dump(), images=found.images, layers=found.layers, seconds=time.perf_counter() - started, notes=notes
    )


def unlabelled(parameters: RecalibrationParameters) -> DataSet:
    """The first images of a seeded order of the training split; of the validation split where it is the only one.

    Raises:
        DataError: the data has no images.
    """
    return without_labels(parameters.data).subset(parameters.images, parameters.seed)


def recalibrated(model: nn.Module, data: DataSet, parameters: RecalibrationParameters, on_progress: OnProgress) -> Recalibrated:
    """A copy of a loaded model with statistics from these images.

    Raises:
        DataError: none of the images can be used.
        RequestError: no such device, or a model without such statistics.
    """
    from tui_pruner.core.recovery.reconstruction import recalibrate, statistics_of

    if not statistics_of(model):
        raise RequestError(f"{parameters.checkpoint} has no batch normalisation: there is nothing to recalibrate")
    device = choose_device(parameters.device)
    total = len(data.images)

    def counted() -> Iterator[Tensor]:
        done = 0
        for batch in image_batches(model, data.images, parameters.imgsz, device):
            done += len(batch)
            yield batch
            on_progress(JobProgress(done=done, total=total, doing="recalibrating"))

    try:
        found = recalibrate(model, counted(), device)
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise RequestError(f"{total} images of side {parameters.imgsz} are too few: give more --images or a larger --imgsz") from error
    if not found.images:
        raise DataError(f"{parameters.data}: none of the {total} images can be read")
    return found


UNTRAINED = frozenset({"prune", "recalibrate", "reconstruct"})
KEPT = ("layer", "error_before", "error_after", "ridge", "rows", "features")
"""The fields of a fit that are stored beside its tensors."""
CHECK_ORIGINAL = "give the checkpoint that it was cut from with --original"


def run_reconstruction(parameters: ReconstructionParameters, on_progress: OnProgress) -> ReconstructionResult:
    """Run the job: the file's model refitted and recalibrated; the candidate closest to the original is verified and written.

    Raises:
        DataError: the data cannot be used, or has fewer than two images.
        CheckpointError: a file cannot be used, was trained after the cut, or changed since the job was created.
        PlanError: the original is another one than the file was cut from.
        RequestError: no such device.
        OutputError: the file cannot be written.
        VerificationError: the new file failed its checks.
    """
    from tui_pruner.core.model.checkpoint import next_stage
    from tui_pruner.frameworks.ultralytics import check_output, require_writable

    started = time.perf_counter()
    check_output(parameters.output, parameters.checkpoint, parameters.force)
    chosen = held_apart(without_labels(parameters.data), parameters.images, parameters.seed)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoints", begun=False))
    checkpoint = opened(parameters)
    require_writable(checkpoint, parameters.output)
    original = original_of(checkpoint, parameters)
    next_stage(checkpoint, "reconstruct")
    found, used, held_out, notes = recovered(checkpoint, original, chosen, parameters, on_progress)
    details = {"images": used, "kept": found.kept, "distance": dict(found.distance), "original": original.sha256}
    provenance = next_stage(checkpoint, "reconstruct", **details)
    written = write_stage(found.model, checkpoint, parameters, provenance, on_progress)
    return ReconstructionResult(
        **written.model_dump(),
        images=used,
        held_out=held_out,
        seconds=time.perf_counter() - started,
        layers=[LayerFit(layer=fit.layer, error_before=fit.error_before, error_after=fit.error_after) for fit in found.fits],
        kept=found.kept,
        distance=dict(found.distance),
        outputs={name: dict(values) for name, values in found.outputs.items()},
        notes=notes,
    )


def original_of(checkpoint: Checkpoint, parameters: ReconstructionParameters) -> Checkpoint:
    """The checkpoint that a file was cut from.

    Raises:
        CheckpointError: the file was not pruned, was trained since, or its original is not found.
        PlanError: another checkpoint was given.
    """
    from tui_pruner.core.model.checkpoint import stages_of
    from tui_pruner.core.pruning.masks import sources_of
    from tui_pruner.frameworks.ultralytics import open_model

    provenance = checkpoint.provenance
    if not provenance or "plan" not in provenance:
        raise CheckpointError(f"{checkpoint.path} was not pruned by this program: prune it first")
    if "masked" in provenance:
        raise CheckpointError(f"{checkpoint.path} is masked, and all its shapes are there: prune it without --cut first")
    stages = stages_of(provenance)
    last = max((place for place, stage in enumerate(stages) if stage["kind"] == "prune"), default=0)
    later = [stage["kind"] for stage in stages[last:] if stage["kind"] not in UNTRAINED]
    if later:
        raise CheckpointError(
            f"{checkpoint.path} was trained after the cut ({later[0]}): a refit would undo that; refit the pruned file, then train"
        )
    source = sources_of(stages)[-1]  # for a file that was masked before it was cut, the source of the mask
    beside = Path(checkpoint.path).with_name(source["name"])
    path = parameters.original or (str(beside) if beside.is_file() else None)
    if path is None:
        raise CheckpointError(f"{checkpoint.path} was cut from {source['name']}, which is not beside it: {CHECK_ORIGINAL}")
    original = open_model(path, parameters.classes)
    if original.sha256 != source["sha256"]:
        raise PlanError(f"{path} is not the checkpoint that {checkpoint.path} was cut from (another SHA-256): {CHECK_ORIGINAL}")
    return original


def recovered(
    checkpoint: Checkpoint,
    original: Checkpoint,
    chosen: tuple[DataSet, DataSet],
    parameters: ReconstructionParameters,
    on_progress: OnProgress,
) -> tuple[Recovered, int, int, list[str]]:
    """The recovered model on the CPU, the numbers of images that it was refitted on and judged by, and notes.

    Raises:
        DataError: none of the images can be read.
    """
    from tui_pruner.core.model.analysis import trace_checkpoint
    from tui_pruner.core.pruning.classes import without_classes
    from tui_pruner.core.pruning.plan import parse_plan, replay
    from tui_pruner.core.pruning.proved_cut import with_some_classes
    from tui_pruner.core.pruning.surgery import by_tensor
    from tui_pruner.core.recovery.reconstruction import recover
    from tui_pruner.frameworks.ultralytics.contents import FROZEN

    assert checkpoint.provenance is not None
    device = choose_device(parameters.device)
    side, notes = fitting_side(parameters.imgsz, checkpoint.model)
    _, coupling = trace_checkpoint(original)
    planned = parse_plan(checkpoint.provenance["plan"])
    removal = replay(planned.model_copy(update={"sha256": original.sha256}), coupling, original.sha256)
    original, removal = with_some_classes(original, coupling, removal), without_classes(coupling, removal)
    total = sum(len(data.images) for data in chosen)
    on_progress(JobProgress(done=0, total=total, doing="reading the images", begun=False))
    batches, held_out = (StoredImages(original.model, data, side, parameters.batch) for data in chosen)
    if batches.total + held_out.total < total:
        notes.append(skipped(total - batches.total - held_out.total, chosen[0]))
    if not batches.total:
        raise DataError(f"{parameters.data}: none of the {total} images can be read")
    memory = KeptFits(parameters, checkpoint, chosen)

    def report(fit: Fit, done: int, layers: int) -> None:
        figures = {"error before": fit.error_before, "error after": fit.error_after}
        on_progress(JobProgress(done=done, total=layers, doing="refitting", metrics=figures))

    found = recover(
        original.model.to(device),
        checkpoint.model.to(device),
        by_tensor(removal.stays(coupling)),
        batches,
        held_out,
        frozen={name for name, _ in original.model.named_parameters() if FROZEN in name},
        memory=memory,
        on_layer=report,
    )
    found.model.cpu()
    memory.clear()
    notes += too_few(found.fits, batches.total)
    return found, batches.total, held_out.total, notes


def too_few(fits: Sequence[Fit], images: int) -> list[str]:
    """Return a note where images give fewer equations than unknowns; empty where there are enough."""
    short = [fit.layer for fit in fits if fit.short]
    if not short:
        return []
    layers = f"{len(short)} of {len(fits)} layers, {short[0]} first"
    held = "they stay close to the cut weights"
    return [f"fewer equations than unknowns in {layers}: {held}; give more images (--images, now {images})"]


class KeptFits:
    """The finished fits of one refit, a file for each in a cache folder named by all that they depend on."""

    def __init__(self, parameters: ReconstructionParameters, checkpoint: Checkpoint, chosen: Sequence[DataSet]) -> None:
        parts: list[str | int] = [__version__, checkpoint.sha256, *(data.digest() for data in chosen)]
        parts += [parameters.imgsz, parameters.batch, choose_device(parameters.device)]
        self.folder = paths.cache_folder() / "reconstruct" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def load(self, weight: str, first: int) -> tuple[Fit, Mapping[str, Tensor]] | None:
        """A finished fit; None where there is none or its file is damaged."""
        import numpy as np
        import torch

        from tui_pruner.core.recovery.reconstruction import Fit

        try:
            with np.load(io.BytesIO(self._file(weight, first).read_bytes()), allow_pickle=False) as content:
                fit = Fit(**{**json.loads(str(content["fit"])), "tensors": ()})
                names = [name for name in content.files if name != "fit"]
                tensors = {name: torch.from_numpy(content[name]) for name in names}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None
        return dataclasses.replace(fit, tensors=tuple(names)), tensors

    def store(self, weight: str, first: int, fit: Fit, tensors: Mapping[str, Tensor]) -> None:
        """Store a fit; if the cache cannot be written, an interrupted refit starts over."""
        import numpy as np

        about: dict[str, Any] = {name: getattr(fit, name) for name in KEPT}
        stream = io.BytesIO()
        arrays: dict[str, Any] = {"fit": np.array(json.dumps(about)), **{name: tensor.cpu().numpy() for name, tensor in tensors.items()}}
        np.savez(stream, **arrays)
        with contextlib.suppress(OSError):
            replace_file(self._file(weight, first), stream.getvalue())

    def clear(self) -> None:
        """Delete them, once the refit is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, weight: str, first: int) -> Path:
        return self.folder / f"{weight}-{first}.npz"
