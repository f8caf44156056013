"""The models that quality is measured on: an easy one, one that had to learn eighty classes, and one that was trained here."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
BCCD_EPOCHS, BCCD_SIDE = 12, 256
BOXES, MASKS = "metrics/mAP50-95(B)", "metrics/mAP50-95(M)"

Wanted = Mapping[float, float]
TRAINED: Wanted = {0.5: 0.99, 0.35: 0.97, 0.25: 0.94}


@dataclass(frozen=True)
class Subject:
    """A checkpoint, its data, the shares of the operations to leave, and how long it is trained after a cut; no epochs: not at all.

    `unlabelled` training images plan and refit. `figures` are the metrics that count: of a pruned model the smallest of their shares of
    the original's. `wanted` has by share what is to be reached without training, `wanted_trained` after it.
    """

    name: str
    model: Path
    data: Path
    imgsz: int
    shares: tuple[float, ...]
    wanted: Wanted
    wanted_trained: Wanted = field(default_factory=dict)
    epochs: int = 0
    unlabelled: int = 64
    figures: tuple[str, ...] = field(default=(BOXES,))


def digits() -> Subject:
    """The bundled checkpoint."""
    wanted = {0.5: 0.98, 0.35: 0.94, 0.25: 0.87}
    folder = ROOT / "assets/demo"
    return Subject("digits", folder / "digits.pt", folder / "digits.yaml", 160, tuple(wanted), wanted, TRAINED, 10, 128)


def coco(model: Path, data: Path) -> Subject:
    """YOLO11n-seg with its COCO weights on the halves of coco128-seg: one chooses, the other judges. Too few images to train on."""
    wanted = {0.9: 0.97, 0.8: 0.90, 0.7: 0.75}
    return Subject("coco", model, data, 320, tuple(wanted), wanted, figures=(BOXES, MASKS))


def bccd(weights: Path, data: Path, work: Path) -> Subject:
    """A YOLO11n that is trained on blood cells here, from the COCO weights, and kept."""
    model = work / "bccd.pt"
    if not model.exists():
        train(weights, data, model, work)
    wanted = {0.8: 0.99, 0.7: 0.98, 0.5: 0.95}
    return Subject("bccd", model, data, BCCD_SIDE, (*wanted, 0.35, 0.25), wanted, TRAINED, 10)


def train(weights: Path, data: Path, model: Path, work: Path) -> None:
    """Train YOLO11n on a data set from what fits of other weights."""
    from ultralytics import YOLO

    from tui_pruner.frameworks.ultralytics import open_model

    start = YOLO("yolo11n.yaml")
    theirs, ours = open_model(str(weights)).model.state_dict(), start.model.state_dict()
    fitting = {name: tensor for name, tensor in theirs.items() if name in ours and tensor.shape == ours[name].shape}
    start.model.load_state_dict(fitting, strict=False)
    begun = work / "bccd-start.pt"
    start.save(begun)
    run = work / "bccd-run"
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(run)
    torch.manual_seed(0)
    YOLO(begun).train(
        data=str(data), epochs=BCCD_EPOCHS, imgsz=BCCD_SIDE, batch=16, device="cpu", workers=0, seed=0, plots=False, verbose=False,
        mosaic=0.0,
        project=str(work), name=run.name, exist_ok=True,
    )  # fmt: skip
    shutil.copyfile(run / "weights" / "best.pt", model)
