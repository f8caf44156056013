"""Outputs of the pruned model in memory for an image, as it is and in the form of every export: the file must give the same."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

SAME = 1e-5
SAME_EXPORTED = 1e-3
"""How far outputs may be from these, relative to the largest value of each: a file's own, and an export's."""


@dataclass(frozen=True)
class Export:
    """An export as it is asked of Ultralytics, `wider` by this many strides than the image that the export was made for."""

    options: dict[str, Any]
    end_to_end: bool = False
    wider: int = 0


ONNX = {"format": "onnx", "simplify": False}  # what simplifies is a package more
EXPORTS = {
    "TorchScript": Export({"format": "torchscript"}),
    "ONNX": Export(ONNX),
    "ONNX dynamic": Export({**ONNX, "dynamic": True}, wider=1),
    "ONNX end-to-end": Export({**ONNX, "nms": False}, end_to_end=True),
}


def expected(pruned: nn.Module, side: int, exports: dict[str, Export] = EXPORTS) -> dict[str, Any]:
    """Images and the tensors that the model gives for them with its weights in half precision, as files have them.

    `outputs`: all of them; `exports`: those that an export has, computed without any.
    """
    model = copy.deepcopy(pruned).half().float().eval()
    image = random_image(side, side)
    return {"image": image, "outputs": outputs(model, image), "exports": exported(model, side, exports)}


def exported(model: Any, side: int, exports: dict[str, Export]) -> dict[str, dict[str, Any]]:
    """What each of these exports must give, and how to ask for it. End-to-end ones only of models with such a branch."""
    head = model.model[-1]
    possible = {name: one for name, one in exports.items() if not one.end_to_end or getattr(head, "one2one_cv2", None) is not None}
    answers = {}
    for name, export in possible.items():
        image = random_image(side, side + export.wider * int(model.stride.max()))
        answers[name] = {
            "options": export.options,
            "image": image,
            "outputs": outputs(as_exported(copy.deepcopy(model), export), image),
            "ranked": export.end_to_end or hasattr(head, "num_queries"),
        }
    return answers


def as_exported(model: Any, export: Export) -> Any:
    """Without what is for the loss; from end-to-end heads raw predictions by default, which is how Ultralytics exports them."""
    if hasattr(model, "end2end"):
        model.end2end = export.end_to_end
    for module in model.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, export.options["format"]
    return model


def random_image(height: int, width: int) -> Tensor:
    """The same for the same size."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """All tensors that a model gives, in their order."""
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(model(image)) if isinstance(leaf, Tensor)]
