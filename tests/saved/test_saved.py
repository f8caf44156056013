"""The file of a pruned model of any family and task, used by stock Ultralytics alone.

The cheapest families by default; SAVED_FAMILIES=all, or names with commas between them, chooses others.
"""

from __future__ import annotations

import math
import os

import pytest
import torch

from tests.saved.expected import EXPORTS, SAME, SAME_EXPORTED
from tests.saved.families import CHOICE, chosen
from tests.saved.walk import Walk, walk

QUICK = {name: EXPORTS[name] for name in ("TorchScript", "ONNX")}
IMAGES, RECTANGLES = 8, 3
WITH_OBJECTS = ("detect", "segment", "pose", "obb")


@pytest.fixture(scope="module", params=chosen(os.environ.get(CHOICE)))
def walked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A family's file, and what a stranger reports of it."""
    return walk(request.param, tmp_path_factory.mktemp(request.param), QUICK)


def test_file_is_smaller_and_predicts_the_same_as_the_model_in_memory(walked: Walk):
    dense, pruned = walked.saved.parameters
    assert pruned < 0.8 * dense
    assert walked.report["parameters"] == pruned
    assert walked.report["predicted"] == 1
    assert walked.report["predict_difference"] <= SAME


def test_exports_compute_the_same_as_the_model_in_memory(walked: Walk):
    differences = walked.report["export_differences"]
    assert differences.keys() == QUICK.keys()
    assert all(difference <= SAME_EXPORTED for difference in differences.values()), differences


def test_train_refuses_and_names_the_stock_trainer_of_the_task(walked: Walk):
    assert "PRUNED MODEL: train() would rebuild the network at full size" in walked.report["refusal"]
    assert walked.report["trainer_is_its_own"] is True


def test_epoch_with_the_stock_trainer_learns_and_keeps_every_width(walked: Walk):
    tuned = walked.report["tuned"]
    assert tuned["trained_on"] == [IMAGES, IMAGES * RECTANGLES if walked.saved.task in WITH_OBJECTS else 0]
    assert all(map(math.isfinite, tuned["losses"].values())) and any(tuned["losses"].values()), tuned["losses"]
    assert tuned["moved"] is True
    assert tuned["parameters"] == [walked.saved.parameters[1]] * 2
    assert tuned["structure_kept"] is True
    assert tuned["outputs"] == [list(output.shape) for output in torch.load(walked.expected, weights_only=True)["outputs"]]
