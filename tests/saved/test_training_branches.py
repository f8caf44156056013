"""Branches that run only in training read channels that a cut removes: they must still compute what the masked twin computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.core.conftest import ask
from tests.saved.pruned import SIDE, built
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.inputs import probe_images
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import masked_twin


def output_of(model: nn.Module, branch: str) -> Tensor:
    """What a branch gives when the modules above it take the paths of training, and all layers those of evaluation."""
    found: list[Tensor] = []
    parts = branch.split(".")
    for depth in range(len(parts)):
        model.get_submodule(".".join(parts[:depth])).training = True
    model.get_submodule(branch).register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        model(probe_images(2, 3, SIDE, torch.Generator().manual_seed(0)))
    (output,) = found
    return output


@pytest.mark.parametrize(("family", "branch"), [("yolo26n-sem", "model.17.aux_head"), ("yolo26n-seg", "model.23.proto.semseg")])
def test_training_branch_computes_the_same_as_the_masked_twin(family: str, branch: str):
    analysis = analyse(built(family), imgsz=SIDE)
    model, coupling = analysis.checkpoint.model, analysis.coupling
    removal = ask(analysis, "*=25%").removal
    pruned, twin, dense = (output_of(one, branch) for one in (cut(model, coupling, removal), masked_twin(model, coupling, removal), model))
    scale = twin.abs().max()
    assert (pruned - twin).abs().max() / scale < 1e-4
    assert (dense - twin).abs().max() / scale > 1e-2
