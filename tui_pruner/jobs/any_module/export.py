"""Export of any module by PyTorch's own exporters: compared with the module on its example inputs, then moved to its path."""

from __future__ import annotations

import importlib.util
import inspect
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path

from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.model.predictions import tensors
from tui_pruner.domain.errors import JobError, PrunerError, RequestError, out_of_memory, user_code
from tui_pruner.engine.job_messages import ExportParameters, ExportResult, JobProgress
from tui_pruner.frameworks.plain.module import independent
from tui_pruner.frameworks.plain.named_module import called, said
from tui_pruner.jobs.any_module.figures import module_at, source_of
from tui_pruner.jobs.export import STEM, TOLERANCE, Difference, check_free, distance, place_for_native_code, put, size_of
from tui_pruner.jobs.tools import OnProgress

FORMATS: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime"), "pt2": ()}
"""The formats, each with the packages that it is written and compared with."""
ROUNDINGS = 10
"""How many units in the last place outputs in half precision may differ by."""
SAME_SHAPES = "made for inputs of the example's shapes: export it again for others"


def run_export(parameters: ExportParameters, on_progress: OnProgress) -> ExportResult:
    """Export a module, or what a folder has; nothing is kept whose outputs differ from the module's on its example inputs.

    Raises:
        CheckpointError: the module or folder cannot be used.
        RequestError: no such format, or the module cannot be exported to it.
        JobError: a package is missing.
        OutputError: the file cannot be written.
    """
    demand_format(parameters.format)
    source = source_of(parameters.module)
    name = source.build.replace(":", "-") if parameters.checkpoint == source.build else Path(parameters.checkpoint).stem
    target = source.folder / (parameters.output or f"{name}.{parameters.format}")
    check_free(target, parameters.force)
    module = independent(module_at(source, parameters.checkpoint, None, on_progress)).eval()
    state = [tensor for _, tensor in named_tensors(module)]
    given = source.given()
    inputs = given.to(next((tensor.device for tensor in state), given.tensors[0].device))
    write = {"onnx": write_onnx, "pt2": write_pt2}[parameters.format]
    with tempfile.TemporaryDirectory(prefix="tui-pruner-export-", dir=place_for_native_code()) as folder:
        file = Path(folder, f"{STEM}.{parameters.format}")
        on_progress(JobProgress(done=0, total=0, doing=f"exporting to {parameters.format} and comparing"))
        copied = inputs.to(inputs.tensors[0].device)  # as a forward may write into them
        with torch.no_grad():
            wanted = tensors(called(source.names.forward or f"{source.build}().forward", lambda: copied.call(module)))
        try:
            with user_code(f"the export of {source.build}"), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporters' own code, and of what the comparison tells
                found = compared(wanted, write(module, inputs, file))
        except PrunerError:
            raise
        except Exception as error:  # exporters raise anything
            if out_of_memory(error):
                raise
            other = next(name for name in FORMATS if name != parameters.format)
            raise RequestError(f"{source.build} cannot be exported to {parameters.format} ({said(error)}): try --format {other}") from error
        rounded = max((torch.finfo(one.dtype).eps for one in wanted if one.is_floating_point()), default=0.0)
        equal, size = found.relative <= max(TOLERANCE, ROUNDINGS * rounded), size_of(file)
        output = put(file, target, parameters.force) if equal else None
    return ExportResult(
        output=output,
        bytes=size,
        source_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state),
        equal=equal,
        max_abs_difference=found.absolute,
        relative_difference=found.relative,
        images=len(inputs),
        drawn=False,
        notes=[SAME_SHAPES],
    )


def demand_format(name: str) -> None:
    """Refuse a format that does not exist, or whose packages are missing.

    Raises:
        RequestError: there is none of this name.
        JobError: a package is missing.
    """
    if name not in FORMATS:
        raise RequestError(f"no format {name!r}: a module is exported to {' or '.join(FORMATS)}")
    missing = [package for package in FORMATS[name] if importlib.util.find_spec(package) is None]
    if missing:
        raise JobError(f"export to {name} needs {' and '.join(missing)}: pip install {' '.join(missing)}")


class OfTensors(nn.Module):
    """A module as a function of the tensors in its inputs, which returns those in its output, as files of other formats do."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model, self._inputs = model, inputs

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Call the module."""
        left = iter(given)
        return tuple(tensors(self._inputs.changed(lambda _: next(left)).call(self.model)))


class WithForward(nn.Module):
    """A module that runs a function of the user's in place of its forward."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model, self._run = model, inputs.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        assert self._run is not None
        return self._run(self.model, *args, **kwargs)


def write_onnx(module: nn.Module, inputs: Inputs, file: Path) -> list[Tensor]:
    """Export to ONNX; return what onnxruntime computes by the file."""
    onnxruntime: Any = importlib.import_module("onnxruntime")

    names, given = input_names(module, inputs), inputs.tensors
    newer: dict[str, Any] = {"dynamo": False}  # its package is an extra one
    if importlib.util.find_spec("onnxscript") is not None:
        newer = {"dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(OfTensors(module, inputs).eval(), tuple(t.clone() for t in given), str(file), input_names=names, **newer)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    values = dict(zip(names, given, strict=True))
    read = {one.name: values[one.name].cpu().numpy() for one in session.get_inputs()}
    return [torch.from_numpy(one) for one in session.run(None, read)]


def write_pt2(module: nn.Module, inputs: Inputs, file: Path) -> list[Tensor]:
    """Export by `torch.export`, called as the module is; return what the file computes."""
    whole = module if inputs.forward is None else WithForward(module, inputs)
    args, kwargs = inputs.args, dict(inputs.kwargs)
    torch.export.save(torch.export.export(whole, args, kwargs), file)
    again = inputs.to(inputs.tensors[0].device)  # a copy, as a forward may write into it
    return tensors(torch.export.load(file).module()(*again.args, **again.kwargs))


def input_names(module: nn.Module, inputs: Inputs) -> list[str]:
    """A name for each tensor in the inputs: its argument's, numbered where that has several."""
    run = module.forward if inputs.forward is None else inputs.forward
    own = [name for name, one in inspect.signature(run).parameters.items() if one.kind is not one.VAR_POSITIONAL]
    own = own if inputs.forward is None else own[1:]
    leaves, _ = tree_flatten_with_path((inputs.args, dict(inputs.kwargs)))
    found = []
    for (_, place, *_), leaf in leaves:
        if isinstance(leaf, Tensor):
            index = getattr(place, "idx", None)
            found.append(str(getattr(place, "key", place)) if index is None else own[index] if index < len(own) else f"input{index}")
    several, seen = Counter(found), Counter[str]()
    for number, name in enumerate(found):
        if several[name] > 1:
            found[number] = f"{name}_{seen[name]}"
            seen[name] += 1
    return found


def compared(wanted: list[Tensor], given: list[Tensor]) -> Difference:
    """The largest difference of an exported file's outputs from the module's.

    Raises:
        JobError: they are others, or have other shapes.
    """
    if [one.shape for one in wanted] != [one.shape for one in given]:
        shapes = [[tuple(one.shape) for one in some] for some in (given, wanted)]
        raise JobError(f"the exported file gives outputs of shapes {shapes[0]} in place of {shapes[1]}: nothing was kept")
    found = [distance(one.cpu().double(), other.cpu().double()) for one, other in zip(wanted, given, strict=True)]
    return Difference(max((one.absolute for one in found), default=0.0), max((one.relative for one in found), default=0.0))
