"""The guard in a pruned model's yaml: stock `train()` would rebuild the dense network from it in silence, so it must fail loudly."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

GUARDED_BACKBONE = "unpruned_backbone"
MARK = "PRUNED MODEL"
TRAINERS = {
    "detect": "DetectionTrainer",
    "segment": "SegmentationTrainer",
    "semantic": "SemanticSegmentationTrainer",
    "depth": "DepthTrainer",
    "pose": "PoseTrainer",
    "obb": "OBBTrainer",
    "classify": "ClassificationTrainer",
}
TRAINERS_OF_HEADS = {"RTDETRDecoder": ("ultralytics.models.rtdetr.train", "RTDETRTrainer")}
"""Heads that a trainer of their own fine-tunes, whatever the task."""


def guard(architecture: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The architecture with a backbone of one impossible module, whose name is the error message that `train()` then gives.

    The head stays, since Ultralytics guesses the task from it; the true backbone stays under a key that Ultralytics ignores, so it
    survives a stock fine-tuning too.
    """
    original = unguard(architecture)
    return {**original, "backbone": [[-1, 1, way_out(original, task), []]], GUARDED_BACKBONE: original.get("backbone", [])}


def unguard(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture as it was before it was guarded; one that is not guarded comes back as it is."""
    original = copy.deepcopy(dict(architecture))
    backbone = original.pop(GUARDED_BACKBONE, None)
    if backbone is not None:
        original["backbone"] = backbone
    return original


def way_out(architecture: Mapping[str, Any], task: str) -> str:
    """The sentence that someone reads who calls `train()` on a pruned file."""
    module, trainer = trainer_of(architecture, task)
    return (
        f"{MARK}: train() would rebuild the network at full size from its yaml and lose the pruning. Fine-tune it as it is: "
        f"t = {trainer}(overrides={{'model': 'pruned.pt', 'data': 'data.yaml'}}); t.model = YOLO('pruned.pt').model; t.train()  "
        f"(from {module} import {trainer})"
    )


def trainer_of(architecture: Mapping[str, Any], task: str) -> tuple[str, str]:
    """The stock trainer for a model, and the module to import it from."""
    *_, (_, _, head, *_) = architecture.get("head") or [(-1, 1, "")]
    known = task if task in TRAINERS else "detect"
    return TRAINERS_OF_HEADS.get(str(head)) or (f"ultralytics.models.yolo.{known}", TRAINERS[known])
