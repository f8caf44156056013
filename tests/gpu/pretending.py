"""`with pretended_gpus(2) as machine:` has this process take itself for one with GPUs; `activate` does so for a whole child process."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils import _foreach_utils

from tests.gpu import cuda, moving, tracing
from tests.gpu.device import MIB, Machine
from tests.gpu.tensor import MACHINES

GPU = "Pretended GPU"
WITHOUT_AMP = "NVIDIA GeForce GTX 1660 (pretended)"
"""A name on Ultralytics' list of GPUs on which it trains without mixed precision."""
MEMORY = 4096 * MIB
VARIABLE = "TUI_PRUNER_PRETENDED_GPUS"
SITE = Path(__file__).parent / "site"


class Patches:
    """Attributes set for a while."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any, bool]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set one, and remember what was there."""
        own = name in vars(owner)
        self._before.append((owner, name, vars(owner).get(name), own))
        setattr(owner, name, value)

    def undo(self) -> None:
        """As it was, the last one first."""
        for owner, name, value, own in reversed(self._before):
            setattr(owner, name, value) if own else delattr(owner, name)


def apply(patches: Patches) -> None:
    """Have PyTorch's functions answer as on a machine with GPUs."""
    for name in moving.FACTORIES:
        patches.set(torch, name, moving.factory(getattr(torch, name)))
    for name in moving.ALIKE:
        patches.set(torch, name, moving.like(getattr(torch, name)))
    for name in moving.FROM_A_TENSOR:
        patches.set(torch.Tensor, name, moving.like(getattr(torch.Tensor, name)))
    for name in moving.DRAWING:
        patches.set(torch.Tensor, name, moving.drawing_in_place(getattr(torch.Tensor, name)))
    for name in ("as_tensor", "asarray"):
        patches.set(torch, name, moving.as_tensor(getattr(torch, name)))
    for name in ("to", "cpu", "type_as"):
        patches.set(torch.Tensor, name, getattr(moving, name)(getattr(torch.Tensor, name)))
    for name in ("cuda", "pin_memory"):
        patches.set(torch.Tensor, name, getattr(moving, name))
    patches.set(torch.Tensor, "is_pinned", lambda tensor, device=None: getattr(tensor, "pinned", False))
    patches.set(torch, "Generator", moving.GeneratorAnywhere)
    patches.set(torch._utils, "_rebuild_tensor", moving.rebuilt(torch._utils._rebuild_tensor))
    patches.set(torch, "_has_compatible_shallow_copy_type", moving.shallow(torch._has_compatible_shallow_copy_type))
    patches.set(torch.nn.Module, "_apply", moving.applied(torch.nn.Module._apply))
    for module in ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.nn.utils.clip_grad"):
        patches.set(
            sys.modules[module], "_group_tensors_by_device_and_dtype", moving.grouped(_foreach_utils._group_tensors_by_device_and_dtype)
        )
    for owner, name in moving.MAKES_INSIDE:
        patches.set(owner, name, moving.making_inside(getattr(owner, name)))
    answer_for_cuda(patches)


def answer_for_cuda(patches: Patches) -> None:
    """Have tracing, autocast, `torch.cuda` and `torch.accelerator` answer so."""
    patches.set(torch.jit, "trace", tracing.trace(torch.jit.trace))
    patches.set(torch.jit, "load", tracing.load(torch.jit.load))
    patches.set(torch.onnx, "export", tracing.export_onnx(torch.onnx.export))
    for module in (torch, torch.amp, torch.amp.autocast_mode):
        patches.set(module, "autocast", cuda.Autocast)
    for name, function in cuda.CUDA.items():
        patches.set(torch.cuda, name, function)
    for name, function in cuda.ACCELERATOR.items():
        if hasattr(torch.accelerator, name):
            patches.set(torch.accelerator, name, function)


@functools.cache
def register_once() -> None:
    """The places that files name, and what a forked process may not do."""
    torch.serialization.register_package(
        5, lambda storage: moving.tag(storage), lambda storage, location: moving.restore(storage, location) if MACHINES else None
    )
    os.register_at_fork(after_in_child=in_a_forked_child)


def in_a_forked_child() -> None:
    """CUDA cannot be used in a process that was forked off one that used it."""
    for machine in MACHINES:
        machine.forked = machine.initialised


LOCK = threading.RLock()


@contextmanager
def pretended_gpus(count: int = 1, memory: int = MEMORY, name: str = GPU, evidence: Path | None = None) -> Iterator[Machine]:
    """This process takes itself for one with this many GPUs of this many bytes, until the block ends."""
    register_once()
    machine, patches = Machine(count, memory, name, evidence), Patches()
    with LOCK:
        MACHINES.append(machine)
        apply(patches)
    try:
        yield machine
    finally:
        with LOCK:
            patches.undo()
            MACHINES.remove(machine)


def activate(described: str) -> None:
    """From now on, for good: what the environment variable of a child process says."""
    wanted = json.loads(described)
    evidence = wanted.pop("evidence", None)
    FOR_GOOD.append(pretended_gpus(**wanted, evidence=Path(evidence) if evidence else None))
    FOR_GOOD[-1].__enter__()


FOR_GOOD: list[Any] = []


def environment(evidence: Path, **wanted: Any) -> dict[str, str]:
    """Variables with which a Python process, and every one that it starts, takes itself for one with GPUs."""
    root = SITE.parent.parent.parent
    known = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(SITE), str(root), *(known.split(os.pathsep) if known else [])])
    return {"PYTHONPATH": path, VARIABLE: json.dumps({**wanted, "evidence": str(evidence)})}
