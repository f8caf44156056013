"""A pruned file of digits in a process without this program: detected digits, mAP, an export, and a fine-tuning.

Run as a script with the file, the data yaml and an empty folder; prints one JSON document as its last line.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from ultralytics import YOLO

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))
from stock_use import fine_tune, shapes, train_in_one_line

SCENES = 12
TRAINING_SCENES = 16
SAME_PLACE = 0.5


def own_data(data: Path, folder: Path) -> Path:
    """A copy of the validation scenes and of a few training scenes, since Ultralytics writes caches beside labels."""
    for part, count in (("train", TRAINING_SCENES), ("val", None)):
        for image in sorted((data.parent / "images" / part).iterdir())[:count]:
            label = data.parent / "labels" / part / f"{image.stem}.txt"
            for file, kind in ((image, "images"), (label, "labels")):
                (folder / kind / part).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder / kind / part)
    description = folder / "data.yaml"
    description.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), "path": str(folder)}))
    return description


def found_digits(file: str, images: list[Path]) -> list[int]:
    """How many labelled digits there are, and how many of them were found: the right class at the right place."""
    labelled = found = 0
    for image, result in zip(images, YOLO(file).predict(images, imgsz=160, verbose=False)):
        boxes = [(int(c), xywh) for c, xywh in zip(result.boxes.cls.tolist(), result.boxes.xywhn.tolist())]
        for row in (image.parents[2] / "labels" / image.parent.name / f"{image.stem}.txt").read_text().splitlines():
            digit, *place = map(float, row.split())
            labelled += 1
            found += any(c == digit and overlap(place, box) >= SAME_PLACE for c, box in boxes)
    return [labelled, found]


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes given by centre and size."""
    sides = [max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)) for i in (0, 1)]
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def exported_differs_by(file: str, folder: Path) -> float:
    """The relative difference between the outputs of a TorchScript export and of the file's own model."""
    copied = shutil.copy(file, folder / "export.pt")
    script = torch.jit.load(YOLO(copied).export(format="torchscript", imgsz=160))
    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exported, own = script(image), YOLO(file).model.float().eval()(image)[0]
    exported = exported[0] if isinstance(exported, (tuple, list)) else exported
    return float((exported - own).abs().max() / own.abs().max())


def main(file: str, source: Path, folder: Path) -> None:
    sys.modules["tui_pruner"] = None
    data = own_data(source, folder / "data")
    metrics = YOLO(file).val(data=str(data), imgsz=160, batch=16, workers=0, plots=False, project=str(folder), name="val")
    before = shapes(file)
    weights = fine_tune(file, data, folder, side=96, batch=8)
    answer: dict[str, Any] = {
        "digits": found_digits(file, sorted((data.parent / "images" / "val").iterdir())[:SCENES]),
        "map": float(metrics.box.map),
        "export": exported_differs_by(file, folder),
        "train": train_in_one_line(file, data, folder, side=96),
        "structure_kept": shapes(weights / "best.pt") == before,
        "tuned": str(weights / "best.pt"),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
