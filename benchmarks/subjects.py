"""The models that quality is measured on: an easy one, one that had to learn eighty classes, and one that was trained here."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
BCCD_EPOCHS, BCCD_SIDE = 40, 320
BOXES, MASKS = "metrics/mAP50-95(B)", "metrics/mAP50-95(M)"


@dataclass(frozen=True)
class Subject:
    """A checkpoint, its data, the shares of the operations to leave, and how long it is trained after a cut; no epochs: not at all.

    `figures` are the metrics that count: of a pruned model the smallest of their shares of the original's.
    """

    name: str
    model: Path
    data: Path
    imgsz: int
    shares: tuple[float, ...]
    epochs: int = 0
    figures: tuple[str, ...] = field(default=(BOXES,))


def digits() -> Subject:
    """The bundled checkpoint."""
    return Subject("digits", ROOT / "assets/demo/digits.pt", ROOT / "assets/demo/digits.yaml", 160, (0.5, 0.35, 0.25), 10)


def coco(model: Path, data: Path) -> Subject:
    """YOLO11n-seg with its COCO weights on the halves of coco128-seg: one chooses, the other judges. Too few images to train on."""
    return Subject("COCO 11n-seg", model, data, 320, (0.9, 0.8, 0.7), figures=(BOXES, MASKS))


def bccd(weights: Path, data: Path, work: Path) -> Subject:
    """A YOLO11n that is trained on blood cells here, from the COCO weights, and kept."""
    model = work / "bccd.pt"
    if not model.exists():
        train(weights, data, model, work)
    return Subject("BCCD 11n", model, data, BCCD_SIDE, (0.8, 0.7, 0.5), 10)


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
        data=str(data), epochs=BCCD_EPOCHS, imgsz=BCCD_SIDE, batch=16, device="cpu", workers=2, seed=0, plots=False, verbose=False,
        project=str(work), name=run.name, exist_ok=True,
    )  # fmt: skip
    shutil.copyfile(run / "weights" / "best.pt", model)
