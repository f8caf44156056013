"""Shapes of operations by rule: each is what PyTorch computes, and what PyTorch refuses is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.core.operation_examples import DECOMPOSED
from tui_pruner.core.tracing.meta_device import EVALUATIONS, ShapeMode, tensors_in

Run = Callable[..., object]
EXAMPLES: dict[str, tuple[Run, tuple[tuple[int, ...], ...]]] = {
    "convolution": (lambda a, w: F.conv2d(a, w, stride=2, padding=1, dilation=2), ((2, 6, 17, 15), (8, 6, 3, 3))),
    "convolution in groups": (lambda a, w: F.conv2d(a, w, groups=3, padding=(1, 0)), ((1, 6, 9, 9), (9, 2, 3, 1))),
    "convolution transposed": (lambda a, w: F.conv_transpose2d(a, w, None, 3, 1, 1, 2), ((1, 6, 5, 4), (6, 2, 3, 3))),
    "convolution along one side": (lambda a, w: F.conv1d(a, w, stride=3), ((1, 6, 20), (4, 6, 5))),
    "max_pool2d_with_indices": (lambda a: F.max_pool2d(a, 3, 2, 1), ((1, 4, 12, 11),)),
    "max_pool2d_with_indices of one image": (lambda a: F.max_pool2d(a, 2), ((4, 12, 11),)),
    "max_pool2d_with_indices rounded up": (lambda a: F.max_pool2d(a, 2, 2, 1, 1, ceil_mode=True), ((1, 4, 9, 8),)),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 2, 1, 0, False, True), ((1, 4, 12, 11),)),
    "avg_pool2d by its kernel": (lambda a: F.avg_pool2d(a, 3), ((1, 4, 12, 11),)),
    "avg_pool2d of one image, rounded up": (lambda a: F.avg_pool2d(a, (3, 2), 2, (1, 0), ceil_mode=True), ((4, 10, 11),)),
    "upsample_nearest2d": (lambda a: F.interpolate(a, scale_factor=2), ((1, 3, 4, 5),)),
    "upsample_bilinear2d": (lambda a: F.interpolate(a, (7, 9), mode="bilinear"), ((1, 3, 4, 5),)),
    "cat": (lambda a, b: torch.cat((a, b), -2), ((1, 3, 4, 5), (1, 3, 2, 5))),
    "stack": (lambda a, b: torch.stack((a, b), -1), ((2, 3), (2, 3))),
    "add": (lambda a, b: a + b, ((3, 1, 5), (4, 1))),
    "gt": (lambda a, b: a > b, ((3, 1, 5), (4, 1))),
    "mm": (torch.mm, ((3, 4), (4, 5))),
    "bmm": (torch.bmm, ((2, 3, 4), (2, 4, 5))),
    "addmm": (torch.addmm, ((5,), (3, 4), (4, 5))),
    "native_layer_norm": (lambda a, w: F.layer_norm(a, (4, 5), w), ((2, 3, 4, 5), (4, 5))),
    "grid_sampler_2d": (lambda a, g: F.grid_sample(a, g, align_corners=False), ((2, 3, 8, 8), (2, 5, 6, 2))),
    "new_full": (lambda a: a.new_full((2, 7), 1.0), ((3,),)),
    "_softmax": (lambda a: a.softmax(-1), ((2, 3),)),
}
REFUSED: dict[str, tuple[Run, tuple[tuple[int, ...], ...]]] = {
    "cannot read 5 channels": (F.conv2d, ((1, 5, 4, 4), (8, 6, 1, 1))),
    "cannot join": (lambda a, b: torch.cat((a, b), 1), ((1, 3, 4), (1, 3, 5))),
    "cannot multiply": (torch.mm, ((3, 4), (5, 6))),
    "cannot read [2, 5]": (lambda a: F.layer_norm(a, (4,)), ((2, 5),)),
}


class Naming(ShapeMode):  # type: ignore[no-untyped-call]
    """Remembers which operations ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def observe(self, name: str, *_: object) -> None:
        """One more."""
        self.names.append(name)


def images_of_shapes(shapes: tuple[tuple[int, ...], ...], device: str) -> list[Tensor]:
    return [torch.zeros(shape, device=device) for shape in shapes]


@pytest.mark.parametrize("name", EXAMPLES)
def test_shape_rule_gives_the_shape_that_pytorch_computes(name):
    run, shapes = EXAMPLES[name]
    with Naming() as mode:
        found = tensors_in(run(*images_of_shapes(shapes, "meta")))
    operation = name.split()[0]
    assert operation in EVALUATIONS and {operation, DECOMPOSED.get(operation)} & set(mode.names)
    assert [(tuple(t.shape), t.dtype) for t in found] == [
        (tuple(t.shape), t.dtype) for t in tensors_in(run(*images_of_shapes(shapes, "cpu")))
    ]


@pytest.mark.parametrize("said", REFUSED)
def test_shape_rule_refuses_what_pytorch_refuses(said):
    run, shapes = REFUSED[said]
    with pytest.raises(RuntimeError):
        run(*images_of_shapes(shapes, "cpu"))
    with pytest.raises(RuntimeError) as refused, ShapeMode():
        run(*images_of_shapes(shapes, "meta"))
    assert said in str(refused.value)


def test_tensors_in_nested_lists_are_found_in_order():
    one, two, three = (torch.zeros(size) for size in (1, 2, 3))
    assert [len(t) for t in tensors_in((one, [two, None, 4, [three]], "name"))] == [1, 2, 3]
