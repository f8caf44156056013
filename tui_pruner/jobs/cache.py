"""Results of jobs kept on disk by everything that they depend on; the folder can be deleted at any time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tui_pruner import __version__, places
from tui_pruner.engine.job_messages import CalibrationParameters, JobParameters, ValidationParameters, ValidationResult
from tui_pruner.metrics import FIGURES
from tui_pruner.trust import is_trusted
from tui_pruner.whole_file import replace_file

SUBJECT = {"sha256", "classes", "images", "imgsz", "seed"}


def digest_of(parameters: JobParameters, data_digest: str, **others: Any) -> str:
    """SHA-256 of the checkpoint, the data, how it is measured, and what else a result depends on. No metric depends on the device."""
    versions = {"layout": FIGURES, "ultralytics": importlib.metadata.version("ultralytics"), **_own_code(parameters)}
    parts = {**versions, "data": data_digest, **parameters.model_dump(include=SUBJECT), **others}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def key_of(parameters: ValidationParameters, data_digest: str) -> str:
    """What a validation's result is kept under: the same for plans that remove the same channels."""
    return digest_of(parameters, data_digest, plan=_what_it_removes(parameters.plan))


def calibration_file(parameters: CalibrationParameters, data_digest: str) -> Path:
    """Where calibrated scores are kept: named by all that they depend on. One file has those of all criteria, which share the gradients."""
    criteria: dict[str, Any] = {
        "program": __version__,
        "torch-pruning": importlib.metadata.version("torch-pruning"),
        "criteria": parameters.criteria,
    }
    if parameters.kept_classes:
        criteria["kept_classes"] = parameters.kept_classes
    return places.cache_folder() / "calibration" / f"{digest_of(parameters, data_digest, **criteria)}.npz"


def load(key: str) -> ValidationResult | None:
    """The result under this key; None when there is none or its file is damaged."""
    try:
        result = ValidationResult.from_json(_file(key).read_bytes())
    except (OSError, ValueError):
        return None
    return result.model_copy(update={"cached": True})


def store(key: str, result: ValidationResult) -> None:
    """Keep a result, whole or not at all; a cache that cannot be written is no reason to lose the result."""
    with contextlib.suppress(OSError):
        replace_file(_file(key), result.to_json(exclude={"cached"}))


def _own_code(parameters: JobParameters) -> dict[str, str]:
    """The code of a trusted model's own classes, which can change while its file stays."""
    if not is_trusted(parameters.sha256):
        return {}
    from tui_pruner.core.checkpoint.own_code import code_of_file

    return {"own_code": code_of_file(Path(parameters.checkpoint).expanduser())}


def _what_it_removes(plan: Mapping[str, Any] | None) -> Any:
    """A plan without what changes no weight (names of steps, how cuts are spread over them, how they were asked for); None for no cut."""
    if not plan or not plan.get("steps"):
        return None
    try:
        cuts = [cut["removes"] for step in plan["steps"] for cut in step["cuts"]]
        channels = {
            (axis, str(dim), index) for cut in cuts for axis, dims in cut.items() for dim, indices in dims.items() for index in indices
        }
        dropped = sorted({path for step in plan["steps"] for cut in step["cuts"] for path in cut.get("drops", [])})
    except (KeyError, TypeError, AttributeError):
        return plan
    rest = {key: value for key, value in plan.items() if key not in ("steps", "checkpoint")}
    return [rest, sorted(channels), *([dropped] if dropped else [])]


def _file(key: str) -> Path:
    return places.cache_folder() / "validation" / f"{key}.json"
