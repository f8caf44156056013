"""Jobs on a file with fewer classes: data sets with the old numbers are mapped, and the original is compared on the kept classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.jobs.conftest import draw_scene, save_yaml
from tests.jobs.narrow import SIDE, save_whole
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.pruning.classes import NUMBERINGS
from tui_pruner.core.pruning.importance import read_calibration
from tui_pruner.core.pruning.plan import parse_plan
from tui_pruner.core.pruning.proved_cut import as_numbered_in, plan_of_classes
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import parse_request
from tui_pruner.engine.job_messages import CalibrationParameters, ValidationParameters
from tui_pruner.engine.recovery_messages import FinetuneParameters, ReconstructionParameters
from tui_pruner.engine.search_messages import PlanningParameters
from tui_pruner.frameworks.ultralytics import build_from_yaml, read_checkpoint
from tui_pruner.frameworks.ultralytics.contents import checkpoint_dictionary, for_saving, provenance_of
from tui_pruner.jobs.calibrate import run_calibration
from tui_pruner.jobs.data import dataset
from tui_pruner.jobs.data.dataset import TRAINING, mapped, numbers_in, read_data, renumbered
from tui_pruner.jobs.data.linked_copy import private_view
from tui_pruner.jobs.plan import run_planning
from tui_pruner.jobs.recover import run_reconstruction
from tui_pruner.jobs.training.finetune import open_teacher, run_finetuning
from tui_pruner.jobs.validate import run_validation

KEPT = [1, 3, 7]
IMAGES = 12


def ignore(progress: Any) -> None:
    pass


def write_cut_file(checkpoint: Checkpoint, file: Path, *cuts: str) -> Checkpoint:
    """The checkpoint under cuts, read from the file that it was written to without the checks."""
    analysis = analyse(checkpoint, imgsz=SIDE)
    session = PruningSession(analysis)
    session.apply([parse_request(text) for text in cuts])
    pruned = cut(checkpoint.model, analysis.coupling, session.removal)
    provenance = provenance_of(checkpoint, session.plan.plain(), session.removal.kept(analysis.coupling), {"equal": True})
    torch.save(checkpoint_dictionary(for_saving(pruned, checkpoint), checkpoint, provenance), file)
    return read_checkpoint(file)


@pytest.fixture(scope="module")
def digits(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The trained digits with three of their ten classes."""
    return write_cut_file(read_checkpoint(demo_checkpoint), tmp_path_factory.mktemp("digits") / "three.pt", "classes=one,three,seven")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network of three convolutions and a head with the classes a, b and c."""
    folder = tmp_path_factory.mktemp("original")
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [16, 3, 2]]]
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"nc": 3, "backbone": rows, "head": [[[1, 2], 1, "Detect", ["nc"]]]}))
    checkpoint = build_from_yaml(str(folder / "tiny.yaml"))
    checkpoint.model.names = {0: "a", 1: "b", 2: "c"}  # type: ignore[assignment]
    save_whole(checkpoint, folder / "original.pt")
    return read_checkpoint(folder / "original.pt")


@pytest.fixture(scope="module")
def pruned(original: Checkpoint) -> Checkpoint:
    """A file beside it, with the classes a and c and three quarters of its channels."""
    return write_cut_file(original, Path(original.path).with_name("pruned.pt"), "classes=a,c", "*=25%")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data yaml of a, b and c with labels of all three."""
    folder = tmp_path_factory.mktemp("scenes")
    for split in ("train", "val"):
        for number in range(6):
            label = folder / f"labels/{split}/{number}.txt"
            draw_scene(folder / f"images/{split}/{number}.jpg", label, number)
            label.write_text(f"{number % 3} 0.3125 0.3125 0.3125 0.3125\n")
    return save_yaml(folder, {"train": "images/train", "val": "images/val", "names": ["a", "b", "c"]})


def mapped_by_hand(folder: Path, images: list[Path]) -> Path:
    """A data set of some of the bundled scenes with the labels of three classes in new numbers, written line by line."""
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for image in images:
        shutil.copy(image, folder / "images" / "val" / image.name)
        label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        rows = [line.split() for line in label.read_text().splitlines()]
        lines = [" ".join([str(KEPT.index(int(row[0]))), *row[1:]]) for row in rows if int(row[0]) in KEPT]
        (folder / "labels" / "val" / label.name).write_text("\n".join(lines))
    return save_yaml(folder, {"train": "images/val", "val": "images/val", "names": ["one", "three", "seven"]})


def test_validation_of_kept_classes_equals_stock_on_a_data_set_mapped_by_hand(digits: Checkpoint, demo_data: Path, tmp_path: Path) -> None:
    from ultralytics import YOLO

    wanted = ValidationParameters(checkpoint=digits.path, sha256=digits.sha256, data=str(demo_data), images=IMAGES, imgsz=96, device="cpu")
    found = run_validation(wanted, ignore)
    images = list(read_data(demo_data).subset(IMAGES, 0).images)
    data = mapped_by_hand(tmp_path / "hand", images)
    stock = YOLO(digits.path).val(
        data=str(data), imgsz=96, batch=16, rect=True, workers=0, plots=False, device="cpu", project=str(tmp_path / "runs"), verbose=False
    )
    assert found.metrics == pytest.approx({name: float(value) for name, value in stock.results_dict.items()}, abs=1e-6)
    assert found.metrics["metrics/mAP50-95(B)"] > 0.3 and found.images == IMAGES
    assert found.notes == ["only labels of one, three, seven count, which the model has"]
    new = read_data(data)
    assert renumbered(new, digits.model) is new


