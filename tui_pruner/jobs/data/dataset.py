"""A data set: its yaml resolved and checked early, whether it fits a model, and its classes in the model's numbering."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tui_pruner.domain.errors import DataError
from tui_pruner.domain.formatting import BYTES
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.yaml import DataYaml, located, names_of, read_data_yaml, settings_of, yaml_in

# Ultralytics' own list, repeated so that a cached result is found without importing torch; a test compares the two.
IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
HELD_OUT = 4
"""One image in this many is held out to judge by."""
MANY = 2000
"""Images from which on it takes long to read all label files."""
SETTLED = 3_000_000_000
"""Nanoseconds after which another change of a file has another time, with the clocks of all usual file systems."""


class Split(NamedTuple):
    """A part of a data set: its names in a data yaml, its folders where classes are folders, and how messages call its images."""

    keys: tuple[str, ...]
    folders: tuple[str, ...]
    images: str


VALIDATION = Split(("val", "validation"), ("val", "validation", "valid", "test"), "validation images")
TRAINING = Split(("train",), ("train",), "training images")


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The images of one split of a data yaml, sorted; `settings` are its other keys that a validator reads.

    `in_class_folders`: `yaml_file` is a folder, and so is every class in its splits; the images have no label files.
    `numbers`: the classes' numbers by those in the label files, where they differ; labels of classes that it lacks are ignored.
    """

    yaml_file: Path
    names: tuple[str, ...]
    images: tuple[Path, ...]
    settings: Mapping[str, Any]
    in_class_folders: bool = False
    numbers: Mapping[int, int] | None = None

    def subset(self, count: int | None, seed: int) -> DataSet:
        """`count` of the images, drawn uniformly by the seed: the same ones for every plan. None: all of them."""
        if count is None or count >= len(self.images):
            return self
        if count < 1:
            raise DataError(f"cannot validate on {count} images: ask for at least 1")
        return dataclasses.replace(self, images=tuple(sorted(random.Random(seed).sample(self.images, count))))

    def with_images(self, images: tuple[Path, ...]) -> DataSet:
        """The same data with only these images."""
        return dataclasses.replace(self, images=images)

    def digest(self) -> str:
        """SHA-256 of the classes, the settings, every image by path, size and modification time, and every label file by its content.

        That of many images is kept, so that label files are read again only where the status of one has changed.
        """
        if len(self.images) < MANY:
            return self._hashed(_labels_in)
        store = paths.cache_folder() / "data" / self._hashed(_status_of)
        with contextlib.suppress(OSError, ValueError):
            return bytes.fromhex(store.read_text(encoding="ascii")).hex()
        found = self._hashed(_labels_in)
        with contextlib.suppress(OSError):
            replace_file(store, found.encode())
        return found

    def _hashed(self, labels: Callable[[Path], bytes]) -> str:
        content = hashlib.sha256(json.dumps([self.names, dict(self.settings)], sort_keys=True, default=str).encode())
        for image in self.images:
            content.update(f"{image}\0{_stamp(image)}\0".encode(errors="surrogateescape"))
            content.update(labels(label_of(image)))
        return content.hexdigest()


def read_data(file: str | Path, split: Split = VALIDATION) -> DataSet:
    """Resolve a data yaml, or the folder of a classification data set, and find the images of a split.

    Raises:
        DataError: it is missing, not a data yaml, or has no such split, classes or images.
    """
    path = located(file)
    path = path if path.exists() else _own_folder(path) or path
    folder = next((path / name for name in split.folders if (path / name).is_dir()), None)
    if folder is not None and not (folder / "images").is_dir():
        return _class_folders(path, folder)
    data = read_data_yaml(yaml_in(path) if path.is_dir() else path)
    sources = sources_of(data, split)
    images = tuple(sorted(_images(data.path, sources), key=lambda image: image.parts))
    if not images:
        raise data.error(f": the {split.keys[0]} split holds no images; expected files such as .jpg or .png under {sources[0]}")
    _check_present(data.path, images)
    return DataSet(data.path, names_of(data), images, settings_of(data))


def without_labels(file: str | Path) -> DataSet:
    """The images of the training split, for jobs that read no labels; of the validation split where it is the only one.

    Raises:
        DataError: the data has no images.
    """
    try:
        return read_data(file, TRAINING)
    except DataError:
        return read_data(file, VALIDATION)


def content_of(file: str | Path) -> str:
    """SHA-256 of all images and labels of a data set, which interrupted work goes on with only while they are the same.

    A split that cannot be read counts as none.
    """
    content = hashlib.sha256()
    for split in (TRAINING, VALIDATION):
        with contextlib.suppress(DataError):
            content.update(f"{split.images}\0{read_data(file, split).digest()}".encode())
    return content.hexdigest()


