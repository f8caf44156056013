"""Models from files: a checkpoint through Ultralytics' allow-list loader, or an architecture built from its yaml."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tui_pruner.core.model.checkpoint import DEFAULT_IMGSZ, PROVENANCE_KEY, Checkpoint, image_side, require_presentable
from tui_pruner.core.pruning.masks import mask_of
from tui_pruner.domain.errors import CheckpointError, PrunerError, UntrustedError
from tui_pruner.frameworks.ultralytics.building import build_from_yaml, default_arguments, stock_tasks
from tui_pruner.frameworks.ultralytics.contents import unguard
from tui_pruner.frameworks.ultralytics.security.allowed_names import (
    beyond_ultralytics,
    listed,
    load_in_full,
    once_stock,
    own_names,
    permitting,
    refusal_of,
)
from tui_pruner.frameworks.ultralytics.security.archive import (
    Confined,
    Contents,
    confined,
    contents_of,
    limited_memory,
    require_sound_archive,
)
from tui_pruner.frameworks.ultralytics.security.model_scan import (
    make_plain,
    require_modest,
    require_modest_model,
    require_own_calls,
    unwrapped,
)
from tui_pruner.storage.model_file import RETRAIN, is_architecture, require_readable_file
from tui_pruner.storage.trust import fingerprint, is_trusted


def remarks(dictionary: Mapping[str, Any], arguments: Mapping[str, Any], own: Sequence[str], unwritable: str) -> tuple[str, ...]:
    """Warnings about a file, a sentence each; `own`: names that a trusted file imports, `unwritable`: why nothing can be written."""
    said = _training(dictionary, arguments)
    if unwritable:
        said.append(f"nothing that is made from it can be written ({unwritable}): save it again without that")
    elif own:
        said.append(f"takes {listed(own)} from other modules than Ultralytics' own: what is made from it does so too, and needs trust too")
    return tuple(said)


def _training(dictionary: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    said = []
    epoch = dictionary.get("epoch", -1)
    if isinstance(epoch, int) and epoch >= 0 and dictionary.get("optimizer") is not None:
        said.append(f"saved in the middle of a training (epoch {epoch + 1}): its averaged weights are used")
    sides, side = arguments.get("imgsz", DEFAULT_IMGSZ), image_side(arguments)
    if not arguments:
        said.append(f"records no training arguments: input side {DEFAULT_IMGSZ} is assumed")
    elif isinstance(sides, (list, tuple)):
        said.append(f"trained with image sides {list(sides)}: {side} is used, the largest of them; --imgsz chooses another")
    elif sides != side:
        said.append(f"records {sides!r} as the side of its images: {side} is used; --imgsz chooses another")
    return said


LARGE_PARTS = ("model", "ema", "optimizer", "scaler")
NOT_CONTENT = (*LARGE_PARTS, "updates", PROVENANCE_KEY)
SHOWN_DIGITS = 16


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint that Ultralytics, or this program, saved.

    Raises UntrustedError for a file that needs more than the known classes, unless the user trusts it, and CheckpointError for any other
    problem of the path.
    """
    file = Path(path).expanduser()
    require_readable_file(file)
    before = file.stat()
    with ThreadPoolExecutor() as beside:
        digest = beside.submit(fingerprint, file)
        looked_into = beside.submit(look_into, file)
        stock_tasks()
        contents, sha256 = looked_into.result(), digest.result()
    trusted = is_trusted(sha256)
    try:
        with limited_memory(contents.bytes), confined(trusted):
            checkpoint = _checkpoint(str(path), file, sha256, _load(file, contents, trusted), contents, trusted)
    except UntrustedError as refusal:
        raise UntrustedError(f"{refusal}; to allow it to execute arbitrary code, open it with --trust {sha256[:SHOWN_DIGITS]}") from refusal
    except MemoryError as error:
        raise CheckpointError(f"{file} takes more memory than a model of its size: {RETRAIN}") from error
    except Confined as error:
        raise CheckpointError(f"{file} {error}: {RETRAIN}") from error
    after = file.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise CheckpointError(f"{file} changed while it was read: wait until it is completely written")
    return checkpoint


