"""Models for the core's tests, built once: YOLOv8n with the seven classes of the field report, and its analysis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.proof import Proof, prove
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.resolve import Resolution, resolve
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import parse_request
from tui_pruner.frameworks.ultralytics import build_from_yaml

Asking = Callable[..., Resolution]


@pytest.fixture(scope="session")
def nano() -> Analysis:
    """YOLOv8n with 7 classes at 160 px."""
    return analyse(build_from_yaml("yolov8n.yaml", classes=7), imgsz=160)


def ask(analysis: Analysis, *cuts: str, base: Removal = NOTHING, criterion: str = "l2", round_to: int = 1) -> Resolution:
    """What cuts given as on the command line come to."""
    return resolve(analysis, [parse_request(text, criterion, round_to) for text in cuts], base)


def proof_of(analysis: Analysis, removal: Removal) -> Proof:
    """Cut and compare with the masked twin."""
    model = analysis.checkpoint.model
    return prove(model, cut(model, analysis.coupling, removal), analysis.coupling, removal)


def removed(analysis: Analysis, resolution: Resolution, layers: Sequence[str]) -> list[int]:
    """How many output channels each layer loses."""
    coupling = analysis.coupling
    return [sum(len(resolution.removal.of(group)) for group in coupling.output_groups(analysis.layers[layer].path)) for layer in layers]
