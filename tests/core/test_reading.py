"""Reading a model: a good file gives the model that stock Ultralytics gives, anything else one line, and nothing in a file ever runs."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.bad_files import DIGITS, NOT_CHECKPOINTS, RunsACommand, flip_one_bit
from tui_pruner.core.model.checkpoint import family_name
from tui_pruner.domain.errors import CheckpointError
from tui_pruner.frameworks.ultralytics import build_from_yaml, open_model, read_checkpoint


@pytest.fixture(scope="module")
def dictionary() -> dict[str, object]:
    return torch.load(DIGITS, map_location="cpu", weights_only=False)


def with_model(dictionary: dict[str, object], model: object) -> dict[str, object]:
    return {**dictionary, "model": model, "ema": None}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_model(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert caught.value.exit_status == 2
    return message


def test_trained_checkpoint_is_read_with_its_metadata() -> None:
    checkpoint = read_checkpoint(DIGITS)
    assert (checkpoint.family, checkpoint.task, checkpoint.classes, checkpoint.stride) == ("YOLOv8n", "detect", 10, 32)
    assert checkpoint.default_imgsz == 160
    assert checkpoint.path == str(DIGITS)
    assert checkpoint.sha256 == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) == 3_012_798
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}
    assert not checkpoint.model.training
    assert checkpoint.provenance is None
    assert {"model", "ema", "optimizer"}.isdisjoint(checkpoint.content)


def test_model_predicts_the_same_as_in_stock_ultralytics() -> None:
    from ultralytics import YOLO

    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = read_checkpoint(DIGITS).model(image)[0]
        stock = YOLO(DIGITS).model.float().eval()(image)[0]
    assert ours.shape == (1, 14, 126)
    assert torch.equal(ours, stock)


def test_averaged_weights_are_preferred_and_a_stopped_training_is_reported(tmp_path: Path, dictionary: dict[str, object]) -> None:
    averaged = copy.deepcopy(dictionary["model"])
    with torch.no_grad():
        averaged.model[0].conv.weight.fill_(0.25)
    torch.save({**dictionary, "ema": averaged, "epoch": 4, "optimizer": {}}, tmp_path / "last.pt")
    checkpoint = read_checkpoint(tmp_path / "last.pt")
    assert checkpoint.model.model[0].conv.weight.unique().tolist() == [0.25]
    assert any("epoch 5" in warning for warning in checkpoint.warnings)


@pytest.mark.parametrize("name", ["yolov5n.pt", "o'brien.pt", "model.pth", "with space.pt"])
def test_file_name_that_ultralytics_would_change_is_read_unchanged(
    name: str, tmp_path: Path, dictionary: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_download(*arguments: object, **options: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("ultralytics.utils.downloads.safe_download", no_download)
    torch.save(dictionary, tmp_path / name)
    assert read_checkpoint(tmp_path / name).classes == 10


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_file_that_is_not_a_checkpoint_is_refused_with_what_it_is(name: str, tmp_path: Path) -> None:
    make, expected = NOT_CHECKPOINTS[name]
    make(tmp_path / name)
    assert expected in refusal(tmp_path / name)


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"model": weights}, lambda weights: {"state_dict": weights}])
def test_bare_weights_are_refused_with_a_hint_to_load_them_into_a_model(
    wrap: Callable[[object], object], tmp_path: Path, dictionary: dict[str, object]
) -> None:
    torch.save(wrap(dictionary["model"].state_dict()), tmp_path / "weights.pt")
    assert "state_dict" in refusal(tmp_path / "weights.pt")


def test_model_without_its_wrapper_is_refused_with_a_hint_how_to_save_it(tmp_path: Path, dictionary: dict[str, object]) -> None:
    torch.save(dictionary["model"], tmp_path / "bare.pt")
    assert "torch.save({'model': model}, ...)" in refusal(tmp_path / "bare.pt")
    torch.save({"model": dictionary["model"]}, tmp_path / "as-told.pt")
    assert open_model(str(tmp_path / "as-told.pt")).classes == 10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinite_weights_are_reported_on_opening(value: float, tmp_path: Path, dictionary: dict[str, object]) -> None:
    broken = copy.deepcopy(dictionary["model"])
    broken.model[5].bn.running_var[3] = value
    torch.save(with_model(dictionary, broken), tmp_path / "broken.pt")
    (said,) = open_model(str(tmp_path / "broken.pt")).warnings
    assert said.startswith("model.5.bn.running_var holds NaN or infinity")


def test_fused_model_is_refused(tmp_path: Path, dictionary: dict[str, object]) -> None:
    fused = copy.deepcopy(dictionary["model"]).float().eval().fuse(verbose=False)
    torch.save(with_model(dictionary, fused), tmp_path / "fused.pt")
    assert "is fused" in refusal(tmp_path / "fused.pt")


def test_model_trained_for_quantisation_is_refused(tmp_path: Path, dictionary: dict[str, object]) -> None:
    torch.save({**dictionary, "modelopt": {"mode": "int8"}}, tmp_path / "int8.pt")
    assert "quantisation" in refusal(tmp_path / "int8.pt")


@pytest.mark.parametrize("seed", range(12))
def test_one_flipped_bit_in_the_contents_is_detected(seed: int, tmp_path: Path) -> None:
    flip_one_bit(tmp_path / "flipped.pt", seed)
    assert "is damaged" in refusal(tmp_path / "flipped.pt")


def test_file_that_runs_a_command_is_refused_by_name_and_nothing_runs(tmp_path: Path, dictionary: dict[str, object]) -> None:
    canary = tmp_path / "canary"
    torch.save({**dictionary, "extra": RunsACommand(f"touch {canary}")}, tmp_path / "evil.pt")
    assert f"calls {os.system.__module__}.system" in refusal(tmp_path / "evil.pt")
    assert not canary.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert canary.exists(), "the trap itself must work, or this test proves nothing"


class CallsAMethod:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, str]]:
        return getattr, (self.model, "fuse")


def test_getattr_in_a_file_is_refused(tmp_path: Path, dictionary: dict[str, object]) -> None:
    torch.save({**dictionary, "extra": CallsAMethod(dictionary["model"])}, tmp_path / "getattr.pt")
    assert "unsafe getattr" in refusal(tmp_path / "getattr.pt")


def test_file_without_read_permission_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked.pt"
    locked.write_bytes(b"PK")

    opened = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == locked:
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in refusal(locked)


def test_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = tmp_path / "last.pt"
    moving.write_bytes(DIGITS.read_bytes())
    from tui_pruner.frameworks.ultralytics import reading

    def fingerprint_while_training(path: Path) -> str:
        os.utime(path, ns=(1, 1))
        return "0" * 64

    monkeypatch.setattr(reading, "fingerprint", fingerprint_while_training)
    assert "changed while it was read" in refusal(moving)


def test_yolov8n_of_the_field_reports_has_its_reported_size() -> None:
    checkpoint = open_model("yolov8n.yaml", classes=7)
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) == 3_012_213
    assert sum(isinstance(module, nn.Conv2d) for module in checkpoint.model.modules()) == 64
    assert (checkpoint.family, checkpoint.classes, checkpoint.default_imgsz) == ("YOLOv8n", 7, 640)
    assert "random weights" in checkpoint.warnings[0]


def test_built_model_is_reproducible_and_leaves_the_global_random_state_unchanged() -> None:
    torch.manual_seed(3)
    undisturbed = torch.rand(1)
    torch.manual_seed(3)
    first, second = build_from_yaml("yolov8n.yaml"), build_from_yaml("yolov8n.yaml")
    assert torch.equal(torch.rand(1), undisturbed)
    assert first.sha256 == second.sha256 != build_from_yaml("yolov8n.yaml", classes=7).sha256
    weights = second.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first.model.state_dict().items())


def test_batch_normalisations_of_a_built_model_are_not_the_identity() -> None:
    norms = [module for module in build_from_yaml("yolov8n.yaml").model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 57
    for norm in norms:
        assert 0.5 <= norm.weight.min() < norm.weight.max() <= 1.5
        assert 0 < norm.running_var.min() < norm.running_var.max()
        assert norm.bias.std() > 0.1
        assert norm.running_mean.std() > 0.03


@pytest.mark.parametrize(
    ("text", "classes", "expected"),
    [
        ("yolov8nn.yaml", None, "nearest: "),
        ("https://somewhere/yolov8n.yaml", None, "is an address"),
        ("coco8.yaml", None, "no backbone and head"),
        ("yolov8n.yaml", 0, "cannot have 0 classes"),
        (str(DIGITS), 7, "has its classes already"),
    ],
)
def test_architecture_that_cannot_be_built_is_refused(text: str, classes: int | None, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        open_model(text, classes)


def test_architecture_file_cannot_run_code(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    backbone = "backbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[-1, 1, Classify, [nc]]]\n"
    (tmp_path / "evil.yaml").write_text(f"nc: 2\nactivation: \"__import__('os').system('touch {canary}')\"\n{backbone}")
    assert "describes no model" in refusal(tmp_path / "evil.yaml")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("yaml_file", "scale", "family"),
    [
        ("yolov8n.yaml", "n", "YOLOv8n"),
        ("yolov8.yaml", "s", "YOLOv8s"),
        ("C:\\models\\yolo11x-seg.yaml", "x", "YOLO11x-seg"),
        ("yolov9e.yaml", "", "YOLOv9e"),
        ("my-network.yaml", "", "my-network"),
        ("", "", ""),
    ],
)
def test_family_has_its_usual_name(yaml_file: str, scale: str, family: str) -> None:
    assert family_name({"yaml_file": yaml_file, "scale": scale}) == family
