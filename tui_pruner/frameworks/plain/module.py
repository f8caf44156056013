"""Any module in place of a checkpoint: checked before it runs, copied once, identified by its structure, and planned for by importance."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

import tui_pruner.frameworks.ultralytics  # noqa: F401  # any module may be one of theirs, or hold one
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.inputs import Inputs, checked, with_varied_values
from tui_pruner.core.model.layers import compute_weights
from tui_pruner.core.model.recorded_forward import isolated
from tui_pruner.core.pruning.plan import Step
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.planner import Budget, Planner
from tui_pruner.core.search.targets import Target
from tui_pruner.core.tracing.adapters import Adapter, register_own
from tui_pruner.core.tracing.determinism import chance, demand_deterministic, remarks_on
from tui_pruner.domain.errors import CheckpointError, OutOfReach, PrunerError, RequestError, TraceError, user_code
from tui_pruner.frameworks.plain.adapters import (
    COMPILED,
    REMARK,
    WRAPPED,
    forward_of,
    free_widths,
    in_a_batch,
    restore_classes,
    uncompiled,
)

COARSE = (torch.float16, torch.bfloat16)
"""Types that are computed in single precision, which holds all of their numbers."""
WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    COMPILED: WRAPPED,
    "FullyShardedDataParallel": "module",
}
"""Wrapper classes, and the attribute that has the wrapped model."""
LONGEST = 160


@dataclass(frozen=True)
class OpenedModule(Checkpoint):
    """A module from the user, as a checkpoint: `model` is a copy of it on the CPU in evaluation mode, `sha256` that of its structure.

    `types` and `device` are the dtypes and the device of the user's module, which returned models get again.
    """

    types: Mapping[str, torch.dtype] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_trained(self) -> bool:
        """Whether it was read from a file: never."""
        return False

    @property
    def task(self) -> str:
        """Its task is unknown."""
        return "module"

    @property
    def names(self) -> dict[int, str]:
        """It has no named classes."""
        return {}

    @property
    def classes(self) -> int:
        """It has no classes that could be cut."""
        return 0

    @property
    def stride(self) -> int:
        """It only runs at the size that was given."""
        return 1

    @property
    def family(self) -> str:
        """Its class."""
        return type(self.model).__name__

    @property
    def default_imgsz(self) -> int:
        """Its input is not a square image."""
        return 0

    def as_given(self, model: nn.Module) -> nn.Module:
        """Convert a model made from it to the dtypes and the device of the user's module, in place, and return it."""
        for name, tensor in named_tensors(model):
            tensor.data = tensor.data.to(device=self.device, dtype=self.types.get(name, tensor.dtype))
        return restore_classes(model)


def open_module(
    module: nn.Module, inputs: Inputs, adapters: Mapping[type[nn.Module], Adapter] | None = None, approximate: bool = False
) -> Analysis:
    """Check a module and copy it; the module itself stays as it is.

    Raises:
        CheckpointError: it is of a kind that cannot be cut.
        RequestError: there are no inputs, or they are on another device.
        TraceError: its forward cannot be traced, or it has nothing to cut.
    """
    refuse_unusable(module)
    inputs, followed = on_one_device(module, checked(inputs)), forward_of(module) if inputs.forward is None else None
    if followed is not None:
        inputs = in_a_batch(replace(inputs, forward=followed))
    register_own(adapters or {})
    with chance(0), user_code(name_of(module)):
        opened = replace(opened_module(module, with_varied_values(inputs)), approximate=approximate)
        try:
            analysis = analyse(opened)
            steps = demand_deterministic(analysis.skeleton, analysis.inputs)
            remarks = [f"{opened.family} {REMARK}"] if followed is not None else []
            analysis = replace(analysis, notes=(*analysis.notes, *remarks, *remarks_on(analysis.skeleton, analysis.inputs, steps)))
        except (PrunerError, MemoryError):
            raise
        except Exception as error:  # a module of the user may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
            raise TraceError(f"{opened.family} cannot be followed ({reason}): give a module whose forward is plain PyTorch") from error
    if not any(group.producers for group in analysis.coupling.groups):
        strange = ", ".join(analysis.coupling.unknown_operations)
        why = f"no rule is known for {strange}" if strange else "convolutions and linear layers have, where forward uses them"
        raise TraceError(f"{opened.family} has no layer whose channels could be cut: {why}")
    return analysis


def opened_module(module: nn.Module, inputs: Inputs) -> OpenedModule:
    """Copy a module to the CPU, in a precision that can be computed in."""
    types = {name: tensor.dtype for name, tensor in named_tensors(module)}
    device = next(iter(devices_of(module)), torch.device("cpu"))
    warnings = ["the module was in training mode: it is analysed, proved and returned in evaluation mode"]
    copied, shared = copy_of(module)
    own = uncompiled(free_widths(copied.eval()))
    for _, tensor in named_tensors(own):
        tensor.data = tensor.data.to(device="cpu", dtype=torch.float32 if tensor.dtype in COARSE else tensor.dtype)
    for part in own.modules():
        compute_weights(part)
    inputs = inputs.to(torch.device("cpu"))
    return OpenedModule(
        path=name_of(module),
        sha256=digest_of(structure_of(module)),
        model=own,
        content={},
        provenance=None,
        original_yaml={},
        warnings=tuple(warnings if module.training else ()),
        inputs=inputs.computable(),
        shared=shared,
        types=types,
        device=device,
    )


