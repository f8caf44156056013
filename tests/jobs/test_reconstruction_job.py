"""The refit as a job: files, images, notes, and what is refused; its equations are in tests/core/test_reconstruction.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.jobs.narrow import save
from tui_pruner.core.model.checkpoint import Checkpoint, next_stage, stages_of
from tui_pruner.core.recovery.reconstruction import Fit
from tui_pruner.domain.errors import CheckpointError, DataError, PlanError
from tui_pruner.engine.recovery_messages import ReconstructionParameters, ReconstructionResult
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs.data.dataset import held_apart, without_labels
from tui_pruner.jobs.recover import KeptFits, original_of, run_reconstruction, too_few, write_stage


@pytest.fixture(scope="module")
def pruned(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The trained digits with a tenth of every layer gone."""
    return save(read_checkpoint(demo_checkpoint), tmp_path_factory.mktemp("pruned") / "small.pt", "10%")


@pytest.fixture
def wanted(pruned: Checkpoint, demo_checkpoint: Path, demo_data: Path, tmp_path: Path) -> ReconstructionParameters:
    return parameters_for(pruned, demo_checkpoint, demo_data, tmp_path)


def parameters_for(pruned: Checkpoint, original: Path, data: Path, folder: Path) -> ReconstructionParameters:
    return ReconstructionParameters(
        checkpoint=pruned.path, sha256=pruned.sha256, data=str(data), images=8, imgsz=64, device="cpu", batch=4,
        original=str(original), output=str(folder / "refitted.pt"),
    )  # fmt: skip


def ignore(progress: object) -> None:
    pass


SAID: list[object] = []


@pytest.fixture(scope="module")
def refitted(pruned: Checkpoint, demo_checkpoint: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ReconstructionResult:
    """The file refitted without an interruption."""
    folder = tmp_path_factory.mktemp("refitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return run_reconstruction(parameters_for(pruned, demo_checkpoint, demo_data, folder), SAID.append)


def test_refitted_file_is_closer_to_the_original_and_records_its_stage(refitted: ReconstructionResult, pruned: Checkpoint) -> None:
    said, found = SAID, refitted
    assert (found.images, found.held_out) == (8, 2)
    assert set(found.distance) == {"cut", "recalibrated", "refitted", "both"}
    assert found.distance[found.kept] == min(found.distance.values()) < 0.6 * found.distance["cut"]
    assert set(found.outputs["cut"]) == {"class", "box"}
    assert len(found.layers) == 63 and "dfl" not in " ".join(fit.layer for fit in found.layers)
    assert all(fit.error_after <= fit.error_before for fit in found.layers)
    assert sum(fit.error_after < 0.7 * fit.error_before for fit in found.layers) > 30
    written = read_checkpoint(found.output)
    assert [stage["kind"] for stage in stages_of(written.provenance)] == ["prune", "reconstruct"]
    assert stages_of(written.provenance)[-1]["kept"] == found.kept
    assert {n: t.shape for n, t in written.model.state_dict().items()} == {n: t.shape for n, t in pruned.model.state_dict().items()}
    assert any("refitting" in getattr(progress, "doing", "") for progress in said)


def test_killed_refit_resumes_from_stored_fits_with_the_same_result(
    wanted: ReconstructionParameters, pruned: Checkpoint, refitted: ReconstructionResult
) -> None:
    class Killed(Exception): ...

    def kill(progress: object) -> None:
        if getattr(progress, "doing", "") == "refitting" and getattr(progress, "done", 0) == 20:
            raise Killed

    with pytest.raises(Killed):
        run_reconstruction(wanted, kill)
    folder = KeptFits(wanted, pruned, held_apart(without_labels(wanted.data), 8, 0)).folder
    assert len(list(folder.iterdir())) == 20
    again = run_reconstruction(wanted, ignore)
    assert not folder.exists()
    one, other = (read_checkpoint(found.output).model.state_dict() for found in (again, refitted))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert again.distance == refitted.distance


def test_original_is_found_beside_the_file_or_requested(wanted: ReconstructionParameters, pruned: Checkpoint, tmp_path: Path) -> None:
    alone = wanted.model_copy(update={"original": None})
    with pytest.raises(CheckpointError, match=r"was cut from digits\.pt, which is not beside it: give the checkpoint .* with --original"):
        original_of(pruned, alone)
    with pytest.raises(PlanError, match=r"is not the checkpoint that .* was cut from"):
        original_of(pruned, wanted.model_copy(update={"original": pruned.path}))
    beside = Path(pruned.path).with_name("digits.pt")
    beside.symlink_to(Path(str(wanted.original)))
    try:
        assert original_of(pruned, alone).sha256 == read_checkpoint(str(wanted.original)).sha256
    finally:
        beside.unlink()


def test_uncut_file_and_file_trained_after_the_cut_are_refused(
    wanted: ReconstructionParameters, pruned: Checkpoint, demo_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="was not pruned by this program"):
        original_of(read_checkpoint(demo_checkpoint), wanted)
    destination = wanted.model_copy(update={"output": str(tmp_path / "trained.pt")})
    trained = write_stage(pruned.model, pruned, destination, next_stage(pruned, "finetune", epochs=1), ignore)
    with pytest.raises(CheckpointError, match=r"was trained after the cut \(finetune\): a refit would undo that"):
        original_of(read_checkpoint(trained.output), wanted)


def test_held_out_images_differ_from_the_fitted_ones(demo_data: Path) -> None:
    data = without_labels(demo_data)
    working, others = held_apart(data, 64, 0)
    assert (len(working.images), len(others.images)) == (64, 16)
    assert not set(working.images) & set(others.images)
    assert [len(part.images) for part in held_apart(data.with_images(data.images[:10]), 64, 0)] == [8, 2]
    with pytest.raises(DataError, match="at least 2 images are needed, one of them to judge by; there is 1"):
        held_apart(data.with_images(data.images[:1]), 64, 0)


def test_too_few_images_for_a_layer_are_reported() -> None:
    enough = Fit("model.0.conv", 0.5, 0.25, 1e-3, rows=400, features=27)
    short = Fit("model.1.conv", 0.5, 0.25, 1e-3, rows=100, features=144)
    assert too_few([enough], 8) == []
    (note,) = too_few([enough, short], 1)
    assert note.startswith("fewer equations than unknowns in 1 of 2 layers, model.1.conv first")
    assert note.endswith("give more images (--images, now 1)")


def test_training_before_the_cut_is_allowed_and_a_masked_file_is_refitted_to_its_original(
    wanted: ReconstructionParameters, pruned: Checkpoint
) -> None:
    """Refitted to the masked file, which computes what the cut one computes, nothing would be won back."""
    (cut,) = stages_of(pruned.provenance)
    of_the_mask = {"name": "masked.pt", "sha256": "0" * 64}
    for kind, source in (("sparse training", cut["source"]), ("mask", of_the_mask)):
        stages = [{"kind": kind, "source": cut["source"]}, {**cut, "source": source}]
        later = dataclasses.replace(pruned, provenance={**(pruned.provenance or {}), "stages": stages})
        assert original_of(later, wanted).sha256 == cut["source"]["sha256"]
    masked = dataclasses.replace(pruned, provenance={**(pruned.provenance or {}), "masked": {}})
    with pytest.raises(CheckpointError, match="is masked, and all its shapes are there: prune it without --cut first"):
        original_of(masked, wanted)
