"""Decides by its name whether a model is read from a checkpoint or built from an architecture file."""

from __future__ import annotations

from tui_pruner.core.checkpoint.building import build_from_yaml
from tui_pruner.core.checkpoint.reading import read_checkpoint
from tui_pruner.core.checkpoint.record import Checkpoint
from tui_pruner.errors import CheckpointError
from tui_pruner.model_file import is_architecture


def open_model(text: str, classes: int | None = None) -> Checkpoint:
    """The model that a user named: a yaml is built with random weights and `classes` classes, everything else is read as a checkpoint."""
    if is_architecture(text):
        return build_from_yaml(text, classes)
    if classes is not None:
        raise CheckpointError(f"{text} has its classes already: the number of classes can be chosen for a yaml only")
    return read_checkpoint(text)
