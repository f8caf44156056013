from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from ultralytics.data.utils import check_image

from tui_pruner.domain.errors import CheckpointError, DataError, PlanError, RequestError
from tui_pruner.engine.job_messages import ValidationParameters
from tui_pruner.jobs import validate as job
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.tools import without_time_limit

MAP = "metrics/mAP50-95(B)"


def ignore(progress):
    pass


def folder_listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder below: when it changed, and what it holds."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in [folder, *sorted(folder.rglob("*"))]
    }


def digits(demo_checkpoint, demo_data, **changes) -> ValidationParameters:
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    base = ValidationParameters(checkpoint=str(demo_checkpoint), sha256=sha256, data=str(demo_data), imgsz=160, device="cpu")
    return base.model_copy(update=changes)


def test_bundled_checkpoint_reaches_060_and_equals_stock_ultralytics(demo_checkpoint, demo_data, tmp_path):
    from ultralytics import YOLO
    from ultralytics.models.yolo.detect import DetectionValidator

    result = job.run_validation(digits(demo_checkpoint, demo_data, images=None), ignore)
    assert result.images == 128 and not result.cached and result.notes == []
    assert result.metrics[MAP] >= 0.60

    shutil.copytree(demo_data.parent, tmp_path / "copy")
    stock = YOLO(demo_checkpoint).val(
        validator=without_time_limit(DetectionValidator), data=str(tmp_path / "copy" / demo_data.name), imgsz=160, device="cpu",
        plots=False, project=str(tmp_path), verbose=False,
    )  # fmt: skip
    assert set(result.metrics) == set(stock.results_dict)
    for name, value in stock.results_dict.items():
        assert result.metrics[name] == pytest.approx(float(value), abs=1e-6)


