"""All coupled groups of a model: our trace against torch-pruning's, on the same model and input, in turn in one process."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import torch
import torch_pruning
import torchvision
from torch import nn

from tests.bench.figures import Figure, compared
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.model.layers import stride_of
from tui_pruner.frameworks.ultralytics import open_model

ROUNDS = {"yolov8n": 15, "yolov8x": 9}
TARGETS = {"yolov8n": 0.35, "yolov8x": 0.5}
MODULES = ("resnet50", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0")
"""Of torchvision, traced as any module at its usual side."""
MODULE_ROUNDS = 7
MODULE_TARGET = 1.0
SIDE = 224
WARM_UP = 2


def our_seconds(model: nn.Module, image: torch.Tensor | None = None) -> float:
    """From the real model to the coupling map."""
    started = time.perf_counter()
    trace_model(model, None if image is None else Inputs((image,)))
    return time.perf_counter() - started


def their_seconds(model: nn.Module, image: torch.Tensor) -> float:
    """From the real model to torch-pruning's list of groups."""
    started = time.perf_counter()
    graph = torch_pruning.DependencyGraph().build_dependency(model, (image,))
    list(graph.get_all_groups())
    return time.perf_counter() - started


def figure_of(name: str) -> Figure:
    """One model, ours and theirs in turn."""
    print(f"tracing {name}", file=sys.stderr)
    model = open_model(f"{name}.yaml").model.requires_grad_(True)  # torch-pruning walks the autograd graph
    side = 2 * stride_of(model)
    image = torch.zeros(1, 3, side, side)
    pairs = [(our_seconds(model), their_seconds(model, image)) for _ in range(WARM_UP + ROUNDS[name])][WARM_UP:]
    ours, theirs = zip(*pairs, strict=True)
    return compared(f"trace and groups of {name}, against torch-pruning", "s", ours, theirs, TARGETS[name])


def module_figure(name: str) -> Figure:
    """One network of torchvision, ours and theirs in turn."""
    print(f"tracing {name}", file=sys.stderr)
    model, image = torchvision.models.get_model(name, weights=None).eval(), torch.rand(1, 3, SIDE, SIDE)
    pairs = [(our_seconds(model, image), their_seconds(model, image)) for _ in range(WARM_UP + MODULE_ROUNDS)][WARM_UP:]
    ours, theirs = zip(*pairs, strict=True)
    return compared(f"trace and groups of {name} as any module, against torch-pruning", "s", ours, theirs, MODULE_TARGET)


if __name__ == "__main__":
    print(json.dumps([asdict(one) for one in (*map(figure_of, ROUNDS), *map(module_figure, MODULES))]))