def independent(module: nn.Module) -> nn.Module:
    """A copy of a module that shares nothing with it: no tensor, no gradient, and no list or dict that can be copied."""
    with torch.inference_mode(False):  # what is made in that mode could never be trained
        return uncompiled(copy_of(module)[0])


def copy_of(module: nn.Module) -> tuple[nn.Module, bool]:
    """Such a copy, and whether it shares objects that cannot be copied."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if isinstance(value, Tensor) and id(value) not in memo:
                fresh = value.detach().clone()
                memo[id(value)] = nn.Parameter(fresh, value.requires_grad) if isinstance(value, nn.Parameter) else fresh
    try:
        with user_code("the copy"):
            return copy.deepcopy(module, memo), False
    except Exception:  # a lock, a generator, an open file: what is then shared with the copy is not a tensor
        return isolated(module), True


def structure_of(module: nn.Module) -> dict[str, list[Any]]:
    """The shape and dtype of every parameter and buffer by name."""
    return {name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for name, tensor in named_tensors(module)}


def digest_of(structure: Mapping[str, Any]) -> str:
    """The SHA-256 of a structure: a freshly built module has the same as the one that a plan was made for."""
    return hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()


def digest_of_weights(module: nn.Module) -> str:
    """The SHA-256 of the numbers of every parameter and buffer, in the order of the module."""
    content = hashlib.sha256()
    for _, tensor in named_tensors(module):
        content.update(tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return content.hexdigest()


def name_of(module: nn.Module) -> str:
    """The class of a module with the Python module that defines it."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def devices_of(module: nn.Module) -> list[torch.device]:
    """The devices of a module's tensors."""
    return list(dict.fromkeys(tensor.device for _, tensor in named_tensors(module)))


def on_one_device(module: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs, if they are on the module's device.

    Raises:
        RequestError: they are on another device.
    """
    devices = devices_of(module)
    strange = next((tensor.device for tensor in inputs.tensors if devices and tensor.device not in devices), None)
    if strange is not None:
        raise RequestError(f"example_inputs are on {strange}, the module is on {devices[0]}: move one to the other")
    return inputs


def refuse_unusable(module: nn.Module) -> None:
    """Refuse a module that cannot be cut.

    Raises:
        CheckpointError: it is not a module, or of a kind that cannot be cut."""
    if not isinstance(module, nn.Module):
        raise CheckpointError(f"a {type(module).__name__} is not a torch.nn.Module: give one with example_inputs, or a path")
    inner = WRAPPERS.get(type(module).__name__)
    if inner and hasattr(module, inner):
        raise CheckpointError(f"the module is wrapped in {type(module).__name__}: give what it wraps, its attribute {inner}")
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = path or "the module"
            raise CheckpointError(f"{where} is TorchScript, whose operations cannot be followed: give the module from before torch.jit")
        if ".quantized." in type(part).__module__ and not part.__module__.startswith("torch.ao.nn.qat"):
            raise CheckpointError(
                f"{path or 'the module'} is quantised ({type(part).__name__}): prune the module first, and quantise the result"
            )
    for name, why in refused_tensors(module):
        raise CheckpointError(f"{name} {why}")


REFUSED: dict[str, Callable[[Tensor], bool]] = {
    "is not initialised yet, as its layer is lazy: run the module once first": is_lazy,
    "is on the meta device, without values: load or draw the module's weights first": lambda tensor: tensor.is_meta,
    "is quantised: prune the module first, and quantise the result": lambda tensor: tensor.is_quantized,
    "is sparse: make it dense first, or a removed channel could not be told from a zero": lambda tensor: tensor.layout != torch.strided,
}


def refused_tensors(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Parameters and buffers that cannot be cut, each with the reason."""
    found = False
    for name, tensor in named_tensors(module):
        found = True
        yield from ((name, why) for why, is_so in REFUSED.items() if is_so(tensor))
    if not found:
        yield type(module).__name__, "has no parameters: there is nothing to cut"


TOLERANCES = (0.01, 0.05, 0.2, 1.0)
"""How far below its goal a plan may end, as shares of the goal: a small module has few widths, so the nearest may be far below."""


def planned_by(analysis: Analysis, base: Removal, targets: Sequence[Target], criterion: str) -> Step:
    """The step that reaches targets by the importance of channels alone.

    Raises:
        OutOfReach: no plan reaches the targets.
        RequestError: no such criterion exists.
    """
    budget = nearest_budget(analysis, base, targets, criterion)
    if budget.step is None:
        raise OutOfReach(budget.stopped)
    return budget.step


def nearest_budget(analysis: Analysis, base: Removal, targets: Sequence[Target], criterion: str, rules: Rules | None = None) -> Budget:
    """The budget of that step, or of what stopped the search at the largest tolerance."""
    for tolerance in TOLERANCES:
        budget = Planner(analysis, base, replace(rules or Rules(), tolerance=tolerance)).plan(targets, criterion)
        if budget.step is not None:
            break
    return budget
