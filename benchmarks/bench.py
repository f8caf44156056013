"""One subject: how every candidate is judged, recalibrated, refitted and trained, anyone who made it."""

from __future__ import annotations

import copy
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
from tui_pruner.engine.job_messages import ValidationParameters
from tui_pruner.engine.recovery_messages import RecalibrationParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.frameworks.ultralytics.contents import FROZEN
from tui_pruner.jobs.data.dataset import TRAINING, held_apart, read_data, without_labels
from tui_pruner.jobs.pictures import StoredImages
from tui_pruner.jobs.recover import recalibrated
from tui_pruner.jobs.tools import UnhurriedEvaluations
from tui_pruner.jobs.training.trainers import trainer_of
from tui_pruner.jobs.validate import measure

CHOOSING, UNLABELLED, BATCH = 128, 64, 16
"""How many training images mark the candidates of a program, how many are planned, recalibrated and refitted on, and at once."""
Metrics = Mapping[str, float]
Kept = Mapping[str, Mapping[int, Indices]]


class Keeps(UnhurriedEvaluations):
    """What a stock trainer does otherwise: it trains a network at hand, and its last evaluation is made here."""

    network: nn.Module

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """The network itself."""
        return copy.deepcopy(self.network)

    def final_eval(self) -> None:
        """Nothing: Ultralytics' loader would refuse a network with a block of the peer's example."""


class Bench:
    """A checkpoint, its data, and how everything is measured; the validation images judge and choose nothing."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.about, self.folder = subject, folder
        self.checkpoint = open_model(str(subject.model))
        self.image = torch.rand(1, 3, subject.imgsz, subject.imgsz)
        content = yaml.safe_load(subject.data.read_text())
        root = str(subject.data.absolute().parent)
        self.training, self.all_images = folder / "training.yaml", folder / "all.yaml"
        self.training.write_text(yaml.safe_dump({**content, "path": root, "val": content["train"]}))
        self.all_images.write_text(yaml.safe_dump({**content, "path": root}))
        apart = held_apart(without_labels(self.all_images), UNLABELLED, 0)
        self.batches, self.held_out = (StoredImages(self.checkpoint.model, data, subject.imgsz, BATCH) for data in apart)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that all jobs share."""
        return {"checkpoint": self.checkpoint.path, "sha256": self.checkpoint.sha256, "imgsz": self.about.imgsz, "device": "cpu"}

    def metrics(self, model: nn.Module, choosing: bool = False) -> dict[str, float]:
        """The figures that count on all validation images, or on some training images where they choose."""
        images = CHOOSING if choosing else None
        wanted = ValidationParameters(data=str(self.training if choosing else self.all_images), images=images, **self.fields)
        data = read_data(wanted.data).subset(images, wanted.seed)
        found = measure(model, data, wanted, lambda _: None).metrics
        return {name: found[name] for name in self.about.figures}

    def recalibrated(self, model: nn.Module) -> nn.Module:
        """With normalisation measured again on training images."""
        wanted = RecalibrationParameters(data=str(self.all_images), images=UNLABELLED, output="", **self.fields)
        data = read_data(wanted.data, TRAINING).subset(wanted.images, wanted.seed)
        return recalibrated(model, data, wanted, lambda _: None).model

    def refitted(self, original: nn.Module, model: nn.Module, kept: Kept) -> nn.Module:
        """With every layer fitted to the original's outputs on unlabelled training images."""
        frozen = {name for name, _ in original.named_parameters() if FROZEN in name}
        return reconstruct(original, model, kept, self.batches, self.held_out, frozen=frozen).model

    def finetuned(self, model: nn.Module, seed: int) -> dict[str, float]:
        """The figures of the best epoch, or of the model itself where no epoch is better."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            trainer = self._trainer(
                model,
                {"epochs": self.about.epochs, "batch": BATCH, "workers": 0, "seed": seed, "project": folder, "verbose": False},
            )
            trainer.train()
            weights = torch.load(trainer.best, map_location="cpu", weights_only=False)
        trained = self.metrics((weights.get("ema") or weights["model"]).float().eval())
        before = self.metrics(model)
        return trained if min(trained.values()) > min(before.values()) else before

    def add_gradients(self, model: nn.Module) -> None:
        """Give a model the gradients of the loss on training images, for their Taylor criterion."""
        trainer = self._trainer(model, {"project": str(self.folder), "name": "gradients", "exist_ok": True})
        trainer.model = trainer.network = model.train()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        trainer.set_model_attributes()
        images = read_data(self.all_images, TRAINING).subset(CHOOSING, 0).images
        loader = trainer.get_dataloader(str(images[0].parent), batch_size=BATCH, rank=-1, mode="val")
        for batch, _ in zip(loader, range(CHOOSING // BATCH), strict=False):
            loss, _ = model(trainer.preprocess_batch(batch))
            whole: Any = torch.stack([part.sum() for part in (loss.values() if isinstance(loss, dict) else [loss])]).sum()
            whole.backward()
        model.eval()

    def _trainer(self, model: nn.Module, settings: Mapping[str, Any]) -> Any:
        kind = trainer_of(model)
        stock = kind.load()
        data = {"task": kind.task, "model": "kept.yaml", "data": str(self.all_images), "imgsz": self.about.imgsz, "device": "cpu"}
        trainer = type(stock.__name__, (Keeps, stock), {})(overrides={**data, "plots": False, **settings})
        trainer.network = copy.deepcopy(model).train()
        for parameter in trainer.network.parameters():
            parameter.requires_grad_(True)
        trainer.model = trainer.network
        return trainer