def test_result_is_computed_once_then_read_from_the_cache(demo_checkpoint, demo_data, monkeypatch):
    parameters = digits(demo_checkpoint, demo_data, images=16)
    first = job.run_validation(parameters, ignore)

    def fail(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(job, "measure", fail)
    assert job.run_validation(parameters, ignore) == first.model_copy(update={"cached": True})
    with pytest.raises(AssertionError, match="measured again"):
        job.run_validation(parameters.model_copy(update={"seed": 1}), ignore)


def test_plan_is_applied_before_the_measurement(demo_checkpoint, demo_data):
    whole = digits(demo_checkpoint, demo_data, images=32)
    cut = {"layer": "model.2.m.0.cv1", "amount": "keep:1", "removes": {"model.2.m.0.cv1.conv.weight": {"0": list(range(15))}}}
    plan = {"format": 1, "checkpoint": "digits.pt", "sha256": whole.sha256, "steps": [{"name": "", "cuts": [cut]}]}
    before = job.run_validation(whole, ignore)
    after = job.run_validation(whole.model_copy(update={"plan": plan}), ignore)
    assert after.images == before.images == 32
    assert after.metrics[MAP] < before.metrics[MAP] - 0.01
    with pytest.raises(PlanError, match="made for"):
        job.run_validation(whole.model_copy(update={"plan": {**plan, "sha256": "f" * 64}}), ignore)


def test_changed_checkpoint_is_refused(demo_checkpoint, demo_data):
    with pytest.raises(CheckpointError, match=r"digits\.pt changed on disk"):
        job.run_validation(digits(demo_checkpoint, demo_data, sha256="0" * 64), ignore)


def test_users_folder_is_unchanged_even_with_a_repairable_jpeg(random_model, parameters, scenes, tmp_path):
    folder = scenes.parent
    repairable = folder / "images/val/007.jpg"
    repairable.write_bytes(repairable.read_bytes() + b"trailing")
    example = shutil.copyfile(repairable, tmp_path / "example.jpg")
    assert "restored and saved" in check_image(example)[0]
    assert example.read_bytes() != repairable.read_bytes()
    folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    before = folder_listing(folder)
    try:
        assert job.validate(random_model, parameters, ignore).images == 20
        assert folder_listing(folder) == before
    finally:
        for path in folders:
            path.chmod(0o755)


def test_validation_leaves_the_model_unchanged(random_model, parameters):
    before = {name: tensor.clone() for name, tensor in random_model.state_dict().items()}
    modules = [type(module) for module in random_model.modules()]
    job.validate(random_model, parameters, ignore)
    after = random_model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [type(module) for module in random_model.modules()] == modules
    assert all(parameter.requires_grad for name, parameter in random_model.named_parameters() if "dfl" not in name)


def test_progress_counts_images_up_to_the_size_of_the_subset(random_model, parameters, monkeypatch):
    monkeypatch.setattr(job, "REPORT_SECONDS", float("inf"))
    seen = []
    result = job.validate(random_model, parameters.model_copy(update={"images": 18}), seen.append)
    assert result.images == 18
    assert [(progress.done, progress.total) for progress in seen if progress.doing == "validating"] == [(0, 18), (16, 18), (18, 18)]
    assert seen[0].doing != "validating" and seen[0].total == 18


def test_progress_is_reported_within_a_batch(random_model, parameters, monkeypatch):
    monkeypatch.setattr(job, "REPORT_SECONDS", 0.0)
    seen = []
    job.validate(random_model, parameters, seen.append)
    done = [progress.done for progress in seen if progress.doing == "validating"]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 20
    assert set(range(17)) <= set(done), "every image of the first batch is counted"


def test_exception_in_progress_stops_the_validation(random_model, parameters):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.done:
            raise Stop

    with pytest.raises(Stop):
        job.validate(random_model, parameters, stop)


def test_invalid_image_size_is_rounded_up_and_reported(random_model, parameters):
    result = job.validate(random_model, parameters.model_copy(update={"imgsz": 70, "images": 2}), ignore)
    assert result.notes == ["image side 70 rounded up to 96, a multiple of the stride 32"]
    assert job.validate(random_model, parameters.model_copy(update={"imgsz": 64, "images": 2}), ignore).notes == []


def test_images_that_ultralytics_skips_are_counted_and_reported(random_model, parameters, scenes):
    (scenes.parent / "images/val/003.jpg").write_bytes(b"no image")
    (scenes.parent / "labels/val/004.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    result = job.validate(random_model, parameters, ignore)
    assert result.images == 18
    assert result.notes == ["2 of 20 images were skipped as damaged or wrongly labelled"]


def test_data_set_of_damaged_images_is_a_data_error(random_model, parameters, scenes):
    for image in (scenes.parent / "images/val").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 20 images can be used") as caught:
        job.validate(random_model, parameters, ignore)
    assert "\n" not in str(caught.value)


def test_data_with_other_classes_is_refused_before_the_run(random_model, parameters, scenes, write_yaml):
    write_yaml(scenes.parent, {"val": "images/val", "nc": 3})
    with pytest.raises(DataError, match="names 3 classes, but the model has 2"):
        job.validate(random_model, parameters, ignore)


def test_model_class_without_a_validator_is_named(parameters):
    model = copy.copy(torch.nn.Linear(2, 2))
    with pytest.raises(RequestError, match="a Linear cannot be validated here"):
        job.validate(model, parameters, ignore)


@pytest.mark.parametrize("model_class", job.VALIDATORS)
def test_every_validator_of_the_table_exists_with_its_task(model_class):
    import importlib

    import ultralytics.nn.tasks

    entry = job.VALIDATORS[model_class]
    assert hasattr(ultralytics.nn.tasks, model_class)
    validator = getattr(importlib.import_module(entry.module), entry.name)
    assert issubclass(validator, importlib.import_module("ultralytics.engine.validator").BaseValidator)


def test_subset_is_the_same_for_every_plan(scenes):
    data = read_data(scenes)
    assert data.subset(7, 0).digest() == read_data(scenes).subset(7, 0).digest()
