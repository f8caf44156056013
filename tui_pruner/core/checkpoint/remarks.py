"""What a user should know of a model that was just read: how it was saved, what is assumed of it, and what will not work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tui_pruner.core.checkpoint.record import DEFAULT_IMGSZ, image_side
from tui_pruner.core.checkpoint.refusals import listed


def remarks(dictionary: Mapping[str, Any], arguments: Mapping[str, Any], own: Sequence[str], unwritable: str) -> tuple[str, ...]:
    """One sentence for each; `own`: what a trusted file takes from modules, `unwritable`: why nothing can be written that is made of it."""
    said = _training(dictionary, arguments)
    if unwritable:
        said.append(f"nothing that is made from it can be written ({unwritable}): save it again without that")
    elif own:
        said.append(f"takes {listed(own)} from other modules than Ultralytics' own: what is made from it does so too, and needs trust too")
    return tuple(said)


def _training(dictionary: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    said = []
    epoch = dictionary.get("epoch", -1)
    if isinstance(epoch, int) and epoch >= 0 and dictionary.get("optimizer") is not None:
        said.append(f"saved in the middle of a training (epoch {epoch + 1}): its averaged weights are used")
    sides, side = arguments.get("imgsz", DEFAULT_IMGSZ), image_side(arguments)
    if not arguments:
        said.append(f"records no training arguments: input side {DEFAULT_IMGSZ} is assumed")
    elif isinstance(sides, (list, tuple)):
        said.append(f"trained with image sides {list(sides)}: {side} is used, the largest of them; --imgsz chooses another")
    elif sides != side:
        said.append(f"records {sides!r} as the side of its images: {side} is used; --imgsz chooses another")
    return said
