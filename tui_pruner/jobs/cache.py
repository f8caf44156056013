"""Validation results kept on disk by everything that they depend on; the folder can be deleted at any time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tui_pruner import places
from tui_pruner.engine.protocol import ValidationParameters, ValidationResult

LAYOUT = 1


def key_of(parameters: ValidationParameters, data_digest: str) -> str:
    """SHA-256 of the checkpoint, the plan, the data and how it is measured. The device is left out: it must not change a metric."""
    parts = {
        "layout": LAYOUT,
        "ultralytics": importlib.metadata.version("ultralytics"),
        "data": data_digest,
        "plan": _what_it_removes(parameters.plan),
        **parameters.model_dump(include={"sha256", "classes", "images", "imgsz", "seed"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load(key: str) -> ValidationResult | None:
    """The result under this key; None when there is none or its file is damaged."""
    try:
        result = ValidationResult.model_validate_json(_file(key).read_bytes())
    except (OSError, ValidationError):
        return None
    return result.model_copy(update={"cached": True})


def store(key: str, result: ValidationResult) -> None:
    """Keep a result, whole or not at all; a cache that cannot be written is no reason to lose the result."""
    with contextlib.suppress(OSError):
        _replace(_file(key), result.model_dump_json(exclude={"cached"}))


def _what_it_removes(plan: Mapping[str, Any] | None) -> Any:
    """A plan without what changes no weight (names of steps, how cuts are spread over them, how they were asked for); None for no cut."""
    if not plan or not plan.get("steps"):
        return None
    try:
        cuts = [cut["removes"] for step in plan["steps"] for cut in step["cuts"]]
        channels = {
            (axis, str(dim), index) for cut in cuts for axis, dims in cut.items() for dim, indices in dims.items() for index in indices
        }
    except (KeyError, TypeError, AttributeError):
        return plan
    return [{key: value for key, value in plan.items() if key not in ("steps", "checkpoint")}, sorted(channels)]


def _file(key: str) -> Path:
    return places.cache_folder() / "validation" / f"{key}.json"


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, suffix=".tmp", delete=False) as stream:
        try:
            stream.write(text)
            stream.close()
            Path(stream.name).replace(file)
        except OSError:
            Path(stream.name).unlink(missing_ok=True)
            raise
