"""Classification: the data is a folder of classes, its images are validated, and channels are scored on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.conftest import draw_scene
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.importance import FROM_LABELS
from tui_pruner.domain.errors import DataError
from tui_pruner.engine.job_messages import CalibrationParameters, ValidationParameters
from tui_pruner.frameworks.ultralytics import build_from_yaml
from tui_pruner.jobs import calibrate, validate
from tui_pruner.jobs.data.dataset import check_fits, read_data
from tui_pruner.jobs.data.linked_copy import private_view

CLASSES = ("blue", "green", "red")


def ignore(progress):
    pass


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A data set with three classes, of which the validation split has pictures of two, one of them a folder deeper."""
    root = tmp_path / "colours"
    for number, place in enumerate(["val/red/1", "val/red/2", "val/blue/deep/red/3", "train/red/4", "train/blue/5", "train/green/6"]):
        draw_scene(root / f"{place}.jpg", tmp_path / "labels" / f"{number}.txt", number)
    return root


@pytest.fixture(scope="module")
def classifier():
    model = build_from_yaml("yolov8n-cls.yaml", classes=3).model
    model.names = dict(enumerate(CLASSES))
    return model


def test_classes_come_from_the_train_folders_and_images_from_the_validation_folders(folders: Path):
    data = read_data(folders)
    assert (data.names, data.in_class_folders) == (CLASSES, True)
    assert [image.relative_to(folders / "val").as_posix() for image in data.images] == ["blue/deep/red/3.jpg", "red/1.jpg", "red/2.jpg"]


def test_folder_without_classes_is_refused(tmp_path: Path):
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="no image in a folder of its class"):
        read_data(tmp_path)


def test_private_view_keeps_all_classes_and_each_image_in_its_class(folders: Path):
    with private_view(read_data(folders)) as view:
        assert sorted(folder.name for folder in (view / "train").iterdir()) == list(CLASSES)
        links = sorted((view / "val").rglob("*.jpg"))
        assert [link.parent.name for link in links] == ["blue", "red", "red"]
        assert [link.resolve().name for link in links] == ["3.jpg", "1.jpg", "2.jpg"]


def test_data_of_the_other_kind_is_refused(folders: Path, scenes: Path):
    with pytest.raises(DataError, match="is a folder of classes, but the model's task is detect: give a data yaml for detect"):
        check_fits(read_data(folders), 3, "detect", {})
    with pytest.raises(DataError, match="is a data yaml, but the model's task is classify: give the folder"):
        check_fits(read_data(scenes), 2, "classify", {})


def test_classifier_is_validated_on_every_image(classifier, folders: Path):
    parameters = ValidationParameters(checkpoint="c.pt", sha256="0" * 64, data=str(folders), images=None, imgsz=64, device="cpu")
    result = validate.validate(classifier, parameters, ignore)
    assert (result.images, result.notes) == (3, [])
    assert 0 <= result.metrics["metrics/accuracy_top1"] <= result.metrics["metrics/accuracy_top5"] == 1
    (folders / "val/red/2.jpg").write_bytes(b"no image")
    assert validate.validate(classifier, parameters, ignore).notes == ["1 of 3 images were skipped as damaged or wrongly labelled"]
    for image in (folders / "val").rglob("*.jpg"):
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 3 images can be used"):
        validate.validate(classifier, parameters, ignore)


def test_channels_of_a_classifier_are_scored(classifier, folders: Path):
    parameters = CalibrationParameters(checkpoint="c.pt", sha256="0" * 64, data=str(folders), images=None, imgsz=64, device="cpu")
    coupling = trace_model(classifier)[1]
    found = calibrate.calibrate(classifier, coupling, read_data(folders), parameters, ignore)
    assert found.images == 3 and found.covers(coupling, FROM_LABELS)
    (group,) = coupling.output_groups("model.9.conv.conv")
    assert found.scores(group, "taylor").std() > 0
