"""Narrow networks, pruned and on disk, that train in a second."""

from __future__ import annotations

from pathlib import Path

import torch
import ultralytics
import yaml

from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import parse_request
from tui_pruner.frameworks.ultralytics import build_from_yaml, read_checkpoint
from tui_pruner.frameworks.ultralytics.contents import checkpoint_dictionary, for_saving, provenance_of

SIDE = 64
SHORT = """
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3], 1, Detect, [nc]]
"""


def narrow(folder: Path, name: str = "yolov8", classes: int = 2) -> Checkpoint:
    """One of Ultralytics' architectures at an eighth of its width, with random weights."""
    (found,) = (Path(ultralytics.__file__).parent / "cfg" / "models").rglob(f"{name}.yaml")
    content = {**yaml.safe_load(found.read_text()), "scales": {"n": [0.33, 0.125, 1024]}}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content))
    return build_from_yaml(str(file), classes)


def short(folder: Path, classes: int = 2) -> Checkpoint:
    """A detector of five layers: what is read, copied and traced many times costs by the number of modules, not by their width."""
    file = folder / "short.yaml"
    file.write_text(f"nc: {classes}\n{SHORT}")
    return build_from_yaml(str(file), classes)


def save(checkpoint: Checkpoint, file: Path, share: str = "25%") -> Checkpoint:
    """The checkpoint with a share of all its channels cut, read from the file that it was written to."""
    analysis = analyse(checkpoint, imgsz=SIDE)
    session = PruningSession(analysis)
    session.apply([parse_request(f"*={share}")])
    pruned = cut(checkpoint.model, analysis.coupling, session.removal)
    provenance = provenance_of(checkpoint, session.plan.plain(), session.removal.kept(analysis.coupling), {"equal": True})
    torch.save(checkpoint_dictionary(for_saving(pruned, checkpoint), checkpoint, provenance), file)
    return read_checkpoint(file)


def save_whole(checkpoint: Checkpoint, file: Path) -> Path:
    """The checkpoint as Ultralytics saves one."""
    torch.save({"model": checkpoint.model.half(), "train_args": {"imgsz": SIDE}}, file)
    checkpoint.model.float()
    return file


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and buffer."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
