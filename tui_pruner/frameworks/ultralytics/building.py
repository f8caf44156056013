"""The only import of stock Ultralytics (late, quiet, offline), and models with random weights from its architecture files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.model.inputs import probe_images
from tui_pruner.core.model.layers import image_channels, stride_of
from tui_pruner.domain.errors import CheckpointError
from tui_pruner.storage.model_file import nearest

ENVIRONMENT = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false", "ULTRALYTICS_SAFE_LOAD": "true"}


def stock_tasks() -> ModuleType:
    """Import `ultralytics.nn.tasks`: the model classes and the allow-list loader.

    From here on this process loads only known classes and evaluates nothing from a checkpoint or an architecture.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ultralytics.nn import tasks
    from ultralytics.utils import checks

    tasks.SAFE_LOAD = True  # the flag above is read at import, which may have happened before
    checks.AUTOINSTALL = False  # even if the user's environment allows it: a file that names a module gets none installed
    return tasks  # type: ignore[no-any-return]


def default_arguments() -> dict[str, object]:
    """Ultralytics' default settings, which its own loader merges with a checkpoint's training arguments."""
    stock_tasks()
    from ultralytics.utils import DEFAULT_CFG_DICT

    return dict(DEFAULT_CFG_DICT)


SEED = 0
SIDE_IN_STRIDES = 2
MODEL_OF_TASK = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "semantic": "SemanticSegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "depth": "DepthModel",
    "classify": "ClassificationModel",
}
MODEL_OF_HEAD = {
    "RTDETRDecoder": "RTDETRDetectionModel",
    "WorldDetect": "WorldModel",
    "YOLOEDetect": "YOLOEModel",
    "YOLOESegment": "YOLOESegModel",
    "YOLOESegment26": "YOLOESegModel",
}


def build_from_yaml(name: str, classes: int | None = None) -> Checkpoint:
    """A model of Ultralytics' own yaml of that name ("yolov8n.yaml"), or of a yaml file, with the same random weights every time.

    BatchNorm gets random affine parameters and statistics that keep the signal alive: freshly initialised it is the identity, which could
    hide a wrong cut. Needs no network.
    Raises CheckpointError when the yaml does not exist or describes no model.
    """
    if classes is not None and classes < 1:
        raise CheckpointError(f"{name} cannot have {classes} classes: give 1 or more")
    architecture = _architecture(name)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = _model_class(architecture)(architecture, nc=classes, verbose=False)
            settle_normalisation(model)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointError(f"{name} describes no model that Ultralytics can build ({reason}): correct the yaml") from error
    model.task = stock_tasks().guess_model_task(model) or "detect"  # it cannot guess the task of an RT-DETR
    model.args = {**default_arguments(), "task": model.task, "model": Path(name).name}
    return Checkpoint(
        path=name,
        sha256=_identity(model.yaml),
        model=model.eval(),
        content={"train_args": {}},
        provenance=None,
        original_yaml=dict(model.yaml),
        warnings=(f"random weights from {Path(name).name}: fine for trying cuts, not for accuracy",),
    )


def settle_normalisation(model: nn.Module) -> None:
    """Give every BatchNorm random affine parameters, and the statistics of random images that were run through the model.

    Drawn from torch's generator. With arbitrary statistics the signal would die within sixty layers, and no output would show which channel
    was cut.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = 1.0
    side = SIDE_IN_STRIDES * stride_of(model)
    with torch.no_grad():
        model.train()(probe_images(8, image_channels(model), side))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _architecture(name: str) -> dict[str, Any]:
    if "://" in name:
        raise CheckpointError(f"{name} is an address: download the yaml first and give its path")
    try:
        architecture = stock_tasks().yaml_model_load(name)
    except FileNotFoundError as error:
        raise CheckpointError(f"{name}: no such architecture{nearest(name)}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{name} is not a readable yaml ({reason}): correct it or name one of Ultralytics' own") from error
    if not isinstance(architecture.get("backbone"), list) or not isinstance(architecture.get("head"), list):
        raise CheckpointError(f"{name} describes no model (no backbone and head): name an architecture such as yolov8n.yaml")
    architecture["yaml_file"] = Path(architecture["yaml_file"]).name
    return dict(architecture)


def _model_class(architecture: dict[str, Any]) -> Any:
    tasks = stock_tasks()
    head = str(architecture["head"][-1][-2])
    name = MODEL_OF_HEAD.get(head) or MODEL_OF_TASK.get(str(tasks.guess_model_task(architecture)), "DetectionModel")
    return getattr(tasks, name)


def _identity(architecture: dict[str, Any]) -> str:
    canonical = json.dumps({"architecture": architecture, "seed": SEED}, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
