"""Every architecture that the installed Ultralytics ships, by the names under which it builds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import ultralytics
import yaml

FOLDER = Path(ultralytics.__file__).parent / "cfg" / "models"
ONE_FILE_FOR_ALL_SCALES = re.compile(r"(yolo(?:e-)?v?\d+)(?=[-.])")


@dataclass(frozen=True)
class Architecture:
    """One yaml file: the name of its smallest scale, and the names of its others."""

    smallest: str
    others: tuple[str, ...]


def architectures() -> list[Architecture]:
    """All of them, in the order of their names."""
    return sorted((architecture_in(file) for file in FOLDER.rglob("*.yaml")), key=lambda found: found.smallest)


def architecture_in(file: Path) -> Architecture:
    """The names that a yaml file can be built under: the letter of the scale goes behind the version, yolov8-seg.yaml is yolov8n-seg."""
    scales = list(yaml.safe_load(file.read_text(encoding="utf-8")).get("scales") or ())
    version = ONE_FILE_FOR_ALL_SCALES.match(file.name)
    if version is None or not scales:
        return Architecture(file.stem, ())
    first, *others = (f"{version[1]}{scale}{file.stem[version.end() :]}" for scale in scales)
    return Architecture(first, tuple(others))