def look_into(file: Path) -> Contents:
    """Inspect a file's archive without loading it.

    Raises:
        CheckpointError: it is not an intact archive as PyTorch writes it.
    """
    require_sound_archive(file)
    return contents_of(file)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's dictionary, its imports beyond Ultralytics' own list, and whether it was loaded without restrictions."""

    dictionary: dict[str, Any]
    taken: dict[str, Any]
    in_full: bool


def _load(file: Path, contents: Contents, trusted: bool) -> Loaded:
    """The checkpoint's dictionary; without restrictions only where the user trusts the file and the restricted loader refuses it.

    Loaded through a symbolic link with a neutral name: Ultralytics looks an existing yolov5n.pt up under another name, drops
    apostrophes from paths and insists on the suffix.
    """
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        neutral = Path(folder) / "model.pt"
        neutral.symlink_to(file.absolute())
        try:
            if refusal := refusal_of(neutral, file, contents):
                raise refusal
            loaded = _loaded_by_name(file, neutral)
        except UntrustedError:
            if not trusted:
                raise
            loaded = _loaded_in_full(file, neutral)
    if not isinstance(loaded.dictionary, dict):
        raise CheckpointError(f"{file} holds a {type(loaded.dictionary).__name__}, not a checkpoint dictionary: {RETRAIN}")
    return loaded


def _loaded_by_name(file: Path, neutral: Path) -> Loaded:
    """Load with the names on Ultralytics' list, and those that stock Ultralytics once wrote."""

    def load() -> Loaded:
        taken = {name: once_stock(name) for name in beyond_ultralytics(neutral)}
        with permitting(taken):
            return Loaded(stock_tasks().torch_safe_load(str(neutral), safe_only=True)[0], taken, in_full=False)

    return _raised_as_checkpoint_error(file, load, safe_only=True)


def _loaded_in_full(file: Path, neutral: Path) -> Loaded:
    return _raised_as_checkpoint_error(file, lambda: Loaded(*load_in_full(file, neutral), in_full=True), safe_only=False)


def _raised_as_checkpoint_error(file: Path, load: Callable[[], Loaded], safe_only: bool) -> Loaded:
    """Convert what a library raises about a file to our own error."""
    try:
        return load()
    except (MemoryError, Confined, PrunerError):
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        wants_more = safe_only and isinstance(error.__cause__ or error, pickle.UnpicklingError)
        raise (UntrustedError if wants_more else CheckpointError)(f"{file} {_refusal(error, safe_only)}") from error


def _refusal(error: Exception, safe_only: bool) -> str:
    if isinstance(error, AttributeError) and str(error).endswith("has no attribute 'model'"):
        return f"is not a checkpoint that Ultralytics saved: {RETRAIN}"
    reason = " ".join(str(error.__cause__ or error).split())
    if "PytorchStreamReader" in reason:
        return "is damaged (PyTorch cannot open the archive): fetch it again"
    if isinstance(error, ImportError):
        return f"needs a module that is not installed here ({reason[:160]}): install it first"
    if not safe_only:
        return f"cannot be loaded, though it is trusted ({type(error).__name__}: {reason[:160]}): load it where it was saved, or {RETRAIN}"
    reason = reason.rpartition("WeightsUnpickler error:")[2].strip()[:160]
    return f"was refused by the safe loader ({reason}): {RETRAIN}"


def _checkpoint(given: str, file: Path, sha256: str, loaded: Loaded, contents: Contents, trusted: bool) -> Checkpoint:
    dictionary = loaded.dictionary
    require_modest(file, {key: value for key, value in dictionary.items() if key not in LARGE_PARTS})
    try:
        model = _model_in(file, dictionary)
        require_modest_model(file, model, contents.bytes)
        notes = make_plain(model)
        if not trusted:
            require_own_calls(file, model)
        checkpoint = _record(given, sha256, model, loaded, notes)
        require_presentable(checkpoint)
    except (PrunerError, MemoryError, Confined):
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointError(f"{file} holds no model as Ultralytics saves it ({reason}): {RETRAIN}") from error
    return checkpoint


