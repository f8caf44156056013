"""Every operation of the rule table is traced under its name in a small network, and every group is cut and proved, or locked.

Operations that PyTorch takes apart before a trace can see them keep their name in inference mode only.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.core.operation_examples import DECOMPOSED, EXAMPLES, LOCKED, MORE, MORE_LOCKED, Example
from tests.core.test_flow import Apply, Net, cut_every_group
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.model.copies import without_weights
from tui_pruner.core.tracing.state import RULES
from tui_pruner.core.tracing.tracer import trace

UNSEEN = {"size", "cudnn_batch_norm"}
"""A size is a number by the time that Python sees it, and cuDNN's normalisation needs its device."""


def network(example: Example) -> Net:
    """Two convolutions, the example, and one more."""

    def between(m: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        if not example.whole:
            return example.run(m, a, b)
        with torch.inference_mode():
            return example.run(m, a.clone(), b.clone())

    torch.manual_seed(0)
    return Net(Apply(between, **{name: make() for name, make in example.modules.items()}), example.wide, example.last).eval()


def base_name(name: str) -> str:
    return name.removesuffix("_") if name.removesuffix("_") in RULES else name


@pytest.mark.parametrize("name", [*EXAMPLES, *MORE])
def test_operation_carries_channels_so_that_every_cut_is_proved(name):
    example = (EXAMPLES | MORE)[name]
    net = network(example)
    seen = {operation.name for operation in trace(without_weights(net), (1, 3, 64, 64)).operations}
    operation = name.split()[0]
    assert {operation, DECOMPOSED.get(operation)} & {base_name(other) for other in seen}
    _, coupling = trace_model(net)
    assert not coupling.unknown_operations
    groups = coupling.output_groups("second")
    if example.held:
        assert all(example.held in group.reason for group in groups), [group.reason for group in groups]
    else:
        assert all(group.prunable for group in (*groups, *coupling.output_groups("first"))), [group.reason for group in groups]
        assert sum(group.channels for group in groups) * example.tied == example.wide
    assert cut_every_group(net, coupling) >= 1


@pytest.mark.parametrize("name", [*LOCKED, *MORE_LOCKED])
def test_operation_across_channels_locks_them_with_a_reason(name):
    example = (LOCKED | MORE_LOCKED)[name]
    _, coupling = trace_model(network(example))
    groups = coupling.output_groups("second")
    assert not any(group.prunable for group in groups)
    assert any(example.held in group.reason for group in groups), [group.reason for group in groups]


def test_every_operation_of_the_table_has_an_example():
    known = {base_name(name) for name in RULES}
    assert known - EXAMPLES.keys() == UNSEEN
    assert EXAMPLES.keys() <= known
