"""Images without labels as a model reads them: opened, scaled and normalised by the predictor of its class."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.jobs.picture import PREDICTORS
from tui_pruner.jobs.stock import StockTool, tool_for

if TYPE_CHECKING:
    from torch import Tensor, nn

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
