"""The classes of a data set in a model's numbers, where the model has lost some of those that the data set names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tui_pruner.jobs.dataset import DataSet

NUMBERINGS = "tui_pruner_classes"
"""As in `core/checkpoint/contents.py`, which imports torch; a test compares the two."""


def renumbered(data: DataSet, model: Any) -> DataSet:
    """Return a data set as a model numbers its classes: one that is already so comes back as it is.

    One that names the classes of a model that this one was cut from loses the labels, or the class folders, of those that are gone.
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
    """Return the rows of a label file whose classes have new numbers, with those; rows that are no labels are left to Ultralytics."""
    rows = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        number = number_in(word)
        if word and (number is None or number in numbers):
            rows.append(f"{word if number is None else numbers[number]} {rest}")
    return "".join(f"{row.rstrip()}\n" for row in rows)


def number_in(word: str) -> int | None:
    """Return the class that a row begins with; None where that is no whole number."""
    try:
        number = float(word)
        return int(number) if number == int(number) else None
    except (ValueError, OverflowError):
        return None


def numbering_in_words(data: DataSet) -> list[str]:
    """Return a note where labels of other classes do not count."""
    return [] if data.numbers is None else [f"only labels of {', '.join(data.names)} count, which the model has"]
