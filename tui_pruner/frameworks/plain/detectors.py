"""torchvision's detectors up to their heads' predictions: what looks for boxes by their values cannot be followed, and reads no channel.

The images go to the backbone as they are given, normalised but not resized. Of an R-CNN, boxes at fixed places stand for the proposals, so
that the heads of boxes, masks and keypoints are followed too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.inputs import Inputs
from tui_pruner.domain.errors import RequestError

PLACES = ((0.1, 0.1, 0.6, 0.7), (0.3, 0.2, 0.9, 0.9))
"""Left, top, right and bottom of the boxes that stand for proposals, as parts of the image."""
IMAGE = 3
"""Dimensions of an image without a batch."""
HEADS = ("mask", "keypoint")
REMARK = "is followed to its heads' predictions, without what looks for boxes by their values: images are read in the size that is given"


def forward_of(module: nn.Module) -> Callable[..., Any] | None:
    """What to follow in place of the forward of a detector of torchvision's, or of an heir of one; None for all other modules."""
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(module).__mro__}
    return next((forward for name, forward in FORWARDS.items() if f"torchvision.models.detection.{name}" in names), None)


def in_a_batch(given: Inputs) -> Inputs:
    """The images of a detector as one tensor, where they are a list or tuple, as its own forward reads them, or a single one."""
    if not given.args:
        return given
    return replace(given, args=(as_batch(given.args[0]), *given.args[1:]))


def as_batch(images: Any) -> Tensor:
    """Images as a tensor [batch, channels, height, width].

    Raises:
        RequestError: they are not of one size, or are no images.
    """
    listed = [images] if isinstance(images, Tensor) else list(images)
    parts = [image if image.ndim > IMAGE else image.unsqueeze(0) for image in listed if isinstance(image, Tensor)]
    if not parts or any(part.ndim != IMAGE + 1 or part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise RequestError("a detector is followed on images of one size: give them as one tensor [batch, 3, height, width]")
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def features_of(detector: Any, images: Tensor) -> Mapping[str, Tensor]:
    """The feature maps that the backbone makes of normalised images, by name."""
    transform = detector.transform
    shape = (1, -1, *[1] * (IMAGE - 1))
    mean, std = (torch.as_tensor(list(v), dtype=images.dtype, device=images.device) for v in (transform.image_mean, transform.image_std))
    features = detector.backbone((images - mean.view(shape)) / std.view(shape))
    return {"0": features} if isinstance(features, Tensor) else features


def dense(detector: Any, images: Tensor, targets: Any = None) -> Any:
    """The predictions of a detector without proposals, for every anchor or place."""
    return detector.head(list(features_of(detector, images).values()))


def by_regions(detector: Any, images: Tensor, targets: Any = None) -> dict[str, Any]:
    """What an R-CNN says of every anchor, and of boxes at fixed places on every feature map: classes, offsets, masks and keypoints."""
    features, heads = features_of(detector, images), detector.roi_heads
    found = {"proposals": detector.rpn.head(list(features.values()))}
    found["boxes"] = heads.box_predictor(heads.box_head(pooled(heads.box_roi_pool, features)))
    for name in HEADS:
        if (pool := getattr(heads, f"{name}_roi_pool", None)) is not None:
            read = getattr(heads, f"{name}_head")(pooled(pool, features))
            found[name] = getattr(heads, f"{name}_predictor")(read)
    return found


def pooled(pool: Any, features: Mapping[str, Tensor]) -> Tensor:
    """What the boxes at fixed places hold of each feature map that a pool reads, [boxes, channels, height, width]."""
    from torchvision.ops import roi_align  # type: ignore[import-untyped]

    found = []
    for feature in (features[name] for name in pool.featmap_names if name in features):
        height, width = feature.shape[-2:]
        corners = [(0.0, left * width, top * height, right * width, bottom * height) for left, top, right, bottom in PLACES]
        boxes = torch.tensor(corners, dtype=feature.dtype, device=feature.device)
        found.append(roi_align(feature, boxes, pool.output_size, 1.0, pool.sampling_ratio))
    return torch.cat(found)


FORWARDS: dict[str, Callable[..., Any]] = {
    "retinanet.RetinaNet": dense,
    "fcos.FCOS": dense,
    "ssd.SSD": dense,
    "generalized_rcnn.GeneralizedRCNN": by_regions,
}
"""By class within `torchvision.models.detection`."""
