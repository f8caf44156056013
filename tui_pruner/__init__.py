"""Structural pruning of Ultralytics models in the terminal: previewed, proved, undoable."""

__version__ = "0.1.0"
