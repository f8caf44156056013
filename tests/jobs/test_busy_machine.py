"""A busy machine does not change results, though Ultralytics' suppression of boxes has a time limit and drops images once it is late."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from tui_pruner.engine.job_messages import ValidationParameters
from tui_pruner.engine.recovery_messages import FinetuneParameters
from tui_pruner.engine.search_messages import ScanExecutor, ScanParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.jobs import intervals, tools, validate
from tui_pruner.jobs.data.linked_copy import read_both, training_view
from tui_pruner.jobs.data.pictures import READERS
from tui_pruner.jobs.scan.scan import run_scan
from tui_pruner.jobs.training import finetune
from tui_pruner.jobs.training.run import run_of
from tui_pruner.jobs.validate import VALIDATORS

MAP = "metrics/mAP50-95(B)"
LATE = """
import itertools, types
from ultralytics.utils import nms
nms.time = types.SimpleNamespace(time=itertools.count(0, 1000).__next__)
"""
"""What makes every look at the clock a thousand seconds later than the one before, as `sitecustomize` of a child process."""


def ignore(progress: Any) -> None:
    pass


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have every look at the clock be a thousand seconds later than the one before, from when it is called."""
    clock = SimpleNamespace(time=itertools.count(0, 1000).__next__)
    return lambda: monkeypatch.setattr("ultralytics.utils.nms.time", clock)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have stock's classes as they are, from when it is called: what the tests of this file are there to notice."""

    def limit() -> None:
        for module in (tools, tools):
            monkeypatch.setattr(module, "without_time_limit", lambda kind: kind)

    return limit


@pytest.fixture
def subject_arguments(demo_checkpoint: Path, demo_data: Path) -> dict[str, Any]:
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    return {"checkpoint": str(demo_checkpoint), "sha256": sha256, "data": str(demo_data), "imgsz": 64, "device": "cpu"}


def set_new_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def test_validation_gives_the_same_metrics_when_late_and_stock_does_not(subject_arguments, late, limited):
    model, parameters = open_model(subject_arguments["checkpoint"]).model, ValidationParameters(images=16, **subject_arguments)
    before = validate.validate(model, parameters, ignore)
    late()
    after = validate.validate(model, parameters, ignore)
    assert (after.metrics, after.interval) == (before.metrics, before.interval) and before.metrics[MAP] > 0.3
    limited()
    assert validate.validate(model, parameters, ignore).metrics[MAP] < 0.5 * before.metrics[MAP]


def test_scan_gives_the_same_result_in_one_process_and_in_several_when_late(subject_arguments, late, limited, tmp_path, monkeypatch):
    parameters = ScanParameters(images=8, ratios=[0.5], **subject_arguments)
    monkeypatch.setattr("tui_pruner.core.search.sensitivity.trials_of", few(30))
    before = run_scan(parameters, ignore)
    assert before.baseline > 0.3 and len({row.metric for row in before.groups}) > 1
    late()
    set_new_cache_folder(tmp_path, monkeypatch, "late")
    assert run_scan(parameters, ignore).groups == before.groups
    set_new_cache_folder(tmp_path, monkeypatch, "workers")
    slow_children(tmp_path, monkeypatch)
    elsewhere = run_scan(parameters.model_copy(update={"executor": ScanExecutor(workers=2)}), ignore)
    assert (elsewhere.groups, elsewhere.baseline, elsewhere.failed) == (before.groups, before.baseline, [])
    limited()
    set_new_cache_folder(tmp_path, monkeypatch, "limited")
    assert run_scan(parameters, ignore).baseline < 0.5 * before.baseline


def few(step: int) -> Callable[..., Any]:
    """Every this many trials of a scan."""
    from tui_pruner.core.search.sensitivity import trials_of

    def some(*arguments: Any) -> Any:
        trials, skipped = trials_of(*arguments)
        return trials[::step], skipped

    return some


def slow_children(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clock of child processes be late, too."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(LATE)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")


@pytest.fixture
def trained(subject_arguments: dict[str, Any], images_read_here: None, tmp_path: Path) -> Callable[..., dict[str, float]]:
    """`trained(name, in_child)`: the metrics of one epoch, in a process of its own as for several GPUs where that is asked for."""
    content = yaml.safe_load(Path(subject_arguments["data"]).read_text())
    root = Path(subject_arguments["data"]).parent
    for split, count in {"train": 4, "val": 16}.items():
        images = sorted((root / content[split]).iterdir())[:count]
        (tmp_path / f"{split}.txt").write_text("\n".join(map(str, images)))
    data = tmp_path / "few.yaml"
    data.write_text(yaml.safe_dump({**content, "train": "train.txt", "val": "val.txt"}))

    def train(name: str, in_child: bool = False) -> dict[str, float]:
        wanted = FinetuneParameters(
            **{**subject_arguments, "data": str(data)},
            epochs=1,
            batch=4,
            lr0=1e-6,
            project=str(tmp_path / name),
            output=str(tmp_path / "out.pt"),
        )
        run, checkpoint = run_of(wanted), open_model(wanted.checkpoint)
        with training_view(read_both(wanted.data)) as view:
            if in_child:
                run.prepare(resume=False)
                settings = {**finetune.settings_of(wanted, view, run), "imgsz": 64, "device": "cpu", "workers": 0}
                train_in_child_process(finetune.prepared_trainer(checkpoint, settings, run))
            else:
                finetune.train(checkpoint, None, view, wanted, run, ignore)
        return torch.load(run.best, weights_only=False)["train_metrics"]

    return train


