from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from tui_pruner.errors import DataError
from tui_pruner.jobs.dataset import IMAGE_SUFFIXES, label_of, read_data


def test_a_yaml_without_a_path_is_relative_to_its_own_folder(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = read_data(scenes)
    assert data.names == ("square", "tall")
    assert [image.name for image in data.images] == [f"{number:03}.jpg" for number in range(20)]
    assert data.images[0].parent == scenes.parent / "images/val"


@pytest.mark.parametrize("root", ["absolute", "relative to where the command runs", "among Ultralytics' data sets"])
def test_the_path_key_is_resolved_as_ultralytics_does(scenes, tmp_path, monkeypatch, root, write_yaml):
    monkeypatch.chdir(tmp_path if root.startswith("relative") else "/")
    if root.startswith("among"):
        monkeypatch.setattr("ultralytics.utils.DATASETS_DIR", tmp_path)
    path = str(scenes.parent) if root == "absolute" else "scenes"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = write_yaml(elsewhere, {"path": path, "val": "images/val", "nc": 2})
    assert read_data(file).images == read_data(scenes).images


def test_a_split_may_be_a_list_file_or_several_folders(scenes, build_scenes, write_yaml):
    folder = scenes.parent
    (folder / "val.txt").write_text("./images/val/003.jpg\n\n" + str(folder / "images/val/001.jpg") + "\nnotes.md\n")
    assert [image.name for image in read_data(write_yaml(folder, {"val": "val.txt", "nc": 2})).images] == ["001.jpg", "003.jpg"]
    build_scenes(folder / "more", 3)
    both = write_yaml(folder, {"validation": ["images/val", "more/images/val"], "nc": 2})
    assert len(read_data(both).images) == 23


def test_classes_may_be_a_count_a_list_or_a_mapping(scenes, write_yaml):
    def names(**keys):
        return read_data(write_yaml(scenes.parent, {"val": "images/val", **keys})).names

    assert names(nc="2") == ("class_0", "class_1")
    assert names(names=["a", "b"], nc=2) == ("a", "b")
    assert names(names={1: "b", 0: "a"}) == ("a", "b")


BROKEN = {
    "no val split": ({"names": ["a", "b"]}, "has no val split"),
    "an empty val split": ({"val": "", "names": ["a", "b"]}, "has no val split"),
    "a val split that is a number": ({"val": 3, "names": ["a", "b"]}, "val must be a path"),
    "a missing folder": ({"val": "images/none", "names": ["a", "b"]}, "images/none do not exist"),
    "a folder without images": ({"val": "labels", "names": ["a", "b"]}, "holds no images"),
    "neither names nor nc": ({"val": "images/val"}, "neither names nor nc"),
    "names and nc that disagree": ({"val": "images/val", "names": ["a"], "nc": 2}, "has 1 names but nc: 2"),
    "an nc that is no number": ({"val": "images/val", "nc": "two"}, "nc must be a whole number, not 'two'"),
    "names with a gap": ({"val": "images/val", "names": {0: "a", 2: "b"}}, "numbered 0 to 1"),
    "names that are text": ({"val": "images/val", "names": "ab"}, "not str"),
    "a path that is a list": ({"path": ["x"], "val": "images/val", "nc": 2}, "path must be a folder's name"),
    "a list instead of keys": (["val", "names"], "is not a data yaml"),
    "a listed image that is missing": ({"val": "gone.txt", "nc": 2}, "images/gone.jpg is listed but does not exist"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data_is_named_in_one_line(scenes, case, write_yaml):
    content, words = BROKEN[case]
    (scenes.parent / "gone.txt").write_text("./images/gone.jpg\n")
    file = write_yaml(scenes.parent, content)
    with pytest.raises(DataError) as caught:
        read_data(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1, 2", "[" * 5000, "\x00\x01", b"\xff\xfe\x00\xd8", "!!python/object/apply:os.system ['true']"])
def test_what_does_not_parse_is_no_data_yaml(tmp_path, text):
    file = tmp_path / "data.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match="is not a data yaml"):
        read_data(file)


def test_a_missing_yaml_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"there is no data yaml .*none\.yaml"):
        read_data(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="is a folder"):
        read_data(tmp_path)


def test_a_subset_is_the_same_every_time_and_draws_every_image_equally_often(scenes):
    data = read_data(scenes)
    assert data.subset(5, seed=3) == data.subset(5, seed=3)
    assert data.subset(5, seed=3).images != data.subset(5, seed=4).images
    assert list(data.subset(5, seed=3).images) == sorted(data.subset(5, seed=3).images)
    drawn = Counter(image for seed in range(400) for image in data.subset(5, seed).images)
    assert set(drawn) == set(data.images)
    assert min(drawn.values()) > 65 and max(drawn.values()) < 140


def test_a_subset_as_large_as_the_set_is_the_set(scenes):
    data = read_data(scenes)
    assert data.subset(None, 0) is data.subset(20, 0) is data.subset(99, 0) is data
    with pytest.raises(DataError, match="at least 1"):
        data.subset(0, 0)


def test_the_digest_follows_images_labels_and_classes(scenes, write_yaml):
    digests = {read_data(scenes).digest()}
    assert read_data(scenes).digest() in digests
    label = scenes.parent / "labels/val/004.txt"
    label.write_text("1 0.5 0.5 0.25 0.25\n")
    digests.add(read_data(scenes).digest())
    label.unlink()
    digests.add(read_data(scenes).digest())
    shutil.copyfile(scenes.parent / "images/val/001.jpg", scenes.parent / "images/val/900.jpg")
    digests.add(read_data(scenes).digest())
    digests.add(read_data(scenes).subset(3, 0).digest())
    digests.add(read_data(write_yaml(scenes.parent, {"val": "images/val", "names": ["square", "wide"]})).digest())
    assert len(digests) == 6


def test_image_suffixes_are_those_of_the_installed_ultralytics():
    assert {suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES} == set(IMG_FORMATS)


@pytest.mark.parametrize("image", ["/a/images/val/1.jpg", "/images/b/images/1.2.png", "/c/pictures/1.jpg"])
def test_labels_are_looked_for_where_ultralytics_does(image):
    assert str(label_of(Path(image))) == img2label_paths([image])[0]
