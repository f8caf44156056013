"""Detections of two stages on the same validation images, matched; images with the largest changes first."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.engine.job_messages import (
    Box,
    DetectedImage,
    DetectionParameters,
    DetectionResult,
    JobProgress,
    StageFile,
    ValidationParameters,
)
from tui_pruner.engine.messages import Message
from tui_pruner.jobs import cache
from tui_pruner.jobs.data.dataset import check_fits, read_data, renumbered
from tui_pruner.jobs.data.linked_copy import meaning_of_labels
from tui_pruner.jobs.data.pictures import CONFIDENCE, JPEG_QUALITY, LONG_SIDE, predictor, predictor_of
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import opened, skipped
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.trust import fingerprint

if TYPE_CHECKING:
    from tui_pruner.jobs.data.dataset import DataSet

SAME_PLACE = 0.5
"""The least IoU of two boxes that count as the same object."""
DIGITS = 4


class StageDetections(Message):
    """The detections of one stage on each image, in their order; None where an image cannot be read."""

    found: list[list[Box] | None]


def run_detections(parameters: DetectionParameters, on_progress: OnProgress) -> DetectionResult:
    """Run the job: each stage's detections, cached or computed, and small pictures to draw them on.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: a file cannot be used, or changed since the job was created.
        ProofError: a stage is not proved.
        RequestError: no such device, or a model class whose predictions are no detections.
    """
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    stages = [DetectedStage(parameters, stage, data) for stage in parameters.stages]
    found = [stage.detections(number * len(data.images), on_progress) for number, stage in enumerate(stages)]
    images = []
    for image, before, after in zip(data.images, *(one.found for one in found), strict=True):
        file = small_picture(image) if before is not None and after is not None else None
        if file is not None and before is not None and after is not None:
            images.append(compared(image, file, before, after))
    images.sort(key=lambda one: (-one.changed, one.image))
    missing = len(data.images) - len(images)
    notes = [skipped(missing, data)] if missing else []
    return DetectionResult(images=images, confidence=CONFIDENCE, cached=all(stage.cached for stage in stages), notes=notes)


class DetectedStage:
    """One of the two stages on the images of the job."""

    def __init__(self, parameters: DetectionParameters, stage: StageFile, data: DataSet) -> None:
        sha256 = stage.sha256 or fingerprint(Path(stage.checkpoint))
        own = {"checkpoint": stage.checkpoint, "sha256": sha256, "classes": stage.classes}
        self._parameters = ValidationParameters(**{**parameters.model_dump(exclude={"stages"}), **own}, plan=stage.plan)
        self._data = data
        self._file = cache.detections_file(self._parameters, data.digest(), CONFIDENCE)
        self.cached = False

    def detections(self, done: int, on_progress: OnProgress) -> StageDetections:
        """The detections on every image; `done` images were processed before."""
        with contextlib.suppress(OSError, ValueError):
            known = StageDetections.from_json(self._file.read_bytes())
            self.cached = True
            return known
        total, found = 2 * len(self._data.images), list[list[Box] | None]()
        on_progress(JobProgress(done=done, total=total, doing="reading the model"))
        for boxes in self._predicted():
            found.append(boxes)
            on_progress(JobProgress(done=done + len(found), total=total, doing="detecting"))
        result = StageDetections(found=found)
        with contextlib.suppress(OSError):
            replace_file(self._file, result.to_json())
        return result

    def _predicted(self) -> Iterator[list[Box] | None]:
        from tui_pruner.core.pruning.proved_cut import apply_plan

        checkpoint = opened(self._parameters)
        kind = predictor_of(checkpoint.model)
        check_fits(renumbered(self._data, checkpoint.model), checkpoint.classes, kind.task, *meaning_of_labels(checkpoint.model))
        predict = predictor(kind, apply_plan(checkpoint, self._parameters.plan), self._parameters)
        for image in self._data.images:
            results = predict(str(image))
            yield boxes_of(results[0]) if results else None


def boxes_of(result: Any) -> list[Box]:
    """The detections of one image, most confident first; rotated boxes become the upright ones around them."""
    height, width = result.orig_shape
    found = result.obb if result.obb is not None else result.boxes
    boxes = []
    for (left, upper, right, lower), number, score in zip(found.xyxy.tolist(), found.cls.tolist(), found.conf.tolist(), strict=True):
        sides = (left / width, upper / height, right / width, lower / height)
        a, b, c, d = (round(min(max(side, 0.0), 1.0), DIGITS) for side in sides)
        boxes.append(Box(sides=(a, b, c, d), label=str(result.names[int(number)]), score=round(score, DIGITS)))
    return sorted(boxes, key=lambda box: (-box.score, box.sides))


def compared(image: Path, file: Path, before: Sequence[Box], after: Sequence[Box]) -> DetectedImage:
    """An image with its detections matched. Its change is the scores of unmatched detections, plus how far matched ones moved."""
    left = list(after)
    pairs: list[tuple[Box, Box]] = []
    for box in before:
        same = [other for other in left if other.label == box.label and common(box.sides, other.sides) >= SAME_PLACE]
        if same:
            nearest = max(same, key=lambda other: common(box.sides, other.sides))
            left.remove(nearest)
            pairs.append((box, nearest))
    alone = [*(box for box in before if all(box is not one for one, _ in pairs)), *left]
    changed = sum(box.score for box in alone) + sum(abs(one.score - other.score) for one, other in pairs)

    def marked(boxes: Sequence[Box], partners: Sequence[Box]) -> list[Box]:
        return [box.model_copy(update={"matched": any(box is one for one in partners)}) for box in boxes]

    return DetectedImage(
        image=image.name,
        file=str(file),
        before=marked(before, [one for one, _ in pairs]),
        after=marked(after, [other for _, other in pairs]),
        changed=round(changed, DIGITS),
    )


Sides = tuple[float, float, float, float]


def common(one: Sides, other: Sides) -> float:
    """The IoU of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(sides[2] - sides[0]) * (sides[3] - sides[1]) for sides in (one, other)]
    return width * height / (sum(areas) - width * height)


def small_picture(image: Path) -> Path | None:
    """A copy of an image with a longer side of at most 512 pixels, made once; None where it cannot be read or stored."""
    import cv2

    stamp = image.stat()
    key = hashlib.sha256(f"{image.absolute()} {stamp.st_size} {stamp.st_mtime_ns}".encode(errors="surrogateescape")).hexdigest()
    file = paths.cache_folder() / "detections" / f"{key}.jpg"
    if file.exists():
        return file
    pixels = cv2.imread(str(image))
    if pixels is None:
        return None
    scale = min(LONG_SIDE / max(pixels.shape[:2]), 1.0)
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    done, content = cv2.imencode(".jpg", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        return None
    replace_file(file, bytes(content))
    return file
