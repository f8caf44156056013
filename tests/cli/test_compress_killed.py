"""`compress` on the command line, killed again and again: its result is that of an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.cli.conftest import Call, start
from tests.jobs.conftest import draw_splits
from tests.jobs.narrow import SIDE, narrow, save_whole
from tests.thoroughness import THOROUGH
from tui_pruner.frameworks.ultralytics import read_checkpoint

pytestmark = pytest.mark.skipif(not THOROUGH, reason="minutes of processes: make thorough; the default tests stop it at every stage")
KILLS, SEEDS = 5, range(2)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The command line but for its folder, on a narrow network and drawn scenes."""
    folder = tmp_path_factory.mktemp("narrow")
    checkpoint = save_whole(narrow(folder), folder / "original.pt")
    data = draw_splits(folder / "scenes")
    sizes = ("--imgsz", SIDE, "--images", 4, "--batch", 4, "--epochs", 2, "--runs", 5)
    return ("compress", checkpoint, "--data", data, "--target", "flops=80%", "--device", "cpu", *sizes, "--json", "-o")


@pytest.fixture(scope="module")
def whole(asked: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of one go, and how many lines of progress it told."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    child = start(*asked, folder, env={**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")})
    assert child.stderr is not None
    lines = sum(1 for _ in child.stderr)
    assert child.wait() == 0
    return folder, lines


def final_weights_and_outputs(folder: Path) -> tuple[str, list[tuple[str, bytes]]]:
    """The digest of the checkpoint's weights, and the exported ones."""
    found = hashlib.sha256()
    for name, tensor in sorted(read_checkpoint(str(folder / "compressed.pt")).model.state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    (file,) = folder.glob("*.onnx")
    weights = [(one.name, np.asarray(numpy_helper.to_array(one)).tobytes()) for one in onnx.load(file).graph.initializer]
    return found.hexdigest(), weights


@pytest.mark.parametrize("seed", SEEDS)
def test_compression_killed_five_times_gives_the_same_weights_and_export(
    seed: int, asked: tuple[object, ...], whole: tuple[Path, int], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    uninterrupted, lines = whole
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    draw = random.Random(seed)
    for _ in range(KILLS):
        moment = draw.randrange(1, max(2, lines // KILLS))
        child = start(*asked, tmp_path / "out")
        assert child.stderr is not None
        for number, _ in enumerate(child.stderr, start=1):
            if number == moment:
                child.kill()
        child.communicate()
        assert child.returncode == -9, "it came to its end before it was killed"
    last = call(*asked, tmp_path / "out")
    assert last.status == 0, last.err
    assert any(stage["kept"] for stage in json.loads(last.out)["stages"])
    assert final_weights_and_outputs(tmp_path / "out") == final_weights_and_outputs(uninterrupted)
    assert (tmp_path / "out" / "report.html").exists()
