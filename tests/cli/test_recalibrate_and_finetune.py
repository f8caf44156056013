"""`recalibrate` and `finetune` write separate, verified files with their provenance."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Call, Pruned
from tui_pruner.cli.commands import recover
from tui_pruner.engine.client import Job
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.processes import start_python
from tui_pruner.frameworks.ultralytics import read_checkpoint

MAP = "metrics/mAP50-95(B)"


@pytest.fixture(scope="module")
def few(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data yaml of 8 training and 4 validation scenes of digits."""
    folder = tmp_path_factory.mktemp("few")
    for split, count in {"train": 8, "val": 4}.items():
        for image in sorted((demo_data.parent / "images" / split).iterdir())[:count]:
            for kind, name in (("images", image.name), ("labels", f"{image.stem}.txt")):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
                shutil.copy(demo_data.parent / kind / split / name, folder / kind / split)
    return Path(shutil.copy(demo_data, folder / "data.yaml"))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def changed_tensors(file: Path, other: Path) -> set[str]:
    """The tensors that differ; both files have the same shapes."""
    one, two = (read_checkpoint(path).model.state_dict() for path in (file, other))
    assert {name: tensor.shape for name, tensor in one.items()} == {name: tensor.shape for name, tensor in two.items()}
    return {name for name in one if not torch.equal(one[name], two[name])}


def test_recalibrate_writes_new_statistics_and_its_source(call: Call, pruned: Pruned, demo_checkpoint: Path, few: Path, tmp_path: Path):
    file = tmp_path / "recalibrated.pt"
    answer = call("recalibrate", pruned.file, "--data", few, "--images", 6, "--imgsz", 96, "-o", file, "--json")
    assert answer.status == 0, answer.err
    document = answer.document
    assert (document["output"], document["images"], document["layers"]) == (str(file), 6, 57)
    assert document["sha256"] == sha256(file)
    assert [check["ok"] for check in document["checks"]] == [True] * 7
    different = changed_tensors(file, pruned.file)
    assert len(different) == 2 * 57 and all(".running_" in name for name in different)
    provenance = read_checkpoint(file).provenance
    assert provenance is not None
    assert [(stage["kind"], stage["source"]["sha256"]) for stage in provenance["stages"]] == [
        ("prune", sha256(demo_checkpoint)),
        ("recalibrate", sha256(pruned.file)),
    ]
    assert provenance["plan"] == read_checkpoint(pruned.file).provenance["plan"]
    proof = call("prove", demo_checkpoint, file)
    assert proof.status == 2
    assert f"has changed since it was cut (recalibrate): prove {pruned.file.name}" in proof.remarks[-1]


def test_finetune_stopped_by_ctrl_c_keeps_the_best_epoch_so_far(
    call: Call, pruned: Pruned, demo_checkpoint: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, cache, seen = tmp_path / "tuned.pt", tmp_path / "cache", []
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)

    def interrupt_once(progress: JobProgress) -> None:
        if progress.doing.startswith("epoch ") and not seen:
            seen.append(progress)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(recover, "write_training_progress", interrupt_once)
    taught = ("--teacher", demo_checkpoint, "--lr0", 0.001)
    options = ("--data", few, "--epochs", 300, "--batch", 4, "--imgsz", 64, "--device", "cpu", *taught, "-o", file, "--json")
    answer = call("finetune", pruned.file, *options)
    assert (answer.status, len(seen)) == (130, 1), answer.err
    assert "stopping: what there is so far is kept; once more to end at once" in answer.remarks
    document: dict[str, Any] = answer.document
    assert document["stopped"] and 0 <= document["best_epoch"] <= document["epochs"] < 300
    assert max(0.0, document["metrics_before"][MAP]) <= document["metrics"][MAP] < 1
    assert "train/dis_loss" in document["curve"][0]
    assert bool(changed_tensors(file, pruned.file)) is (document["best_epoch"] > 0)
    tuned = read_checkpoint(file)
    assert tuned.provenance is not None and tuned.default_imgsz == 64
    stage = tuned.provenance["stages"][-1]
    assert (stage["kind"], stage["source"]["sha256"], stage["lr0"]) == ("finetune", sha256(pruned.file), 0.001)
    assert stage["teacher"] == {"name": "digits.pt", "sha256": sha256(demo_checkpoint), "weight": 0.05}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "tuned.pt"]
    assert list((cache / "tui-pruner" / "finetune").iterdir()) == []


@pytest.mark.parametrize("command", ["recalibrate", "finetune"])
def test_missing_data_and_unpruned_files_are_reported_in_one_line(
    call: Call, demo_checkpoint: Path, demo_data: Path, tmp_path: Path, command: str
):
    output = ("-o", tmp_path / "out.pt", "--imgsz", 64)
    answer = call(command, demo_checkpoint, *output)
    assert (answer.status, answer.remarks) == (
        2,
        ["tui-pruner: which data set? give --data DATA.yaml, the yaml that the model was trained with"],
    )
    answer = call(command, demo_checkpoint, *output, "--data", demo_data)
    (line,) = answer.remarks
    assert answer.status == 2
    assert line.endswith("was not pruned by this program: prune it first, or use Ultralytics' own train()")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_any_result_counts_as_an_interruption(
    call: Call, pruned: Pruned, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def start_something_slow(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
        process = await start_python("-c", "import signal; signal.pause()", log=log)
        os.kill(os.getpid(), signal.SIGINT)
        return process

    monkeypatch.setattr(Job.__init__, "__defaults__", (start_something_slow, None))
    answer = call("finetune", pruned.file, "--data", few, "-o", tmp_path / "out.pt")
    assert (answer.status, answer.remarks[-1]) == (130, "tui-pruner: interrupted")
    assert list(tmp_path.iterdir()) == []
