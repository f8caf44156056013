"""A forward that is recorded block by block, and an activation memory that answers repeated calls instead of running them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from tui_pruner.core.model.copies import OWN_TABLES, below, sharing_weights, with_own
from tui_pruner.core.model.inputs import Inputs, inputs_of
from tui_pruner.core.model.layers import keeps_blocks, sequence
from tui_pruner.core.model.predictions import Leaves, features_passed_through, predicted
from tui_pruner.core.tracing.meta_device import training_paths

SCALARS = (bool, int, float, str, type(None))
STATELESS = ["torch."]
"""Prefixes of packages whose layers store nothing during a forward, except in the last block."""
Images = Inputs | Tensor
Run = Callable[[nn.Module, Images], Any]
BUFFER = "buffer "
"""Prefix of the names of buffers that a forward wrote to."""


@dataclass(frozen=True)
class Recording:
    """A network's output, the order in which its blocks ran, and the outputs of those blocks that can be reused."""

    given: Any
    order: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)


def chain(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a network that has them in a sequence, as Ultralytics' do; empty for any other network."""
    return sequence(model) if isinstance(getattr(model, "model", None), nn.Sequential) and keeps_blocks(model) else []


def predictions_of(model: nn.Module, image: Images, seed: int = 0) -> Leaves:
    """One forward's predictions, without gradients; `seed` is for random forwards, and the caller's random state is restored.

    Raises:
        Unseen: no tensor is found in its output.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]), features_passed_through(model) as features:
        torch.manual_seed(seed)
        return predicted(inputs_of(image).run(model), features)


def record(model: nn.Module, image: Images, run: Run = predictions_of) -> Recording:
    """Run a network and record its blocks. Outputs are copied, since a later block may work in place.

    Not recorded: the last block, a block that runs twice, and one whose output cannot be copied.
    """
    order: list[str] = []
    outputs: dict[str, Any] = {}
    running = private(model)
    blocks = chain(running)

    def remembering(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if path in order:
                outputs.pop(path, None)
            elif path != blocks[-1][0] and copyable(output):
                outputs[path] = copied(output)
            order.append(path)

        return hook

    with ExitStack() as hooks:
        for path, block in blocks:
            hooks.callback(block.register_forward_hook(remembering(path)).remove)
        given = run(running, image)
    return Recording(given, order, outputs)


def continued(model: nn.Module, original: nn.Module, recording: Recording, image: Images, run: Run = predictions_of) -> Any:
    """The output of a changed copy of a recorded network on the recorded image, computed from its first changed block on."""
    blocks = unchanged_blocks(model, original, recording)
    running = private(model, blocks)
    for path in blocks:
        running.get_submodule(path).__dict__["forward"] = answering(recording.outputs[path])
    return run(running, image)


def trained(model: nn.Module, image: Images, idle: Iterable[str], places: Iterable[str], seed: int = 0) -> Leaves:
    """What a network predicts on the paths of training of some parameters, with the buffers that are among `places`."""
    running = isolated(model)
    with training_paths(running, idle):
        predictions = predictions_of(running, image, seed)
    buffers = dict(running.named_buffers())
    return predictions | {place: buffers[name] for place in places if (name := place.removeprefix(BUFFER)) in buffers and name != place}


def outputs_of_modules(model: nn.Module, image: Images, paths: Iterable[str]) -> Leaves:
    """The outputs of some modules in one forward, call by call, and what the network predicts."""
    running = isolated(model)
    found: Leaves = {}

    def tapping(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls = sum(place.startswith(f"{path} call ") for place in found)
            found.update({f"{path} call {calls}": output.clone()} if isinstance(output, Tensor) else {})

        return hook

    with ExitStack() as hooks:
        for path in paths:
            hooks.callback(running.get_submodule(path).register_forward_hook(tapping(path)).remove)
        predictions = predictions_of(running, image)
    return predictions | found


def private(model: nn.Module, blocks: Sequence[str] = ()) -> nn.Module:
    """A copy that can be run, and whose `blocks` can be changed, without affecting the model."""
    if not all(type(module).__module__.startswith(tuple(STATELESS)) for module in model.modules()):
        return isolated(model)
    if not chain(model) or any(module.training for module in model.modules()):
        return sharing_weights(model)
    return with_own(model, [*blocks, *below(model, sequence(model)[-1][0])])


def isolated(model: nn.Module) -> nn.Module:
    """A copy with its own parameters and buffers, for a forward that may write into them."""
    copy, own = sharing_weights(model), dict[int, Any]()
    for module in copy.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    if id(tensor) not in own:
                        value = tensor.detach().clone()
                        own[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
                    table[name] = own[id(tensor)]
    return copy


def copied(tree: Any) -> Any:
    """A nested structure with every tensor copied."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def copyable(tree: Any) -> bool:
    """Whether a nested structure has only tensors and plain values, in containers that PyTorch's pytree knows."""
    return all(isinstance(leaf, (Tensor, *SCALARS)) for leaf in tree_leaves(tree))


def unchanged_blocks(model: nn.Module, original: nn.Module, recording: Recording) -> list[str]:
    """The blocks that ran before the first one that differs: their inputs are the same in both networks, and so are their outputs.

    None where something differs whose place in the forward is not known.
    """
    mine, known = dict(chain(model)), dict(chain(original))
    around = [(model._modules.get(name), part) for name, part in original._modules.items() if name != "model"]
    aside = [(mine.get(path), block) for path, block in known.items() if path not in recording.order]
    if mine.keys() != known.keys() or not alike(model, original, ("_modules",)) or not all(alike_or_none(*pair) for pair in around + aside):
        return []
    same = []
    for path in recording.order:
        if path not in recording.outputs or not alike(mine[path], known[path]):
            break
        same.append(path)
    return same


def alike_or_none(left: nn.Module | None, right: nn.Module | None) -> bool:
    """Whether two modules, or their absence, are alike."""
    return left is right or (left is not None and right is not None and alike(left, right))


def alike(left: nn.Module, right: nn.Module, leave_out: tuple[str, ...] = ()) -> bool:
    """Whether two modules must compute the same: same class, the very same tensors, equal attributes, and alike children."""
    mine, other = vars(left), vars(right)
    if type(left) is not type(right) or mine.keys() != other.keys():
        return False
    return all(
        same_attribute(name, value, other[name]) for name, value in mine.items() if value is not other[name] and name not in leave_out
    )


def same_attribute(name: str, mine: Any, other: Any) -> bool:
    """Whether an attribute of two modules is the same."""
    if name == "_modules":
        return mine.keys() == other.keys() and all(alike_or_none(mine[key], other[key]) for key in mine)
    if name in OWN_TABLES:
        return mine.keys() == other.keys() and all(mine[key] is other[key] for key in mine)
    return same_value(mine, other)


def same_value(mine: Any, other: Any) -> bool:
    """Whether two attributes have the same value: the same object, equal plain values, or lists and dicts of such."""
    if mine is other or type(mine) is not type(other):
        return mine is other
    if isinstance(mine, (list, tuple)):
        return len(mine) == len(other) and all(map(same_value, mine, other))
    if isinstance(mine, dict):
        return mine.keys() == other.keys() and all(same_value(mine[key], other[key]) for key in mine)
    return isinstance(mine, SCALARS) and mine == other


def answering(output: Any) -> Callable[..., Any]:
    """A forward that always returns the same output."""
    return lambda *args, **kwargs: copied(output)


Forward = Callable[..., Any]
BLOCK_DEPTH = 1
"""The number of dots in a block's path: model.5."""


@dataclass
class Known:
    """One batch: each module's arguments and output by its path. They stay in memory, so that their addresses are not reused."""

    calls: dict[str, tuple[list[Any], Any]] = field(default_factory=dict)
    called_twice: set[str] = field(default_factory=set)
    versions: list[tuple[Tensor, int]] = field(default_factory=list)

    def put(self, path: str, arguments: list[Any], output: Any) -> None:
        """Record a call; a module that is called twice is not recorded."""
        if path in self.calls:
            self.called_twice.add(path)
        self.calls[path] = (arguments, output)
        tensors = (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and not leaf.is_inference())
        self.versions += [(tensor, tensor._version) for tensor in tensors]

    @property
    def changed_in_place(self) -> bool:
        """Whether any recorded output was changed in place afterwards; outside inference mode, where PyTorch counts changes."""
        return any(tensor._version != version for tensor, version in self.versions)

    def answer(self, path: str, arguments: list[Any]) -> tuple[bool, Any]:
        """Whether a call with these arguments was recorded, and its output."""
        if path not in self.calls or path in self.called_twice:
            return False, None
        before, output = self.calls[path]
        alike = len(before) == len(arguments) and all(same_place(a, b) for a, b in zip(before, arguments, strict=True))
        return alike, output

    @property
    def depths(self) -> list[int]:
        """The depths in the network of the modules that were called."""
        return sorted({path.count(".") for path in self.calls})

    @property
    def nbytes(self) -> int:
        """The bytes of everything that it keeps in memory."""
        leaves = (leaf for arguments, output in self.calls.values() for leaf in (*arguments, *tree_leaves(output)))
        storages = {leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes() for leaf in leaves if isinstance(leaf, Tensor)}
        return sum(storages.values())


class ActivationMemory:
    """Attached to modules, it records the calls of one network and answers the same calls of others without running them."""

    def __init__(self) -> None:
        self._known = Known()
        self._recording = False
        self._depth: int | None = None

    def attach(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        """Watch modules by their paths: all blocks, since the next one must get the same object, and modules with children inside them."""
        for path, module in modules:
            if path.count(".") == BLOCK_DEPTH or any(True for _ in module.children()):
                module.__dict__["forward"] = self._watched(path, module.forward)

    @contextmanager
    def recording(self) -> Iterator[Known]:
        """Record what runs inside the `with` block."""
        self._known, self._recording = Known(), True
        try:
            yield self._known
        finally:
            self._known, self._recording = Known(), False

    @contextmanager
    def answering(self, known: Known, depth: int | None = None) -> Iterator[None]:
        """Answer recorded calls inside the `with` block; with `depth` only those of modules at that depth."""
        self._known, self._depth = known, depth
        try:
            yield
        finally:
            self._known, self._depth = Known(), None

    def _watched(self, path: str, forward: Forward) -> Forward:
        depth = path.count(".")

        def run(*arguments: Any, **named: Any) -> Any:
            if named:
                return forward(*arguments, **named)
            leaves = tree_leaves(arguments)
            if self._recording:
                output = forward(*arguments)
                self._known.put(path, leaves, output)
                return output
            found, output = self._known.answer(path, leaves) if self._depth in (None, depth) else (False, None)
            return output if found else forward(*arguments)

        return run


def same_place(left: Any, right: Any) -> bool:
    """Whether two arguments are the same: one object, or tensors of one kind with the same memory."""
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return left is right
    if left is right:
        return True
    alike = left.shape == right.shape and left.stride() == right.stride() and left.dtype == right.dtype
    return alike and left.data_ptr() == right.data_ptr()