def _record(given: str, sha256: str, model: nn.Module, loaded: Loaded, notes: tuple[str, ...]) -> Checkpoint:
    dictionary = loaded.dictionary
    content = {key: value for key, value in dictionary.items() if key not in NOT_CONTENT}
    content["train_args"] = _plain_arguments(content.get("train_args"))
    _prepare(model, content["train_args"])
    provenance = dictionary.get(PROVENANCE_KEY)
    provenance = provenance if isinstance(provenance, dict) else None
    architecture = (provenance or {}).get("original_yaml") or getattr(model, "yaml", None) or {}
    mask = mask_of(model, provenance)
    names, unwritable = own_names(model, content["train_args"], loaded.taken) if loaded.taken else ((), "")
    return Checkpoint(
        path=given,
        sha256=sha256,
        model=model,
        content=content,
        provenance=provenance,
        original_yaml=unguard(architecture),
        warnings=(
            *remarks(dictionary, content["train_args"], names if loaded.in_full else (), unwritable),
            *notes,
            *_no_numbers(model),
            *([mask.in_words] if mask else []),
        ),
        own_names=names,
        trusted=loaded.in_full,
        unwritable=unwritable,
    )


def _model_in(file: Path, dictionary: dict[str, Any]) -> nn.Module:
    model = dictionary.get("ema") or dictionary.get("model")
    model = unwrapped(model) if isinstance(model, nn.Module) else model
    if isinstance(model, dict) or (model is None and _is_state_dict(dictionary)):
        raise CheckpointError(
            f"{file} holds only weights (a state_dict), no model: load them into their architecture with Ultralytics and save that"
        )
    if model is None:
        raise CheckpointError(f"{file} holds no model: {RETRAIN}")
    if isinstance(model, nn.Sequential) and set(dictionary) == {"model"}:  # all that Ultralytics' loader takes of a bare model
        raise CheckpointError(
            f"{file} is a bare model, which Ultralytics does not load either: save it with torch.save({{'model': model}}, ...)"
        )
    if not isinstance(model, stock_tasks().BaseModel):
        raise CheckpointError(f"{file} holds a {type(model).__name__}, which is no Ultralytics model: {RETRAIN}")
    vars(model).pop("criterion", None)  # those of a training, which are rebuilt when needed
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


def _no_numbers(model: nn.Module) -> list[str]:
    """A remark on tensors with values that are not finite, such as variances beyond half precision: nothing is measured through them."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bad = [name for name, tensor in tensors if tensor.is_floating_point() and not tensor.isfinite().all()]
    some = f"{bad[0]} and {len(bad) - 1} more hold" if len(bad) > 1 else f"{bad[0]} holds" if bad else ""
    return [f"{some} NaN or infinity, so what depends on it predicts nothing: use a checkpoint from before that"] if bad else []


def _plain_arguments(arguments: Any) -> dict[str, Any]:
    return dict(arguments) if isinstance(arguments, dict) else dict(vars(arguments)) if hasattr(arguments, "__dict__") else {}


def _prepare(model: Any, arguments: dict[str, Any]) -> None:
    """Prepare a model as Ultralytics' `load_checkpoint` does after loading."""
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


def open_model(text: str, classes: int | None = None) -> Checkpoint:
    """The model that a user named: a yaml is built with random weights and `classes` classes, anything else is read as a checkpoint."""
    if is_architecture(text):
        return build_from_yaml(text, classes)
    if classes is not None:
        raise CheckpointError(f"{text} has its classes already: the number of classes can be chosen for a yaml only")
    return read_checkpoint(text)
