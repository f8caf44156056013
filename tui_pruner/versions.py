"""The programs behind what is done and measured, for reports and logs."""

from __future__ import annotations

import importlib.metadata
import platform

from tui_pruner import __version__

LIBRARIES = ("ultralytics", "torch", "torch-pruning", "textual")


def versions() -> dict[str, str]:
    """This program, what it stands on, and Python, without importing any of them."""
    return {"tui-pruner": __version__, **{name: version_of(name) for name in LIBRARIES}, "Python": platform.python_version()}


def version_of(name: str) -> str:
    """A package's version; a word where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def versions_line() -> str:
    """The same in one line, with the system."""
    return ", ".join(f"{name} {version}" for name, version in versions().items()) + f", {platform.platform()}"
