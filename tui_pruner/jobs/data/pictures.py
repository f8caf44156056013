"""Images as a model reads them, and pictures of its detections with and without a plan."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tui_pruner.domain.errors import CheckpointError, RequestError
from tui_pruner.engine.job_messages import JobParameters, JobProgress, Picture, PictureParameters, PictureResult
from tui_pruner.jobs.data.dataset import check_fits, read_data, renumbered
from tui_pruner.jobs.data.linked_copy import meaning_of_labels
from tui_pruner.jobs.tools import OnProgress, StockTool, choose_device, tool_for
from tui_pruner.jobs.validate import opened, skipped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tui_pruner.jobs.data.dataset import DataSet


LONG_SIDE = 512
JPEG_QUALITY = 82
CONFIDENCE = 0.25
LENGTHS = {"boxes": 4, "obb": 4, "keypoints": 2}
"""How many leading numbers of each row of a result are lengths in pixels."""


PREDICTORS = {
    "DetectionModel": StockTool("detect", "ultralytics.models.yolo.detect", "DetectionPredictor"),
    "SegmentationModel": StockTool("segment", "ultralytics.models.yolo.segment", "SegmentationPredictor"),
    "PoseModel": StockTool("pose", "ultralytics.models.yolo.pose", "PosePredictor"),
    "OBBModel": StockTool("obb", "ultralytics.models.yolo.obb", "OBBPredictor"),
    "RTDETRDetectionModel": StockTool("detect", "ultralytics.models.rtdetr.predict", "RTDETRPredictor"),
}


def run_pictures(parameters: PictureParameters, on_progress: OnProgress) -> PictureResult:
    """Run the job: predict every image with both models, draw both, and write two JPEG files into the parameters' folder.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        RequestError: no such device, or a model class whose predictions are no detections.
    """
    from tui_pruner.core.pruning.proved_cut import apply_plan
    from tui_pruner.report.privacy import neutral_classes

    data = read_data(parameters.data).subset(parameters.images, parameters.seed).subset(parameters.pictures, parameters.seed)
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoint", begun=False))
    checkpoint = opened(parameters)
    kind = predictor_of(checkpoint.model)
    check_fits(renumbered(data, checkpoint.model), checkpoint.classes, kind.task, *meaning_of_labels(checkpoint.model))
    final = recovered_model(parameters) if parameters.recovered else apply_plan(checkpoint, parameters.plan)
    before, after = (predictor(kind, model, parameters) for model in (checkpoint.model, final))
    neutral = neutral_classes(checkpoint.names) if parameters.redact else {}
    pictures = []
    with no_fonts():
        for number, image in enumerate(data.images, start=1):
            pictures += picture(before, after, image, Path(parameters.folder), number, neutral)
            on_progress(JobProgress(done=number, total=len(data.images), doing="drawing"))
    missing = len(data.images) - len(pictures)
    return PictureResult(pictures=pictures, confidence=CONFIDENCE, notes=[skipped(missing, data)] if missing else [])


def recovered_model(parameters: PictureParameters) -> nn.Module:
    """The model of the file that is drawn instead of the cut model.

    Raises:
        CheckpointError: the file cannot be used, or changed since the job was created.
    """
    from tui_pruner.frameworks.ultralytics import open_model

    checkpoint = open_model(parameters.recovered or "")
    if checkpoint.sha256 != (parameters.recovered_sha256 or checkpoint.sha256):
        raise CheckpointError(f"{parameters.recovered} changed on disk since the job was created: run it again")
    return checkpoint.model


def predictor_of(model: nn.Module) -> StockTool:
    """The predictor for a model's class.

    Raises:
        RequestError: its predictions cannot be drawn as detections.
    """
    return tool_for(model, PREDICTORS, "has no detections to draw")


def predictor(kind: StockTool, model: nn.Module, parameters: JobParameters) -> Any:
    """Ultralytics' predictor for a loaded model, which is unchanged; with the settings of a plain `predict`."""
    settings = {
        "mode": "predict",
        "task": kind.task,
        "imgsz": parameters.imgsz,
        "device": choose_device(parameters.device),
        "conf": CONFIDENCE,
        "save": False,
        "verbose": False,
    }
    made = kind.load()(overrides=settings)
    made.setup_model(copy.deepcopy(model), verbose=False)
    return made


