"""Files and folders to open: what is in a folder, what a file seems to be, and how both are shown as lines."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from rich.text import Text

from tui_pruner.domain.formatting import ago, file_size
from tui_pruner.tui.theme import colours
from tui_pruner.tui.theme.drawing import fit, fit_middle

SUFFIXES = (".pt", ".yaml", ".yml")
PARENT = ".."


@dataclass(frozen=True)
class FolderEntry:
    """A folder or a file in a listing."""

    path: Path
    name: str
    is_folder: bool


def entries_in(folder: Path) -> list[FolderEntry]:
    """What can be entered or opened in a folder: the folder above, then folders, then files, by name; nothing hidden.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (is_folder := _is_folder(entry)) is not None:
                found.append(FolderEntry(Path(entry.path), entry.name, is_folder))
    found.sort(key=lambda place: (not place.is_folder, place.name.lower(), place.name))
    return [FolderEntry(folder.parent, PARENT, True), *found] if folder.parent != folder else found


def matching(places: list[FolderEntry], words: str) -> list[FolderEntry]:
    """The places whose name has all of these words in it, no matter what their case; the way up stays."""
    wanted = words.lower().split()
    return [place for place in places if place.name == PARENT or all(word in place.name.lower() for word in wanted)]


def day(seconds: float) -> str:
    """A date as people sort it: 2026-11-22 06:07."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    """None for what is neither a folder nor something to open."""
    try:
        if entry.is_dir():
            return True
        return False if entry.name.lower().endswith(SUFFIXES) and entry.is_file() else None
    except OSError:
        return None


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


SIZE, DAY = 9, 16
WIDTH_FOR_DAY, WIDTH_FOR_SIZE = 50, 30


def place_line(place: FolderEntry, width: int) -> Text:
    """One line of a folder's listing; a folder has a slash and no size."""
    if place.is_folder:
        title = f"{PARENT}  the folder above" if place.name == PARENT else f"{place.name}{os.sep}"
        return Text.assemble(" ", (fit_middle(title, width - 2), colours.BLUE))
    return file_line(place.name, place.path, width)


def file_line(name: str, path: Path, width: int) -> Text:
    """A file with its size and date, as far as there is room."""
    try:
        facts = path.stat()
        size, changed = file_size(facts.st_size), day(facts.st_mtime)
    except OSError as error:
        size, changed = "", (error.strerror or "").lower()
    columns = [(fit(size, SIZE, right=True), WIDTH_FOR_SIZE), (fit(changed, DAY), WIDTH_FOR_DAY)]
    return _with_columns(name, [text for text, space in columns if width >= space], width)


def recent_line(path: Path, opened: float, problem: str, width: int) -> Text:
    """A checkpoint that was opened: its name first, where it is, and when that was; greyed with the reason where it cannot be opened."""
    tail = problem or ago(opened)
    space = max(width - len(tail) - 4, 8)
    name = fit_middle(path.name, space)
    folder = fit_middle(_short(path.parent), space - len(name) - 2) if space - len(name) > 6 else ""
    gap = " " * max(space - len(name) - len(folder) - 2, 0)
    style = colours.FAINT if problem else colours.TEXT
    return Text.assemble(" ", (name, style), "  ", (folder, colours.FAINT if problem else colours.MUTED), gap, " ", (tail, colours.MUTED))


def heading(title: str) -> Text:
    """The title of a part of a list."""
    return Text(title, colours.HEADING)


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~{os.sep}{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _with_columns(name: str, columns: list[str], width: int) -> Text:
    space = width - 2 - sum(len(column) + 2 for column in columns)
    return Text.assemble(" ", (fit(fit_middle(name, space), space), colours.TEXT), *(("  " + column, colours.MUTED) for column in columns))
