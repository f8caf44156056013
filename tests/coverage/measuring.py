"""One child process for each model, and what it said kept in the cache folder, so that a run that was broken off can go on."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tui_pruner
from tests.coverage.limits import Ended, limited
from tui_pruner.places import cache_folder

GIB = 1 << 30
MODULES = {"ours": "tests.coverage.ours", "theirs": "tests.coverage.theirs", "scale": "tests.coverage.scale"}
MEMORY = {"theirs": 6 * GIB}
LIBRARIES = ("torch", "torchvision", "ultralytics", "torch-pruning")
SOURCES = Path(tui_pruner.__file__).parent / "core"


def measured(kind: str, model: str) -> dict[str, Any]:
    """What a kind of child ("ours", "theirs", "scale") finds out about a model; from the cache where it was asked before."""
    file = cache_folder() / "coverage" / state_of(kind) / kind / f"{model}.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    found = told(limited(MODULES[kind], [model], MEMORY.get(kind)))
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".tmp")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    fresh.replace(file)
    return found


def told(ended: Ended) -> dict[str, Any]:
    """All documents of a child in one, with how it ended and its last words."""
    found: dict[str, Any] = {}
    for document in ended.documents:
        found |= document
    return {**found, "how": ended.how, "words": ended.words}


def state_of(kind: str) -> str:
    """A name for what the results depend on: the libraries, and for ours the source of the core."""
    digest = hashlib.sha256("".join(f"{name} {version(name)}" for name in LIBRARIES).encode())
    if kind != "theirs":
        for file in sorted(SOURCES.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
