"""Checks of a model's name and of its file's first byte, without any library: missing, unreadable, or an architecture."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

from tui_pruner.domain.errors import CheckpointError

ARCHITECTURES = (".yaml", ".yml")
"""Suffixes of files that describe a model but hold none."""
SCALE = re.compile(r"(\d+)([nslmx])(.+)?$")
"""How Ultralytics finds the file of all scales in a name: yolov8s.yaml is in yolov8.yaml."""
P6 = re.compile(r"yolov([58])([nsmlx])6")


def is_architecture(path: str) -> bool:
    """Whether a file describes an architecture without weights, by its name."""
    return Path(path).suffix.lower() in ARCHITECTURES


def require_readable_file(path: Path) -> None:
    """Refuse what cannot be a model file at all: missing, a folder, unreadable, or empty."""
    try:
        if not path.exists():
            raise CheckpointError(f"{path}: no such file; check the path")
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder: name a .pt file in it")
        if not path.is_file():
            raise CheckpointError(f"{path} is not a regular file: name a .pt file")
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty: the copy or download has failed, fetch it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def require_model(name: str) -> None:
    """Refuse a name that is neither a file nor an architecture of Ultralytics, without importing Ultralytics.

    URLs, and names in folders that do not exist here, are left to Ultralytics.

    Raises:
        CheckpointError: the model does not exist."""
    if not is_architecture(name):
        require_readable_file(Path(name).expanduser())
    elif "/" not in name and not Path(name).exists() and known_architectures() and not same_architecture(name):
        raise CheckpointError(f"{name}: no such architecture{nearest(name)}")


def same_architecture(name: str) -> bool:
    """Whether Ultralytics has an architecture of this name, at some scale."""
    stem, suffix = Path(name).stem, Path(name).suffix
    renamed = P6.sub(r"yolov\1\2-p6", stem) if P6.fullmatch(stem) else stem
    return not known_architectures().isdisjoint({name, f"{renamed}{suffix}", SCALE.sub(r"\1\3", f"{renamed}{suffix}")})


def nearest(name: str) -> str:
    """Return the end of a sentence with the most similar names."""
    close = difflib.get_close_matches(Path(name).name, sorted(known_architectures()), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else "; name one such as yolov8n.yaml"


@cache
def known_architectures() -> frozenset[str]:
    """The names of the architectures that come with Ultralytics; empty where it is not found."""
    spec = importlib.util.find_spec("ultralytics")
    roots = (spec.submodule_search_locations if spec else None) or ()
    return frozenset(file.name for root in roots for file in Path(root, "cfg", "models").rglob("*.yaml"))
