"""Fine-tuning: Ultralytics trains, the pruned structure stays, and any interruption leaves the last good checkpoint."""

from __future__ import annotations

import copy
import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.deadlines import HANGING
from tests.jobs.conftest import draw_splits, save_yaml
from tests.jobs.narrow import SIDE, narrow, save, save_whole, shapes, short
from tests.saved.data_sets import write_data_set
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.recovery.reconstruction import add_sparsity_penalty, scales_of, small_share
from tui_pruner.domain.errors import CheckpointError, DataError, JobError, RequestError
from tui_pruner.engine.recovery_messages import FinetuneParameters
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs.data.linked_copy import nominal_batch, read_both, recipe_of, training_view
from tui_pruner.jobs.training import finetune as job
from tui_pruner.jobs.training.finetune import Trained, open_teacher, read_trained
from tui_pruner.jobs.training.run import TrainingRun, run_of
from tui_pruner.jobs.training.trainers import TRAINERS


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with `original.pt` and `pruned.pt` of a short detector with two classes."""
    folder = tmp_path_factory.mktemp("narrow")
    checkpoint = short(folder)
    save_whole(checkpoint, folder / "original.pt")
    save(checkpoint, folder / "pruned.pt")
    return folder


@pytest.fixture
def pruned(files: Path) -> Checkpoint:
    return read_checkpoint(files / "pruned.pt")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data yaml of 8 training and 4 validation scenes."""
    return draw_splits(tmp_path / "scenes")


@pytest.fixture(autouse=True)
def few_processes(request: pytest.FixtureRequest) -> None:
    """Only what is about them reads images in other processes."""
    if "to_the_bit" not in request.node.name:
        request.getfixturevalue("images_read_here")


@pytest.fixture
def parameters(pruned: Checkpoint, data: Path, tmp_path: Path) -> FinetuneParameters:
    return FinetuneParameters(
        checkpoint=pruned.path, sha256=pruned.sha256, data=str(data), imgsz=SIDE, device="cpu", epochs=1, batch=4,
        project=str(tmp_path / "runs"), output=str(tmp_path / "out.pt"),
    )  # fmt: skip


def train_as_the_job_does(
    checkpoint: Checkpoint, wanted: FinetuneParameters, on_progress=lambda progress: None
) -> tuple[TrainingRun, list[str]]:
    """Train as the job does, up to where it writes the file."""
    run = run_of(wanted)
    teacher = open_teacher(wanted.teacher, checkpoint) if wanted.teacher else None
    with training_view(read_both(wanted.data)) as view:
        notes = job.train(checkpoint, teacher, view, wanted, run, on_progress)
    return run, notes


def network_in_checkpoint(file: Path) -> torch.nn.Module:
    """The network in a trainer's checkpoint."""
    content = torch.load(file, weights_only=False)
    found = content["ema"] or content["model"]
    return getattr(found, "student_model", found)


