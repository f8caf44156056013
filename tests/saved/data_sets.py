"""A tiny data set for every task of Ultralytics, in the layout that its stock data loaders read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageDraw

from tests.saved.scenes import SIDE, Rectangle, Scene, draw_scene

SPLITS = {"train": range(8), "val": range(8, 12)}
NAMES = {0: "red", 1: "green", 2: "blue"}
KEYPOINTS = 17
VISIBLE = 2
UNLABELLED = 255
MILLIMETRES = 1000
WALL = 10.0


def write_data_set(task: str, folder: Path) -> Path:
    """Draw a data set for a task into a folder that does not exist yet; what a trainer's `data` is then set to."""
    if task == "classify":
        return write_class_folders(folder)
    for split, numbers in SPLITS.items():
        for number in numbers:
            scene = draw_scene(number)
            save(scene.image, folder / "images" / split / f"{number}.png")
            LABELS[task](scene, folder, f"{split}/{number}")
    description = folder / "data.yaml"
    description.write_text(yaml.safe_dump({"path": str(folder), "train": "images/train", "val": "images/val", **KEYS.get(task, NAMED)}))
    return description


def write_class_folders(folder: Path) -> Path:
    """One folder for every class, with pictures of that kind of rectangle alone."""
    for split, numbers in SPLITS.items():
        for number in numbers:
            kind = number % len(NAMES)
            save(draw_scene(number, (kind,)).image, folder / split / NAMES[kind] / f"{number}.png")
    return folder


def save(image: Image.Image, file: Path) -> None:
    """Save a picture, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def rows_of(figures: Callable[[Rectangle], np.ndarray]) -> Callable[[Scene, Path, str], None]:
    """A writer of text labels: a row for every object, its class and then figures in shares of the picture's side."""

    def write(scene: Scene, folder: Path, name: str) -> None:
        file = folder / "labels" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [" ".join([str(one.kind), *(f"{figure:.5f}" for figure in np.ravel(figures(one)))]) for one in scene.rectangles]
        file.write_text("\n".join(rows) + "\n")

    return write


def box(one: Rectangle) -> np.ndarray:
    """Centre, width and height of the upright box around."""
    low, high = one.corners.min(axis=0) / SIDE, one.corners.max(axis=0) / SIDE
    return np.concatenate([(low + high) / 2, high - low])


def box_and_keypoints(one: Rectangle) -> np.ndarray:
    """The box, then x, y and visibility of points along the outline."""
    points = np.column_stack([one.outline(KEYPOINTS) / SIDE, np.full(KEYPOINTS, VISIBLE)])
    return np.concatenate([box(one), points.ravel()])


def corners(one: Rectangle) -> np.ndarray:
    """The four corners, which are an oriented box, and a polygon as well."""
    return one.corners / SIDE


def write_mask(scene: Scene, folder: Path, name: str) -> None:
    """The class of every pixel."""
    mask = Image.new("L", (SIDE, SIDE), UNLABELLED)
    for one in scene.rectangles:
        ImageDraw.Draw(mask).polygon(one.polygon, fill=one.kind)
    save(mask, folder / "masks" / f"{name}.png")


def write_depth(scene: Scene, folder: Path, name: str) -> None:
    """How far every pixel is away: a wall, and nearer rectangles."""
    depth = Image.new("F", (SIDE, SIDE), WALL)
    for one in scene.rectangles:
        ImageDraw.Draw(depth).polygon(one.polygon, fill=one.metres)
    save(Image.fromarray((np.asarray(depth) * MILLIMETRES).astype(np.uint16)), folder / "depth" / f"{name}.png")


LABELS: dict[str, Callable[[Scene, Path, str], None]] = {
    "detect": rows_of(box),
    "segment": rows_of(corners),
    "pose": rows_of(box_and_keypoints),
    "obb": rows_of(corners),
    "semantic": write_mask,
    "depth": write_depth,
}
NAMED = {"names": NAMES}
KEYS: dict[str, dict[str, object]] = {
    "pose": {"names": NAMES, "kpt_shape": [KEYPOINTS, 3], "flip_idx": list(range(KEYPOINTS))},
    "semantic": {"names": NAMES, "masks_dir": "masks"},
    "depth": {"names": {0: "depth"}, "nc": 1, "depth_scale": MILLIMETRES},
}
