"""Rebuild the bundled demo: handwritten digits on cluttered scenes, and a YOLOv8n that Ultralytics trained on them.

Needs scikit-learn beside the package's own requirements (``pip install scikit-learn``). Run from anywhere::

    python assets/build_demo.py --out assets/demo

The digits are the 1,797 real 8x8 scans of the UCI "Optical Recognition of Handwritten Digits" set that scikit-learn ships
(`sklearn.datasets.load_digits`). A fifth of the *scans* is set aside for the validation scenes, so no validated stroke was trained on.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator

from tui_pruner.jobs.tools import UntimedEvaluations, without_time_limit

SIDE = 160
VALIDATION_SCENES = 128
STORED_TRAINING_SCENES = 256
JPEG_QUALITY = 88
SMALLEST_DIGIT, LARGEST_DIGIT = 22, 76
LEAST_CONTRAST = 70
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """One handwritten digit: its class and its ink, cropped to the strokes, values 0..1."""

    digit: int
    ink: Plane


@dataclass(frozen=True)
class Box:
    """An object in a scene: class, and left, top, width, height in pixels."""

    digit: int
    left: int
    top: int
    width: int
    height: int

    def label(self) -> str:
        """The box as a line of a YOLO label file, relative to the scene's side."""
        x, y = (self.left + self.width / 2) / SIDE, (self.top + self.height / 2) / SIDE
        return f"{self.digit} {x:.6f} {y:.6f} {self.width / SIDE:.6f} {self.height / SIDE:.6f}"

    def overlaps(self, other: Box, margin: int = 2) -> bool:
        """Whether the two boxes come closer to each other than `margin` pixels."""
        return (
            self.left < other.left + other.width + margin
            and other.left < self.left + self.width + margin
            and self.top < other.top + other.height + margin
            and other.top < self.top + self.height + margin
        )