def test_best_and_last_stay_pruned_and_the_data_folder_does_not_change(pruned, parameters, data):
    folders = [path for path in (data.parent, *data.parent.rglob("*")) if path.is_dir()]
    before = sorted(data.parent.rglob("*"))
    for path in folders:
        path.chmod(0o555)
    seen = []
    try:
        run, notes = train_as_the_job_does(pruned, parameters, seen.append)
    finally:
        for path in folders:
            path.chmod(0o755)
    assert sorted(data.parent.rglob("*")) == before
    assert notes == [] and run.folder.parent == Path(parameters.project)
    assert shapes(network_in_checkpoint(run.best)) == shapes(network_in_checkpoint(run.last)) == shapes(pruned.model)
    result = read_trained(run.best, pruned)
    moved = [name for name, tensor in result.model.state_dict().items() if not torch.equal(tensor, pruned.model.state_dict()[name])]
    assert "model.0.conv.weight" in moved
    assert set(result.metrics) == {f"metrics/{name}(B)" for name in ("precision", "recall", "mAP50", "mAP50-95")}
    assert (seen[-1].done, seen[-1].total, seen[-1].doing) == (2, 2, "epoch 1/1: validating the best")
    assert {"train/box_loss", "val/box_loss", *result.metrics} <= set(seen[-1].metrics)
    (row,) = job.curve_of(run)
    assert row["epoch"] == run.best_epoch == 1 and row["train/cls_loss"] > 0


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "taught"])
def test_interrupted_training_resumes_with_the_pruned_network(pruned, parameters, files, monkeypatch, taught):
    wanted = parameters.model_copy(update={"epochs": 2, "teacher": str(files / "original.pt") if taught else None})
    seen = []

    class Killed(BaseException):
        pass

    def kill(self, trainer):
        if trainer.epoch == 1:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(job.Reporter, "on_train_epoch_start", kill)
        train_as_the_job_does(pruned, wanted)
    run, notes = train_as_the_job_does(pruned, wanted.model_copy(update={"resume": True, "batch": 2}), seen.append)
    assert notes == []
    parts = list(dict.fromkeys(progress.doing for progress in seen))
    assert parts == ["epoch 2/2", "epoch 2/2: validating", "epoch 2/2: validating the best"]
    assert [row["epoch"] for row in job.curve_of(run)] == [1, 2]
    assert shapes(network_in_checkpoint(run.last)) == shapes(pruned.model)
    assert taught == ("train/dis_loss" in job.curve_of(run)[0])
    again, _ = train_as_the_job_does(pruned, wanted.model_copy(update={"resume": True}), lambda progress: pytest.fail("trained again"))
    assert again.done.exists()


