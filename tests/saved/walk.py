"""One family through all steps: pruned and saved here, then used by a process that has stock Ultralytics alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.deadlines import HANGING
from tests.saved.data_sets import write_data_set
from tests.saved.expected import EXPORTS, Export, expected
from tests.saved.pruned import Saved, save_pruned

TAIL = 2000


@dataclass(frozen=True)
class Walk:
    """A saved file, the file of what it has to give, and what a stranger reports of it."""

    saved: Saved
    expected: Path
    report: dict[str, Any]


def walk(family: str, folder: Path, exports: dict[str, Export] = EXPORTS) -> Walk:
    """Prune, save, and let a stranger use the file.

    Raises:
        RuntimeError: the stranger failed; with the end of what its process said.
    """
    saved = save_pruned(family, folder)
    wanted = folder / "expected.bin"
    torch.save(expected(saved.model, saved.side, exports), wanted)
    request = {
        "file": str(saved.file),
        "expected": str(wanted),
        "data": str(write_data_set(saved.task, folder / "data")),
        "folder": str(folder),
        "side": saved.side,
    }
    (folder / "request.json").write_text(json.dumps(request))
    return Walk(saved, wanted, report_of_stock_process(folder))


def report_of_stock_process(folder: Path) -> dict[str, Any]:
    """Run the stranger in an isolated process; its answer."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("stock_process.py")), str(folder / "request.json")]
    settings = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=HANGING, env={**os.environ, **settings})
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-TAIL:])
    return dict(json.loads(done.stdout.splitlines()[-1]))