def train_in_child_process(trainer: Any) -> None:
    """Train as each of several GPUs does."""
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    script = generate_ddp_file(trainer)
    try:
        subprocess.run([sys.executable, script], check=True, capture_output=True)
    finally:
        ddp_cleanup(trainer, script)


def test_training_gives_the_same_metrics_in_one_process_and_per_gpu_when_late(trained, late, limited, tmp_path, monkeypatch):
    before = trained("before")
    assert before[MAP] > 0.2
    late()
    assert trained("late") == before
    limited()
    assert trained("limited")[MAP] < 0.5 * before[MAP]
    monkeypatch.undo()
    slow_children(tmp_path, monkeypatch)
    assert trained("child", in_child=True)[MAP] == pytest.approx(before[MAP], abs=0.02)  # without the recipe of the training before


def boxes(images: int, others: int = 0) -> torch.Tensor:
    """Raw predictions [images, 4 + 2 classes + others, 30] of boxes that lie apart."""
    places = torch.arange(30.0)
    rows = [places * 20 + 10, places * 20 + 10, torch.full((30,), 8.0), torch.full((30,), 8.0), torch.full((30,), 0.9), torch.zeros(30)]
    return torch.stack([*rows, *torch.zeros(others, 30)]).repeat(images, 1, 1)


@pytest.mark.parametrize(("kind", "others"), [("DetectionModel", 0), ("SegmentationModel", 32), ("PoseModel", 6), ("OBBModel", 1)])
def test_validator_keeps_all_images_when_late(kind, others, late, tmp_path):
    tool = VALIDATORS[kind]
    validator = tool.load()(save_dir=tmp_path, args={"task": tool.task, "mode": "val"})
    validator.nc, validator.end2end, validator.kpt_shape = 2, False, (2, 3)
    validator.process = lambda protos, coefficients, *_, **__: coefficients
    predictions = boxes(5, others)
    late()
    found = validator.postprocess([(predictions, torch.zeros(5, 32, 4, 4)), None] if tool.task == "segment" else predictions)
    assert [len(image["conf"]) for image in found] == [30] * 5


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind not in ("ClassificationModel", "RTDETRDetectionModel")])
def test_predictor_keeps_all_images_when_late(kind, late, monkeypatch):
    tool = READERS[kind]
    predictor = tool.load()(overrides={"task": tool.task, "mode": "predict", "conf": 0.25})
    predictor.model = SimpleNamespace(names={0: "a", 1: "b"}, end2end=False)
    monkeypatch.setattr(type(predictor), "construct_results", lambda self, found, *_, **__: found)
    predictions = boxes(5, {"segment": 32, "pose": 6, "obb": 1}.get(tool.task, 0))
    late()
    raw = ((predictions, torch.zeros(5, 32, 4, 4)), None) if tool.task == "segment" else predictions
    assert [len(image) for image in predictor.postprocess(raw, torch.zeros(5, 3, 64, 64), [None] * 5)] == [30] * 5


def test_time_limit_is_removed_once_and_only_for_our_classes(late, tmp_path):
    from ultralytics.models.yolo.segment import SegmentationValidator

    patient = tools.without_time_limit(SegmentationValidator)
    assert issubclass(patient, SegmentationValidator) and tools.without_time_limit(patient) is patient
    late()
    validator = SegmentationValidator(save_dir=tmp_path, args={"task": "detect", "mode": "val"})
    validator.nc, validator.end2end, validator.process = 2, False, lambda protos, coefficients, *_, **__: coefficients
    found = validator.postprocess([(boxes(5, 32), torch.zeros(5, 32, 4, 4)), None])
    assert sum(len(image["conf"]) for image in found) < 5 * 30


def test_classes_without_suppression_of_boxes_stay_stock():
    from ultralytics.models.yolo.classify import ClassificationValidator

    assert tools.without_time_limit(ClassificationValidator) is ClassificationValidator
    assert tools.without_time_limit(dict) is dict


def test_number_of_resamples_depends_only_on_the_detections():
    few = [{"conf": [0.5] * 4, "target_cls": [0, 1]}] * 10
    many = [{"conf": [0.5] * 300, "target_cls": list(range(80))}] * 100
    assert intervals.resamples_for(few) == intervals.RESAMPLES
    assert intervals.resamples_for(many) == intervals.FEWEST
    assert intervals.resamples_for([{"pred": [], "targets": []}] * 64) == intervals.RESAMPLES
    between = intervals.resamples_for(many[:40])
    assert intervals.FEWEST < between < intervals.RESAMPLES
