"""Ultralytics' trainers by model class, made to keep the network that they are given: theirs would build the dense one from its yaml."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tui_pruner.jobs.exact_state import forget_others, keep
from tui_pruner.jobs.nms_limit import UnhurriedEvaluations
from tui_pruner.jobs.stock import StockTool, tool_for
from tui_pruner.jobs.validate import without_fonts
from tui_pruner.printable import BYTES, legible

if TYPE_CHECKING:
    from torch import nn

EPOCH = ".epoch"
"""Beside each checkpoint, the number of its epoch: once a training has ended, Ultralytics' own files do not tell."""

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


class KeepsStructure(UnhurriedEvaluations):
    """What a trainer does otherwise than stock: the network stays as it is, also on resuming, and checkpoints are whole or not there."""

    last: Any
    best: Any
    epoch: int
    model: Any
    scaler: Any
    sparsity: float = 0.0
    own_names: tuple[str, ...] = ()
    """What the network's file takes from modules beyond Ultralytics' own list, and the trainer's own checkpoints so too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with legible_yaml():
            super().__init__(*arguments, **options)

    def train(self) -> Any:
        """As stock; in a process for one of several GPUs too, the trainer's own checkpoints can be read again."""
        from tui_pruner.core.checkpoint.allowed import permitting

        with permitting(self.own_names):
            return super().train()  # type: ignore[misc]

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """The network of the checkpoint itself, in place of one built from its yaml."""
        return weights

    def get_dataset(self) -> Any:
        """As stock, without looking for a font to draw with."""
        with without_fonts():
            return super().get_dataset()  # type: ignore[misc]

    def optimizer_step(self) -> None:
        """As stock, with the penalty on normalisation scales where one is wanted."""
        if self.sparsity:
            from tui_pruner.core.sparsity import press

            network = getattr(self.model, "module", self.model)
            press(getattr(network, "student_model", network), self.sparsity, self.scaler.get_scale())
        super().optimizer_step()  # type: ignore[misc]

    def save_model(self) -> Any:
        """As stock, under other names first: a full disk or a kill in between must not cost the last good checkpoint."""
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
    """Ultralytics writes down its arguments for people; its YAML has no paths that are not UTF-8."""
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
    """A trainer class that keeps the network's structure; several processes on several GPUs get it as it is."""
    return type(stock.__name__, (KeepsStructure, stock), {"sparsity": sparsity, "own_names": tuple(own_names)})
