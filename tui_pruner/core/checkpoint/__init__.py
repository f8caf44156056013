"""Checkpoints: read without running anything that is in the file, written atomically and only after a clean process has verified them."""

from tui_pruner.core.checkpoint.building import build_from_yaml
from tui_pruner.core.checkpoint.opening import open_model
from tui_pruner.core.checkpoint.output import check_output, require_writable
from tui_pruner.core.checkpoint.reading import read_checkpoint
from tui_pruner.core.checkpoint.record import Checkpoint
from tui_pruner.core.checkpoint.verification import CheckResult
from tui_pruner.core.checkpoint.writing import WrittenFile, write_checkpoint

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