def test_original_is_measured_on_the_kept_classes_for_comparison(original: Checkpoint, pruned: Checkpoint, scenes: Path) -> None:
    assert pruned.provenance is not None
    plan = plan_of_classes(pruned.provenance["plan"])
    assert plan is not None and [cut["layer"] for step in plan["steps"] for cut in step["cuts"]] == ["classes"]
    assert plan_of_classes({**plan, "steps": []}) is None
    wanted = ValidationParameters(checkpoint=original.path, sha256=original.sha256, plan=plan, data=str(scenes), imgsz=SIDE, device="cpu")
    assert run_validation(wanted, ignore).notes == ["only labels of a, c count, which the model has"]


def test_class_numbers_in_label_files_are_mapped() -> None:
    text = "3 0.1 0.2 0.3 0.4\n\n7.0 1 2 3 4\n5 9 9 9 9\nx 1\n"
    assert numbers_in(text, {3: 1, 7: 2}) == "1 0.1 0.2 0.3 0.4\n2 1 2 3 4\nx 1\n"
    assert dataset.NUMBERINGS == NUMBERINGS


def test_class_folders_of_removed_classes_are_left_out(tmp_path: Path) -> None:
    for number, place in enumerate(["val/red/1", "val/green/2", "train/blue/3", "train/red/4", "train/green/5"]):
        draw_scene(tmp_path / "colours" / f"{place}.jpg", tmp_path / "labels" / f"{number}.txt", number)
    data = mapped(read_data(tmp_path / "colours", TRAINING), [0, 2])
    assert data.names == ("blue", "red") and {image.parent.name for image in data.images} == {"blue", "red"}
    with private_view(data) as view:
        assert sorted(folder.name for folder in (view / "val").iterdir()) == ["blue", "red"]


def test_scores_from_labels_use_only_the_kept_classes(original: Checkpoint, scenes: Path, tmp_path: Path) -> None:
    wanted = CalibrationParameters(
        checkpoint=original.path, sha256=original.sha256, data=str(scenes), images=4, imgsz=SIDE, device="cpu", criteria=["taylor", "obs"]
    )
    some = write_cut_file(original, tmp_path / "two.pt", "classes=0,2")
    asked = wanted.model_copy(update={"criteria": ["taylor"], "kept_classes": [0, 2]})
    own = wanted.model_copy(update={"criteria": ["taylor"], "checkpoint": some.path, "sha256": some.sha256})
    found, alone, whole = (
        read_calibration(run_calibration(one, ignore).scores).axes["taylor/model.0.conv.weight/0"]
        for one in (asked, own, wanted.model_copy(update={"criteria": ["taylor"]}))
    )
    assert np.allclose(found, alone, rtol=1e-3) and not np.allclose(found, whole, rtol=1e-2)


def test_teacher_is_reduced_to_the_classes_of_the_student(original: Checkpoint, pruned: Checkpoint) -> None:
    teacher = open_teacher(original.path, pruned)
    assert teacher.classes == 2 and teacher.names == {0: "a", 1: "c"} and teacher.sha256 == original.sha256
    last: Any = [one.model.model[-1].cv3[0][-1].weight for one in (teacher, original)]  # type: ignore[index, union-attr]
    assert torch.equal(last[0], last[1][[0, 2]])
    assert as_numbered_in(original, original) is original


def test_refit_and_training_use_the_kept_classes(original: Checkpoint, pruned: Checkpoint, scenes: Path, tmp_path: Path) -> None:
    refit = ReconstructionParameters(
        checkpoint=pruned.path, sha256=pruned.sha256, data=str(scenes), images=4, imgsz=SIDE, device="cpu", batch=4,
        original=original.path, output=str(tmp_path / "refitted.pt"),
    )  # fmt: skip
    found = run_reconstruction(refit, ignore)
    assert found.distance[found.kept] == min(found.distance.values())
    again = read_checkpoint(tmp_path / "refitted.pt")
    assert again.classes == 2 and again.provenance is not None and again.provenance["classes"][0]["kept"] == [0, 2]
    tune = FinetuneParameters(
        checkpoint=again.path, sha256=again.sha256, data=str(scenes), imgsz=SIDE, device="cpu", epochs=1, batch=2, teacher=original.path,
        output=str(tmp_path / "tuned.pt"),
    )  # fmt: skip
    run_finetuning(tune, ignore)
    tuned = read_checkpoint(tmp_path / "tuned.pt")
    assert tuned.names == {0: "a", 1: "c"} and getattr(tuned.model, NUMBERINGS)[0]["names"] == ["a", "b", "c"]


def test_planning_continues_after_a_cut_of_classes(original: Checkpoint, scenes: Path) -> None:
    session = PruningSession(analyse(original, imgsz=SIDE))
    session.apply([parse_request("classes=b,c")])
    wanted = PlanningParameters(
        checkpoint=original.path, sha256=original.sha256, data=str(scenes), images=4, imgsz=SIDE, device="cpu", batch=4,
        points=[["flops=80%"]], round_to=8, plan=session.plan.plain(),
    )  # fmt: skip
    (point,) = run_planning(wanted, ignore).points
    assert point.shares["flops"] <= 0.8 and point.rivals and all(rival.distance < 5 for rival in point.rivals)
    plan = parse_plan(point.plan)
    assert plan.steps[0].cuts[0].layer == "classes" and len(plan.steps) == 2
    assert yaml.safe_dump(plan.plain())
