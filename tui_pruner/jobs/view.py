"""A private folder of links to a data set: Ultralytics writes label caches and repairs images in place, but the folder is the user's."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from tui_pruner.jobs.dataset import DataSet, label_of


@contextlib.contextmanager
def private_view(data: DataSet) -> Iterator[Path]:
    """A temporary folder with links to the images and labels of `data`, and a `data.yaml` for them; gives the folder.

    Files are numbered in the data set's order: equal names in different folders stay apart, and Ultralytics' sorting keeps the order.
    """
    with tempfile.TemporaryDirectory(prefix="tui-pruner-view-") as name:
        folder = Path(name).resolve()
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        for number, image in enumerate(data.images):
            (folder / "images" / f"{number:08}{image.suffix}").symlink_to(image)
            if label_of(image).is_file():
                (folder / "labels" / f"{number:08}.txt").symlink_to(label_of(image))
        content = {**data.settings, "path": str(folder), "train": "images", "val": "images", "names": dict(enumerate(data.names))}
        (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        yield folder
