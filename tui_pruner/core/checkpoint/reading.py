"""Reads a checkpoint through Ultralytics' allow-list loader: known classes are rebuilt, nothing that the file names is executed."""

from __future__ import annotations

import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tui_pruner.core.checkpoint.container import RETRAIN, fingerprint, require_readable_file, require_sound_archive
from tui_pruner.core.checkpoint.guard import unguard
from tui_pruner.core.checkpoint.record import DEFAULT_IMGSZ, PROVENANCE_KEY, Checkpoint
from tui_pruner.core.checkpoint.stock import default_arguments, stock_tasks
from tui_pruner.errors import CheckpointError

NOT_CONTENT = ("model", "ema", "optimizer", "scaler", "updates", PROVENANCE_KEY)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a file that Ultralytics, or this program, saved.

    Raises CheckpointError in one line for whatever else the path may lead to.
    """
    file = Path(path).expanduser()
    require_readable_file(file)
    before = file.stat()
    with ThreadPoolExecutor() as beside:
        digest = beside.submit(fingerprint, file)
        soundness = beside.submit(require_sound_archive, file)
        stock_tasks()
        soundness.result()
        dictionary = _load(file)
        sha256 = digest.result()
    after = file.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise CheckpointError(f"{file} changed while it was read: wait until whatever writes it is done")
    return _checkpoint(str(path), file, sha256, dictionary)


def _load(file: Path) -> dict[str, Any]:
    """The checkpoint's dictionary.

    Loaded through a symbolic link with a neutral name: Ultralytics looks an existing yolov5n.pt up under another name, drops
    apostrophes from paths and insists on the suffix.
    """
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        neutral = Path(folder) / "model.pt"
        neutral.symlink_to(file.absolute())
        try:
            loaded, _ = stock_tasks().torch_safe_load(str(neutral), safe_only=True)
        except Exception as error:
            raise CheckpointError(f"{file} {_refusal(neutral, error)}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{file} holds a {type(loaded).__name__}, not a checkpoint dictionary: {RETRAIN}")
    return loaded


def _refusal(file: Path, error: Exception) -> str:
    unknown = _classes_outside_the_allow_list(file)
    if unknown:
        named = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        return f"names {named}, which no stock Ultralytics model needs, so it was not loaded: {RETRAIN} with stock classes only"
    if isinstance(error, AttributeError):
        return f"is no checkpoint that Ultralytics saved: {RETRAIN}"
    reason = " ".join(str(error.__cause__ or error).split())
    if "PytorchStreamReader" in reason:
        return "is damaged (PyTorch cannot open the archive): fetch it again"
    reason = reason.rpartition("WeightsUnpickler error:")[2].strip()[:160]
    return f"was refused by the safe loader ({reason}): {RETRAIN}"


def _classes_outside_the_allow_list(file: Path) -> list[str]:
    """What the pickle names beyond the classes that the loader has just allowed; the pickle is disassembled, not run."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return []


def _checkpoint(given: str, file: Path, sha256: str, dictionary: dict[str, Any]) -> Checkpoint:
    model = _model_in(file, dictionary)
    content = {key: value for key, value in dictionary.items() if key not in NOT_CONTENT}
    content["train_args"] = _plain_arguments(content.get("train_args"))
    _prepare(model, content["train_args"])
    provenance = dictionary.get(PROVENANCE_KEY)
    provenance = provenance if isinstance(provenance, dict) else None
    architecture = (provenance or {}).get("original_yaml") or getattr(model, "yaml", None) or {}
    return Checkpoint(given, sha256, model, content, provenance, unguard(architecture), _warnings(dictionary, content))


def _model_in(file: Path, dictionary: dict[str, Any]) -> nn.Module:
    model = dictionary.get("ema") or dictionary.get("model")
    if isinstance(model, dict) or (model is None and _is_state_dict(dictionary)):
        raise CheckpointError(
            f"{file} holds only weights (a state_dict), no model: load them into their architecture with Ultralytics and save that"
        )
    if model is None:
        raise CheckpointError(f"{file} holds no model: {RETRAIN}")
    if not isinstance(model, stock_tasks().BaseModel):
        raise CheckpointError(f"{file} holds a {type(model).__name__}, which is no Ultralytics model: {RETRAIN}")
    if dictionary.get("modelopt"):
        raise CheckpointError(f"{file} is trained for quantisation, which pruning would undo: give the checkpoint from before that")
    if model.is_fused():
        raise CheckpointError(
            f"{file} is fused (its batch normalisation is folded away), which cannot be pruned: give the unfused checkpoint"
        )
    return cast("nn.Module", model)


def _is_state_dict(dictionary: dict[str, Any]) -> bool:
    values = dictionary.get("state_dict", dictionary)
    return isinstance(values, dict) and bool(values) and all(isinstance(value, torch.Tensor) for value in values.values())


def _plain_arguments(arguments: Any) -> dict[str, Any]:
    return dict(arguments) if isinstance(arguments, dict) else dict(vars(arguments)) if hasattr(arguments, "__dict__") else {}


def _prepare(model: Any, arguments: dict[str, Any]) -> None:
    """What Ultralytics' `load_checkpoint` does to a model that it has just loaded."""
    model.float()
    model.args = {**default_arguments(), **arguments}
    model.task = getattr(model, "task", None) or stock_tasks().guess_model_task(model)
    if not hasattr(model, "stride"):
        model.stride = torch.tensor([32.0])
    model.eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
        elif isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None


def _warnings(dictionary: dict[str, Any], content: dict[str, Any]) -> tuple[str, ...]:
    warnings = []
    epoch = dictionary.get("epoch", -1)
    if isinstance(epoch, int) and epoch >= 0 and dictionary.get("optimizer") is not None:
        warnings.append(f"saved in the middle of a training (epoch {epoch + 1}): its averaged weights are used")
    if not content["train_args"]:
        warnings.append(f"records no training arguments: input side {DEFAULT_IMGSZ} is assumed")
    return tuple(warnings)
