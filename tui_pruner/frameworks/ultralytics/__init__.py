"""Ultralytics: checkpoints read without running anything in the file, and written atomically after stock Ultralytics has checked them."""

from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.frameworks.ultralytics import adapters as adapters
from tui_pruner.frameworks.ultralytics.building import build_from_yaml
from tui_pruner.frameworks.ultralytics.contents import check_output, require_writable
from tui_pruner.frameworks.ultralytics.reading import open_model, read_checkpoint
from tui_pruner.frameworks.ultralytics.writing import CheckResult, WrittenFile, write_checkpoint

__all__ = [
    "CheckResult",
    "Checkpoint",
    "WrittenFile",
    "build_from_yaml",
    "check_output",
    "open_model",
    "read_checkpoint",
    "require_writable",
    "write_checkpoint",
]
