"""A private folder of links to a data set, since Ultralytics writes caches beside labels and repairs images in place; and the settings of
an earlier training.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tui_pruner.jobs.data.dataset import TRAINING, VALIDATION, DataSet, check_fits, label_of, numbers_in, read_data

AUGMENTATION = (
    "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr",
    "mosaic", "mixup", "cutmix", "copy_paste", "copy_paste_mode", "auto_augment", "erasing", "multi_scale",
)  # fmt: skip
LOSS = ("box", "cls", "cls_pw", "dfl", "pose", "kobj", "rle", "angle", "mask_ratio", "dropout", "cos_lr")
BOXES = ("detect", "segment", "pose", "obb")
LABELS = {
    "single_cls": ("all classes count as one", (*BOXES, "classify")),
    "classes": ("only labels of the classes {} count", BOXES),
    "overlap_mask": ("masks may overlap", ("segment",)),
}
"""Settings that change which labels an image has and what they mean: the words for them, and the tasks that they affect.

Thresholds, sizes and speeds are the user's choice.
"""

NOMINAL_BATCH = 64
"""Ultralytics sums the gradients of this many images for every update."""
ENOUGH_UPDATES = 1000


def recipe_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an earlier training that the next one shares, without those that this Ultralytics does not accept."""
    return accepted(arguments, (*AUGMENTATION, *LOSS, *LABELS))


def labels_of(model: Any) -> dict[str, Any]:
    """Return the settings of a model's training that change the meaning of its labels from Ultralytics' defaults."""
    from tui_pruner.frameworks.ultralytics.building import default_arguments

    arguments, usual = getattr(model, "args", None) or {}, default_arguments()
    task = getattr(model, "task", None) or "detect"
    found = accepted(arguments if isinstance(arguments, dict) else vars(arguments), LABELS)
    return {name: value for name, value in found.items() if value != usual[name] and task in LABELS[name][1]}


def meaning_of_labels(model: Any) -> tuple[dict[str, Any], int]:
    """Return what a model's training made of labels, and the channels of its images: what data has to fit besides classes and task."""
    from tui_pruner.core.model.layers import image_channels

    return labels_of(model), image_channels(model)


def labels_in_words(labels: Mapping[str, Any]) -> list[str]:
    """Return a note on each setting of `labels_of`."""
    return [f"{LABELS[name][0].format(value)}, as in the model's training ({name}={value})" for name, value in labels.items()]


def accepted(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments with these names that this Ultralytics knows and whose values it accepts."""
    from tui_pruner.frameworks.ultralytics.building import default_arguments

    known = default_arguments()
    return {name: arguments[name] for name in names if name in known and taken(name, arguments.get(name))}


def taken(name: str, value: Any) -> bool:
    """Whether Ultralytics accepts a value, by its own check; `classes`, which that leaves out, must be numbers."""
    from ultralytics.cfg import check_cfg

    if value is None:
        return False
    if name == "classes":
        numbers = value if isinstance(value, (list, tuple)) else [value]
        return bool(numbers) and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    try:
        check_cfg({name: value})
    except (TypeError, ValueError):
        return False
    return True


def nominal_batch(images: int, epochs: int, batch: int) -> int:
    """The images of one update: Ultralytics' 64 where that gives enough updates, fewer in a short training, always whole batches.

    Ten epochs of 256 images are 40 updates of 64: YOLOv8n on the bundled digits, at 69 % of its FLOPs, reached mAP50-95 0.848 with them,
    and 0.865 with 160 updates of 16.
    """
    return min(NOMINAL_BATCH, max(batch, images * epochs // ENOUGH_UPDATES))


@contextlib.contextmanager
def private_view(data: DataSet) -> Iterator[Path]:
    """A temporary folder with links to the images and labels of `data`; yields a validator's `data` argument: a yaml or a folder in it.

    Files are numbered in the data set's order: equal names in different folders stay apart, and Ultralytics' sorting keeps the order.
    """
    with tempfile.TemporaryDirectory(prefix="tui-pruner-view-") as name:
        folder = Path(name).resolve()
        yield _class_folders(data, folder) if data.in_class_folders else _data_yaml(data, folder)


def number_of(file: str | Path) -> int:
    """The index in the data set of an image that a view links to."""
    return int(Path(file).stem)


def _data_yaml(data: DataSet, folder: Path) -> Path:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number, image in enumerate(data.images):
        (folder / "images" / _name(number, image)).symlink_to(image)
        if label_of(image).is_file():
            _labels(label_of(image), folder / "labels" / f"{number:08}.txt", data.numbers)
    # Without `path`, folders are relative to the yaml, whose own path, perhaps not UTF-8, then is not written.
    content = {**data.settings, "train": "images", "val": "images", "names": dict(enumerate(data.names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "data.yaml"


def _labels(file: Path, place: Path, numbers: Mapping[int, int] | None) -> None:
    """Link a label file; where its classes have other numbers, write a renumbered copy."""
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
    """The folder right below the split, at any depth of the image."""
    return image.relative_to(data.yaml_file.absolute()).parts[1]


def _name(number: int, image: Path) -> str:
    return f"{number:08}{image.suffix}"


class TrainingData(NamedTuple):
    """The images to train on, and those that choose the best epoch."""

    training: DataSet
    validation: DataSet

    def check(self, model: Any, classes: int, task: str) -> None:
        """Refuse data that a model cannot be trained on.

        Raises:
            DataError: other classes, another task, other images, or no labels.
        """
        for split in self:
            check_fits(split, classes, task, *meaning_of_labels(model))


class View(NamedTuple):
    """A trainer's `data` argument, and the number of training images."""

    data: str
    images: int


def read_both(file: str | Path) -> TrainingData:
    """The splits of a data yaml, or of a folder with classes.

    Raises:
        DataError: a file is missing or cannot be used.
    """
    return TrainingData(read_data(file, TRAINING), read_data(file, VALIDATION))


@contextlib.contextmanager
def training_view(data: TrainingData) -> Iterator[View]:
    """Links to the images of both splits and their labels, removed at the end of the `with` block."""
    with (
        private_view(data.training) as training,
        private_view(data.validation) as validation,
        tempfile.TemporaryDirectory(prefix="tui-pruner-data-") as name,
    ):
        folder = Path(name).resolve()
        if data.training.in_class_folders:
            (folder / "train").symlink_to(training / "val")
            (folder / "val").symlink_to(validation / "val")
            yield View(str(folder), len(data.training.images))
            return
        (folder / "train").symlink_to(training.parent)
        (folder / "val").symlink_to(validation.parent)
        names = dict(enumerate(data.training.names))
        content = {**data.training.settings, "train": "train/images", "val": "val/images", "names": names}
        (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        yield View(str(folder / "data.yaml"), len(data.training.images))