def picture(before: Any, after: Any, image: Path, folder: Path, number: int, neutral: Mapping[str, str]) -> list[Picture]:
    """One image drawn twice, with `neutral` names of classes; None where Ultralytics cannot read it."""
    results = [found[0] for found in (before(str(image)), after(str(image))) if found]
    if len(results) < 2:
        return []
    files = [f"{number:03}-{side}.jpg" for side in ("before", "after")]
    for result, file in zip(results, files, strict=True):
        result.names = {place: neutral.get(name, name) for place, name in result.names.items()}
        (folder / file).write_bytes(jpeg(result))
    counts = [dict(sorted(Counter(class_names(result)).items())) for result in results]
    return [Picture(image=image.name, before_file=files[0], after_file=files[1], before=counts[0], after=counts[1])]


def class_names(result: Any) -> list[str]:
    """The class of every detection."""
    found = result.obb if result.obb is not None else result.boxes
    return [str(result.names[int(number)]) for number in found.cls.tolist()]


def jpeg(result: Any) -> bytes:
    """A result drawn at the size at which it is shown, as the bytes of a JPEG file."""
    import cv2

    done, content = cv2.imencode(".jpg", at_shown_size(result).plot(), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RequestError(f"{result.path} cannot be drawn: OpenCV makes no JPEG of it")
    return bytes(content)


def at_shown_size(result: Any) -> Any:
    """The same result on an image whose longer side is 512 pixels, so that lines and text are legible for images of any size."""
    import cv2

    height, width = result.orig_shape
    scale = LONG_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    moved = {name: getattr(result, name) for name in ("boxes", "obb", "keypoints") if getattr(result, name) is not None}
    return type(result)(
        orig_img=cv2.resize(result.orig_img, size, interpolation=shrinks),
        path=result.path,
        names=result.names,
        masks=None if result.masks is None else result.masks.data,
        **{name: scaled(part.data, LENGTHS[name], scale) for name, part in moved.items()},
    )


def scaled(rows: Any, lengths: int, scale: float) -> Any:
    """Rows of detections with their leading lengths multiplied."""
    rows = rows.clone()
    rows[..., :lengths] *= scale
    return rows


@contextlib.contextmanager
def no_fonts() -> Iterator[None]:
    """Avoid a font for class names outside ASCII, which Ultralytics would download; Pillow's own is used instead."""
    from ultralytics.utils import plotting

    def missing(font: str = "") -> None:
        raise FileNotFoundError(font)

    look_up, plotting.check_font = plotting.check_font, missing
    try:
        yield
    finally:
        plotting.check_font = look_up


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
    """Images [n, channels, height, width] in batches of nearly equal size on the device; images that cannot be read are left out.

    `rect`: pad only to the next multiple of the stride, where a batch's images have one shape, instead of to a square.
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
    """An image as the predictor opens it, as one array; None where it is damaged or its format needs another package."""
    predictor.setup_source(str(image))
    with contextlib.suppress(OSError, ModuleNotFoundError, StopIteration):
        _, pixels, _ = next(iter(predictor.dataset))
        return list(pixels)
    return []


class StoredImages(Sequence["Tensor"]):
    """Batches of images as a model reads them, stored as bytes where that is exact: a quarter of the memory."""

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
    """Pixels as integers of 255ths, where they are such."""
    whole = (batch * 255).round().byte()
    return whole if bool((unpacked(whole) == batch).all()) else batch


def unpacked(batch: Tensor) -> Tensor:
    """Pixels as the model reads them."""
    return batch if batch.is_floating_point() else batch.float() / 255
