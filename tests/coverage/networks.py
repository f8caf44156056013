"""The networks on which torch-pruning's own tracer finishes, by name; and small ones of the same makers, to compute with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import nn
from torchvision.models import convnext, densenet, mobilenetv2, resnet

from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.frameworks.ultralytics.building import settle_normalisation

STOCK = ("yolov3-tiny", "yolov5n", "yolov6n")
PUBLIC = ("resnet50", "vgg16_bn", "mobilenet_v2", "densenet121", "efficientnet_b0", "convnext_tiny")
NAMES = (*STOCK, *PUBLIC)
SIDE = 64
STAGES = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 1)]
SMALL: dict[str, Callable[[], nn.Module]] = {
    "ResNet": partial(resnet.ResNet, resnet.Bottleneck, [1, 1, 1, 1], num_classes=10),
    "MobileNetV2": partial(mobilenetv2.MobileNetV2, num_classes=10, width_mult=0.25),
    "DenseNet": partial(densenet.DenseNet, 8, (2, 2, 2, 2), 16, num_classes=10),
    "EfficientNet": partial(torchvision.models.efficientnet_b0, weights=None, num_classes=10),
    "ConvNeXt": partial(convnext.ConvNeXt, STAGES, num_classes=10, layer_scale=1.0),
}


def network(name: str) -> nn.Module:
    """A network in evaluation mode, to be traced; those of torchvision on the meta device, where 138 million weights take no memory."""
    if name in STOCK:
        return open_model(f"{name}.yaml").model
    build: Callable[..., nn.Module] = getattr(torchvision.models, name)
    with torch.device("meta"):
        return build(weights=None).eval()


def small(name: str) -> nn.Module:
    """A small network with weights, the same every time, whose signal reaches its end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SMALL[name]()
        settle_normalisation(model)
    return model.eval()