def test_interrupted_training_gives_the_same_weights_to_the_bit(pruned, parameters, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(self, trainer):
        if trainer.epoch == 1:
            raise Killed

    wanted = parameters.model_copy(update={"epochs": 2})
    run, _ = train_as_the_job_does(pruned, wanted)
    whole = network_in_checkpoint(run.last).state_dict()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(job.Reporter, "on_train_epoch_start", kill)
        train_as_the_job_does(pruned, wanted)
    assert list(run.last.parent.glob("exact-*.pt"))
    train_as_the_job_does(pruned, wanted.model_copy(update={"resume": True}))
    assert not list(run.last.parent.glob("exact-*.pt"))
    assert all(torch.equal(tensor, whole[name]) for name, tensor in network_in_checkpoint(run.last).state_dict().items())


def test_mosaics_are_made_in_every_epoch(pruned, parameters, monkeypatch):
    monkeypatch.setattr(job, "recipe_of", lambda arguments: {"mosaic": 1.0, "close_mosaic": 0})
    run, _ = train_as_the_job_does(pruned, parameters.model_copy(update={"epochs": 3, "batch": 8}))  # one batch is read in this process
    assert [row["epoch"] for row in job.curve_of(run)] == [1, 2, 3]


def test_weights_of_the_file_are_kept_if_no_epoch_is_better(pruned, parameters):
    result = trained_result_with(pruned, fitness=0.25)
    kept, epoch = job.best_of({"fitness": 0.5, "metrics/mAP50(B)": 0.75}, pruned, result, 3)
    assert (kept.model, kept.metrics, epoch) == (pruned.model, {"metrics/mAP50(B)": 0.75}, 0)
    assert job.best_of({"fitness": 0.125}, pruned, result, 3) == (result, 3)
    assert job.best_of(None, pruned, result, 3) == (result, 3)


def trained_result_with(pruned: Checkpoint, fitness: float) -> Trained:
    """What a training might have left."""
    return Trained(copy.deepcopy(pruned.model), {"metrics/mAP50(B)": 0.5}, {}, fitness)


def test_fine_tuning_uses_the_augmentation_of_the_earlier_training():
    before = {"fliplr": 0.0, "mosaic": 0.25, "auto_augment": None, "lr0": 5.0, "data": "secret.yaml", "of_another_version": 1}
    assert recipe_of(before) == {"fliplr": 0.0, "mosaic": 0.25}
    assert recipe_of({}) == {}


def test_short_training_updates_weights_after_every_batch():
    assert nominal_batch(256, 10, 16) == 16
    assert nominal_batch(5000, 10, 16) == 50
    assert nominal_batch(118_287, 10, 16) == 64
    assert nominal_batch(256, 10, 128) == 64


def test_resume_without_an_earlier_run_is_reported_and_starts_anew(pruned, parameters):
    pruned.content["train_args"] |= {"fliplr": 0.125, "epochs": 77}
    run, notes = train_as_the_job_does(pruned, parameters.model_copy(update={"resume": True, "imgsz": 50, "lr0": 0.003}))
    settings = read_trained(run.best, pruned).settings
    assert [settings[name] for name in ("fliplr", "epochs", "imgsz", "optimizer", "lr0")] == [0.125, 1, 64, "AdamW", 0.003]
    assert notes == [
        "image side 50 rounded up to 64, a multiple of the stride",
        "there was nothing to resume: trained from the first epoch",
    ]


def test_stopped_training_keeps_the_best_epoch_so_far(pruned, parameters):
    asked = []

    def ask(progress):
        if not asked:
            asked.append(os.kill(os.getpid(), 2))  # Ctrl-C

    run, _ = train_as_the_job_does(pruned, parameters.model_copy(update={"epochs": 40}), ask)
    assert 1 <= len(job.curve_of(run)) < 40
    assert run.stop.exists() and shapes(network_in_checkpoint(run.best)) == shapes(pruned.model)


def test_multi_gpu_process_rebuilds_the_pruned_network(pruned, parameters):
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    run = run_of(parameters)
    run.prepare(resume=False)
    with training_view(read_both(parameters.data)) as view:
        settings = {**job.settings_of(parameters, view, run), "imgsz": SIDE, "device": "cpu"}
        trainer = job.prepared_trainer(pruned, settings, run)
        script = generate_ddp_file(trainer)
        try:
            subprocess.run([sys.executable, script], check=True, capture_output=True, timeout=HANGING)
        finally:
            ddp_cleanup(trainer, script)
    assert shapes(network_in_checkpoint(run.best)) == shapes(pruned.model)
    assert '"epoch 1/1"' in run.progress.read_text()


def test_full_disk_leaves_the_last_complete_checkpoint(pruned, parameters, monkeypatch):
    write, written = Path.write_bytes, []

    def full(self, content):
        if self.name == ".writing-last.pt":
            written.append(self)
            if len(written) == 2:
                write(self, content[:100])
                raise OSError(errno.ENOSPC, "no space left on device")
        return write(self, content)

    with monkeypatch.context() as patched, pytest.raises(JobError, match=r"no space left for the training in .*go on with --resume"):
        patched.setattr(Path, "write_bytes", full)
        train_as_the_job_does(pruned, parameters.model_copy(update={"epochs": 2}))
    run = run_of(parameters.model_copy(update={"epochs": 2}))
    kept = ["best.epoch", "best.pt", "exact-0.pt", "exact-1.pt", "last.epoch", "last.pt"]
    assert sorted(file.name for file in run.last.parent.iterdir()) == kept
    assert shapes(network_in_checkpoint(run.last)) == shapes(pruned.model)


def test_loss_that_is_nan_is_reported_in_one_line(pruned, parameters):
    with torch.no_grad():
        pruned.model.model[0].conv.weight[0] = float("nan")
    with pytest.raises(JobError, match=r"the loss is not a number in epoch 1: lower the learning rate \(--lr0, now 0\.002\)"):
        train_as_the_job_does(pruned, parameters.model_copy(update={"lr0": 0.002}))


def test_loss_that_becomes_nan_is_reported_with_the_folder_of_the_run(parameters):
    run = run_of(parameters)
    with (
        pytest.raises(JobError, match=r"the loss became no number.*what was trained is in .*, go on with --resume"),
        job.explained(run, parameters),
    ):
        raise RuntimeError("Training failed: NaN persisted for 4 epochs")


def test_same_training_does_not_run_twice_at_once(parameters):
    with run_of(parameters).alone(), pytest.raises(JobError, match="the same training is already running"), run_of(parameters).alone():
        pass
    with run_of(parameters).alone():
        assert run_of(parameters.model_copy(update={"batch": 1, "device": "0"})) == run_of(parameters)


def test_data_of_another_task_or_without_training_images_is_refused(pruned, parameters, data):
    save_yaml(data.parent, {"val": "images/val", "names": ["square", "tall"]})
    with pytest.raises(DataError, match="has no train split: add `train:` with the folder of the training images"):
        job.run_finetuning(parameters, lambda progress: None)
    save_yaml(data.parent, {"train": "images/train", "val": "images/val", "names": ["square", "tall"], "kpt_shape": [1, 2]})
    with pytest.raises(DataError, match=r"has a kpt_shape \(pose data\), but the model's task is detect"):
        job.run_finetuning(parameters, lambda progress: None)


def test_teacher_of_other_classes_or_another_task_is_refused(pruned, tmp_path):
    other = save_whole(narrow(tmp_path, classes=3), tmp_path / "three.pt")
    with pytest.raises(RequestError, match=r"the teacher .*three\.pt knows 3 classes, but .*pruned\.pt 2: give the original"):
        open_teacher(str(other), pruned)
    masks = save_whole(narrow(tmp_path, "yolov8-seg"), tmp_path / "seg.pt")
    with pytest.raises(RequestError, match="is for segment, but"):
        open_teacher(str(masks), pruned)


def test_missing_devices_are_refused():
    with pytest.raises(RequestError, match="no device '0,1' here: the devices are cpu"):
        job.devices("0,1")


@pytest.mark.parametrize("name", ["yolov8-pose", "yolov8-cls"])
def test_trainers_of_other_tasks_keep_the_structure(name, parameters, tmp_path):
    pruned = save(narrow(tmp_path, name, classes=3), tmp_path / "pruned.pt")
    data = write_data_set(pruned.task, tmp_path / "data")
    wanted = parameters.model_copy(update={"checkpoint": pruned.path, "sha256": pruned.sha256, "data": str(data)})
    run, _ = train_as_the_job_does(pruned, wanted)
    assert read_trained(run.best, pruned).metrics
    assert shapes(network_in_checkpoint(run.best)) == shapes(pruned.model)


@pytest.mark.parametrize("model_class", TRAINERS)
def test_every_trainer_of_the_table_exists(model_class):
    import ultralytics.nn.tasks

    entry = TRAINERS[model_class]
    assert hasattr(ultralytics.nn.tasks, model_class)
    assert issubclass(entry.load(), importlib.import_module("ultralytics.engine.trainer").BaseTrainer)


def test_sparsity_penalty_shrinks_batchnorm_scales(pruned, parameters, tmp_path):
    free, _ = train_as_the_job_does(pruned, parameters.model_copy(update={"lr0": 0.01}))
    pressed, _ = train_as_the_job_does(pruned, parameters.model_copy(update={"lr0": 0.01, "sparsity": 100.0}))
    assert free.folder != pressed.folder
    sums = [sum(float(scale.abs().sum()) for scale in scales_of(network_in_checkpoint(run.last).float())) for run in (free, pressed)]
    assert sums[1] < 0.99 * sums[0]  # in two steps, of which the average keeps a part
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    model[1].weight.data = torch.tensor([1.0, 0.05, -0.2, 0.0])
    assert small_share(model) == 0.5
    model[1].weight.grad = torch.zeros(4)
    add_sparsity_penalty(model, 0.5, scale=2.0)
    assert model[1].weight.grad.tolist() == [1.0, 1.0, -1.0, 0.0]


def test_sparse_training_works_before_the_first_cut_and_its_file_trains_in_stock_ultralytics(files, parameters, tmp_path):
    original = read_checkpoint(files / "original.pt")
    wanted = parameters.model_copy(update={"checkpoint": original.path, "sha256": original.sha256})
    with pytest.raises(CheckpointError, match="was not pruned by this program"):
        job.run_finetuning(wanted, lambda progress: None)
    result = job.run_finetuning(wanted.model_copy(update={"sparsity": 0.01}), lambda progress: None)
    assert all(check.ok for check in result.checks)
    assert any("prune by --criterion bn-scale" in note for note in result.notes)
    found = read_checkpoint(result.output)
    assert [stage["kind"] for stage in found.provenance["stages"]] == ["sparse training"]
    assert found.provenance["stages"][0]["sparsity"] == 0.01
    assert found.model.yaml["backbone"] == original.model.yaml["backbone"]