def held_apart(data: DataSet, images: int | None, seed: int) -> tuple[DataSet, DataSet]:
    """Images in a seeded order: `images` to work on, and a quarter as many others to judge by.

    Where there are too few, a fifth of them is for judging.

    Raises:
        DataError: there are fewer than two.
    """
    wanted = len(data.images) if images is None else images
    everything = data.subset(wanted + -(-wanted // HELD_OUT), seed)
    count = min(wanted, len(everything.images) * HELD_OUT // (HELD_OUT + 1))
    if count < 1:
        raise DataError(f"{data.yaml_file}: at least 2 images are needed, one of them to judge by; there is {len(data.images)}")
    working = everything.subset(count, seed)
    others = set(everything.images) - set(working.images)
    return working, everything.with_images(tuple(image for image in everything.images if image in others))


def label_of(image: Path) -> Path:
    """Where Ultralytics looks for an image's labels: the last `images` folder becomes `labels`."""
    text = f"{os.sep}labels{os.sep}".join(str(image).rsplit(f"{os.sep}images{os.sep}", 1))
    return Path(text.rsplit(".", 1)[0] + ".txt")


def _own_folder(name: Path) -> Path | None:
    """Where Ultralytics stores a classification data set of its own; None for a yaml, for which it is not imported."""
    if name.suffix or name.is_absolute():
        return None
    from ultralytics.utils import DATASETS_DIR

    folder = Path(DATASETS_DIR) / name
    return folder if folder.is_dir() else None


def _class_folders(path: Path, split: Path) -> DataSet:
    """A classification data set as Ultralytics reads it: the classes are the folders of the train split, where there is one."""
    classes = path / "train" if (path / "train").is_dir() else split
    names = tuple(sorted(folder.name for folder in classes.iterdir() if folder.is_dir()))
    folders = [split / name for name in names if (split / name).is_dir()]
    images = tuple(sorted(image.absolute() for image in _images(path, folders)))
    if not images:
        raise DataError(f"{path}: no image in a folder of its class; expected for example {split / (names or ('class',))[0]}/1.jpg")
    return DataSet(path, names, images, {}, in_class_folders=True)


def sources_of(data: DataYaml, split: Split) -> list[Path]:
    """The folders and list files of a split, absolute."""
    key = split.keys[0]
    given = next((data.content[name] for name in split.keys if data.content.get(name)), None)
    if not given:
        raise data.error(f" has no {key} split: add `{key}:` with the folder of the {split.images}")
    entries = given if isinstance(given, list) else [given]
    if not all(isinstance(entry, str) for entry in entries):
        raise data.error(f": {key} must be a path or a list of paths")
    root = _root(data)
    sources = [_entry(root, entry) for entry in entries]
    for source in sources:
        if not source.exists():
            otherwise = (
                ": nothing is downloaded here; have Ultralytics do it, or change its datasets_dir" if data.content.get("download") else ""
            )
            raise data.error(f": the {split.images} {source} do not exist{otherwise}")
    return sources


def _root(data: DataYaml) -> Path:
    root = data.content.get("path")
    if not root:
        return data.path.parent.resolve()
    if not isinstance(root, str):
        raise data.error(f": path must be a folder's name, not {type(root).__name__}")
    folder = _folder(root)
    return folder if folder.exists() else _folder(BYTES.sub("", root))


def _folder(name: str) -> Path:
    folder = Path(name)
    if folder.is_absolute() or folder.exists():
        return folder.resolve()
    from ultralytics.utils import DATASETS_DIR

    return (Path(DATASETS_DIR) / folder).resolve()


def _entry(root: Path, entry: str) -> Path:
    found = (root / entry).resolve()
    # Ultralytics accepts `../images` in yamls that were written for a folder beside their own.
    found = (root / entry[3:]).resolve() if entry.startswith("../") and not found.exists() else found
    # Without bytes that are not UTF-8, as Ultralytics reads it, where no folder has such a name.
    return found if found.exists() or not BYTES.search(entry) else _entry(root, BYTES.sub("", entry))


def _images(path: Path, sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        files = _walk(source) if source.is_dir() else _listed(path, source)
        yield from (file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = Path(parent)
        yield from (place / name for name in files if not name.startswith("."))


def _listed(path: Path, source: Path) -> Iterator[Path]:
    try:
        text = source.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError:
        raise DataError(f"{path}: {source} is neither a folder nor a text file with an image a line") from None
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not (said := line.strip()):
            continue
        image = source.parent / said[2:] if said.startswith("./") else Path(said).absolute()
        if BYTES.search(said) and not image.is_file():
            raise DataError(
                f"{path}: {source} is not a list of images in UTF-8 (line {number}): give a folder, or a text file with an image a line"
            )
        yield image


def _check_present(path: Path, images: Iterable[Path]) -> None:
    missing = next((image for image in images if not image.is_file()), None)
    if missing is not None:
        raise DataError(f"{path}: the image {missing} is listed but does not exist")


def _labels_in(file: Path) -> bytes:
    """The SHA-256 of a label file, which is small and may be corrected to the same size within one tick of a disk's clock."""
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return b"missing"


def _status_of(file: Path) -> bytes:
    """What changes with a file; its content where that was just now, since within one tick of the disk's clock it may change once more."""
    try:
        status = file.stat()
    except OSError:
        return b"missing"
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED:
        return _labels_in(file)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}\0".encode()


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


ROWS_LOOKED_AT = 16
RGB = 3
"""The channels of images whose data yaml does not say otherwise."""
CLASS_FOLDERS = "the folder that holds train and val, each with a folder for every class"


def check_fits(data: DataSet, classes: int, task: str, labels: Mapping[str, Any], channels: int = RGB) -> None:
    """Refuse data that a model with this many classes, this task and images of this many channels cannot be measured on.

    `labels`: settings of the model's training that changed labels (`labels_of`); where all classes count as one, their number is ignored.

    Raises:
        DataError: other classes, another task, other images, or no labels.
    """
    if len(data.names) != classes and not labels.get("single_cls"):
        raise DataError(f"{data.yaml_file} names {len(data.names)} classes, but the model has {classes}: use the data it was trained on")
    if data.in_class_folders != (task == "classify"):
        is_a, give = ("folder of classes", f"a data yaml for {task}") if data.in_class_folders else ("data yaml", CLASS_FOLDERS)
        raise DataError(f"{data.yaml_file} is a {is_a}, but the model's task is {task}: give {give}")
    if data.in_class_folders:
        return
    if channels != (given := data.settings.get("channels", RGB)):
        raise DataError(f"{data.yaml_file} has images of {given} channels (key `channels`), the model reads {channels}: they must agree")
    if ("kpt_shape" in data.settings) != (task == "pose"):
        has = "has a kpt_shape (pose data)" if task != "pose" else "has no kpt_shape"
        raise DataError(f"{data.yaml_file} {has}, but the model's task is {task}: use data for {task}")
    files = [label_of(image) for image in data.images]
    rows = _first_rows(files)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{data.yaml_file}: none of the {len(files)} images has a label; expected for example {files[0]}")
    for label, columns in (first, *(row for _, row in zip(range(ROWS_LOOKED_AT), rows))):
        if not _row_fits(columns, task, data.settings):
            raise DataError(f"{label} has {columns} numbers a row, which makes no {task} label, but the model's task is {task}")


def _first_rows(labels: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """Each label file that has a first row, with the number of columns in it."""
    for label in labels:
        try:
            with label.open(encoding="utf-8", errors="replace") as stream:
                row = next((line for line in stream if line.strip()), "")
        except OSError:
            continue
        if row:
            yield label, len(row.split())


def _row_fits(columns: int, task: str, settings: Mapping[str, Any]) -> bool:
    polygon = columns >= 7 and columns % 2 == 1
    if task == "pose":
        points, numbers = settings["kpt_shape"]
        return bool(columns == 5 + points * numbers)
    legal = {"detect": columns == 5 or polygon, "segment": polygon, "obb": columns == 9}
    return legal[task]


NUMBERINGS = "tui_pruner_classes"
"""As in `core/pruning/classes.py`, which imports torch; a test compares the two."""


def renumbered(data: DataSet, model: Any) -> DataSet:
    """Return a data set in a model's numbering of classes; one that has it already is returned as it is.

    One with the classes of an ancestor of the model loses the labels, or the class folders, of those that are gone.
    """
    numberings = getattr(model, NUMBERINGS, None)
    if not numberings or len(data.names) == len(model.names):
        return data
    for numbering in reversed(numberings):
        if len(numbering["names"]) == len(data.names):
            return mapped(data, numbering["kept"])
    return data


def mapped(data: DataSet, kept: Sequence[int]) -> DataSet:
    """Return a data set with some of its classes, numbered in this order."""
    names = tuple(data.names[number] for number in kept)
    if data.in_class_folders:
        root = data.yaml_file.absolute()
        images = tuple(image for image in data.images if image.relative_to(root).parts[1] in names)
        return dataclasses.replace(data, names=names, images=images)
    return dataclasses.replace(data, names=names, numbers={old: new for new, old in enumerate(kept)})


def numbers_in(text: str, numbers: Mapping[int, int]) -> str:
    """Return the rows of a label file whose classes are kept, renumbered; rows that are not labels are left to Ultralytics."""
    rows = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        number = number_in(word)
        if word and (number is None or number in numbers):
            rows.append(f"{word if number is None else numbers[number]} {rest}")
    return "".join(f"{row.rstrip()}\n" for row in rows)


def number_in(word: str) -> int | None:
    """Return the class at the beginning of a row; None where that is not an integer."""
    try:
        number = float(word)
        return int(number) if number == int(number) else None
    except (ValueError, OverflowError):
        return None


def numbering_in_words(data: DataSet) -> list[str]:
    """Return a note where labels of other classes are ignored."""
    return [] if data.numbers is None else [f"only labels of {', '.join(data.names)} count, which the model has"]
