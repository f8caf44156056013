"""The stock architectures whose saved files are walked through: one of every family, and one of every task."""

from __future__ import annotations

FAMILIES = (
    "yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov8n-ghost", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolov9t",
    "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolo26n-seg", "yolo26n-pose", "yolo26n-sem", "yolo26n-depth", "yolov8n-rtdetr",
)  # fmt: skip
CHEAP = ("yolov8n-cls", "yolo26n-sem")
CHOICE = "SAVED_FAMILIES"
"""The environment variable that chooses others than the cheap ones: names with commas between them, or "all"."""


def chosen(choice: str | None) -> tuple[str, ...]:
    """The families that such a choice means."""
    if not choice:
        return CHEAP
    return FAMILIES if choice == "all" else tuple(choice.split(","))
