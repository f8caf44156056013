"""Checkpoints: read without running anything that is in the file, written atomically and only after a clean process has verified them."""

from tui_pruner.core.checkpoint.building import build_from_yaml
from tui_pruner.core.checkpoint.opening import open_model
from tui_pruner.core.checkpoint.reading import read_checkpoint
from tui_pruner.core.checkpoint.record import Checkpoint

__all__ = ["Checkpoint", "build_from_yaml", "open_model", "read_checkpoint"]
