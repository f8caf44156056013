"""Export: a file by Ultralytics' own exporter, compared with its network, and moved to its path."""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import DataError, JobError, OutputError, RequestError
from tui_pruner.domain.formatting import BYTES
from tui_pruner.engine.job_messages import ExportParameters, ExportResult, JobProgress
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.tools import OnProgress, choose_device
from tui_pruner.jobs.validate import opened

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tui_pruner.core.model.checkpoint import Checkpoint


Run = Callable[["Tensor"], "list[Tensor]"]
WRONG_OPTIMISATION = "Pad_Fusion"
"""onnxruntime up to 1.31 moves zeros around an image into the next max pooling, which pads with minus infinity (YOLOv3-tiny)."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of two lists of outputs: absolute, and relative to the largest value of the output."""

    absolute: float
    relative: float


def difference(model: nn.Module, file_format: str, run: Run, images: Iterable[Tensor]) -> Difference:
    """The largest difference of an exported file from its network, over all images.

    Raises:
        JobError: it returns another number of outputs, or outputs of another shape.
    """
    import torch

    from tui_pruner.core.model.predictions import tensors

    reference: Any = as_exported(model, file_format)
    ranked = hasattr(reference.model[-1], "num_queries")
    worst = Difference(0.0, 0.0)
    with torch.no_grad():
        for image in images:
            wanted, given = tensors(reference(image)), run(image)
            if [one.shape for one in wanted] != [one.shape for one in given]:
                raise JobError(
                    f"the exported file gives outputs of shapes {[tuple(one.shape) for one in given]} "
                    f"in place of {[tuple(one.shape) for one in wanted]}: report this with the model's architecture"
                )
            for one, other in zip(wanted, given, strict=True):
                found = distance(one.float(), in_order(one, other) if ranked and one.ndim == 3 else other.float())
                worst = Difference(max(worst.absolute, found.absolute), max(worst.relative, found.relative))
    return worst


def distance(wanted: Tensor, given: Tensor) -> Difference:
    """The largest difference of two tensors; infinite where one has NaN."""
    import torch

    if not wanted.numel():
        return Difference(0.0, 0.0)
    absolute = float((wanted - given).abs().nan_to_num(nan=torch.inf).max())
    return Difference(absolute, absolute / max(float(wanted.abs().max()), 1e-12))


def in_order(wanted: Tensor, given: Tensor) -> Tensor:
    """Ranked detections [1, n, figures], each moved beside the nearest expected one: nearly equal scores may have changed places."""
    import torch

    distances = torch.cdist(wanted[0].float(), given[0].float(), compute_mode="donot_use_mm_for_euclid_dist")
    return given[:, distances.argmin(dim=1)].float()


def as_exported(model: nn.Module, file_format: str) -> nn.Module:
    """A copy that returns what Ultralytics exports: no outputs for the loss, and raw predictions of end-to-end heads."""
    twin: Any = copy.deepcopy(model).eval()
    if hasattr(twin, "end2end"):
        twin.end2end = False
    for module in twin.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, file_format
    return twin  # type: ignore[no-any-return]


def run_torchscript(file: Path, device: str = "cpu") -> Iterable[tuple[str, Run]]:
    """A TorchScript file in PyTorch, on the device that it was traced on, where its constants are."""
    import torch

    from tui_pruner.core.model.predictions import tensors

    script = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
    note = "" if device == "cpu" else f"traced on {device}, and runs there only: leave --device out for a file that runs on a CPU"

    def run(image: Tensor) -> list[Tensor]:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # else a GPU rounds a convolution's inputs to 10 bits
            return [one.cpu() for one in tensors(script(image.to(device)))]

    yield note, run


def run_onnx(file: Path, device: str = "cpu") -> Iterable[tuple[str, Run]]:
    """An ONNX file in onnxruntime with all optimisations, then without the one that is wrong for some networks; on the CPU."""
    import torch

    onnxruntime: Any = importlib.import_module("onnxruntime")

    note = f"right only without onnxruntime's {WRONG_OPTIMISATION}: create sessions with disabled_optimizers=[{WRONG_OPTIMISATION!r}]"
    for said, disabled in (("", []), (note, [WRONG_OPTIMISATION])):
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
        name = session.get_inputs()[0].name
        yield said, lambda image: [torch.from_numpy(one) for one in session.run(None, {name: image.numpy()})]  # noqa: B023


def run_openvino(folder: Path, device: str = "cpu") -> Iterable[tuple[str, Run]]:
    """An OpenVINO folder on the CPU, in full precision."""
    import torch

    openvino: Any = importlib.import_module("openvino")
    (file,) = folder.glob("*.xml")
    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    yield "", lambda image: [torch.from_numpy(one) for one in compiled(image.numpy()).values()]


RUNTIMES: dict[str, Callable[[Path, str], Iterable[tuple[str, Run]]]] = {
    "torchscript": run_torchscript,
    "onnx": run_onnx,
    "openvino": run_openvino,
}
"""How files exported on a device are run here, some in several ways; each way with its note. Other formats are not compared."""


