"""A machine with two pretended GPUs, a narrow pruned network, and few drawn images; caches of the test's own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.device import Machine
from tests.gpu.pretending import environment, pretended_gpus
from tests.jobs.conftest import draw_scene, save_yaml
from tests.jobs.narrow import narrow, save, save_whole
from tui_pruner.core.checkpoint import Checkpoint

TRAINING, VALIDATION = 4, 4
"""Images; so few that a loader reads them in its own process, whatever the device: the same random numbers in the same order."""


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
    for name, value in environment(file, count=2).items():
        monkeypatch.setenv(name, value)
    return file


def used(evidence: Path) -> dict[str, int]:
    """How many processes used each GPU."""
    lines = [line.split()[0] for line in evidence.read_text().splitlines()]
    return {place: lines.count(place) for place in sorted(set(lines))}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that an earlier test found is found again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `original.pt` and `pruned.pt`, a narrow YOLOv8 with two classes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("narrow")
    checkpoint = narrow(folder)
    save_whole(checkpoint, folder / "original.pt")
    save(checkpoint, folder / "pruned.pt")
    return folder


@pytest.fixture
def pruned(files: Path) -> Checkpoint:
    """The pruned one."""
    from tui_pruner.core.checkpoint import read_checkpoint

    return read_checkpoint(files / "pruned.pt")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data yaml of a few drawn scenes with two classes."""
    folder = tmp_path_factory.mktemp("scenes")
    for split, numbers in {"train": range(TRAINING), "val": range(TRAINING, TRAINING + VALIDATION)}.items():
        for number in numbers:
            draw_scene(folder / f"images/{split}/{number}.jpg", folder / f"labels/{split}/{number}.txt", number)
    return save_yaml(folder, {"train": "images/train", "val": "images/val", "names": ["square", "tall"]})


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
