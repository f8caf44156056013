"""Models with modules of a user's own: the module file, written where a test wants it, and checkpoints that name its classes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.jobs.narrow import SIDE, narrow
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.frameworks.ultralytics.building import settle_normalisation
from tui_pruner.storage.trust import fingerprint, trust

MODULE = "user_blocks"
SOURCE = '''
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

class Excite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, channels)

    def forward(self, x):
        weights = self.up(torch.relu(self.down(x.mean((2, 3))))).sigmoid()
        return x * weights[:, :, None, None]

class Excited(nn.Module):
    def __init__(self, block, channels):
        super().__init__()
        self.block, self.excite = block, Excite(channels)
        self.f, self.i, self.type, self.np = block.f, block.i, block.type, 0

    def forward(self, x):
        return self.excite(self.block(x))

class OwnModel(DetectionModel):
    """A subclass, as a training script defines one."""

class Restless(Excited):
    """What it attaches when it is loaded no file can hold."""
    def __setstate__(self, state):
        super().__setstate__(state)
        self.gate = lambda x: x
'''


@contextmanager
def own_modules(folder: Path, source: str = SOURCE) -> Iterator[Any]:
    """The user's module in a folder that is on the import path while the block runs."""
    (folder / f"{MODULE}.py").write_text(source)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    sys.modules.pop(MODULE, None)
    try:
        yield importlib.import_module(MODULE)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(MODULE, None)


def excited(user: Any, checkpoint: Checkpoint, kind: str = "Excited") -> nn.Module:
    """A narrow network whose fifth block is followed by an excitation of the user's, in a model class of the user's."""
    model: Any = checkpoint.model
    block = model.model[4]
    model.model[4] = getattr(user, kind)(block, block.cv2.conv.out_channels)
    model.__class__ = user.OwnModel
    settle_normalisation(model)
    return model  # type: ignore[no-any-return]


def save(model: nn.Module, file: Path, **more: Any) -> Path:
    """The checkpoint as Ultralytics saves one."""
    torch.save({"model": model.half(), "train_args": {"imgsz": SIDE}, **more}, file)
    model.float()
    return file


def trusted(file: Path) -> Path:
    """The file, trusted from now on in this process."""
    trust([fingerprint(file)])
    return file


def own_checkpoint(folder: Path, user: Any, kind: str = "Excited") -> Path:
    """A checkpoint with the user's modules in a folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return save(excited(user, narrow(folder), kind), folder / "own.pt")
