"""One checkpoint with its data: how every candidate is judged and trained, whoever made it."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer

from tui_pruner.core.checkpoint import open_model
from tui_pruner.engine.job_messages import RecalibrationParameters, ValidationParameters
from tui_pruner.jobs.dataset import TRAINING, read_data
from tui_pruner.jobs.nms_limit import UnhurriedEvaluations
from tui_pruner.jobs.recalibrate import recalibrated
from tui_pruner.jobs.validate import measure

METRIC = "metrics/mAP50-95(B)"
CHOOSING, UNLABELLED = 128, 256
"""How many training images choose (they scan, and they mark candidates), and how many normalisation is measured on."""


class Keeps(UnhurriedEvaluations, DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' trainer on a network at hand."""

    network: nn.Module

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """The network itself."""
        return copy.deepcopy(self.network)

    def final_eval(self) -> None:
        """Nothing: the best epoch is judged here, and Ultralytics' loader would refuse a network with a block of the peer's example."""


class Bench:
    """The checkpoint, its data, and how everything is measured."""

    def __init__(self, model: str, data: str, epochs: int, folder: Path) -> None:
        self.data, self.epochs, self.folder = data, epochs, folder
        self.checkpoint = open_model(model)
        self.imgsz = self.checkpoint.default_imgsz
        self.image = torch.rand(1, 3, self.imgsz, self.imgsz)
        self.training = folder / "training.yaml"
        content = yaml.safe_load(Path(data).read_text())
        root = str(Path(data).absolute().parent)
        self.training.write_text(yaml.safe_dump({**content, "path": root, "val": content["train"]}))
        self.all_images = folder / "all.yaml"
        self.all_images.write_text(yaml.safe_dump({**content, "path": root}))

    @property
    def subject(self) -> dict[str, Any]:
        """The fields that all jobs share."""
        return {"checkpoint": self.checkpoint.path, "sha256": self.checkpoint.sha256, "imgsz": self.imgsz, "device": "cpu"}

    def metric(self, model: nn.Module, choosing: bool = False) -> float:
        """mAP50-95 on all validation images, or on some training images where it chooses."""
        images = CHOOSING if choosing else None
        wanted = ValidationParameters(data=str(self.training if choosing else self.all_images), images=images, **self.subject)
        data = read_data(wanted.data).subset(images, wanted.seed)
        return measure(model, data, wanted, lambda _: None).metrics[METRIC]

    def recalibrated(self, model: nn.Module) -> nn.Module:
        """With normalisation measured again on training images."""
        wanted = RecalibrationParameters(data=str(self.all_images), images=UNLABELLED, output="", **self.subject)
        data = read_data(wanted.data, TRAINING).subset(wanted.images, wanted.seed)
        return recalibrated(model, data, wanted, lambda _: None).model

    def finetuned(self, model: nn.Module, seed: int) -> float:
        """The metric of the best epoch's weights."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            trainer = Keeps(
                overrides={
                    "model": "kept.yaml", "data": str(self.all_images), "epochs": self.epochs, "imgsz": self.imgsz, "batch": 16,
                    "device": "cpu", "workers": 0, "seed": seed, "project": folder, "plots": False, "verbose": False,
                }
            )  # fmt: skip
            trainer.network = copy.deepcopy(model).train()
            for parameter in trainer.network.parameters():
                parameter.requires_grad_(True)
            trainer.model = trainer.network
            trainer.train()
            weights = torch.load(trainer.best, map_location="cpu", weights_only=False)
        return self.metric((weights.get("ema") or weights["model"]).float().eval())

    def add_gradients(self, model: nn.Module) -> None:
        """Give a model the gradients of the loss on training images, for their Taylor criterion."""
        trainer = Keeps(
            overrides={"model": "kept.yaml", "data": str(self.all_images), "imgsz": self.imgsz, "device": "cpu", "plots": False,
                       "project": str(self.folder), "name": "gradients", "exist_ok": True}
        )  # fmt: skip
        trainer.model = trainer.network = model.train()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        trainer.set_model_attributes()
        images = read_data(self.all_images, TRAINING).subset(CHOOSING, 0).images
        loader = trainer.get_dataloader(str(images[0].parent), batch_size=16, rank=-1, mode="val")
        for batch, _ in zip(loader, range(CHOOSING // 16), strict=False):
            loss, _ = model(trainer.preprocess_batch(batch))
            loss.sum().backward()
        model.eval()
