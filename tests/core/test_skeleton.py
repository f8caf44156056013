"""The weightless copy does not depend on what was done with the model before."""

from __future__ import annotations

import torch

from tui_pruner.core.model.analysis import analyse, trace_model
from tui_pruner.frameworks.ultralytics import open_model


def test_model_that_has_run_at_the_traced_size_is_traced_like_a_new_one():
    model = open_model("yolov8n.yaml").model
    fresh = trace_model(model)[1]
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert len(trace_model(model)[1].groups) == len(fresh.groups) > 50


def test_checkpoint_saved_after_a_prediction_is_measured_like_a_new_one():
    checkpoint = open_model("yolov8n.yaml")
    fresh = analyse(checkpoint, 160).measurement.flops
    with torch.no_grad():
        checkpoint.model(torch.zeros(1, 3, 160, 160))
    assert analyse(checkpoint, 160).measurement.flops == fresh > 5e8