def compared(
    model: nn.Module, file: Path, file_format: str, images: list[Tensor], tolerance: float, device: str = "cpu"
) -> tuple[Difference | None, list[str]]:
    """The difference of the file from the network, in the first way of running it that agrees, else in the last; None without any way.

    `device`: what it was exported on.
    """
    if file_format not in RUNTIMES:
        return None, [f"not compared: the formats that can be run here are {', '.join(RUNTIMES)}"]
    found, notes = None, [f"not compared: the runtime of {file_format} is not installed"]
    with contextlib.suppress(ModuleNotFoundError):
        for note, run in RUNTIMES[file_format](file, device):
            found, notes = difference(model, file_format, run, images), [note] if note else []
            if found.relative <= tolerance:
                return found, notes
    return found, [] if found else notes


TOLERANCE = 1e-3
DRAWN_IMAGES = 4
STEM = "exported"
"""A name that Ultralytics does not look up under another name."""


def run_export(parameters: ExportParameters, on_progress: OnProgress) -> ExportResult:
    """Run the job. Without a data set the comparison uses random images.

    Raises:
        CheckpointError: the file cannot be used, or changed since the job was created.
        RequestError: no such format or device, or one that this model or machine cannot be exported to.
        DataError: the data cannot be used.
        OutputError: the file cannot be written.
        JobError: a package is missing, or the exporter failed.
        ProofError: the file was cut without a proof.
    """
    from tui_pruner.core.model.checkpoint import demand_proved
    from tui_pruner.core.model.layers import legal_side

    target = target_of(parameters)
    check_free(target, parameters.force)
    device = choose_device(parameters.device) if parameters.device else ""
    checkpoint = opened(parameters)
    if target.exists() and target.samefile(Path(parameters.checkpoint).expanduser()):
        raise OutputError(f"{target} is the model that is exported: choose another name, the original stays as it is")
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
    """A folder for temporary files with a path that native exporters can open."""
    return "/tmp" if BYTES.search(tempfile.gettempdir()) and os.access("/tmp", os.W_OK) else None


def target_of(parameters: ExportParameters) -> Path:
    """The path of the export: as requested, or beside the checkpoint under its name.

    Raises:
        RequestError: Ultralytics has no such format.
    """
    suffix = suffix_of(parameters.format)
    if parameters.output:
        return Path(parameters.output).expanduser().absolute()
    source = Path(parameters.checkpoint).expanduser().absolute()
    return source.with_name(source.stem + suffix)


def suffix_of(name: str) -> str:
    """The suffix of a format's files or folders.

    Raises:
        RequestError: Ultralytics has no such format.
    """
    from tui_pruner.frameworks.ultralytics.building import stock_tasks

    stock_tasks()
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    formats = dict(zip(table["Argument"][1:], table["Suffix"][1:]))
    if name not in formats:
        raise RequestError(f"no format {name!r}: Ultralytics exports to {', '.join(formats)}")
    return str(formats[name])


def check_free(target: Path, force: bool) -> None:
    """Refuse to replace a file without `force`.

    Raises:
        OutputError: the path exists, or its folder does not.
    """
    if target.is_dir() and not is_export(target):
        raise OutputError(f"{target} is a folder of other files: add the export's own name with -o")
    if target.exists() and not force:
        raise OutputError(f"{target} exists already: choose another name with -o or give --force")
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: no folder {target.parent}, create it first")


EXPORTED = (("metadata.yaml",), ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel"), ("model_imx.onnx", "labels.txt"))
"""What is in the folders of each kind: most formats, CoreML, IMX."""


def is_export(folder: Path) -> bool:
    """Whether a folder is what Ultralytics exports to formats of several files, or empty."""
    made = any(all((folder / name).is_file() for name in names) for names in EXPORTED)
    return not any(folder.iterdir()) or (made and not (folder / ".git").exists())


def images_for(checkpoint: Checkpoint, parameters: ExportParameters, side: int) -> list[Tensor]:
    """Square images [1, channels, side, side] to compare on: of the validation split, as prediction reads them, or random ones."""
    import torch

    from tui_pruner.core.model.inputs import probe_images
    from tui_pruner.jobs.data.pictures import image_batches

    if not parameters.data:
        from tui_pruner.core.model.layers import image_channels

        drawn = probe_images(DRAWN_IMAGES, image_channels(checkpoint.model), side, torch.Generator().manual_seed(0))
        return [image[None] for image in drawn]
    files = read_data(parameters.data).subset(parameters.images, parameters.seed).images
    images = list(itertools.chain(image_batches(checkpoint.model, files, side, "cpu", largest=1, rect=False)))
    if not images:
        raise DataError(f"{parameters.data}: none of the {len(files)} images can be read: nothing can be compared")
    return images


def export(checkpoint: Checkpoint, parameters: ExportParameters, side: int, folder: Path, device: str) -> Path:
    """Export the model with Ultralytics' exporter, into a temporary folder, as it was read here.

    The exporter names its file after the model's path, which is set to a neutral name. It never reads the checkpoint itself.

    `device`: where Ultralytics chooses none, it exports everything on the CPU that it can.

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
        settings["simplify"] = importlib.util.find_spec("onnxslim") is not None  # it would need another package for nothing
    try:
        return Path(Exporter(overrides=settings)(model=model))
    except ModuleNotFoundError as error:
        raise JobError(f"export to {parameters.format} needs the package {error.name}: pip install {error.name}") from error
    except (AssertionError, ValueError, NotImplementedError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RequestError(f"{checkpoint.path} cannot be exported to {parameters.format} here: {reason}") from error


def put(exported: Path, target: Path, force: bool) -> str:
    """Move an exported file or folder to its path, completely or not at all.

    Raises:
        OutputError: the path exists, or cannot be written.
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
