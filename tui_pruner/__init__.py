"""Structural pruning of PyTorch models in the terminal: previewed, proved, undoable; `tui_pruner.open` is the same in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import (
    CheckpointError,
    ConflictError,
    DataError,
    JobError,
    OutputError,
    PlanError,
    ProofError,
    PrunerError,
    RequestError,
    TraceError,
    UntrustedError,
    VerificationError,
)

if TYPE_CHECKING:
    from tui_pruner.api.data import Group, Groups, Layer, Preview, compress
    from tui_pruner.api.modules import ModuleSession, adapter, apply_plan, load
    from tui_pruner.api.session import Session, open

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "ConflictError",
    "DataError",
    "Group",
    "Groups",
    "JobError",
    "Layer",
    "ModuleSession",
    "OutputError",
    "PlanError",
    "Preview",
    "ProofError",
    "PrunerError",
    "RequestError",
    "Session",
    "TraceError",
    "UntrustedError",
    "VerificationError",
    "adapter",
    "apply_plan",
    "compress",
    "load",
    "open",
]
_FROM = {**dict.fromkeys(("ModuleSession", "adapter", "apply_plan", "load"), "api.modules"), "compress": "api.data"}


def __getattr__(name: str) -> Any:
    """Import the API on first use: the package itself imports next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tui_pruner.{_FROM.get(name, 'api.session')}"), name)


def __dir__() -> list[str]:
    """List what there is for scripts, also before it is imported."""
    return sorted([*__all__, "__version__"])
