"""What an exported file computes, by the runtime of its format, beside what the network computes from which it was made."""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.errors import JobError

if TYPE_CHECKING:
    from torch import Tensor, nn

Run = Callable[["Tensor"], "list[Tensor]"]
WRONG_OPTIMISATION = "Pad_Fusion"
"""onnxruntime up to 1.31 moves zeros around an image into the max pooling behind, which pads with minus infinity; YOLOv3-tiny has that."""


@dataclass(frozen=True)
class Difference:
    """How far two lists of outputs are apart at most: as it is, and relative to the largest value of the output."""

    absolute: float
    relative: float


def difference(model: nn.Module, file_format: str, run: Run, images: Iterable[Tensor]) -> Difference:
    """How far an exported file is from its network at most, over all images.

    Raises:
        JobError: it gives another number of outputs, or outputs of another shape.
    """
    import torch

    from tui_pruner.core.predictions import tensors

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
    """How far two tensors are apart; infinitely where one holds what is no number."""
    import torch

    if not wanted.numel():
        return Difference(0.0, 0.0)
    absolute = float((wanted - given).abs().nan_to_num(nan=torch.inf).max())
    return Difference(absolute, absolute / max(float(wanted.abs().max()), 1e-12))


def in_order(wanted: Tensor, given: Tensor) -> Tensor:
    """Ranked detections [1, n, figures] each beside the nearest wanted one: nearly equal scores may have changed places."""
    import torch

    distances = torch.cdist(wanted[0].float(), given[0].float(), compute_mode="donot_use_mm_for_euclid_dist")
    return given[:, distances.argmin(dim=1)].float()


def as_exported(model: nn.Module, file_format: str) -> nn.Module:
    """A copy that gives what Ultralytics exports: no outputs for the loss, and raw predictions of end-to-end heads."""
    twin: Any = copy.deepcopy(model).eval()
    if hasattr(twin, "end2end"):
        twin.end2end = False
    for module in twin.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, file_format
    return twin  # type: ignore[no-any-return]


def run_torchscript(file: Path, device: str = "cpu") -> Iterable[tuple[str, Run]]:
    """A TorchScript file in PyTorch, on the device that it was traced on: its constants are there."""
    import torch

    from tui_pruner.core.predictions import tensors

    script = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
    note = "" if device == "cpu" else f"traced on {device}, and runs there only: leave --device out for a file that runs on a CPU"

    def run(image: Tensor) -> list[Tensor]:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # else a GPU rounds a convolution's inputs to 10 bits
            return [one.cpu() for one in tensors(script(image.to(device)))]

    yield note, run


def run_onnx(file: Path, device: str = "cpu") -> Iterable[tuple[str, Run]]:
    """An ONNX file in onnxruntime as it comes, then without the optimisation that is wrong for some networks; on the CPU."""
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
"""How files that were exported on a device are run here, perhaps in more than one way; each with its note. Others are not compared."""


def compared(
    model: nn.Module, file: Path, file_format: str, images: list[Tensor], tolerance: float, device: str = "cpu"
) -> tuple[Difference | None, list[str]]:
    """How far the file is from the network, in the first way of running it that agrees, else in the last; None where none is known.

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
