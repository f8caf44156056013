"""A private folder of links to a data set: Ultralytics writes label caches and repairs images in place, but the folder is the user's."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from tui_pruner.jobs.dataset import DataSet, label_of
from tui_pruner.jobs.numbering import numbers_in


@contextlib.contextmanager
def private_view(data: DataSet) -> Iterator[Path]:
    """A temporary folder with links to the images and labels of `data`; gives what a validator's `data` is to be, a yaml or a folder in it.

    Files are numbered in the data set's order: equal names in different folders stay apart, and Ultralytics' sorting keeps the order.
    """
    with tempfile.TemporaryDirectory(prefix="tui-pruner-view-") as name:
        folder = Path(name).resolve()
        yield _class_folders(data, folder) if data.in_class_folders else _data_yaml(data, folder)


def number_of(file: str | Path) -> int:
    """The place in the data set of an image that a view links to."""
    return int(Path(file).stem)


def _data_yaml(data: DataSet, folder: Path) -> Path:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number, image in enumerate(data.images):
        (folder / "images" / _name(number, image)).symlink_to(image)
        if label_of(image).is_file():
            _labels(label_of(image), folder / "labels" / f"{number:08}.txt", data.numbers)
    # Without a path, places are beside the yaml, and its name, which YAML need not have, does not stand in it.
    content = {**data.settings, "train": "images", "val": "images", "names": dict(enumerate(data.names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "data.yaml"


def _labels(file: Path, place: Path, numbers: Mapping[int, int] | None) -> None:
    """A link to a label file; where its classes have other numbers, a copy with those."""
    if numbers is None:
        place.symlink_to(file)
    else:
        place.write_text(numbers_in(file.read_text(encoding="utf-8", errors="replace"), numbers), encoding="utf-8")


def _class_folders(data: DataSet, folder: Path) -> Path:
    for name in data.names:
        (folder / "val" / name).mkdir(parents=True)  # also where the subset has none: Ultralytics counts classes by their folders
    (folder / "train").symlink_to("val")
    for number, image in enumerate(data.images):
        (folder / "val" / _class_of(data, image) / _name(number, image)).symlink_to(image)
    return folder


def _class_of(data: DataSet, image: Path) -> str:
    """The folder right below the split, however deep the image lies in it."""
    return image.relative_to(data.yaml_file.absolute()).parts[1]


def _name(number: int, image: Path) -> str:
    return f"{number:08}{image.suffix}"
