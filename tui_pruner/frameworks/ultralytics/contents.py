"""The content of a written file, and whether it can be written where the user wants it.

The dictionary is the one that Ultralytics itself saves, with a yaml that makes its trainer fail with an explanation, and one further key.

Under that key is plain data: no file contains a class of this package.
"""

from __future__ import annotations

import copy
import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import tui_pruner
from tui_pruner.core.model.checkpoint import FORMAT, PROVENANCE_KEY, Checkpoint, file_name, stages_of, stages_with
from tui_pruner.core.model.copies import forget_caches, named_tensors
from tui_pruner.core.pruning.classes import NUMBERINGS
from tui_pruner.core.pruning.masks import MASK
from tui_pruner.domain.errors import OutputError
from tui_pruner.frameworks.ultralytics.building import stock_tasks
from tui_pruner.storage.atomic import ELSEWHERE, output_error
from tui_pruner.storage.trust import fingerprint

SUFFIX = ".pt"
RENAMED_FAMILIES = ("yolov3", "yolov5")
SPARE_BYTES = 1 << 20


def check_output(output: str | Path, source_path: str | Path, force: bool) -> Path:
    """The path to write to, with `~` and symbolic links resolved; never the source.

    Raises OutputError for every problem that is known in advance.
    """
    try:
        return _check(output, Path(source_path).expanduser(), force)
    except OSError as error:
        raise output_error(output, error) from error


def require_writable(source: Checkpoint, output: str | Path | None = None) -> None:
    """Refuse early a model that no file can be made from, or whose own origin the file would replace.

    Raises:
        OutputError: it is such a model.
    """
    if source.unwritable:
        raise OutputError(f"nothing that is made from {source.path} can be written ({source.unwritable}): save it again without that")
    if output is not None:
        _demand_not_the_origin(output, source)


def _demand_not_the_origin(output: str | Path, source: Checkpoint) -> None:
    """Refuse to replace a file that the source was made from, which its record knows by its SHA-256."""
    origins = {stage["source"].get("sha256") for stage in stages_of(source.provenance) if "source" in stage}
    file = Path(output).expanduser()
    try:
        is_origin = bool(origins) and file.is_file() and fingerprint(file) in origins
    except OSError as error:
        raise output_error(output, error) from error
    if is_origin:
        raise OutputError(f"{output} is a file that {source.path} was made from, which stays as it is: choose another name")


def _check(output: str | Path, source: Path, force: bool) -> Path:
    target = Path(output).expanduser().resolve()
    if target.is_dir():
        raise OutputError(f"{output} is a folder: add a file name that ends in {SUFFIX}")
    if target.suffix != SUFFIX:
        raise OutputError(f"{output} does not end in {SUFFIX}: Ultralytics would not load it, so choose a name that does")
    _check_name(output, target.name)
    if target.exists():
        _check_existing(output, target, source, force)
    _check_folder(output, target.parent, needed=source.stat().st_size if source.is_file() else 0)
    return target


def _check_name(output: str | Path, name: str) -> None:
    """Refuse names of old models, which Ultralytics looks up under another name, so that the file would never be found."""
    if not any(family in name for family in RENAMED_FAMILIES):
        return
    stock_tasks()
    from ultralytics.utils.checks import check_yolov5u_filename

    looked_up = check_yolov5u_filename(name, verbose=False)
    if looked_up != name:
        raise OutputError(f"{output} would be looked up as {looked_up} by Ultralytics: choose another name, such as pruned-{looked_up}")


def _check_existing(output: str | Path, target: Path, source: Path, force: bool) -> None:
    if source.exists() and target.samefile(source):
        raise OutputError(f"{output} is the model that is being pruned: choose another name, the original stays as it is")
    if not target.is_file():
        raise OutputError(f"{output} is not a regular file: choose another name")
    if not force:
        raise OutputError(f"{output} exists already: choose another name or give --force")


def _check_folder(output: str | Path, folder: Path, needed: int) -> None:
    if not folder.is_dir():
        raise OutputError(f"{output} cannot be written: no folder {folder}, create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{output} cannot be written: the folder {folder} is read-only for you, {ELSEWHERE}")
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise output_error(output, OSError(errno.ENOSPC, "no space left"))


GUARDED_BACKBONE = "unpruned_backbone"
MARK = "PRUNED MODEL"
TRAINERS = {
    "detect": "DetectionTrainer",
    "segment": "SegmentationTrainer",
    "semantic": "SemanticSegmentationTrainer",
    "depth": "DepthTrainer",
    "pose": "PoseTrainer",
    "obb": "OBBTrainer",
    "classify": "ClassificationTrainer",
}
TRAINERS_OF_HEADS = {"RTDETRDecoder": ("ultralytics.models.rtdetr.train", "RTDETRTrainer")}
"""Heads that have their own trainer, for any task."""


