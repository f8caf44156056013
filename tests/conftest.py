"""Tests depend on no state of the machine: home, XDG folders and Ultralytics' settings are temporary, and nothing is downloaded."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests import warm_processes
from tests.deadlines import LONGEST_TEST

HOME = tempfile.TemporaryDirectory(prefix="tui-pruner-home-")
for name, folder in {
    "HOME": "",
    "XDG_CONFIG_HOME": "config",
    "XDG_STATE_HOME": "state",
    "XDG_CACHE_HOME": "cache",
    "XDG_DATA_HOME": "data",
    "YOLO_CONFIG_DIR": "ultralytics",
}.items():
    path = Path(HOME.name, folder)
    path.mkdir(parents=True, exist_ok=True)
    os.environ[name] = str(path)
os.environ |= {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}
os.environ.setdefault("PYTEST_TIMEOUT", str(LONGEST_TEST))
for name in ("NO_COLOR", "FORCE_COLOR", "TEXTUAL", "COLUMNS", "LINES", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(name, None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs behind it
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.dont_write_bytecode = False
"""Else every worker and every child compiles again what it imports: a fifth of all the processor's time."""

warm_processes.begin()
DEMO = Path(__file__).parent.parent / "assets" / "demo"


LONG = (
    "tests/gpu/test_processes.py",
    "tests/gpu/test_jobs.py",
    "tests/cli/test_masks.py",
    "tests/core/test_families.py",
    "tests/tui/test_workbench.py",
    "tests/tui/test_features_in_terminal.py",
    "tests/cli/test_report.py",
    "tests/tui/test_unexpected.py",
    "tests/jobs/test_scan_job.py",
    "tests/core/test_operations.py",
    "tests/cli/test_plan.py",
    "tests/jobs/test_planning_job.py",
    "tests/cli/test_gate.py",
    "tests/jobs/test_label_settings.py",
    "tests/core/test_kernels.py",
    "tests/tui/test_saved_sessions.py",
    "tests/cli/test_prune_and_prove.py",
    "tests/jobs/test_busy_machine.py",
    "tests/jobs/test_finetune_job.py",
    "tests/cli/test_file_in_stock_ultralytics.py",
    "tests/cli/test_streams.py",
    "tests/faults/test_faults.py",
    "tests/core/test_random_models.py",
    "tests/tui/test_lineage.py",
    "tests/jobs/test_validation_job.py",
    "tests/jobs/test_compress_job.py",
    "tests/tui/test_trust_question.py",
    "tests/test_architecture.py",
    "tests/tui/test_steps.py",
    "tests/cli/test_validate.py",
    "tests/tui/test_signals.py",
    "tests/jobs/test_executors.py",
    "tests/tui/test_newcomers_workflow.py",
    "tests/cli/test_bad_input.py",
    "tests/tui/test_masking.py",
    "tests/tui/test_themes.py",
    "tests/core/test_damage.py",
    "tests/cli/test_trusted_models.py",
    "tests/cli/test_odd_paths.py",
    "tests/jobs/test_reconstruction_job.py",
    "tests/cli/test_recalibrate_and_finetune.py",
    "tests/core/test_proof.py",
    "tests/core/test_latency_search.py",
    "tests/tui/test_whole_workflow.py",
    "tests/core/test_writing.py",
    "tests/tui/test_real_terminals.py",
    "tests/engine/test_client.py",
    "tests/cli/test_early_refusals.py",
    "tests/saved/test_saved.py",
    "tests/tui/test_targets.py",
    "tests/gpu/test_memory.py",
    "tests/core/test_plain_weights.py",
    "tests/cli/test_unproved.py",
    "tests/tui/test_detections.py",
)
"""Files of five seconds of processor time and more, the longest first: xdist hands out whole files, and what comes last must be short."""


def pytest_configure(config: pytest.Config) -> None:
    """Have xdist hand out files in the order in which they were collected, not those with the most tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONG)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later look for garbage, which takes half a second of a processor with it."""
    gc.collect()
    gc.freeze()


FOLDERS = itertools.count()


def new_folder() -> str:
    """A folder for one test; pytest looks through all that it ever made for a number that is free."""
    folder = Path(HOME.name, "tests", str(next(FOLDERS)))
    folder.mkdir(parents=True)
    return str(folder)


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that a test leaves behind are offered to no other test, and what libraries left in the environment is gone."""
    warm_processes.forget_changes()
    monkeypatch.setenv("XDG_STATE_HOME", new_folder())


@pytest.fixture(autouse=True)
def cold(request: pytest.FixtureRequest, own_state: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of tests that are marked so start as they do for users."""
    if request.node.get_closest_marker("cold"):
        monkeypatch.setenv(warm_processes.COLD, "1")


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The bundled checkpoint, trained on real digits."""
    return DEMO / "digits.pt"


@pytest.fixture(scope="session")
def demo_data() -> Path:
    """The bundled data yaml."""
    return DEMO / "digits.yaml"


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Four images of 64 pixels with two classes."""
    import cv2
    import numpy as np

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "data" / "images" / split / f"{number}.png"), pixels)
            (tmp_path / "data" / "labels" / split / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.4\n")
    yaml = tmp_path / "data" / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [a, b]\n")
    return yaml
