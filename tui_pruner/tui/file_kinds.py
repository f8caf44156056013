"""What a file seems to be, from its first bytes and its table of contents: nothing in it is ever run."""

from __future__ import annotations

import re
import zipfile
from functools import lru_cache
from pathlib import Path

FIRST_BYTES = 8192
LONGEST_PICKLE = 4 << 20
TASKS = {
    b"ClassificationModel": "classify",
    b"YOLOESegModel": "segment",
    b"SemanticSegmentationModel": "semantic",
    b"SegmentationModel": "segment",
    b"PoseModel": "pose",
    b"OBBModel": "obb",
    b"DepthModel": "depth",
    b"DetectionModel": "detect",
    b"WorldModel": "detect",
    b"YOLOEModel": "detect",
}
PRUNED = b"tui_pruner"
SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"version https://git-lfs": "a pointer of git LFS, not the file itself",
    b"\x08": "an ONNX export, perhaps",
    b"\x80": "a bare pickle",
}


def kind_of(path: Path) -> str:
    """A few words on a file: "checkpoint, detect, pruned here"; why not, where it is none."""
    try:
        facts = path.stat()
        return _kind(path, facts.st_mtime, facts.st_size)
    except OSError as error:
        return (error.strerror or "cannot be read").lower()


@lru_cache(256)
def _kind(path: Path, changed: float, size: int) -> str:
    if size == 0:
        return "empty"
    if path.suffix.lower() != ".pt":
        return _yaml_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _archive_kind(archive)
    except (zipfile.BadZipFile, ValueError, KeyError, NotImplementedError, RuntimeError):
        return _other_kind(path)


def _archive_kind(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript export, not a checkpoint"
    pickle = next((name for name in names if name.endswith("data.pkl")), "")
    if not pickle or archive.getinfo(pickle).file_size > LONGEST_PICKLE:
        return "a zip without a PyTorch checkpoint"
    content = archive.read(pickle)
    task = next((task for name, task in TASKS.items() if name in content), "")
    return ", ".join(["checkpoint", *([task] if task else ["of no Ultralytics model"]), *(["pruned here"] if PRUNED in content else [])])


def _other_kind(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(FIRST_BYTES)
    if first.startswith(b"PK"):
        return "a truncated checkpoint"
    return next((kind for signature, kind in SIGNATURES.items() if first.startswith(signature)), "not a PyTorch checkpoint")


def _yaml_kind(path: Path) -> str:
    with path.open("rb") as stream:
        text = stream.read(FIRST_BYTES)
    if re.search(rb"^backbone\s*:", text, re.MULTILINE):
        return "an architecture, with random weights"
    return "a data set, not a model" if re.search(rb"^(train|val)\s*:", text, re.MULTILINE) else "no architecture"
