from __future__ import annotations

import yaml

from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.data.linked_copy import private_view


def test_private_view_links_images_to_labels_and_is_deleted_after_use(scenes, build_scenes, write_yaml):
    folder = scenes.parent
    build_scenes(folder / "more", 3)
    (folder / "labels/val/002.txt").unlink()
    data = read_data(write_yaml(folder, {"val": ["images/val", "more/images/val"], "nc": 2, "kpt_shape": [2, 3]}))
    with private_view(data) as file:
        view = file.parent
        images = sorted((view / "images").iterdir())
        assert [image.resolve() for image in images] == [image.resolve() for image in data.images]
        assert len(list((view / "labels").iterdir())) == 22
        for image in images:
            label = view / "labels" / f"{image.stem}.txt"
            if label.exists():
                assert label.resolve().stem == image.resolve().stem
                assert label.resolve().parents[2] == image.resolve().parents[2]
        content = yaml.safe_load(file.read_text())
        assert content["names"] == {0: "class_0", 1: "class_1"} and content["kpt_shape"] == [2, 3]
    assert not view.exists()
    assert all(image.is_file() for image in data.images)
