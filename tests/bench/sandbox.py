"""Where the measured processes run: a home of their own, no network, the same environment for ours and theirs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = ROOT / "assets" / "demo" / "digits.pt"
PROGRAM = Path(sys.executable).parent / "tui-pruner"
FOLDERS = {
    "HOME": "",
    "XDG_CONFIG_HOME": "config",
    "XDG_STATE_HOME": "state",
    "XDG_CACHE_HOME": "cache",
    "XDG_DATA_HOME": "data",
    "YOLO_CONFIG_DIR": "ultralytics",
}
SETTINGS = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false", "CUDA_VISIBLE_DEVICES": ""}
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
# Without compiled files our modules, but not the installed libraries, would be compiled at every start.
UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "NO_COLOR", "COLUMNS", "LINES")


@contextmanager
def temporary_home() -> Iterator[None]:
    """Point this process, and so all its children, to an empty home."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="tui-pruner-bench-") as home:
        for name, folder in FOLDERS.items():
            path = Path(home, folder)
            path.mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(path)
        os.environ.update(SETTINGS | TERMINAL)
        for name in UNWANTED:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
