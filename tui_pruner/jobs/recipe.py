"""How a model was trained, as far as it says what its images and its losses mean: a fine-tuning goes on like that.

With Ultralytics' defaults, digits that were never mirrored would be mirrored now, and the model would learn what is not so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AUGMENTATION = (
    "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr",
    "mosaic", "mixup", "cutmix", "copy_paste", "copy_paste_mode", "auto_augment", "erasing", "multi_scale",
)  # fmt: skip
LOSS = ("box", "cls", "cls_pw", "dfl", "pose", "kobj", "rle", "angle", "overlap_mask", "mask_ratio", "dropout", "single_cls", "cos_lr")


def recipe_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an earlier training that the next one shares; those that this Ultralytics does not know are left out."""
    from tui_pruner.core.checkpoint.stock import default_arguments

    known = default_arguments()
    return {name: arguments[name] for name in (*AUGMENTATION, *LOSS) if name in known and arguments.get(name) is not None}
