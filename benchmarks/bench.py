"""One subject: how every candidate is judged, recalibrated, refitted and trained, anyone who made it."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from benchmarks.subjects import Subject
from tui_pruner.core.recovery.reconstruction import reconstruct
from tui_pruner.core.tracing.coupling_map import Indices
from tui_pruner.engine.job_messages import ValidationParameters, ValidationResult
from tui_pruner.engine.recovery_messages import FinetuneParameters, RecalibrationParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.frameworks.ultralytics.contents import FROZEN
from tui_pruner.jobs.data.dataset import TRAINING, DataSet, Split, held_apart, read_data
from tui_pruner.jobs.data.linked_copy import TrainingData, nominal_batch, recipe_of, training_view
from tui_pruner.jobs.data.pictures import StoredImages
from tui_pruner.jobs.recover import recalibrated
from tui_pruner.jobs.tools import UntimedEvaluations
from tui_pruner.jobs.training.trainers import trainer_of
from tui_pruner.jobs.validate import measure

CHOOSING, BATCH, TEACHER = 128, 16, FinetuneParameters.model_fields["teacher_weight"].default
"""How many training images mark the candidates of a program, how many are computed at once, and what the teacher's features count."""
APART = 5
"""Where a data set has no third split, one training image in this many is not trained on, but tells which epoch is the best."""
TEST = Split(("test",), (), "test images")
Metrics = Mapping[str, float]
Kept = Mapping[str, Mapping[int, Indices]]


class Keeps(UntimedEvaluations):
    """What a stock trainer does otherwise: it trains a network at hand, and its last evaluation is made here."""

    network: nn.Module

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """The network itself."""
        return copy.deepcopy(self.network)

    def final_eval(self) -> None:
        """Nothing: Ultralytics' loader would refuse a network with a block of the peer's example."""


class Bench:
    """A checkpoint, its data, and how everything is measured.

    Images to train on, others that tell which epoch is the best, and others that judge and choose nothing: the splits train, val and test
    where there are three, else one image in five of train is taken out of it to choose, and val judges.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.about, self.folder = subject, folder
        self.checkpoint = open_model(str(subject.model))
        self.image = torch.rand(1, 3, subject.imgsz, subject.imgsz)
        self.training, self.choosing, self.judging = splits_of(subject)
        self.own_data = folder / "training.yaml"
        listed = folder / "training.txt"
        listed.write_text("".join(f"{image}\n" for image in self.training.images))
        self.own_data.write_text(yaml.safe_dump({"train": str(listed), "val": str(listed), "names": list(self.training.names)}))
        apart = held_apart(read_data(self.own_data, TRAINING), subject.unlabelled, 0)
        self.batches, self.held_out = (StoredImages(self.checkpoint.model, data, subject.imgsz, BATCH) for data in apart)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that all jobs share."""
        return {"checkpoint": self.checkpoint.path, "sha256": self.checkpoint.sha256, "imgsz": self.about.imgsz, "device": "cpu"}

    def measured(self, model: nn.Module, data: DataSet) -> ValidationResult:
        """What a validation on some images says."""
        return measure(model, data, ValidationParameters(data=str(data.yaml_file), **self.fields), lambda _: None)

    def figures(self, model: nn.Module, data: DataSet) -> dict[str, float]:
        """The metrics that count, on some images."""
        found = self.measured(model, data).metrics
        return {name: found[name] for name in self.about.figures}

    def mark(self, model: nn.Module) -> float:
        """How a candidate does on training images once its normalisation is measured again."""
        return min(self.figures(self.recalibrated(model), self.training.subset(CHOOSING, 0)).values())

    def recalibrated(self, model: nn.Module) -> nn.Module:
        """With normalisation measured again on training images."""
        data = self.training.subset(self.about.unlabelled, 0)
        wanted = RecalibrationParameters(data=str(self.own_data), images=self.about.unlabelled, output="", **self.fields)
        return recalibrated(model, data, wanted, lambda _: None).model

    def refitted(self, original: nn.Module, model: nn.Module, kept: Kept) -> nn.Module:
        """With every layer fitted to the original's outputs on unlabelled training images."""
        frozen = {name for name, _ in original.named_parameters() if FROZEN in name}
        return reconstruct(original, model, kept, self.batches, self.held_out, frozen=frozen).model

    def finetuned(self, model: nn.Module, seed: int, own: Mapping[str, Any] | None = None) -> tuple[nn.Module, int]:
        """The best epoch's network and its number, or the model itself and 0 where no epoch is better, by the images that choose.

        Trained as `finetune` does: the checkpoint's own augmentation and loss, small batches in short trainings, the original as teacher.
        `own` are settings that differ from that.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, training_view(TrainingData(self.training, self.choosing)) as view:
            settings = {
                **recipe_of(self.checkpoint.content.get("train_args", {})),
                "data": view.data, "epochs": self.about.epochs, "batch": BATCH, "workers": 0, "seed": seed, "project": folder,
                "nbs": nominal_batch(view.images, self.about.epochs, BATCH), "verbose": False,
                "distill_model": self.checkpoint.path, "dis": TEACHER, **(own or {}),
            }  # fmt: skip
            trainer = self._trainer(model, settings)
            trainer.train()
            weights = torch.load(trainer.best, map_location="cpu", weights_only=False)
        found = weights.get("ema") or weights["model"]
        trained: nn.Module = getattr(found, "student_model", found).float().eval()
        before, after = (min(self.figures(network, self.choosing).values()) for network in (model, trained))
        return (trained, int(weights["epoch"]) + 1) if after > before else (model, 0)

    def add_gradients(self, model: nn.Module) -> None:
        """Give a model the gradients of the loss on training images, for their Taylor criterion."""
        images = self.training.subset(CHOOSING, 0)
        with training_view(TrainingData(images, images)) as view:
            trainer = self._trainer(model, {"data": view.data, "project": str(self.folder), "name": "gradients", "exist_ok": True})
            trainer.model = trainer.network = model.train()
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            trainer.set_model_attributes()
            loader = trainer.get_dataloader(str(Path(view.data).parent / "train/images"), batch_size=BATCH, rank=-1, mode="val")
            for batch in loader:
                loss, _ = model(trainer.preprocess_batch(batch))
                whole: Any = torch.stack([part.sum() for part in (loss.values() if isinstance(loss, dict) else [loss])]).sum()
                whole.backward()
        model.eval()

    def _trainer(self, model: nn.Module, settings: Mapping[str, Any]) -> Any:
        kind = trainer_of(model)
        stock = kind.load()
        data = {"task": kind.task, "model": "kept.yaml", "imgsz": self.about.imgsz, "device": "cpu"}
        trainer = type(stock.__name__, (Keeps, stock), {})(overrides={**data, "plots": False, **settings})
        trainer.network = copy.deepcopy(model).train()
        for parameter in trainer.network.parameters():
            parameter.requires_grad_(True)
        trainer.model = trainer.network
        return trainer


def splits_of(subject: Subject) -> tuple[DataSet, DataSet, DataSet]:
    """The images to train on, those that choose an epoch, and those that judge; the former two are the same where nothing is trained."""
    training, validation = read_data(subject.data, TRAINING), read_data(subject.data)
    if not subject.epochs:
        return training, training, validation
    if "test" in yaml.safe_load(subject.data.read_text()):
        return training, validation, read_data(subject.data, TEST)
    choosing = training.subset(len(training.images) // APART, 1)
    apart = set(choosing.images)
    return dataclasses.replace(training, images=tuple(one for one in training.images if one not in apart)), choosing, validation
