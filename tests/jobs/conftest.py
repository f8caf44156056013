"""A tiny data set of drawn boxes, a tiny random model, and a cache folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.conftest import new_folder
from tui_pruner.engine.job_messages import ValidationParameters

CLASSES = ("square", "tall")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", new_folder())


@pytest.fixture
def images_read_here(monkeypatch):
    """Trainings in this process read their images in it: six forks of a process that has all libraries imported cost more than an epoch."""
    from tui_pruner.jobs.training import finetune

    settings_of = finetune.settings_of
    monkeypatch.setattr(finetune, "settings_of", lambda *given: {**settings_of(*given), "workers": 0})


def draw_scene(image: Path, label: Path, number: int) -> None:
    generator = np.random.default_rng(number)
    pixels = generator.integers(0, 90, (64, 64, 3), dtype=np.uint8)
    cv2.rectangle(pixels, (10, 10), (30, 30), (255, 255, 255), -1)
    image.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(image), pixels)
    label.write_text(f"{number % 2} 0.3125 0.3125 0.3125 0.3125\n")


def save_yaml(folder: Path, content: object) -> Path:
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def draw_splits(folder: Path, training: int = 8, validation: int = 4) -> Path:
    """The data yaml of drawn scenes to train on, and of others to validate on."""
    for split, numbers in {"train": range(training), "val": range(training, training + validation)}.items():
        for number in numbers:
            draw_scene(folder / f"images/{split}/{number}.jpg", folder / f"labels/{split}/{number}.txt", number)
    return save_yaml(folder, {"train": "images/train", "val": "images/val", "names": list(CLASSES)})


def draw_scenes(folder: Path, count: int) -> Path:
    for number in range(count):
        draw_scene(folder / f"images/val/{number:03}.jpg", folder / f"labels/val/{number:03}.txt", number)
    return save_yaml(folder, {"val": "images/val", "names": dict(enumerate(CLASSES))})


@pytest.fixture
def build_scenes():
    """`build_scenes(folder, count)` draws a data set with two classes and gives its data yaml."""
    return draw_scenes


@pytest.fixture
def write_yaml():
    """`write_yaml(folder, content)` writes the folder's data.yaml and gives its path."""
    return save_yaml


@pytest.fixture
def scenes(tmp_path) -> Path:
    """The data yaml of 20 scenes with two classes."""
    return draw_scenes(tmp_path / "scenes", 20)


@pytest.fixture(scope="session")
def random_model():
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel("yolov8n.yaml", nc=2, verbose=False).eval()


@pytest.fixture
def parameters(scenes) -> ValidationParameters:
    return ValidationParameters(checkpoint="random.pt", sha256="0" * 64, data=str(scenes), images=None, imgsz=64, device="cpu")
