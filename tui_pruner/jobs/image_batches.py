"""Images without labels as a model reads them: opened, scaled and normalised by the predictor of its class."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tui_pruner.jobs.picture import PREDICTORS
from tui_pruner.jobs.stock import StockTool, tool_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tui_pruner.jobs.dataset import DataSet

LARGEST_BATCH = 16
READERS = {**PREDICTORS, "ClassificationModel": StockTool("classify", "ultralytics.models.yolo.classify", "ClassificationPredictor")}


def reader_of(model: nn.Module) -> StockTool:
    """The predictor for a model's class.

    Raises:
        RequestError: there is none.
    """
    return tool_for(model, READERS, "cannot be given images here")


def image_batches(
    model: nn.Module, images: Sequence[Path], imgsz: int, device: str, largest: int = LARGEST_BATCH, rect: bool = True
) -> Iterator[Tensor]:
    """[n, channels, height, width] in batches of nearly equal size on the device; images that cannot be read are left out.

    `rect`: pad to the next multiple of the stride alone, where a batch's images have one shape, in place of to a square.
    """
    kind = reader_of(model)
    size = math.ceil(len(images) / math.ceil(len(images) / largest))
    settings = {
        "mode": "predict",
        "task": kind.task,
        "imgsz": imgsz,
        "device": device,
        "batch": size,
        "rect": rect,
        "save": False,
        "verbose": False,
    }
    predictor = kind.load()(overrides=settings)
    predictor.setup_model(model, verbose=False)
    read = (pixels for image in images for pixels in pixels_of(predictor, image))
    while batch := list(itertools.islice(read, size)):
        yield predictor.preprocess(batch).float()


def pixels_of(predictor: Any, image: Path) -> list[Any]:
    """An image as the predictor opens it, one array; none where it is damaged or of a format that needs one package more."""
    predictor.setup_source(str(image))
    with contextlib.suppress(OSError, ModuleNotFoundError, StopIteration):
        _, pixels, _ = next(iter(predictor.dataset))
        return list(pixels)
    return []


class StoredImages(Sequence["Tensor"]):
    """Batches of images as a model reads them, kept as bytes where that loses nothing: a quarter of the memory."""

    def __init__(self, model: nn.Module, data: DataSet, side: int, batch: int = LARGEST_BATCH) -> None:
        self._batches = [packed(batch) for batch in image_batches(model, data.images, side, "cpu", batch)] if data.images else []
        self.total = sum(len(batch) for batch in self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, number: int) -> Tensor: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, number: int | slice) -> Tensor | Sequence[Tensor]:
        return [unpacked(batch) for batch in self._batches[number]] if isinstance(number, slice) else unpacked(self._batches[number])


def packed(batch: Tensor) -> Tensor:
    """Pixels as whole numbers of 255ths, where they are."""
    whole = (batch * 255).round().byte()
    return whole if bool((unpacked(whole) == batch).all()) else batch


def unpacked(batch: Tensor) -> Tensor:
    """Pixels as the model reads them."""
    return batch if batch.is_floating_point() else batch.float() / 255
