"""What a folder has to open: folders and models, without a look into any of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

SUFFIXES = (".pt", ".yaml", ".yml")
PARENT = ".."


@dataclass(frozen=True)
class Place:
    """A folder or a file in a listing."""

    path: Path
    name: str
    is_folder: bool


def places_in(folder: Path) -> list[Place]:
    """What can be entered or opened in a folder: the folder above, then folders, then files, by name; nothing hidden.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (is_folder := _is_folder(entry)) is not None:
                found.append(Place(Path(entry.path), entry.name, is_folder))
    found.sort(key=lambda place: (not place.is_folder, place.name.lower(), place.name))
    return [Place(folder.parent, PARENT, True), *found] if folder.parent != folder else found


def matching(places: list[Place], words: str) -> list[Place]:
    """The places whose name has all of these words in it, whatever their case; the way up stays."""
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
