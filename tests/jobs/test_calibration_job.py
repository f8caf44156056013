"""Calibration: the scores are torch-pruning's on plain gradients, computed once, and nothing of the model changes."""

from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_pruning

from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.importance import (
    FROM_LABELS,
    FROM_WEIGHTS,
    Calibration,
    library_group,
    library_scores,
    modules_of,
    read_calibration,
)
from tui_pruner.domain.errors import CheckpointError, DataError, JobError
from tui_pruner.engine.job_messages import CalibrationParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.jobs import cache
from tui_pruner.jobs import calibrate as job
from tui_pruner.jobs.data.dataset import label_of, read_data

IMAGES = 8
SIDE = 96
PARAMETERS = CalibrationParameters(checkpoint="a.pt", sha256="a" * 64, data="d.yaml", imgsz=SIDE, device="cpu")


def ignore(progress):
    pass


@pytest.fixture(scope="module")
def digits(demo_checkpoint: Path, demo_data: Path) -> CalibrationParameters:
    """Eight of the bundled scenes, small."""
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    changes = {"checkpoint": str(demo_checkpoint), "sha256": sha256, "data": str(demo_data), "images": IMAGES}
    return PARAMETERS.model_copy(update=changes)


@pytest.fixture(scope="module")
def coupling(demo_checkpoint: Path):
    return trace_model(open_model(str(demo_checkpoint)).model)[1]


@pytest.fixture(scope="module")
def calibration(digits: CalibrationParameters) -> Calibration:
    """What the whole job found, once."""
    result = job.run_calibration(digits, ignore)
    assert (result.images, result.cached, result.notes) == (IMAGES, False, [])
    return read_calibration(result.scores)


