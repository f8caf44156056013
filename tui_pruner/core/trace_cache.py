"""Coupling maps kept on disk, so that a checkpoint's second opening needs no trace. The folder can be deleted at any time.

A map is kept under all that it depends on: the checkpoint's content, the shape that was traced, the libraries, and this program, by its
version and by the content of its core, which a developer changes without a new version. The input size is not among them: every trace
runs at the smallest legal side, two strides, whatever size the model is used at, and channels do not depend on the side.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from tui_pruner import __version__, places
from tui_pruner.core.coupling_file import from_bytes, to_bytes
from tui_pruner.core.groups import CouplingMap
from tui_pruner.core.skeleton import named_tensors
from tui_pruner.whole_file import replace_file

LIBRARIES = ("torch", "ultralytics", "torch-pruning")
LOG = logging.getLogger(__name__)
Key = Mapping[str, Any]


def key_of(sha256: str, shape: Sequence[int], own_code: str = "") -> Key:
    """All that the map of a checkpoint depends on: `sha256` of its file, the shape of the input, and the code of classes of its own."""
    return {
        "checkpoint": sha256,
        "own_code": own_code,
        "shape": list(shape),
        "program": __version__,
        "core": core_digest(),
        **{library: version(library) for library in LIBRARIES},
    }


@cache
def core_digest() -> str:
    """SHA-256 of this program's core, all its files in the order of their paths."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def file_of(key: Key) -> Path:
    """Where the map is kept, whether or not it is there."""
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return places.cache_folder() / "coupling" / f"{name}.npz"


def load(key: Key, skeleton: nn.Module) -> CouplingMap | None:
    """The map that is kept under this key; None where there is none, or nothing that is whole and fits the model."""
    file = file_of(key)
    try:
        coupling, about = from_bytes(file.read_bytes())
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with a file that can be made again, tracing is the answer
        LOG.info("traced again, since %s cannot be read: %s", file, error)
        return None
    if about != key or not fits(coupling, skeleton):
        LOG.info("traced again, since %s belongs to another model", file)
        return None
    return coupling


def fits(coupling: CouplingMap, skeleton: nn.Module) -> bool:
    """Whether every axis of a map is in the model and as long as there."""
    shapes = {name: tensor.shape for name, tensor in named_tensors(skeleton)}
    return all(
        axis.parameter in shapes and axis.dim < len(shapes[axis.parameter]) and shapes[axis.parameter][axis.dim] == size
        for axis, size in coupling.sizes.items()
    )


def store(key: Key, coupling: CouplingMap) -> None:
    """Keep a map, whole or not at all; without a folder that can be written the next opening traces again."""
    file = file_of(key)
    try:
        replace_file(file, to_bytes(coupling, key))
    except OSError as error:
        LOG.info("the coupling map is not kept in %s: %s", file, error)
