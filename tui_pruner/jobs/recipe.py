"""How a model was trained, as far as it says what its images, its labels and its losses mean: whatever is measured or trained goes on so.

With Ultralytics' defaults, digits that were never mirrored would be mirrored now, and the model would learn what is not so; a model that
was trained with `single_cls` knows one class, whatever the data set names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

AUGMENTATION = (
    "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr",
    "mosaic", "mixup", "cutmix", "copy_paste", "copy_paste_mode", "auto_augment", "erasing", "multi_scale",
)  # fmt: skip
LOSS = ("box", "cls", "cls_pw", "dfl", "pose", "kobj", "rle", "angle", "mask_ratio", "dropout", "cos_lr")
BOXES = ("detect", "segment", "pose", "obb")
LABELS = {
    "single_cls": ("all classes count as one", (*BOXES, "classify")),
    "classes": ("only labels of the classes {} count", BOXES),
    "overlap_mask": ("masks may overlap", ("segment",)),
}
"""What changes which labels an image has and what they say: the words for it, and the tasks in which it does.

Thresholds, sizes and speeds are the user's to choose.
"""

NOMINAL_BATCH = 64
"""Ultralytics gathers the gradients of so many images for every update."""
ENOUGH_UPDATES = 1000


def recipe_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an earlier training that the next one shares; those that this Ultralytics does not take are left out."""
    return accepted(arguments, (*AUGMENTATION, *LOSS, *LABELS))


def labels_of(model: Any) -> dict[str, Any]:
    """Return the settings of a model's training that make its labels mean something else than by Ultralytics' defaults."""
    from tui_pruner.core.checkpoint.stock import default_arguments

    arguments, usual = getattr(model, "args", None) or {}, default_arguments()
    task = getattr(model, "task", None) or "detect"
    found = accepted(arguments if isinstance(arguments, dict) else vars(arguments), LABELS)
    return {name: value for name, value in found.items() if value != usual[name] and task in LABELS[name][1]}


def labels_in_words(labels: Mapping[str, Any]) -> list[str]:
    """Return a note on each setting of `labels_of`."""
    return [f"{LABELS[name][0].format(value)}, as in the model's training ({name}={value})" for name, value in labels.items()]


def accepted(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments with these names that this Ultralytics knows and whose values it takes."""
    from tui_pruner.core.checkpoint.stock import default_arguments

    known = default_arguments()
    return {name: arguments[name] for name in names if name in known and taken(name, arguments.get(name))}


def taken(name: str, value: Any) -> bool:
    """Whether Ultralytics takes a value, by its own check; `classes`, which that leaves out, are numbers."""
    from ultralytics.cfg import check_cfg

    if value is None:
        return False
    if name == "classes":
        numbers = value if isinstance(value, (list, tuple)) else [value]
        return bool(numbers) and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    try:
        check_cfg({name: value})
    except (TypeError, ValueError):
        return False
    return True


def nominal_batch(images: int, epochs: int, batch: int) -> int:
    """The images of one update: Ultralytics' 64 where that leaves updates enough, fewer in a short training, but whole batches.

    Ten epochs of 256 images are 40 updates of 64: YOLOv8n on the bundled digits, at 69 % of its FLOPs, was at mAP50-95 0.848 after them,
    and at 0.865 with 160 updates of 16.
    """
    return min(NOMINAL_BATCH, max(batch, images * epochs // ENOUGH_UPDATES))
