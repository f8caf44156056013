"""A machine with two pretended GPUs, a small network and itself pruned, and few drawn images; caches of the test's own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from ultralytics.cfg import get_cfg

from tests.cli.conftest import call  # noqa: F401
from tests.conftest import new_folder
from tests.gpu.device import Machine
from tests.gpu.pretending import WITHOUT_AMP, environment, pretended_gpus
from tests.gpu.workload import Subject
from tests.jobs.conftest import draw_scene, save_yaml
from tests.jobs.narrow import SIDE, save, save_whole
from tui_pruner.frameworks.ultralytics import build_from_yaml, read_checkpoint

IMAGES = 4
"""Of the training and of the validation: one batch, read without worker processes on every device, with the same random numbers."""
STEPS = 60
NETWORK = """
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[2, 3], 1, Detect, [nc]]
"""


@pytest.fixture
def gpus() -> Iterator[Machine]:
    """This process takes itself for one with two GPUs."""
    with pretended_gpus(2) as machine:
        yield machine


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every Python that is started takes itself for one with two GPUs, and writes into this file which one it used."""
    file = tmp_path / "used"
    file.touch()
    for name, value in environment(file, count=2, name=WITHOUT_AMP).items():
        monkeypatch.setenv(name, value)
    return file


def used(evidence: Path) -> dict[str, int]:
    """How many processes used each GPU."""
    lines = [line.split()[0] for line in evidence.read_text().splitlines()]
    return {place: lines.count(place) for place in sorted(set(lines))}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that an earlier test found is found again."""
    monkeypatch.setenv("XDG_CACHE_HOME", new_folder())


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data yaml of a few drawn scenes with two classes."""
    folder = tmp_path_factory.mktemp("scenes")
    for split, numbers in {"train": range(IMAGES), "val": range(IMAGES, 2 * IMAGES)}.items():
        for number in numbers:
            draw_scene(folder / f"images/{split}/{number}.jpg", folder / f"labels/{split}/{number}.txt", number)
    return save_yaml(folder, {"train": "images/train", "val": "images/val", "names": ["square", "tall"]})


@pytest.fixture(scope="session")
def subject(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A network of a few layers that finds the squares of the scenes, and itself with a tenth of its channels cut."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(NETWORK)
    torch.manual_seed(0)
    checkpoint = build_from_yaml(str(folder / "small.yaml"), 2)
    train_until_detecting(checkpoint.model, scenes.parent)
    whole = read_checkpoint(save_whole(checkpoint, folder / "original.pt"))
    pruned = save(whole, folder / "pruned.pt", "10%")
    return Subject(Path(whole.path), Path(pruned.path), pruned.provenance["plan"], scenes, SIDE, IMAGES)


def train_until_detecting(model: Any, folder: Path) -> None:
    """Train on the images until something is found on them."""
    pixels = [cv2.imread(str(folder / f"images/train/{number}.jpg"))[..., ::-1].copy() for number in range(IMAGES)]
    batch = {
        "img": torch.stack([torch.from_numpy(one) for one in pixels]).permute(0, 3, 1, 2).float() / 255,
        "cls": torch.tensor([[number % 2] for number in range(IMAGES)], dtype=torch.float32),
        "bboxes": torch.full((IMAGES, 4), 0.3125),
        "batch_idx": torch.arange(IMAGES, dtype=torch.float32),
    }
    model.args = get_cfg()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.loss(batch)[0].sum().backward()
        optimizer.step()
    model.criterion = None
    model.eval()


OnBoth = Callable[[Callable[[str], Any]], tuple[Any, Any]]


@pytest.fixture
def on_both(gpus: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnBoth:
    """`on_both(run)` gives `run("cpu")` and `run("cuda:1")`: the one without a kernel on a GPU, the other with none on another GPU.

    What took memory on it must be gone afterwards.
    """

    def running(run: Callable[[str], Any]) -> tuple[Any, Any]:
        found = []
        for place in ("cpu", "cuda:1"):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{place}"))
            found.append(run(place))
            gc.collect()
            assert gpus.devices[0].kernels == 0
            assert (gpus.devices[1].kernels > 0) == (place != "cpu")
            assert gpus.devices[1].allocated == 0
        return found[0], found[1]

    return running
