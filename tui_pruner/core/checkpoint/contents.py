"""What goes into the file: the dictionary that Ultralytics itself saves, with the classes that the source has, and one key of ours.

Under that key is plain data: no class of ours is in any file.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import tui_pruner
from tui_pruner.core.checkpoint.guard import guard
from tui_pruner.core.checkpoint.masks import MASK
from tui_pruner.core.checkpoint.output import require_writable
from tui_pruner.core.checkpoint.record import PROVENANCE_KEY, Checkpoint
from tui_pruner.core.checkpoint.stages import FORMAT, file_name, stages_with
from tui_pruner.core.skeleton import forget_caches, named_tensors

LICENSE = "AGPL-3.0 License (https://ultralytics.com/license)"
DOCS = "https://docs.ultralytics.com"
FROZEN = ".dfl"
"""What Ultralytics never trains: the fixed weights that turn box distributions into distances."""
NUMBERINGS = "tui_pruner_classes"
"""The attribute of a model that lost classes with how those that it has were numbered before, the oldest numbering first."""
RUNTIME = ("pt_path", "criterion")
"""What Ultralytics attaches to a model while it is loaded or trained."""


def checkpoint_dictionary(model: nn.Module, source: Checkpoint, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint as Ultralytics saves one, around a model from `for_saving`."""
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
    """A file that stock Ultralytics reads the model from as it was read here, in whatever its own file had it wrapped.

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
    """What the file says of itself, and of the trusted one that it was made from: which it is, and what both take from modules."""
    if not (source.trusted and source.own_names):
        return dict(provenance)
    return {**provenance, "trusted": {"name": file_name(source), "sha256": source.sha256, "names": list(source.own_names)}}


def with_numberings(provenance: Mapping[str, Any], saved: nn.Module) -> dict[str, Any]:
    """What the file says of itself, with how the classes that it has were numbered before, where some were cut."""
    numberings = getattr(saved, NUMBERINGS, None)
    return {**provenance, "classes": numberings} if numberings else dict(provenance)


def for_saving(pruned: nn.Module, source: Checkpoint, cut: bool = True) -> nn.Module:
    """A copy of the model as it is saved: half precision, eval mode, nothing cached; its yaml is guarded where the model was cut.

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
    """The same data in dictionaries, lists, strings, numbers, booleans and None, which every loader reads without any class of ours.

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
