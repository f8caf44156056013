"""Labels mean what they meant in the model's training: `single_cls`, `classes` and `overlap_mask` hold in every job, thresholds do not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionValidator

from tests.jobs.narrow import narrow, save
from tests.saved.data_sets import write_data_set
from tui_pruner.domain.errors import DataError
from tui_pruner.engine.job_messages import CalibrationParameters, PictureParameters, ValidationParameters
from tui_pruner.engine.recovery_messages import FinetuneParameters, RecalibrationParameters
from tui_pruner.engine.search_messages import ScanParameters
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs.calibrate import run_calibration
from tui_pruner.jobs.data.dataset import check_fits, read_data
from tui_pruner.jobs.data.linked_copy import labels_in_words, labels_of, recipe_of
from tui_pruner.jobs.data.pictures import run_pictures
from tui_pruner.jobs.recover import run_recalibration
from tui_pruner.jobs.scan.scan import run_scan
from tui_pruner.jobs.tools import without_time_limit
from tui_pruner.jobs.training.finetune import run_finetuning
from tui_pruner.jobs.validate import prepared, run_validation

MAP = "metrics/mAP50-95(B)"
SIDE = 64
ONE_CLASS = "all classes count as one, as in the model's training (single_cls=True)"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def ignore(progress: Any) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_data: Path) -> Path:
    """The data yaml of 12 of the bundled scenes, of ten classes, for training and validation alike."""
    folder = tmp_path_factory.mktemp("digits")
    for split in ("train", "val"):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (folder / kind / split).mkdir(parents=True)
            for file in sorted((demo_data.parent / kind / "val").glob(f"*.{suffix}"))[:12]:
                shutil.copy(file, folder / kind / split)
    file = folder / "data.yaml"
    file.write_text(f"train: images/train\nval: images/val\nnames: [{', '.join(NAMES)}]\n")
    return file


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path, data: Path) -> Path:
    """A checkpoint of one class, which stock Ultralytics trained with `single_cls` on data of ten."""
    model, folder = YOLO(demo_checkpoint), tmp_path_factory.mktemp("single")
    model.train(
        data=str(data), epochs=8, imgsz=SIDE, batch=4, nbs=4, single_cls=True, workers=0, plots=False, device="cpu", val=False,
        verbose=False, project=str(folder), warmup_epochs=0, lr0=2e-3, optimizer="AdamW", mosaic=0.0, fliplr=0.0, amp=False,
    )  # fmt: skip
    return Path(model.trainer.last)


@pytest.fixture(scope="module")
def pruned(single: Path) -> Path:
    """The same, cut a little."""
    return Path(save(read_checkpoint(single), single.with_name("pruned.pt"), "5%").path)


def subject(checkpoint: Path, data: Path) -> dict[str, Any]:
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return {"checkpoint": str(checkpoint), "sha256": sha256, "data": str(data), "imgsz": SIDE, "device": "cpu"}


def stock(checkpoint: Path, data: Path, folder: Path, **settings: Any) -> dict[str, float]:
    """What stock Ultralytics measures; it writes beside labels, so that it gets a copy."""
    shutil.copytree(data.parent, folder / "copy")
    found = YOLO(checkpoint).val(
        validator=without_time_limit(DetectionValidator), data=str(folder / "copy" / data.name), imgsz=SIDE, device="cpu", workers=0,
        plots=False, project=str(folder), verbose=False, **settings,
    )  # fmt: skip
    return {name: float(value) for name, value in found.results_dict.items()}


def test_model_trained_with_single_cls_is_measured_like_stock_on_ten_class_data(single, data, tmp_path):
    result = run_validation(ValidationParameters(**subject(single, data)), ignore)
    assert result.notes == [ONE_CLASS] and result.images == 12
    assert result.metrics == pytest.approx(stock(single, data, tmp_path, single_cls=True), abs=1e-6)
    assert result.metrics[MAP] > 0.1


def test_scan_calibration_and_pictures_accept_the_data_of_a_single_cls_model(single, data, tmp_path, monkeypatch):
    from tui_pruner.core.search import sensitivity

    trials_of = sensitivity.trials_of
    monkeypatch.setattr(sensitivity, "trials_of", lambda *arguments: (trials_of(*arguments)[0][:1], []))
    scan = run_scan(ScanParameters(ratios=[0.5], **subject(single, data)), ignore)
    assert (scan.notes, scan.images) == ([ONE_CLASS], 12)
    assert scan.baseline == pytest.approx(run_validation(ValidationParameters(**subject(single, data)), ignore).metrics[MAP], abs=1e-9)
    calibrated = run_calibration(CalibrationParameters(**{**subject(single, data), "images": 2}), ignore)
    assert (calibrated.images, calibrated.notes) == (2, [ONE_CLASS])
    plan = {"format": 1, "checkpoint": "last.pt", "sha256": subject(single, data)["sha256"], "steps": []}
    drawn = run_pictures(PictureParameters(plan=plan, pictures=2, folder=str(tmp_path), **subject(single, data)), ignore)
    assert {name for picture in drawn.pictures for name in picture.before} == {"item"}


def test_pruned_single_cls_file_is_recalibrated_and_fine_tuned(pruned, data, tmp_path):
    again = run_recalibration(RecalibrationParameters(output=str(tmp_path / "again.pt"), **subject(pruned, data)), ignore)
    assert again.images == 12
    wanted = FinetuneParameters(epochs=1, batch=4, lr0=1e-6, output=str(tmp_path / "tuned.pt"), **subject(pruned, data))
    result = run_finetuning(wanted, ignore)
    assert result.notes == [ONE_CLASS] and result.metrics[MAP] > 0.02
    tuned = read_checkpoint(result.output)
    assert tuned.content["train_args"]["single_cls"] is True and tuned.names == {0: "item"}
    assert run_validation(ValidationParameters(**subject(Path(result.output), data)), ignore).notes == [ONE_CLASS]


def with_arguments(checkpoint: Path, file: Path, **arguments: Any) -> Path:
    content = torch.load(checkpoint, weights_only=False)
    content["train_args"] = {**content["train_args"], **arguments}
    torch.save(content, file)
    return file


@pytest.mark.parametrize("classes", [[1, 3, 5], 3])
def test_model_trained_on_some_classes_is_measured_on_their_labels(demo_checkpoint, data, tmp_path, classes):
    some = with_arguments(demo_checkpoint, tmp_path / "some.pt", classes=classes)
    result = run_validation(ValidationParameters(**subject(some, data)), ignore)
    assert result.notes == [f"only labels of the classes {classes} count, as in the model's training (classes={classes})"]
    assert result.metrics == pytest.approx(stock(some, data, tmp_path, classes=classes), abs=1e-6)
    assert result.metrics[MAP] != pytest.approx(run_validation(ValidationParameters(**subject(demo_checkpoint, data)), ignore).metrics[MAP])


def test_overlap_mask_of_the_training_is_used_for_masks_and_loss(tmp_path):
    model = narrow(tmp_path, "yolov8-seg", classes=3).model
    model.args = {**model.args, "overlap_mask": False}
    data = read_data(write_data_set("segment", tmp_path / "data"))
    with prepared(model, data, SIDE, "cpu") as (validator, notes):
        assert validator.args.overlap_mask is False
        assert notes == ["masks may overlap, as in the model's training (overlap_mask=False)"]
    assert recipe_of(model.args)["overlap_mask"] is False


def test_thresholds_saved_by_a_training_are_not_used_in_jobs(tmp_path):
    model = narrow(tmp_path).model
    preferred = {
        "conf": 0.5,
        "iou": 0.2,
        "max_det": 3,
        "agnostic_nms": True,
        "augment": True,
        "rect": True,
        "split": "test",
        "fraction": 0.1,
    }
    model.args = {**model.args, **preferred, "overlap_mask": False}
    assert labels_of(model) == {}
    model.args |= {"single_cls": True, "classes": [0]}
    assert labels_of(model) == {"single_cls": True, "classes": [0]}
    assert not set(preferred) & set(recipe_of(model.args))


WRONG = [("single_cls", "yes"), ("single_cls", 1), ("classes", "0"), ("classes", []), ("classes", [0.5]), ("classes", [True])]


@pytest.mark.parametrize("wrong", [*({name: value} for name, value in WRONG), {"overlap_mask": None}])
def test_invalid_training_arguments_are_ignored(wrong, tmp_path):
    model = narrow(tmp_path, "yolov8-seg", classes=3).model
    model.args = {**model.args, **wrong}
    assert labels_of(model) == {} and labels_in_words({}) == []
    assert not set(wrong) & set(recipe_of(wrong))
    assert recipe_of({"mosaic": 7.0, "hsv_h": "much", "fliplr": 0.25}) == {"fliplr": 0.25}


def test_data_with_other_classes_is_refused_without_single_cls(single, data):
    with pytest.raises(DataError, match="names 10 classes, but the model has 1"):
        check_fits(read_data(data), 1, "detect", {})
    check_fits(read_data(data), 1, "detect", {"single_cls": True})
