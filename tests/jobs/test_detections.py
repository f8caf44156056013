"""Detections of two stages: what stock Ultralytics finds, matched, the most changed images first, and cached."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import pytest
from ultralytics import YOLO

from tui_pruner.engine.job_messages import Box, DetectionParameters, StageFile
from tui_pruner.jobs.detections import common, compared, run_detections

A, NEAR_A, B = (0.1, 0.1, 0.3, 0.3), (0.1, 0.1, 0.3, 0.28), (0.6, 0.6, 0.9, 0.9)


def box(sides, label: str, score: float) -> Box:
    return Box(sides=sides, label=label, score=score)


def test_overlapping_boxes_of_one_class_match_and_the_rest_counts_as_change():
    assert common(A, A) == pytest.approx(1.0) and common(A, B) == 0.0 and common(A, NEAR_A) == pytest.approx(0.9)
    before = [box(A, "7", 0.9), box(B, "1", 0.6)]
    after = [box(NEAR_A, "7", 0.7), box(B, "2", 0.5)]
    found = compared(Path("a.jpg"), Path("small.jpg"), before, after)
    assert [one.matched for one in found.before] == [True, False]
    assert [one.matched for one in found.after] == [True, False]
    assert found.changed == pytest.approx(0.2 + 0.6 + 0.5)
    assert compared(Path("a.jpg"), Path("small.jpg"), before, before).changed == 0


def test_each_box_is_matched_at_most_once():
    found = compared(Path("a.jpg"), Path("small.jpg"), [box(A, "7", 0.9)], [box(NEAR_A, "7", 0.4), box(A, "7", 0.9)])
    assert [one.matched for one in found.after] == [False, True] and found.changed == pytest.approx(0.4)


@pytest.fixture
def digits(demo_checkpoint: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionParameters:
    """The bundled checkpoint, and the same without two thirds of one layer, on four images."""
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.domain.cuts import parse_request
    from tui_pruner.frameworks.ultralytics import open_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session = PruningSession(analyse(open_model(str(demo_checkpoint))))
    session.apply([parse_request("model.4=66%"), parse_request("model.15=50%")])
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    common = {"checkpoint": str(demo_checkpoint), "sha256": sha256}
    return DetectionParameters(
        **common,
        data=str(demo_data),
        images=4,
        imgsz=160,
        device="cpu",
        stages=(StageFile(checkpoint=str(demo_checkpoint)), StageFile(**common, plan=session.plan.plain())),
    )


def test_most_changed_images_come_first_and_a_second_run_uses_the_cache(digits: DetectionParameters, demo_data: Path):
    said = []
    found = run_detections(digits, said.append)
    assert len(found.images) == 4 and not found.cached
    changes = [one.changed for one in found.images]
    assert changes == sorted(changes, reverse=True) and changes[0] > 0.1
    assert (said[-1].done, said[-1].total) == (8, 8)
    first = found.images[0]
    alone = [one.score for one in (*first.before, *first.after) if not one.matched]
    assert sum(alone) <= first.changed + 1e-6 and sum(one.matched for one in first.before) == sum(one.matched for one in first.after)
    assert max(cv2.imread(first.file).shape) <= 512
    stock = YOLO(digits.checkpoint)(demo_data.parent / "images" / "val" / first.image, imgsz=160, device="cpu", verbose=False)[0]
    assert sorted(one.label for one in first.before) == sorted(stock.names[int(number)] for number in stock.boxes.cls.tolist())
    assert [one.score for one in first.before] == pytest.approx(sorted(stock.boxes.conf.tolist(), reverse=True), abs=1e-3)
    again = run_detections(digits, said.append)
    assert again.cached and again.images == found.images
