"""Whether a data set is one that a model can be measured on: the same classes, the same task, and labels at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tui_pruner.errors import DataError
from tui_pruner.jobs.dataset import DataSet, label_of

ROWS_LOOKED_AT = 16
CLASS_FOLDERS = "the folder that holds train and val, each with a folder for every class"


def check_fits(data: DataSet, classes: int, task: str, labels: Mapping[str, Any]) -> None:
    """Refuse data that a model with this many classes and this task cannot be measured on.

    `labels`: what the model's training made of labels (`recipe.labels_of`); where all classes count as one, any number of them will do.

    Raises:
        DataError: other classes, another task, or no labels.
    """
    if len(data.names) != classes and not labels.get("single_cls"):
        raise DataError(f"{data.yaml_file} names {len(data.names)} classes, but the model has {classes}: use the data it was trained on")
    if data.in_class_folders != (task == "classify"):
        is_a, give = ("folder of classes", f"a data yaml for {task}") if data.in_class_folders else ("data yaml", CLASS_FOLDERS)
        raise DataError(f"{data.yaml_file} is a {is_a}, but the model's task is {task}: give {give}")
    if data.in_class_folders:
        return
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
            raise DataError(f"{label} has {columns} numbers a row, which is no {task} label, but the model's task is {task}")


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