def read_scans(seed: int) -> tuple[list[Scan], list[Scan]]:
    """The scans, shuffled and split into those to train on and those to validate on."""
    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.images))
    scans = []
    for index in order:
        ink = (bunch.images[index] / 16.0).astype(np.float32)
        rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
        scans.append(Scan(int(bunch.target[index]), ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
    held_out = len(scans) // 5
    return scans[held_out:], scans[:held_out]


def clutter(rng: np.random.Generator) -> Image:
    """A background of gradients, patches, strokes and noise."""
    corners = rng.integers(20, 236, (2, 2, 3)).astype(np.uint8)
    scene = cv2.resize(corners, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(4, 12)):
        colour = tuple(int(c) for c in rng.integers(20, 236, 3))
        x, y, a, b = (int(v) for v in rng.integers(0, SIDE, 4))
        kind = rng.integers(3)
        patch = scene.copy()
        if kind == 0:
            cv2.rectangle(patch, (x, y), (a, b), colour, -1)
        elif kind == 1:
            cv2.ellipse(patch, (x, y), (a // 5 + 4, b // 5 + 4), float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            cv2.line(patch, (x, y), (a, b), colour, int(rng.integers(1, 4)), cv2.LINE_AA)
        scene = cv2.addWeighted(patch, 0.55, scene, 0.45, 0)
    noisy = scene.astype(np.float32) + rng.normal(0, 6, scene.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def place(scene: Image, scan: Scan, taken: list[Box], rng: np.random.Generator) -> Box | None:
    """Paint the scan somewhere free, in a colour that stands off its background; None where no place was found."""
    height = int(np.exp(rng.uniform(np.log(SMALLEST_DIGIT), np.log(LARGEST_DIGIT))))
    width = max(6, round(height * scan.ink.shape[1] / scan.ink.shape[0] * rng.uniform(0.85, 1.15)))
    if width >= SIDE:
        return None
    for _ in range(12):
        box = Box(scan.digit, int(rng.integers(0, SIDE - width)), int(rng.integers(0, SIDE - height)), width, height)
        if not any(box.overlaps(other) for other in taken):
            paint(scene, scan.ink, box, rng)
            return box
    return None


def paint(scene: Image, ink: Plane, box: Box, rng: np.random.Generator) -> None:
    """Blend the ink into the scene inside the box."""
    region = scene[box.top : box.top + box.height, box.left : box.left + box.width]
    ground = float(region.mean())
    alpha = cv2.resize(ink, (box.width, box.height), interpolation=cv2.INTER_LINEAR)[..., None]
    alpha = np.clip((alpha - 0.25) * 2.2, 0, 1)
    lighter = ground < LEAST_CONTRAST or (ground < 255 - LEAST_CONTRAST and bool(rng.random() < 0.5))
    low, high = (ground + LEAST_CONTRAST, 255) if lighter else (0, ground - LEAST_CONTRAST)
    colour = np.clip(rng.uniform(low, max(high, low + 1)) + rng.normal(0, 18, 3), 0, 255)
    region[:] = np.clip(region * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)


def scenes(scans: list[Scan], count: int, seed: int) -> Iterator[tuple[Image, list[Box]]]:
    """`count` scenes with two to seven digits each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene = clutter(rng)
        boxes: list[Box] = []
        for _ in range(rng.integers(2, 8)):
            box = place(scene, scans[rng.integers(len(scans))], boxes, rng)
            boxes += [box] if box else []
        yield scene, boxes


def write_scenes(root: Path, split: str, scans: list[Scan], count: int, seed: int) -> None:
    """Write `count` scenes as images/SPLIT/*.jpg and labels/SPLIT/*.txt."""
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, (scene, boxes) in enumerate(scenes(scans, count, seed)):
        cv2.imwrite(str(images / f"{number:05d}.jpg"), scene, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (labels / f"{number:05d}.txt").write_text("".join(f"{box.label()}\n" for box in boxes))


def write_data_yaml(root: Path) -> Path:
    """Write the data set's yaml, with paths relative to itself."""
    path = root / "digits.yaml"
    content = {"train": "images/train", "val": "images/val", "names": dict(enumerate(NAMES))}
    heading = "# Real handwritten digits on cluttered scenes; made by assets/build_demo.py\n"
    path.write_text(heading + yaml.safe_dump(content, sort_keys=False))
    return path


class Trainer(UntimedEvaluations, DetectionTrainer):
    """Ultralytics' trainer; a busy machine does not choose another epoch."""


def train(data: Path, epochs: int, seed: int, runs: Path) -> tuple[Path, float]:
    """Train YOLOv8n with Ultralytics; the best checkpoint and its mAP50-95 on the validation scenes."""
    model = YOLO("yolov8n.yaml")
    model.train(
        trainer=Trainer, data=str(data), imgsz=SIDE, epochs=epochs, batch=32, seed=seed, device="cpu", workers=1, cache="ram",
        optimizer="AdamW", lr0=0.002, lrf=0.02, cos_lr=True, warmup_epochs=2, fliplr=0.0, mosaic=0.4,
        close_mosaic=max(3, epochs // 4), scale=0.3, erasing=0.0, plots=False, amp=False, project=str(runs), name="digits", verbose=False,
    )  # fmt: skip
    best = Path(model.trainer.best)
    metrics = YOLO(best).val(
        validator=without_time_limit(DetectionValidator), data=str(data), imgsz=SIDE, device="cpu", workers=0, plots=False,
        project=str(runs), verbose=False,
    )  # fmt: skip
    return best, float(metrics.box.map)


def without_paths(value: Any) -> Any:
    """The value with every string that is an absolute path shortened to its last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        return Path(value).name
    return value


def store(best: Path, target: Path, results: dict[str, float]) -> None:
    """Write the stripped checkpoint without a trace of the machine that trained it."""
    checkpoint = torch.load(best, map_location="cpu", weights_only=False)
    keep = ("epoch", "best_fitness", "model", "train_args", "date", "version", "license", "docs")
    slim = {key: without_paths(checkpoint[key]) for key in keep if key in checkpoint}
    slim |= {"ema": None, "optimizer": None, "updates": None, "train_metrics": results}
    model = slim["model"]
    model.args = without_paths(dict(model.args))
    for name in ("pt_path", "yaml_file"):
        if isinstance(getattr(model, name, None), str):
            setattr(model, name, Path(getattr(model, name)).name)
    model.yaml = without_paths(model.yaml)
    torch.save(slim, target)


def main() -> None:
    """Build everything, and refuse to store a checkpoint that missed the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "demo")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scenes", type=int, default=1800, help="training scenes to generate; only the first 256 are stored")
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--least-map", type=float, default=0.60, help="the mAP50-95 that the checkpoint must reach")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        training, validation = read_scans(options.seed)
        write_scenes(work, "train", training, options.scenes, options.seed + 1)
        write_scenes(work, "val", validation, VALIDATION_SCENES, options.seed + 2)
        best, reached = train(write_data_yaml(work), options.epochs, options.seed, work / "runs")
        print(f"mAP50-95 on {VALIDATION_SCENES} scenes of unseen digits: {reached:.4f}")
        if reached < options.least_map:
            raise SystemExit(f"below {options.least_map}: nothing stored; train longer or on more scenes")
        shutil.rmtree(options.out, ignore_errors=True)
        options.out.mkdir(parents=True)
        write_scenes(options.out, "train", training, STORED_TRAINING_SCENES, options.seed + 1)
        write_scenes(options.out, "val", validation, VALIDATION_SCENES, options.seed + 2)
        write_data_yaml(options.out)
        store(best, options.out / "digits.pt", {"metrics/mAP50-95(B)": round(reached, 5)})


if __name__ == "__main__":
    main()
