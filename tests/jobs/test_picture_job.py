"""Pictures: what stock Ultralytics finds on the images of a validation, drawn as it draws; unreadable images are reported."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import pytest
import yaml
from ultralytics import YOLO

from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import CheckpointError, RequestError
from tui_pruner.engine.job_messages import PictureParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.jobs.data.pictures import predictor_of, run_pictures

READABLE = ("00005.jpg", "00032.jpg")


def ignore(progress):
    pass


@pytest.fixture
def digits(demo_checkpoint: Path, demo_data: Path, tmp_path: Path) -> PictureParameters:
    """Two of the bundled scenes and a damaged one."""
    content = yaml.safe_load(demo_data.read_text())
    for name in READABLE:
        for kind, file in (("images", name), ("labels", f"{Path(name).stem}.txt")):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(demo_data.parent / kind / "val" / file, tmp_path / kind / file)
    (tmp_path / "images" / "damaged.jpg").write_bytes(b"\xff\xd8 and no more")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"val": "images", "names": content["names"]}))
    (tmp_path / "drawn").mkdir()
    return PictureParameters(
        checkpoint=str(demo_checkpoint),
        sha256=hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest(),
        data=str(tmp_path / "data.yaml"),
        imgsz=160,
        device="cpu",
        folder=str(tmp_path / "drawn"),
    )


def test_recovered_model_is_drawn_after_the_plan_instead_of_the_cut_one(digits: PictureParameters, demo_checkpoint: Path):
    session = PruningSession(analyse(open_model(str(demo_checkpoint)), 160))
    session.apply([parse_request("model.22.cv3.0.1=90%")])
    plan = session.plan.plain()
    cut = run_pictures(digits.model_copy(update={"plan": plan}), ignore)
    assert any(picture.before != picture.after for picture in cut.pictures)
    recovered = run_pictures(digits.model_copy(update={"plan": plan, "recovered": str(demo_checkpoint)}), ignore)
    assert all(picture.before == picture.after for picture in recovered.pictures)


def test_recovered_file_that_changed_is_not_drawn(digits: PictureParameters, demo_checkpoint: Path):
    changed = digits.model_copy(update={"recovered": str(demo_checkpoint), "recovered_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="changed on disk since the job was created"):
        run_pictures(changed, ignore)
    assert list(Path(digits.folder).iterdir()) == []


def test_pictures_show_the_detections_of_stock_ultralytics(digits: PictureParameters, demo_checkpoint: Path):
    said = []
    found = run_pictures(digits, said.append)
    assert [picture.image for picture in found.pictures] == list(READABLE)
    assert found.notes == ["1 of 3 images were skipped as damaged or wrongly labelled"]
    assert [(progress.done, progress.total) for progress in said] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    model = YOLO(demo_checkpoint)
    for picture in found.pictures:
        stock = model.predict(Path(digits.data).parent / "images" / picture.image, imgsz=160, conf=found.confidence, verbose=False)[0]
        names = [model.names[int(number)] for number in stock.boxes.cls]
        assert picture.before == picture.after == {name: names.count(name) for name in sorted(names)}
        drawn = [cv2.imread(str(Path(digits.folder, file))) for file in (picture.before_file, picture.after_file)]
        assert (drawn[0] == drawn[1]).all()
        assert (cv2.absdiff(drawn[0], cv2.resize(stock.orig_img, (512, 512), interpolation=cv2.INTER_CUBIC)) > 60).any(), "boxes are drawn"


def test_changed_checkpoint_is_refused(digits: PictureParameters):
    with pytest.raises(CheckpointError, match="changed on disk"):
        run_pictures(digits.model_copy(update={"sha256": "0" * 64}), ignore)


def test_classifier_is_refused_since_it_has_no_detections():
    with pytest.raises(RequestError, match="a ClassificationModel has no detections to draw"):
        predictor_of(open_model("yolov8n-cls.yaml", 3).model)
