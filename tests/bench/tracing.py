"""All coupled groups of a model: our trace against torch-pruning's, on the same model and input, in turn in one process."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from dataclasses import asdict
from statistics import median
from typing import Any, cast

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
MODULES = {
    "torchvision": {"resnet50": 224, "resnext50_32x4d": 224, "mobilenet_v2": 224, "efficientnet_b0": 224},
    "timm": {"hrnet_w18": 224, "mobilevit_s": 256},
    "transformers": {"Segformer": 512},
}
"""Networks traced as any module, with the side of their usual image, by the library; those that are not installed are named on stderr."""
ALONE = {"swin_t": 224}
"""One of torchvision for which torch-pruning does not end."""
MODULE_ROUNDS = 7
MODULE_TARGET = 1.0
WARM_UP = 2


def our_seconds(model: nn.Module, image: torch.Tensor | None = None) -> float:
    """From the real model to the coupling map."""
    started = time.perf_counter()
    trace_model(model, None if image is None else Inputs((image,)))
    return time.perf_counter() - started


def their_seconds(model: nn.Module, image: torch.Tensor) -> float:
    """From the real model to torch-pruning's list of groups."""
    started = time.perf_counter()
    graph = torch_pruning.DependencyGraph().build_dependency(model, (image,), output_transform=predicted)
    list(graph.get_all_groups())
    return time.perf_counter() - started


def predicted(output: Any) -> Any:
    """What torch-pruning can follow of an output: the tensor of a transformer's dataclass, or all of it."""
    return getattr(output, "logits", output)


def figure_of(name: str) -> Figure:
    """One model, ours and theirs in turn."""
    print(f"tracing {name}", file=sys.stderr)
    model = open_model(f"{name}.yaml").model.requires_grad_(True)  # torch-pruning walks the autograd graph
    side = 2 * stride_of(model)
    image = torch.zeros(1, 3, side, side)
    pairs = [(our_seconds(model), their_seconds(model, image)) for _ in range(WARM_UP + ROUNDS[name])][WARM_UP:]
    ours, theirs = zip(*pairs, strict=True)
    return compared(f"trace and groups of {name}, against torch-pruning", "s", ours, theirs, TARGETS[name])


def built(library: str, name: str) -> nn.Module:
    """A network with random weights."""
    if library == "timm":
        import timm

        return cast(nn.Module, timm.create_model(name, pretrained=False))
    if library == "transformers":
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        return cast(nn.Module, SegformerForSemanticSegmentation(SegformerConfig()))
    return cast(nn.Module, torchvision.models.get_model(name, weights=None))


def module_figure(library: str, name: str, side: int) -> Figure:
    """One network of another library, ours and theirs in turn."""
    print(f"tracing {name}", file=sys.stderr)
    model, image = built(library, name).eval(), torch.rand(1, 3, side, side)
    pairs = [(our_seconds(model, image), their_seconds(model, image)) for _ in range(WARM_UP + MODULE_ROUNDS)][WARM_UP:]
    ours, theirs = zip(*pairs, strict=True)
    return compared(f"trace and groups of {name} as any module, against torch-pruning", "s", ours, theirs, MODULE_TARGET)


def lone_figure(name: str, side: int) -> Figure:
    """One network of torchvision, ours alone."""
    print(f"tracing {name}", file=sys.stderr)
    model, image = built("torchvision", name).eval(), torch.rand(1, 3, side, side)
    seconds = [our_seconds(model, image) for _ in range(WARM_UP + MODULE_ROUNDS)][WARM_UP:]
    return Figure(f"trace and groups of {name} as any module", median(seconds), "s", target=MODULE_TARGET)


def figures() -> list[Figure]:
    """All figures."""
    installed = {library: networks for library, networks in MODULES.items() if importlib.util.find_spec(library)}
    for library in MODULES.keys() - installed:
        print(f"{library} is not installed: none of its networks is traced", file=sys.stderr)
    others = [module_figure(library, *network) for library, networks in installed.items() for network in networks.items()]
    return [*map(figure_of, ROUNDS), *others, *(lone_figure(*network) for network in ALONE.items())]


if __name__ == "__main__":
    print(json.dumps([asdict(one) for one in figures()]))
