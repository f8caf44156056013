"""Both splits of a data set for a trainer, as private links: Ultralytics writes caches beside labels, but the folder is the user's."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tui_pruner.jobs.dataset import TRAINING, VALIDATION, DataSet, read_data
from tui_pruner.jobs.fit import check_fits
from tui_pruner.jobs.view import private_view


class TrainingData(NamedTuple):
    """The images to train on, and those that tell which epoch is the best."""

    training: DataSet
    validation: DataSet

    def check(self, classes: int, task: str, labels: Mapping[str, Any]) -> None:
        """Refuse data that a model cannot be trained on; `labels`: what its training before made of labels.

        Raises:
            DataError: other classes, another task, or no labels.
        """
        for split in self:
            check_fits(split, classes, task, labels)


class View(NamedTuple):
    """What a trainer's `data` is to be, and how many images it has to train on."""

    data: str
    images: int


def read_both(file: str | Path) -> TrainingData:
    """The splits that a data yaml, or a folder with classes, names.

    Raises:
        DataError: one is missing or cannot be used.
    """
    return TrainingData(read_data(file, TRAINING), read_data(file, VALIDATION))


@contextlib.contextmanager
def training_view(data: TrainingData) -> Iterator[View]:
    """Links to the images of both splits and their labels, there while the block runs."""
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
