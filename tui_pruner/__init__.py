"""Structural pruning of Ultralytics models in the terminal: previewed, proved, undoable; `tui_pruner.open` is the same in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_pruner.errors import ConflictError, PrunerError, RequestError

if TYPE_CHECKING:
    from tui_pruner.api import Group, Groups, Layer, Preview, Session, compress, open

__version__ = "0.1.0"
__all__ = ["ConflictError", "Group", "Groups", "Layer", "Preview", "PrunerError", "RequestError", "Session", "compress", "open"]


def __getattr__(name: str) -> Any:
    """Import the API when it is asked for: the package itself imports next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tui_pruner import api

    return getattr(api, name)