@pytest.fixture(scope="module")
def plain(demo_checkpoint: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """The stock model, and of each image the loss's gradient by every parameter: Ultralytics and autograd, nothing of ours."""
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    folder = tmp_path_factory.mktemp("plain")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for image in read_data(demo_data).subset(IMAGES, 0).images:
        shutil.copy(image, folder / "images")
        shutil.copy(label_of(image), folder / "labels")
    model = YOLO(demo_checkpoint).model.float().eval().requires_grad_(True)
    model.args = settings = get_cfg(overrides={"task": "detect", "imgsz": SIDE, "rect": True})
    data = {"names": model.names, "nc": 10, "channels": 3}
    dataset = build_yolo_dataset(settings, str(folder / "images"), 1, data, mode="val", rect=True, stride=32)
    samples = []
    for number in range(len(dataset)):
        batch = dataset.collate_fn([dataset[number]])
        model.zero_grad(set_to_none=True)
        model.loss({**batch, "img": batch["img"].float() / 255})[0].sum().backward()
        samples.append([parameter.grad for parameter in model.parameters()])
    assert len(samples) == IMAGES
    return model, samples


def leave(model: torch.nn.Module, values: list[list[torch.Tensor | None]]) -> dict[str, torch.nn.Module]:
    """Put the means over the samples into every `.grad`."""
    for parameter, samples in zip(model.parameters(), zip(*values, strict=True), strict=True):
        parameter.grad = torch.zeros_like(parameter) if samples[0] is None else torch.stack(samples).mean(0)
    return modules_of(model)


def test_scores_equal_torch_pruning_on_gradients_of_plain_autograd(calibration, coupling, plain):
    model, samples = plain
    squares = [[None if gradient is None else gradient.square() for gradient in sample] for sample in samples]
    asked = {
        "taylor": (torch_pruning.importance.GroupTaylorImportance(), samples),
        "hessian": (torch_pruning.importance.GroupHessianImportance(), squares),
    }
    silent = []
    for name, (criterion, values) in asked.items():
        modules = leave(model, values)
        for group in coupling.groups:
            if group.prunable:
                expected = criterion(library_group(group.members, modules)).double().numpy()
                if np.isnan(expected).all():
                    expected = FROM_WEIGHTS["l2"]()(library_group(group.members, modules)).double().numpy()
                    silent.append(group.producers[0].axis.module)
                assert np.allclose(calibration.scores(group, name), expected, rtol=1e-3, atol=1e-4), (name, group.number)
    # No scene holds a digit that is large enough for the coarsest grid's boxes: their gradients are 1e-28, and the squares none.
    assert all(module.startswith("model.22.cv2.2.") for module in silent) and len(silent) <= 2


def test_channel_read_four_times_is_scored_by_all_four_slices(calibration, coupling, plain):
    """By hand for the pyramid's first layer, whose channels are pooled three times and concatenated."""
    model, samples = plain
    modules = leave(model, samples)
    writer, reader = modules["model.9.cv1.conv"].weight, modules["model.9.cv2.conv"].weight
    written = (writer * writer.grad).abs().sum((1, 2, 3))
    read = (reader * reader.grad).abs().sum((0, 2, 3)).reshape(4, 128)
    # torch-pruning takes the mean over what it adds up, and then divides by the mean channel.
    expected = (written + read.sum(0)) / (written + read.sum(0)).mean()
    (group,) = coupling.output_groups("model.9.cv1.conv")
    assert np.allclose(calibration.scores(group, "taylor"), expected.detach().numpy(), rtol=1e-3, atol=1e-4)


def test_gradient_criteria_choose_other_channels_than_magnitude(calibration, coupling, demo_checkpoint):
    modules = modules_of(open_model(str(demo_checkpoint)).model)
    chosen: dict[str, int] = dict.fromkeys(("taylor", "hessian", "both"), 0)
    groups = [group for group in coupling.groups if group.prunable]
    for group in groups:
        weakest = {name: set(np.argsort(calibration.scores(group, name))[: group.channels // 3]) for name in FROM_LABELS}
        magnitude = set(np.argsort(library_scores(FROM_WEIGHTS["l2"], group, modules))[: group.channels // 3])
        chosen["taylor"] += weakest["taylor"] != magnitude
        chosen["hessian"] += weakest["hessian"] != magnitude
        chosen["both"] += weakest["taylor"] != weakest["hessian"]
    assert min(chosen.values()) > 0.9 * len(groups)


def test_scores_are_computed_once_then_read_from_the_cache(digits, calibration, monkeypatch):
    calls = []

    def again(*_):
        calls.append(1)
        return calibration

    monkeypatch.setattr(job, "calibrate", again)
    first = job.run_calibration(digits, ignore)
    second = job.run_calibration(digits, ignore)
    assert (first.cached, second.cached, second.scores, len(calls)) == (False, True, first.scores, 1)
    assert [file.name for file in Path(first.scores).parent.iterdir()] == [Path(first.scores).name]
    tampered = Path(first.scores)
    tampered.write_bytes(tampered.read_bytes()[:-100])
    assert not job.run_calibration(digits, ignore).cached and len(calls) == 2
    assert read_calibration(tampered).sha256 == digits.sha256


def test_calibration_fails_if_the_scores_cannot_be_stored(digits, calibration, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(job, "calibrate", lambda *_: calibration)
    with pytest.raises(JobError, match=r"cannot be kept in .*calibration"):
        job.run_calibration(digits, ignore)


def scored(model: torch.nn.Module, parameters: CalibrationParameters, on_progress=ignore) -> Calibration:
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    return job.calibrate(model, trace_model(model)[1], data, parameters, on_progress)


@pytest.fixture
def drawn(scenes: Path) -> CalibrationParameters:
    """Five drawn scenes with two classes, for the random model."""
    return PARAMETERS.model_copy(update={"data": str(scenes), "imgsz": 64, "images": 5})


def test_frozen_model_is_scored_without_a_change_to_it(random_model, drawn):
    model = copy.deepcopy(random_model).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    seen = []
    found = scored(model, drawn, seen.append)
    assert found.covers(trace_model(model)[1], FROM_LABELS) and found.images == 5
    assert [(progress.done, progress.total) for progress in seen if progress.doing == "calibrating"] == [(0, 5), (4, 5), (5, 5)]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes and not model.training


def test_loss_that_is_nan_is_an_error_that_names_the_image(random_model, drawn):
    model = copy.deepcopy(random_model)
    with torch.no_grad():
        model.model[0].conv.weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"the loss on .*images/val/\d+\.jpg is not a number \(nan\)") as caught:
        scored(model, drawn)
    assert "\n" not in str(caught.value) and "such as l2" in str(caught.value)


def test_images_that_ultralytics_skips_are_counted_and_reported(random_model, drawn, build_scenes, tmp_path):
    few = build_scenes(tmp_path / "few", 3)
    (few.parent / "images/val/001.jpg").write_bytes(b"no image")
    found = scored(random_model, drawn.model_copy(update={"data": str(few)}))
    assert (found.images, found.notes) == (2, ("1 of 3 images were skipped as damaged or wrongly labelled",))


def test_data_with_other_classes_is_refused(random_model, drawn, scenes, write_yaml):
    write_yaml(scenes.parent, {"val": "images/val", "nc": 3})
    with pytest.raises(DataError, match="names 3 classes, but the model has 2"):
        scored(random_model, drawn)


def test_changed_checkpoint_is_refused(digits):
    with pytest.raises(CheckpointError, match=r"digits\.pt changed on disk"):
        job.run_calibration(digits.model_copy(update={"sha256": "0" * 64}), ignore)


CHANGES = [{"sha256": "b" * 64}, {"classes": 3}, {"images": 65}, {"images": None}, {"imgsz": 192}, {"seed": 1}]


def test_score_file_depends_on_every_parameter_that_affects_scores(monkeypatch):
    places = [cache.calibration_file(PARAMETERS.model_copy(update=change), "data") for change in [{}, *CHANGES]]
    places.append(cache.calibration_file(PARAMETERS, "other data"))
    same = PARAMETERS.model_copy(update={"device": "cuda:0", "checkpoint": "moved.pt"})
    assert cache.calibration_file(same, "data") == places[0]
    monkeypatch.setattr(cache, "__version__", "0.0.0")
    places.append(cache.calibration_file(PARAMETERS, "data"))
    assert len(set(places)) == len(CHANGES) + 3
