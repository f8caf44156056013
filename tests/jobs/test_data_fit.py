from __future__ import annotations

import pytest

from tui_pruner.domain.errors import DataError
from tui_pruner.jobs.data.dataset import check_fits, read_data

POLYGON = "0 0.1 0.1 0.4 0.1 0.4 0.4"
BOX = "0 0.3 0.3 0.2 0.2"
ROTATED = "0 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4"
POINTS = "0 0.3 0.3 0.2 0.2 0.1 0.1 2 0.2 0.2 2"


@pytest.fixture
def labelled(scenes, write_yaml):
    def build(row, **keys):
        for label in (scenes.parent / "labels/val").iterdir():
            label.write_text(row + "\n")
        return read_data(write_yaml(scenes.parent, {"val": "images/val", "nc": 2, **keys}))

    return build


@pytest.mark.parametrize(
    ("task", "row", "keys"),
    [
        ("detect", BOX, {}),
        ("detect", POLYGON, {}),
        ("segment", POLYGON, {}),
        ("obb", ROTATED, {}),
        ("pose", POINTS, {"kpt_shape": [2, 3]}),
    ],
)
def test_labels_of_the_models_task_are_accepted(labelled, task, row, keys):
    check_fits(labelled(row, **keys), 2, task, {})


@pytest.mark.parametrize(
    ("task", "row", "keys", "words"),
    [
        ("detect", POINTS, {"kpt_shape": [2, 3]}, "has a kpt_shape"),
        ("detect", "0 0.5 0.5", {}, "3 numbers a row"),
        ("segment", BOX, {}, "5 numbers a row, which makes no segment label"),
        ("obb", BOX, {}, "no obb label"),
        ("pose", BOX, {}, "has no kpt_shape"),
        ("pose", BOX, {"kpt_shape": [2, 3]}, "no pose label"),
    ],
)
def test_data_for_another_task_is_refused(labelled, task, row, keys, words):
    with pytest.raises(DataError, match=words):
        check_fits(labelled(row, **keys), 2, task, {})


def test_another_number_of_classes_is_refused(scenes):
    with pytest.raises(DataError, match="names 2 classes, but the model has 80"):
        check_fits(read_data(scenes), 80, "detect", {})


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_images_without_labels_are_refused_with_the_expected_label_path(scenes, how):
    for label in (scenes.parent / "labels/val").iterdir():
        label.unlink() if how == "missing" else label.write_text("\n")
    with pytest.raises(DataError, match=r"none of the 20 images has a label; expected for example .*labels/val/000\.txt"):
        check_fits(read_data(scenes), 2, "detect", {})


def test_some_images_without_labels_count_as_backgrounds(scenes):
    for number in range(19):
        (scenes.parent / f"labels/val/{number:03}.txt").unlink()
    check_fits(read_data(scenes), 2, "detect", {})


def test_images_with_another_number_of_channels_are_refused(labelled):
    grey = labelled("0 0.5 0.5 0.2 0.2", channels=1)
    with pytest.raises(DataError, match=r"images of 1 channels .*the model reads 3"):
        check_fits(grey, 2, "detect", {})
    check_fits(grey, 2, "detect", {}, channels=1)
    with pytest.raises(DataError, match=r"images of 3 channels .*the model reads 1"):
        check_fits(labelled("0 0.5 0.5 0.2 0.2"), 2, "detect", {}, channels=1)
