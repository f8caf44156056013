"""Ultralytics' trainers by model class, changed to keep the given network, and to resume exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import BYTES, legible
from tui_pruner.jobs.tools import StockTool, UntimedEvaluations, tool_for
from tui_pruner.jobs.validate import without_fonts

if TYPE_CHECKING:
    from torch import nn


PATTERN = "exact-*.pt"


def file_of(folder: Path, epoch: int) -> Path:
    """Return the file of an epoch, counted from 0, beside Ultralytics' checkpoints."""
    return folder / f"exact-{epoch}.pt"


class ExactState:
    """Callbacks of a trainer that seed each epoch by its number and restore full precision on resuming; pickled for several GPUs."""

    def attach(self, trainer: Any) -> None:
        """Register with a trainer."""
        for event in ("on_pretrain_routine_end", "on_train_epoch_start"):
            trainer.add_callback(event, getattr(self, event))

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        """Load the state of the epoch before, where there is one."""
        import torch

        file = file_of(trainer.wdir, trainer.start_epoch - 1)
        if trainer.start_epoch == 0 or not file.exists():
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
        network_of(trainer).load_state_dict(state["model"])
        if trainer.ema and state["ema"]:
            trainer.ema.ema.load_state_dict(state["ema"])
        trainer.optimizer.load_state_dict(state["optimizer"])

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Seed all random generators, also of the workers that read images, and restart these."""
        import random

        import numpy as np
        import torch

        seed = int(trainer.args.seed) + trainer.epoch
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        loader = trainer.train_loader
        if trainer.world_size > 1 or not hasattr(loader, "reset"):
            return
        loader.generator.manual_seed(seed)
        loader.reset()
        forget_images(loader.dataset)


def forget_images(dataset: Any) -> None:
    """Empty a data set's buffer of images for mosaics, as in a fresh one: the list of indices, and the images.

    An image that stayed without an index would never be listed again, and a mosaic needs at least one.
    """
    listed = getattr(dataset, "buffer", None)
    if not isinstance(listed, list) or getattr(dataset, "cache", None) == "ram":
        return
    while listed:
        index = listed.pop()
        dataset.ims[index] = dataset.im_hw0[index] = dataset.im_hw[index] = None


def keep(trainer: Any) -> None:
    """Write the state after an epoch, completely or not at all; earlier states are removed once Ultralytics' checkpoint is written."""
    import torch

    state = {
        "model": network_of(trainer).state_dict(),
        "ema": trainer.ema.ema.state_dict() if trainer.ema else None,
        "optimizer": trainer.optimizer.state_dict(),
    }
    file = file_of(trainer.wdir, trainer.epoch)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".writing-{file.name}")
    try:
        torch.save(state, temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def forget_others(folder: Path, epoch: int) -> None:
    """Remove the states of other epochs than this one."""
    for file in folder.glob(PATTERN):
        if file != file_of(folder, epoch):
            file.unlink(missing_ok=True)


def network_of(trainer: Any) -> Any:
    """Return the network that a trainer trains, without its wrapper for several GPUs."""
    return getattr(trainer.model, "module", trainer.model)


EPOCH = ".epoch"
"""A file beside each checkpoint with the number of its epoch, which Ultralytics' own files lack once a training has ended."""

TRAINERS = {
    "DetectionModel": StockTool("detect", "ultralytics.models.yolo.detect", "DetectionTrainer"),
    "SegmentationModel": StockTool("segment", "ultralytics.models.yolo.segment", "SegmentationTrainer"),
    "PoseModel": StockTool("pose", "ultralytics.models.yolo.pose", "PoseTrainer"),
    "ClassificationModel": StockTool("classify", "ultralytics.models.yolo.classify", "ClassificationTrainer"),
    "OBBModel": StockTool("obb", "ultralytics.models.yolo.obb", "OBBTrainer"),
    "RTDETRDetectionModel": StockTool("detect", "ultralytics.models.rtdetr.train", "RTDETRTrainer"),
}


def trainer_of(model: nn.Module) -> StockTool:
    """The trainer for a model's class.

    Raises:
        RequestError: there is none.
    """
    return tool_for(model, TRAINERS, "cannot be fine-tuned here")


class KeepsStructure(UntimedEvaluations):
    """A trainer mixin: the network stays as it is, also on resuming, and checkpoints are written completely or not at all."""

    last: Any
    best: Any
    epoch: int
    model: Any
    scaler: Any
    sparsity: float = 0.0
    own_names: tuple[str, ...] = ()
    """Names that the network's file imports beyond Ultralytics' own list, and so do the trainer's own checkpoints."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with legible_yaml():
            super().__init__(*arguments, **options)

    def train(self) -> Any:
        """As stock; also allows the trainer's own checkpoints to be read again in processes for several GPUs."""
        from tui_pruner.frameworks.ultralytics.security.allowed_names import permitting

        with permitting(self.own_names):
            return super().train()  # type: ignore[misc]

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Return the checkpoint's network instead of one built from its yaml."""
        return weights

    def get_dataset(self) -> Any:
        """As stock, without looking for a font to draw with."""
        with without_fonts():
            return super().get_dataset()  # type: ignore[misc]

    def optimizer_step(self) -> None:
        """As stock, with the penalty on normalisation scales if requested."""
        if self.sparsity:
            from tui_pruner.core.recovery.reconstruction import add_sparsity_penalty

            network = getattr(self.model, "module", self.model)
            add_sparsity_penalty(getattr(network, "student_model", network), self.sparsity, self.scaler.get_scale())
        super().optimizer_step()  # type: ignore[misc]

    def save_model(self) -> Any:
        """As stock, but written under other names first: a full disk or a kill must not cost the last good checkpoint."""
        keep(self)
        final = self.last, self.best
        self.last, self.best = (file.with_name(f".writing-{file.name}") for file in final)
        written = (self.last, self.best)
        try:
            saved = super().save_model()  # type: ignore[misc]
            for temporary, file in zip(written, final, strict=True):
                if temporary.exists():
                    temporary.replace(file)
                    file.with_suffix(EPOCH).write_text(f"{self.epoch + 1}\n")
            forget_others(self.last.parent, self.epoch)
        finally:
            self.last, self.best = final
            for temporary in written:
                temporary.unlink(missing_ok=True)
        return saved


@contextlib.contextmanager
def legible_yaml() -> Iterator[None]:
    """Write Ultralytics' record of its arguments without paths that are not UTF-8, which its YAML cannot hold."""
    from ultralytics.utils import YAML

    def save(file: Any = "data.yaml", data: Mapping[str, Any] | None = None, header: str = "") -> None:
        odd = {key: legible(str(value)) for key, value in (data or {}).items() if BYTES.search(str(value))}
        stock(file, {**(data or {}), **odd} if odd else data, header)

    stock = YAML.save
    YAML.save = save
    try:
        yield
    finally:
        YAML.save = stock


def keeping_structure(stock: type, sparsity: float = 0.0, own_names: Iterable[str] = ()) -> type:
    """A trainer class that keeps the network's structure; it can be pickled for processes on several GPUs."""
    return type(stock.__name__, (KeepsStructure, stock), {"sparsity": sparsity, "own_names": tuple(own_names)})