def guard(architecture: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The architecture with a backbone of one impossible module, whose name is the error message that `train()` then shows.

    The head stays, since Ultralytics guesses the task from it; the true backbone is under a key that Ultralytics ignores, so it
    survives a stock fine-tuning too.
    """
    original = unguard(architecture)
    return {**original, "backbone": [[-1, 1, train_refusal(original, task), []]], GUARDED_BACKBONE: original.get("backbone", [])}


def unguard(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture before `guard`; one that is not guarded is returned as it is."""
    original = copy.deepcopy(dict(architecture))
    backbone = original.pop(GUARDED_BACKBONE, None)
    if backbone is not None:
        original["backbone"] = backbone
    return original


def train_refusal(architecture: Mapping[str, Any], task: str) -> str:
    """The error message for a user who calls `train()` on a pruned file."""
    module, trainer = trainer_of(architecture, task)
    return (
        f"{MARK}: train() would rebuild the network at full size from its yaml and lose the pruning. Fine-tune it as it is: "
        f"t = {trainer}(overrides={{'model': 'pruned.pt', 'data': 'data.yaml'}}); t.model = YOLO('pruned.pt').model; t.train()  "
        f"(from {module} import {trainer})"
    )


def trainer_of(architecture: Mapping[str, Any], task: str) -> tuple[str, str]:
    """The stock trainer for a model, and the module to import it from."""
    *_, (_, _, head, *_) = architecture.get("head") or [(-1, 1, "")]
    known = task if task in TRAINERS else "detect"
    return TRAINERS_OF_HEADS.get(str(head)) or (f"ultralytics.models.yolo.{known}", TRAINERS[known])


LICENSE = "AGPL-3.0 License (https://ultralytics.com/license)"
DOCS = "https://docs.ultralytics.com"
FROZEN = ".dfl"
"""What Ultralytics never trains: the fixed weights that turn box distributions into distances."""
RUNTIME = ("pt_path", "criterion")
"""Attributes that Ultralytics sets on a model while it is loaded or trained."""


def checkpoint_dictionary(model: nn.Module, source: Checkpoint, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint as Ultralytics saves one, with a model from `for_saving`."""
    import ultralytics

    return {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": source.content.get("train_args", {}),
        "date": datetime.now().astimezone().isoformat(),
        "version": ultralytics.__version__,
        "license": LICENSE,
        "docs": DOCS,
        PROVENANCE_KEY: plain(provenance),
    }


def save_for_ultralytics(source: Checkpoint, file: Path) -> None:
    """Write a file from which stock Ultralytics reads the model as it was read here, in the wrapper of its own file.

    Raises:
        OutputError: no file can hold it.
    """
    require_writable(source)
    torch.save({"model": source.model, "train_args": source.content.get("train_args", {})}, file)


def provenance_of(
    source: Checkpoint, plan: Mapping[str, Any], kept: Mapping[str, Any], proof: Mapping[str, Any], dropped: Sequence[str] = ()
) -> dict[str, Any]:
    """Where a pruned model comes from and what was done to it."""
    return {
        "format": FORMAT,
        "version": tui_pruner.__version__,
        "source": {
            "name": file_name(source),
            "sha256": source.sha256,
            "parameters": sum(parameter.numel() for parameter in source.model.parameters()),
        },
        "plan": plan,
        "kept": kept,
        "dropped": list(dropped),
        "proof": proof,
        "original_yaml": source.original_yaml,
        "stages": stages_with(source, "prune"),
    }


def mask_provenance(source: Checkpoint, plan: Mapping[str, Any], masked: Mapping[str, Any], proof: Mapping[str, Any]) -> dict[str, Any]:
    """Where a masked model comes from, and which slices of it are zero."""
    whole = provenance_of(source, plan, {}, proof)
    return {**{key: whole[key] for key in whole if key not in ("kept", "dropped")}, "masked": masked, "stages": stages_with(source, MASK)}


def with_trust(provenance: Mapping[str, Any], source: Checkpoint) -> dict[str, Any]:
    """The provenance with a note on the trusted file that it was made from, and on the modules that both import."""
    if not (source.trusted and source.own_names):
        return dict(provenance)
    return {**provenance, "trusted": {"name": file_name(source), "sha256": source.sha256, "names": list(source.own_names)}}


def with_numberings(provenance: Mapping[str, Any], saved: nn.Module) -> dict[str, Any]:
    """The provenance with the former numberings of the classes, where some were cut."""
    numberings = getattr(saved, NUMBERINGS, None)
    return {**provenance, "classes": numberings} if numberings else dict(provenance)


def for_saving(pruned: nn.Module, source: Checkpoint, cut: bool = True) -> nn.Module:
    """A copy of the model for saving: half precision, eval mode, no caches; its yaml is guarded where the model was cut.

    The model itself stays as it is.
    """
    memo: dict[int, Any] = {id(tensor): _halved(tensor) for _, tensor in named_tensors(pruned)}
    model: Any = copy.deepcopy(pruned, memo).half().eval()
    for name in RUNTIME:
        vars(model).pop(name, None)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(FROZEN not in name)  # a stripped checkpoint freezes all, and fine-tuning would warn about each
    forget_caches(model)
    for block in model.model:
        block.np = sum(parameter.numel() for parameter in block.parameters())
    model.yaml = guard(source.original_yaml, source.task) if cut else copy.deepcopy(source.original_yaml)
    if getattr(pruned, NUMBERINGS, None):
        model.yaml["nc"] = len(model.names)
    return cast("nn.Module", model)


def plain(value: Any) -> Any:
    """The same data in dictionaries, lists, strings, numbers, booleans and None, which every loader reads without further classes.

    Raises TypeError for anything else.
    """
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"a {type(value).__name__} cannot be stored in a checkpoint as plain data")


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    """In half precision and contiguous; a value beyond its range becomes the largest one, as in Ultralytics' own checkpoints."""
    values = tensor.detach()
    if values.is_floating_point():
        largest = torch.finfo(torch.float16).max
        values = values.clamp(-largest, largest).half()
    else:
        values = values.clone()
    values = values.contiguous()
    return nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values
