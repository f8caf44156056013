"""One child process for each model, and what it said kept in the cache folder, so that a run that was broken off can go on."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tui_pruner
from tests.coverage.limits import Ended, limited
from tui_pruner.storage.paths import cache_folder

GIB = 1 << 30
MODULES = {"ours": "tests.coverage.ours", "theirs": "tests.coverage.theirs", "scales": "tests.coverage.scale"}
MEMORY = {"theirs": 6 * GIB}
LIBRARIES = ("torch", "torchvision", "ultralytics", "torch-pruning")
SOURCES = Path(tui_pruner.__file__).parent / "core"

Found = dict[str, Any]


def measured(kind: str, model: str, asking: str = "") -> Found:
    """What a kind of child ("ours", "theirs", "scales") finds out about a model; from the cache where it was asked before."""
    known = remembered(kind, model)
    if known is not None:
        return known
    print(f"{kind}: {model}", file=sys.stderr)
    found = told(limited(MODULES[kind], [asking or model], MEMORY.get(kind)))
    file = file_of(kind, model)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".tmp")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    fresh.replace(file)
    return found


def remembered(kind: str, model: str) -> Found | None:
    """What is in the cache about a model, if anything is."""
    file = file_of(kind, model)
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def file_of(kind: str, model: str) -> Path:
    """Where a result is kept."""
    return cache_folder() / "coverage" / state_of(kind) / kind / f"{model}.json"


def told(ended: Ended) -> Found:
    """All documents of a child in one, with how it ended and its last words."""
    found: Found = {}
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
