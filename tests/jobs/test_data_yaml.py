from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from tests.jobs.conftest import draw_scene
from tui_pruner.domain.errors import DataError
from tui_pruner.jobs.data import dataset
from tui_pruner.jobs.data.dataset import IMAGE_SUFFIXES, label_of, read_data
from tui_pruner.storage.yaml import PASSED_ON, everywhere


def test_yaml_without_path_is_relative_to_its_own_folder(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = read_data(scenes)
    assert data.names == ("square", "tall")
    assert [image.name for image in data.images] == [f"{number:03}.jpg" for number in range(20)]
    assert data.images[0].parent == scenes.parent / "images/val"


@pytest.mark.parametrize("root", ["absolute", "relative to where the command runs", "among Ultralytics' data sets"])
def test_path_key_is_resolved_like_in_ultralytics(scenes, tmp_path, monkeypatch, root, write_yaml):
    monkeypatch.chdir(tmp_path if root.startswith("relative") else "/")
    if root.startswith("among"):
        monkeypatch.setattr("ultralytics.utils.DATASETS_DIR", tmp_path)
    path = str(scenes.parent) if root == "absolute" else "scenes"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = write_yaml(elsewhere, {"path": path, "val": "images/val", "nc": 2})
    assert read_data(file).images == read_data(scenes).images


def test_split_can_be_a_list_file_or_several_folders(scenes, build_scenes, write_yaml):
    folder = scenes.parent
    (folder / "val.txt").write_text("./images/val/003.jpg\n\n" + str(folder / "images/val/001.jpg") + "\nnotes.md\n")
    assert [image.name for image in read_data(write_yaml(folder, {"val": "val.txt", "nc": 2})).images] == ["001.jpg", "003.jpg"]
    build_scenes(folder / "more", 3)
    both = write_yaml(folder, {"validation": ["images/val", "more/images/val"], "nc": 2})
    assert len(read_data(both).images) == 23


def test_classes_can_be_a_count_a_list_or_a_mapping(scenes, write_yaml):
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
    "an nc that is not a number": ({"val": "images/val", "nc": "two"}, "nc must be a whole number, not 'two'"),
    "names with a gap": ({"val": "images/val", "names": {0: "a", 2: "b"}}, "numbered 0 to 1"),
    "names that are text": ({"val": "images/val", "names": "ab"}, "not str"),
    "a path that is a list": ({"path": ["x"], "val": "images/val", "nc": 2}, "path must be a folder's name"),
    "a list instead of keys": (["val", "names"], "is not a data yaml"),
    "a listed image that is missing": ({"val": "gone.txt", "nc": 2}, "images/gone.jpg is listed but does not exist"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data_is_reported_in_one_line(scenes, case, write_yaml):
    content, words = BROKEN[case]
    (scenes.parent / "gone.txt").write_text("./images/gone.jpg\n")
    file = write_yaml(scenes.parent, content)
    with pytest.raises(DataError) as caught:
        read_data(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1, 2", "[" * 5000, "\x00\x01", b"\xff\xfe\x00\xd8", "!!python/object/apply:os.system ['true']"])
def test_text_that_does_not_parse_is_refused_as_data_yaml(tmp_path, text):
    file = tmp_path / "data.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match="is not a data yaml"):
        read_data(file)


def test_missing_yaml_and_folder_have_different_errors(tmp_path):
    with pytest.raises(DataError, match=r"no data yaml .*none\.yaml"):
        read_data(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="is a folder"):
        read_data(tmp_path)


NAMES = "names:\n  0: square\n  1: tall\n"
ACCEPTED = {
    "quoted numbers": "val: images/val\nnames:\n  '0': square\n  \"1\": tall\n",
    "numbers with a point": "val: images/val\nnames:\n  0.0: square\n  1.0: tall\n",
    "names that are no text": "val: images/val\nnames: [yes, 7]\n",
    "codes of ImageNet": "val: images/val\nnames: [square, n01440764]\n",
    "a count in quotes": "val: images/val\nnc: '2'\n",
    "a count with a point": "val: images/val\nnc: 2.0\n",
    "no names but a count": "val: images/val\nnames:\nnc: 2\n",
    "a comment in Latin-1": ("val: images/val\n" + NAMES).encode() + b"# caf\x92 note\n",
    "a name in Latin-1": b"val: images/val\nnames: [caf\xe9, tall]\n",
    "control characters": f"val: images/val\n{NAMES}# \x07 \x1b[1m \x00\n",
    "a control character in a name": "val: images/val\nnames: ['squ\x08are', tall]\n",
    "a byte order mark": b"\xef\xbb\xbf" + ("val: images/val\n" + NAMES).encode(),
    "line ends of Windows": ("val: images/val\n" + NAMES).replace("\n", "\r\n"),
    "line ends of old Macs": ("val: images/val\n" + NAMES).replace("\n", "\r"),
    "UTF-16": ("val: images/val\n" + NAMES).encode("utf-16"),
    "UTF-16 without its mark": ("val: images/val\n" + NAMES).encode("utf-16-be"),
    "keys that are given twice": f"val: nowhere\nval: images/val\n{NAMES}",
    "a root that is the word None": f"path: None\nval: images/val\n{NAMES}",
    "a root that is empty": f"path:\nval: images/val\n{NAMES}",
    "a root that is absolute": f"path: FOLDER\nval: images/val\n{NAMES}",
    "a list of splits": f"val: [images/val, FOLDER/images/val]\n{NAMES}",
    "a folder beside": f"val: ../images/val\n{NAMES}",
    "the other word for val": f"validation: images/val\n{NAMES}",
    "a list of images": f"val: list.txt\n{NAMES}",
    "a list of images of Windows": f"val: windows.txt\n{NAMES}",
    "an alias": f"val: &here images/val\ntest: *here\n{NAMES}",
    "emoji and other scripts": "val: images/val\nnames: ['\U0001f41f', 'κύκλος']\n",
    "sigmas of keypoints": f"val: images/val\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\nkpt_oks_sigmas: [0.1, 0.2]\n{NAMES}",
    "a grey image": f"val: images/val\nchannels: 1\n{NAMES}",
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_yaml_that_ultralytics_accepts_is_read_with_the_same_result(scenes, case):
    from ultralytics.data.base import BaseDataset
    from ultralytics.data.utils import check_det_dataset
    from ultralytics.nn.autobackend import check_class_names

    folder, text = scenes.parent, ACCEPTED[case]
    (folder / "list.txt").write_text("./images/val/003.jpg\n./images/val/001.jpg\n")
    (folder / "windows.txt").write_bytes("\ufeff./images/val/003.jpg\r\n./images/val/001.jpg\r\n".encode())
    raw = text if isinstance(text, bytes) else text.replace("FOLDER", str(folder)).encode()
    train = "train: images/val\n"
    scenes.write_bytes(raw + (train.encode(ENCODINGS[case]) if case in ENCODINGS else train.encode()))
    stock = check_det_dataset(scenes)
    reader = SimpleNamespace(prefix="", fraction=1.0)
    images = BaseDataset.get_img_files(reader, stock["val"])
    data = read_data(scenes)
    assert check_class_names(dict(enumerate(data.names))) == stock["names"]
    assert sorted(map(str, data.images)) == images
    assert {"channels": 3, **data.settings} == {key: stock[key] for key in ("channels", *PASSED_ON) if stock.get(key) is not None}


ENCODINGS = {"UTF-16": "utf-16-le", "UTF-16 without its mark": "utf-16-be"}
WRONG = {
    "a tab": ("val: images/val\nnames:\n\t0: a\n", r"is not a data yaml: line 3: "),
    "a colon too many": ("val: images/val\nnames: a: b\n", r"line 2: mapping values are not allowed"),
    "a fault behind a control character": ("val: images/val # \x07\n\nnames: a: b\n", r"line 3: mapping values are not allowed"),
    "two documents": ("val: images/val\n---\nnames: [a]\n", r"line 2: but found another document"),
    "a date that there is not": ("val: images/val\nnames: [2024-13-99]\n", r"line 2: this is not a timestamp"),
    "a key that is not a number": ("val: images/val\nnames: {a: b}\n", "a key is not a number"),
    "no names in it": ("val: images/val\nnames: []\n", "names is empty"),
    "more classes than anybody has": ("val: images/val\nnc: 1e12\n", "nc must be a whole number"),
    "a count without end": ("val: images/val\nnc: .inf\n", "nc must be a whole number"),
    "half a class": ("val: images/val\nnc: 1.9\n", "nc must be a whole number, not 1.9"),
    "keypoints that are text": ("val: images/val\nnc: 2\nkpt_shape: '17,3'\n", r"kpt_shape is of the wrong type \(str\)"),
    "keypoints of four figures": ("val: images/val\nnc: 2\nkpt_shape: [17, 4]\n", r"kpt_shape must be \[number of keypoints, 2 or 3\]"),
    "a sigma too few": ("val: images/val\nnc: 2\nkpt_shape: [2, 3]\nkpt_oks_sigmas: [1]\n", "kpt_oks_sigmas must be 2 positive"),
    "channels that are text": ("val: images/val\nnc: 2\nchannels: '3'\n", r"channels is of the wrong type \(str\)"),
    "a folder whose name lost a byte": (
        b"val: caf\xe9\nnc: 2\n",
        r"caf do not exist \(line 1 has bytes that are not UTF-8.*save it as",
    ),
    "a fault in UTF-16": ("val: images/val\nnames: a: b\n".encode("utf-16"), r"line 2: .*\(it is UTF-16, of which only ASCII is read"),
    "a list in Latin-1": ("val: latin.txt\nnc: 2\n", r"latin\.txt is not a list of images in UTF-8 \(line 2\)"),
    "an image for a folder": ("val: images/val/001.jpg\nnc: 2\n", "001.jpg is not a list of images in UTF-8"),
    "a pattern": ("val: images/val/*.jpg\nnc: 2\n", r"val/\*\.jpg do not exist"),
    "billions by aliases": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(f"{k}: &{k} [{', '.join([f'*{p}'] * 9)}]\n" for p, k in zip("abcdefghi", "bcdefghij")),
        "its aliases",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_yaml_is_reported_in_one_line_with_its_position(scenes, case):
    text, words = WRONG[case]
    scenes.write_bytes(text if isinstance(text, bytes) else text.encode())
    (scenes.parent / "latin.txt").write_bytes(b"./images/val/001.jpg\n./images/val/caf\xe9.jpg\n")
    with pytest.raises(DataError, match=words) as caught:
        read_data(scenes)
    assert str(caught.value).startswith(str(scenes)) and "\n" not in str(caught.value)


def test_endless_file_is_refused_before_it_is_read_whole(tmp_path):
    endless = tmp_path / "endless.yaml"
    endless.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is too large for a data yaml"):
        read_data(endless)


@pytest.mark.parametrize("given", ["https://example.com/coco8.zip", "ul://someone/datasets/digits", "digits.ndjson", "digits.tar.gz"])
def test_data_that_ultralytics_would_download_or_unpack_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="nothing is downloaded or unpacked here"):
        read_data(given)


@pytest.mark.parametrize("given", ["coco8.yaml", "coco8", "ultralytics/cfg/datasets/coco8.yaml"])
def test_data_sets_of_ultralytics_are_found_by_name(given, build_scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ultralytics.utils.DATASETS_DIR", tmp_path / "datasets")
    missing = tmp_path / "datasets/coco8/images/val"
    with pytest.raises(
        DataError, match=rf"coco8\.yaml: the validation images {missing} do not exist: nothing is downloaded here"
    ) as caught:
        read_data(given)
    assert "\n" not in str(caught.value)
    build_scenes(tmp_path / "datasets/coco8", 3)
    data = read_data(given)
    assert [image.name for image in data.images] == ["000.jpg", "001.jpg", "002.jpg"]
    assert (len(data.names), data.names[79]) == (80, "toothbrush")


def test_local_file_is_preferred_to_a_data_set_of_ultralytics(build_scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build_scenes(tmp_path, 2).rename(tmp_path / "coco8.yaml")
    assert read_data("coco8.yaml").names == ("square", "tall")
    with pytest.raises(DataError, match=r"no data yaml /elsewhere/coco8\.yaml"):
        read_data("/elsewhere/coco8.yaml")
    with pytest.raises(DataError, match=r"no data yaml coco9\.yaml, and Ultralytics has no data set of that name"):
        read_data("coco9.yaml")


def test_data_name_becomes_absolute_only_if_it_is_a_local_file(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(scenes.parent)
    assert everywhere("data.yaml") == everywhere(scenes) == str(scenes)
    assert Path(everywhere("coco8")).parts[-4:] == ("ultralytics", "cfg", "datasets", "coco8.yaml")
    assert everywhere("mnist") == "mnist"


def test_classification_data_set_of_ultralytics_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ultralytics.utils.DATASETS_DIR", tmp_path / "datasets")
    draw_scene(tmp_path / "datasets/mnist/val/seven/1.jpg", tmp_path / "labels/1.txt", 0)
    data = read_data("mnist")
    assert (data.names, data.in_class_folders) == (("seven",), True)


def test_folder_can_be_given_instead_of_its_data_yaml(scenes, tmp_path):
    assert read_data(scenes.parent) == read_data(scenes)
    exported = tmp_path / "exported"  # each split a folder with images and labels, which are no classes
    for split in ("train", "val"):
        draw_scene(exported / split / "images/1.jpg", exported / split / "labels/1.txt", 0)
    (exported / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [square, tall]\n")
    assert read_data(exported).images == (exported / "val/images/1.jpg",)
    (exported / "other.yaml").write_text("nc: 2\n")
    with pytest.raises(DataError, match="is a folder with 2 data yamls in it"):
        read_data(exported)
    (exported / "data.yaml").rename(exported / "exported.yaml")
    assert read_data(exported).yaml_file == exported / "exported.yaml"


def test_subset_is_reproducible_and_draws_all_images_equally_often(scenes):
    data = read_data(scenes)
    assert data.subset(5, seed=3) == data.subset(5, seed=3)
    assert data.subset(5, seed=3).images != data.subset(5, seed=4).images
    assert list(data.subset(5, seed=3).images) == sorted(data.subset(5, seed=3).images)
    drawn = Counter(image for seed in range(400) for image in data.subset(5, seed).images)
    assert set(drawn) == set(data.images)
    assert min(drawn.values()) > 65 and max(drawn.values()) < 140


def test_subset_of_full_size_is_the_whole_set(scenes):
    data = read_data(scenes)
    assert data.subset(None, 0) is data.subset(20, 0) is data.subset(99, 0) is data
    with pytest.raises(DataError, match="at least 1"):
        data.subset(0, 0)


@pytest.mark.parametrize("many", [1, 10**6])
def test_digest_depends_on_images_labels_and_classes(scenes, write_yaml, monkeypatch, many):
    monkeypatch.setattr(dataset, "MANY", many)
    digests = {read_data(scenes).digest()}
    assert read_data(scenes).digest() in digests
    label = scenes.parent / "labels/val/004.txt"
    label.write_text("1 0.5 0.5 0.25 0.25\n")
    digests.add(read_data(scenes).digest())
    before = label.stat()
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))  # corrected within a tick of the disk's clock
    digests.add(read_data(scenes).digest())
    label.unlink()
    digests.add(read_data(scenes).digest())
    shutil.copyfile(scenes.parent / "images/val/001.jpg", scenes.parent / "images/val/900.jpg")
    digests.add(read_data(scenes).digest())
    digests.add(read_data(scenes).subset(3, 0).digest())
    digests.add(read_data(write_yaml(scenes.parent, {"val": "images/val", "names": ["square", "wide"]})).digest())
    assert len(digests) == 7


def test_labels_of_a_large_data_set_are_read_again_only_after_a_change(scenes, monkeypatch):
    whole = read_data(scenes).digest()
    read: list[Path] = []
    monkeypatch.setattr(dataset, "MANY", 1)
    monkeypatch.setattr(dataset, "_labels_in", lambda file, labels=dataset._labels_in: read.append(file) or labels(file))
    monkeypatch.setattr(dataset, "SETTLED", 0)
    assert read_data(scenes).digest() == whole and len(read) == 20
    assert read_data(scenes).digest() == whole and len(read) == 20
    label = scenes.parent / "labels/val/004.txt"
    label.write_text(label.read_text() + " ")
    assert read_data(scenes).digest() != whole and len(read) == 40


def test_image_suffixes_equal_those_of_the_installed_ultralytics():
    assert {suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES} == set(IMG_FORMATS)


@pytest.mark.parametrize("image", ["/a/images/val/1.jpg", "/images/b/images/1.2.png", "/c/pictures/1.jpg"])
def test_label_paths_equal_those_of_ultralytics(image):
    assert str(label_of(Path(image))) == img2label_paths([image])[0]
