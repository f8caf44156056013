"""A compression: every stage from the checkpoint to the report; killed at any stage, it resumes with the same result."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.nth_call import quick_verification
from tests.jobs.conftest import draw_splits
from tests.jobs.narrow import SIDE, save_whole, short
from tui_pruner.domain.errors import DataError, OutputError, RequestError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.messages import Message
from tui_pruner.engine.recovery_messages import CompressParameters, CompressResult
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs import compress
from tui_pruner.jobs.__main__ import KINDS
from tui_pruner.jobs.plan import milestones


class Killed(BaseException):
    """What a kill is to the rest of the program."""


class InProcess:
    """A job in this process: each of its own costs seconds to start; `before` is called with the kind of each."""

    before: Callable[[str], None] = staticmethod(lambda kind: None)  # type: ignore[assignment]

    def __init__(self, kind: str, parameters: Message, on_progress: Callable[[JobProgress], None]) -> None:
        self.kind, self.parameters, self.on_progress = kind, parameters, on_progress

    async def run(self) -> dict[str, Any]:
        """Do it."""
        type(self).before(self.kind)
        kind = KINDS[self.kind]
        place = kind.on_modules if getattr(self.parameters, "module", None) else kind.module
        with quick_verification():
            result: Message = getattr(importlib.import_module(place), kind.function)(self.parameters, self.on_progress)
        return json.loads(json.dumps(result.model_dump()))


@pytest.fixture(autouse=True)
def in_process(images_read_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcess, "before", staticmethod(lambda kind: None))
    monkeypatch.setattr(compress, "Job", InProcess)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short")
    return save_whole(short(folder), folder / "original.pt")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_splits(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def parameters(checkpoint: Path, data: Path, tmp_path: Path) -> CompressParameters:
    return CompressParameters(
        checkpoint=str(checkpoint), sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(), data=str(data), imgsz=SIDE, device="cpu",
        images=4, targets=["flops=80%"], fast=True, epochs=1, batch=4, bench=5, format="", folder=str(tmp_path / "out"),
    )  # fmt: skip


def run(parameters: CompressParameters) -> CompressResult:
    return compress.run_compression(parameters, lambda progress: None)


def weights_digest(result: CompressResult) -> str:
    """The digest of the written model's weights."""
    assert result.output is not None
    found = hashlib.sha256()
    for name, tensor in sorted(read_checkpoint(result.output).model.state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def test_compression_killed_at_every_stage_gives_the_same_weights(parameters, tmp_path, monkeypatch):
    whole = run(parameters.model_copy(update={"folder": str(tmp_path / "whole")}))
    names = [stage.name.split()[0] for stage in whole.stages]
    assert names == ["original", "plan", "cut", "refit", "fine-tune", "bench", "report"]
    assert whole.output == str(tmp_path / "whole/compressed.pt") and whole.stopped == ""
    assert 0.75 < whole.flops["after"] / whole.flops["before"] <= 0.801
    report = Path(whole.report).read_text()
    assert report.count("<td>fine-tune flops-80</td>") == 1 and "after (fine-tune flops-80) on the right" in report
    done: list[str] = []
    stages = 0

    def kill(kind: str) -> None:
        if kind not in done:
            done.append(kind)
            raise Killed

    monkeypatch.setattr(InProcess, "before", staticmethod(kill))
    while True:
        try:
            result = run(parameters)
            break
        except Killed:
            stages += 1
    assert stages == len(done) == 7
    assert weights_digest(result) == weights_digest(whole)
    assert [stage.name for stage in result.stages] == [stage.name for stage in whole.stages]
    assert [stage.kept for stage in result.stages if stage.name != "report"] == [True] * 6
    monkeypatch.setattr(InProcess, "before", staticmethod(lambda kind: pytest.fail(kind) if kind != "report" else None))
    assert weights_digest(run(parameters)) == weights_digest(whole)


class Canned(InProcess):
    """A job that does nothing: the way through the points is what is looked at."""

    async def run(self) -> dict[str, Any]:
        """Say what such a job might come to."""
        type(self).before(self.kind)
        file = {"output": getattr(self.parameters, "output", ""), "sha256": "0", "bytes": 1, "checks": []}
        if self.kind == "plan":
            plan = {"checkpoint": "original.pt", "sha256": self.parameters.sha256, "steps": []}
            shares = [int(targets[0].removeprefix("flops=").removesuffix("%")) for targets in self.parameters.points]
            points = [
                {"targets": targets, "plan": plan, "flops": share} for targets, share in zip(self.parameters.points, shares, strict=True)
            ]
            return {
                "points": points,
                "scores": "",
                "original": None,
                "images": 4,
                "held_out": 4,
                "trials": 0,
                "cached": False,
                "seconds": 0,
            }
        Path(file["output"]).write_text(self.kind)
        if self.kind == "prune":
            return {**file, "proof": {"relative_difference": 0.0}, "before": {"flops": 100}, "after": {"flops": 1}}
        if self.kind == "reconstruct":
            found = {"images": 4, "held_out": 4, "layers": [], "kept": "cut", "distance": {"cut": 0.0}, "outputs": {}}
            return {**file, **found, "seconds": 0}
        return {**file, "metrics": {}, "best_epoch": 1, "epochs": 1, "curve": [], "seconds": 0}


@pytest.fixture
def canned_figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What validations come to, by stage; no job does anything."""
    told: dict[str, float] = {}

    def validated(self: Any, name: str, file: str, sha256: str, plan: Any = None) -> dict[str, float]:
        self.validated_images = 9
        return {"metrics/mAP50-95(B)": told.get(name, 0.9)}

    monkeypatch.setattr(compress, "Job", Canned)
    monkeypatch.setattr(compress.Compression, "_validated", validated)
    return told


def test_compression_stops_at_max_drop_with_the_last_accepted_point(parameters, canned_figures):
    canned_figures |= {"refit flops-70": 0.88}
    wanted = {"targets": ["flops=60%"], "max_drop": 0.01, "epochs": 0, "bench": 0, "report": ""}
    result = run(parameters.model_copy(update=wanted))
    assert [stage.name for stage in result.stages if "refit" in stage.name] == ["refit flops-90", "refit flops-80", "refit flops-70"]
    assert result.stopped == "flops=70% loses 0.0200, more than the 0.01 that may be lost"
    assert result.flops["after"] == 80 and result.metrics == {"metrics/mAP50-95(B)": 0.9}
    assert Path(result.output).read_text() == "reconstruct"


def test_pictures_of_the_report_are_named_by_the_accepted_point_when_a_later_one_is_rejected(parameters, canned_figures, monkeypatch):
    canned_figures |= {"refit flops-50": 0.6, "fine-tune flops-50": 0.7}
    reports: list[Any] = []

    class Noted(Canned):
        async def run(self) -> dict[str, Any]:
            if self.kind == "report":
                reports.append(self.parameters)
                return {"output": self.parameters.output, "bytes": 1, "proved": True, "steps": 1}
            return await super().run()

    monkeypatch.setattr(compress, "Job", Noted)
    wanted = {"targets": ["flops=50%"], "step": 25, "max_drop": 0.01, "bench": 0, "report": "report.md"}
    result = run(parameters.model_copy(update=wanted))
    assert result.stopped.startswith("flops=50% loses 0.2000") and result.stages[-2].name == "fine-tune flops-50"
    (report,) = reports
    assert (Path(report.pictured.path).name, report.pictured.stage) == ("flops-75-refitted.pt", "refit flops-75")
    assert report.plan_file.endswith("flops-75.yaml")


def test_training_is_tried_when_the_refit_loses_too_much(parameters, canned_figures):
    canned_figures |= {"refit flops-90": 0.88, "fine-tune flops-90": 0.895, "refit flops-80": 0.6, "fine-tune flops-80": 0.85}
    wanted = {"targets": ["flops=80%"], "max_drop": 0.01, "bench": 0, "report": ""}
    result = run(parameters.model_copy(update=wanted))
    assert result.metrics == {"metrics/mAP50-95(B)": 0.895} and "flops=80% loses 0.0500" in result.stopped


def test_no_file_is_written_if_every_point_exceeds_max_drop(parameters, canned_figures):
    canned_figures |= {"refit flops-90": 0.1}
    result = run(parameters.model_copy(update={"targets": ["flops=60%"], "max_drop": 0.01, "epochs": 0}))
    assert result.output is None and result.stopped.startswith("flops=90% loses 0.8000")
    assert not (Path(parameters.folder) / "compressed.pt").exists()


def test_drop_is_the_largest_over_all_map_metrics_of_the_task():
    before = {"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(M)": 0.5, "metrics/mAP50(B)": 0.9}
    after = {"metrics/mAP50-95(B)": 0.25, "metrics/mAP50-95(M)": 0.5, "metrics/mAP50(B)": 0.1}
    assert compress.drop(before, after) == 0.25
    assert compress.drop({"metrics/accuracy_top1": 0.75}, {"metrics/accuracy_top1": 0.5}) == 0.25
    assert compress.drop({}, {}) is None


def test_milestones_are_at_most_one_step_apart_and_end_at_the_targets():
    assert milestones(["flops=60%"], 10) == [["flops=90%"], ["flops=80%"], ["flops=70%"], ["flops=60%"]]
    assert milestones(["flops=75%", "params=0.5"], 25) == [["flops=87.5%", "params=75%"], ["flops=75%", "params=50%"]]
    assert milestones(["flops=2M"], None) == [["flops=2M"]]
    with pytest.raises(RequestError, match="flops=2M must be a share"):
        milestones(["flops=2M"], 10)
    with pytest.raises(RequestError, match="no target"):
        milestones([], None)


def test_folder_with_other_files_is_refused(parameters, canned_figures):
    folder = Path(parameters.folder)
    folder.mkdir()
    (folder / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="has files already: choose another folder or give --force"):
        run(parameters)
    (folder / "thesis.tex").unlink()
    (folder / "compress.json").write_text(json.dumps({"format": 1, "asked": "another", "stages": {}}))
    with pytest.raises(OutputError, match="has another compression"):
        run(parameters)


def test_changed_labels_invalidate_all_earlier_stages(parameters, canned_figures, tmp_path, monkeypatch):
    data = draw_splits(tmp_path / "mine")
    asked = parameters.model_copy(update={"data": str(data), "epochs": 0, "bench": 0, "report": ""})
    kinds: list[str] = []
    monkeypatch.setattr(InProcess, "before", staticmethod(kinds.append))
    run(asked)
    first = list(kinds)
    run(asked)
    assert kinds == first != []
    label = next(file for file in sorted(data.parent.rglob("*.txt")) if file.stat().st_size)
    label.write_text(label.read_text().replace("0 ", "1 ", 1))
    kinds.clear()
    run(asked)
    assert kinds == first


def test_max_drop_needs_labels(parameters, data, tmp_path):
    unlabelled = tmp_path / "unlabelled.yaml"
    unlabelled.write_text(json.dumps({"path": str(data.parent), "train": "images/train", "names": ["square", "tall"]}))
    with pytest.raises(DataError, match="--max-drop needs them"):
        run(parameters.model_copy(update={"data": str(unlabelled), "max_drop": 0.01}))


def test_scan_stage_is_used_by_the_plan_and_stages_can_be_left_out(parameters, canned_figures, monkeypatch):
    asked: dict[str, Any] = {}

    class Noted(Canned):
        async def run(self) -> dict[str, Any]:
            asked[self.kind] = self.parameters
            if self.kind == "scan":
                trial = {"id": 3, "layer": "model.4", "layers": ["model.4"], "ratio": 0.3, "channels": 5, "along": [], "metric": 0.8,
                         "drop": 0.1, "parameters": 1, "flops": 1}  # fmt: skip
                return {"name": "mAP", "baseline": 0.9, "metrics": {}, "images": 9, "parameters": 1, "flops": 1, "groups": [trial]}
            return await super().run()

    monkeypatch.setattr(compress, "Job", Noted)
    told: list[JobProgress] = []
    wanted = {"scanned": 9, "ratios": [0.3], "refit": False, "epochs": 0, "bench": 0, "report": ""}
    result = compress.run_compression(parameters.model_copy(update=wanted), told.append)
    assert [stage.name for stage in result.stages] == ["original", "scan", "plan flops-80", "cut flops-80"]
    assert (asked["scan"].images, asked["scan"].ratios) == (9, [0.3])
    assert [(trial.group, trial.channels, trial.drop) for trial in asked["plan"].scan.trials] == [(3, 5, 0.1)]
    assert "reconstruct" not in asked and Path(result.output).read_text() == "prune"
    figures_told = {progress.stage: progress.figure for progress in told if progress.figure}
    assert list(figures_told) == ["validate", "scan", "target"] and "most is lost by model.4 at 30%" in figures_told["scan"]
    assert figures_told["validate"] == "mAP .900; 9 images"


def test_recipe_edited_before_a_stage_starts_is_used_and_kept_on_resume(parameters, canned_figures, monkeypatch):
    recipe = Path(parameters.folder) / "recipe.yaml"
    started: list[str] = []

    def edited(kind: str) -> None:
        started.append(kind)
        if kind == "prune" and started.count("prune") == 1:
            content = recipe.read_text()
            assert "refit: on" in content and "report: {file: report.html" in content
            recipe.write_text(content.replace("refit: on", "refit: off").replace("criterion: obs", "criterion: l2"))

    monkeypatch.setattr(InProcess, "before", staticmethod(edited))
    wanted = parameters.model_copy(update={"epochs": 0, "bench": 0, "report": "report.html"})
    monkeypatch.setattr(compress.Compression, "_reported", lambda self, reached: "report.html")
    result = run(wanted)
    assert [stage.name.split()[0] for stage in result.stages] == ["original", "plan", "cut"]
    assert "reconstruct" not in started and started.count("plan") == 1, "the target had started: it stays"
    again = run(wanted)
    assert "reconstruct" not in started and [stage.name.split()[0] for stage in again.stages] == ["original", "plan", "cut"]


def test_compression_without_validation_measures_nothing_and_its_scan_needs_labels(parameters, canned_figures, data, tmp_path):
    wanted = {"measured": False, "epochs": 0, "bench": 0, "report": ""}
    result = run(parameters.model_copy(update=wanted))
    assert result.output is not None and result.stages[0].name == "original"
    unlabelled = tmp_path / "unlabelled.yaml"
    unlabelled.write_text(json.dumps({"path": str(data.parent), "train": "images/train", "names": ["square", "tall"]}))
    with pytest.raises(DataError, match="a scan needs them"):
        run(parameters.model_copy(update={"data": str(unlabelled), "scanned": 4, "folder": str(tmp_path / "other")}))
