"""A pruned file in a process without this program: predict, val, export, train(), and the lines that fine-tune it.

Run as a script with the file and an empty folder; prints one JSON document as its last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

SIDE = 64


def tiny_data(folder: Path, names: dict[int, str]) -> Path:
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "images" / part / f"{number}.png")
            (folder / "labels" / part / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    description = folder / "data.yaml"
    description.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {json.dumps(names)}\n")
    return description


def shapes(file: str | Path) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for name, parameter in YOLO(file).model.named_parameters()}


def train_in_one_line(file: str, data: Path, folder: Path, side: int = SIDE) -> str:
    try:
        YOLO(file).train(data=str(data), imgsz=side, epochs=1, workers=0, plots=False, project=str(folder), name="one-line")
    except KeyError as error:
        return str(error)
    return "trained"


def fine_tune(file: str, data: Path, folder: Path, side: int = SIDE, **more: Any) -> Path:
    settings: dict[str, Any] = {"imgsz": side, "epochs": 1, "batch": 2, "workers": 0, "plots": False, "device": "cpu", **more}
    trainer = DetectionTrainer(overrides={"model": file, "data": str(data), "project": str(folder), "name": "tuned", **settings})
    trainer.model = YOLO(file).model
    trainer.train()
    return Path(trainer.save_dir) / "weights"


def main(file: str, folder: Path) -> None:
    sys.modules["tui_pruner"] = None
    data = tiny_data(folder / "data", YOLO(file).names)
    before = shapes(file)
    prediction = YOLO(file).predict(np.full((SIDE, SIDE, 3), 114, np.uint8), imgsz=SIDE, verbose=False)
    metrics = YOLO(file).val(data=str(data), imgsz=SIDE, workers=0, plots=False, project=str(folder), name="val")
    exported = YOLO(file).export(format="torchscript", imgsz=SIDE)
    refusal = train_in_one_line(file, data, folder)
    weights = fine_tune(file, data, folder)
    answer = {
        "predicted": len(prediction),
        "map": float(metrics.box.map),
        "exported_bytes": Path(exported).stat().st_size,
        "train": refusal,
        "structure_kept": {name: shapes(weights / name) == before for name in ("best.pt", "last.pt")},
        "parameters": len(before),
        "tuned": str(weights / "best.pt"),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
