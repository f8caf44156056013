"""Export: a file by Ultralytics' own exporter, compared with the network that it was made of, and put in its place only if it agrees."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.engine.job_messages import ExportParameters, ExportResult, JobProgress
from tui_pruner.errors import JobError, OutputError, RequestError
from tui_pruner.jobs.dataset import read_data
from tui_pruner.jobs.devices import choose_device
from tui_pruner.jobs.exported import compared
from tui_pruner.jobs.stock import OnProgress
from tui_pruner.jobs.validate import opened
from tui_pruner.printable import BYTES

if TYPE_CHECKING:
    from torch import Tensor

    from tui_pruner.core.checkpoint import Checkpoint

TOLERANCE = 1e-3
DRAWN_IMAGES = 4
STEM = "exported"
"""A name that Ultralytics does not look up under another one."""


def run_export(parameters: ExportParameters, on_progress: OnProgress) -> ExportResult:
    """The whole job. Without a data set the comparison is made on drawn images.

    Raises:
        CheckpointError: the file cannot be used, or is no longer the one that the job was made for.
        RequestError: no such format or device, or one that this model or machine cannot be exported to.
        DataError: the data cannot be used.
        OutputError: the file cannot be written.
        JobError: a package is missing, or the exporter failed.
        ProofError: the file was cut without a proof.
    """
    from tui_pruner.core.blocks import legal_side
    from tui_pruner.core.checkpoint.stages import demand_proved

    target = target_of(parameters)
    check_free(target, parameters.force)
    device = choose_device(parameters.device) if parameters.device else ""
    checkpoint = opened(parameters)
    demand_proved(checkpoint)
    side = legal_side(parameters.imgsz, checkpoint.stride)
    notes = [] if side == parameters.imgsz else [f"image side {parameters.imgsz} rounded up to {side}, a multiple of the stride"]
    images = images_for(checkpoint, parameters, side)
    with tempfile.TemporaryDirectory(prefix="tui-pruner-export-", dir=place_for_native_code()) as folder:
        on_progress(JobProgress(done=0, total=0, doing=f"exporting to {parameters.format}"))
        exported = export(checkpoint, parameters, side, Path(folder), device)
        on_progress(JobProgress(done=0, total=0, doing=f"comparing on {len(images)} images"))
        found, more = compared(checkpoint.model, exported, parameters.format, images, TOLERANCE, device or "cpu")
        equal = None if found is None else found.relative <= TOLERANCE
        size = size_of(exported)
        output = None if equal is False else put(exported, target, parameters.force)
    return ExportResult(
        output=output,
        bytes=size,
        source_bytes=Path(parameters.checkpoint).expanduser().stat().st_size,
        equal=equal,
        max_abs_difference=found.absolute if found else None,
        relative_difference=found.relative if found else None,
        images=len(images),
        drawn=not parameters.data,
        notes=[*notes, *more],
    )


def place_for_native_code() -> str | None:
    """The folder of temporary files, or another one where exporters that are no Python could not open files in it."""
    return "/tmp" if BYTES.search(tempfile.gettempdir()) and os.access("/tmp", os.W_OK) else None


def target_of(parameters: ExportParameters) -> Path:
    """Where the export goes: where it was asked for, or beside the checkpoint under its name.

    Raises:
        RequestError: Ultralytics has no such format.
    """
    suffix = suffix_of(parameters.format)
    if parameters.output:
        return Path(parameters.output).expanduser().absolute()
    source = Path(parameters.checkpoint).expanduser().absolute()
    return source.with_name(source.stem + suffix)


def suffix_of(name: str) -> str:
    """How the files or folders of a format end.

    Raises:
        RequestError: Ultralytics has no such format.
    """
    from tui_pruner.core.checkpoint.stock import stock_tasks

    stock_tasks()
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    formats = dict(zip(table["Argument"][1:], table["Suffix"][1:]))
    if name not in formats:
        raise RequestError(f"there is no format {name!r}: Ultralytics exports to {', '.join(formats)}")
    return str(formats[name])


def check_free(target: Path, force: bool) -> None:
    """Refuse to replace what was not said to be replaced.

    Raises:
        OutputError: there is something already, or no such folder.
    """
    if target.exists() and not force:
        raise OutputError(f"{target} exists already: choose another name with -o or give --force")
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: there is no folder {target.parent}, create it first")


def images_for(checkpoint: Checkpoint, parameters: ExportParameters, side: int) -> list[Tensor]:
    """Square images [1, channels, side, side] to compare on: of the validation split, as prediction reads them, or drawn ones."""
    import torch

    from tui_pruner.core.probe import probe_images
    from tui_pruner.jobs.image_batches import image_batches

    if not parameters.data:
        from tui_pruner.core.blocks import image_channels

        drawn = probe_images(DRAWN_IMAGES, image_channels(checkpoint.model), side, torch.Generator().manual_seed(0))
        return [image[None] for image in drawn]
    files = read_data(parameters.data).subset(parameters.images, parameters.seed).images
    return list(itertools.chain(image_batches(checkpoint.model, files, side, "cpu", largest=1, rect=False)))


def export(checkpoint: Checkpoint, parameters: ExportParameters, side: int, folder: Path, device: str) -> Path:
    """The file or folder that Ultralytics' exporter makes, below a folder of ours, of the model as it was read.

    The exporter names its file after the one that it believes the model to be from. It never reads the checkpoint itself.

    `device`: where Ultralytics chooses none, it exports on the CPU all that it can.

    Raises:
        RequestError: this model or machine cannot be exported to that format.
        JobError: a package is missing, or the exporter failed.
    """
    from ultralytics.engine.exporter import Exporter

    model: Any = copy.deepcopy(checkpoint.model)
    model.pt_path = str(folder / f"{STEM}.pt")
    settings: dict[str, Any] = {
        "mode": "export",
        "task": checkpoint.task,
        "format": parameters.format,
        "imgsz": side,
        "batch": 1,
        "verbose": False,
    }
    if device:
        settings["device"] = device
    if parameters.format == "onnx":
        settings["simplify"] = importlib.util.find_spec("onnxslim") is not None  # a package more, and no need
    try:
        return Path(Exporter(overrides=settings)(model=model))
    except ModuleNotFoundError as error:
        raise JobError(f"export to {parameters.format} needs the package {error.name}: pip install {error.name}") from error
    except (AssertionError, ValueError, NotImplementedError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RequestError(f"{checkpoint.path} cannot be exported to {parameters.format} here: {reason}") from error


def put(exported: Path, target: Path, force: bool) -> str:
    """Move an exported file or folder into its place, whole or not at all.

    Raises:
        OutputError: there is one already, or it cannot be written.
    """
    check_free(target, force)
    temporary = target.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        shutil.move(exported, temporary)
        if target.is_dir():
            shutil.rmtree(target)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}): choose another place with -o") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    return str(target)


def size_of(exported: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = exported.rglob("*") if exported.is_dir() else [exported]
    return sum(file.stat().st_size for file in files if file.is_file())
