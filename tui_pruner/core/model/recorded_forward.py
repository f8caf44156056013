"""A forward of a model, recorded block by block, on images made for it; and calls that are remembered instead of run again."""

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
from tui_pruner.core.model.predictions import Leaves, handed_through, predicted
from tui_pruner.core.tracing.meta_device import training_paths

SCALARS = (bool, int, float, str, type(None))
STATELESS = ["torch."]
"""What the names of packages begin with whose layers keep nothing of a forward, but for the last block."""
Images = Inputs | Tensor
Run = Callable[[nn.Module, Images], Any]
BUFFER = "buffer "
"""What the place of a buffer begins with, that a forward gave new values."""


@dataclass(frozen=True)
class Recording:
    """What a network gave, the order in which its blocks ran, and what those handed out that can be answered for."""

    given: Any
    order: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)


def chain(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a network that keeps them in a sequence, as Ultralytics' do; none for any other network."""
    return sequence(model) if isinstance(getattr(model, "model", None), nn.Sequential) and keeps_blocks(model) else []


def predictions_of(model: nn.Module, image: Images, seed: int = 0) -> Leaves:
    """One forward's predictions, without gradients; where chance decides, `seed` does, and the caller's chance is left alone.

    Raises:
        Unseen: no tensor is found in what it returns.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]), handed_through(model) as features:
        torch.manual_seed(seed)
        return predicted(inputs_of(image).run(model), features)


def record(model: nn.Module, image: Images, run: Run = predictions_of) -> Recording:
    """Run a network and remember its blocks. A later block may work in place, so what is kept is a copy.

    Nothing is kept of the last one, of one that runs twice, and of one that hands out what cannot be copied.
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
    """What a changed copy of a recorded network gives on the recorded image, computed from its first changed block on."""
    blocks = unchanged_blocks(model, original, recording)
    running = private(model, blocks)
    for path in blocks:
        running.get_submodule(path).__dict__["forward"] = answering(recording.outputs[path])
    return run(running, image)


def trained(model: nn.Module, image: Images, idle: Iterable[str], places: Iterable[str], seed: int = 0) -> Leaves:
    """What a network predicts on the paths of training that some parameters lie on, with the buffers among the places that are known."""
    running = isolated(model)
    with training_paths(running, idle):
        predictions = predictions_of(running, image, seed)
    buffers = dict(running.named_buffers())
    return predictions | {place: buffers[name] for place in places if (name := place.removeprefix(BUFFER)) in buffers and name != place}


def tapped(model: nn.Module, image: Images, paths: Iterable[str]) -> Leaves:
    """What some modules hand out in one forward, call by call, beside what the network predicts."""
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
    """A copy that can be run, and whose `blocks` can be altered, without a trace of it in the model."""
    if not all(type(module).__module__.startswith(tuple(STATELESS)) for module in model.modules()):
        return isolated(model)
    if not chain(model) or any(module.training for module in model.modules()):
        return sharing_weights(model)
    return with_own(model, [*blocks, *below(model, sequence(model)[-1][0])])


def isolated(model: nn.Module) -> nn.Module:
    """A copy with parameters and buffers of its own, for a forward that may write into them."""
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
    """A nested structure with a copy of every tensor in it."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def copyable(tree: Any) -> bool:
    """Whether a nested structure holds nothing but tensors and plain values, in containers that PyTorch's pytree knows."""
    return all(isinstance(leaf, (Tensor, *SCALARS)) for leaf in tree_leaves(tree))


def unchanged_blocks(model: nn.Module, original: nn.Module, recording: Recording) -> list[str]:
    """The blocks that ran before the first one that differs: what reaches them is the same in both networks, and so is what they compute.

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
    """Whether two modules cannot but compute the same: one class, the very same tensors, equal attributes, and children likewise."""
    mine, other = vars(left), vars(right)
    if type(left) is not type(right) or mine.keys() != other.keys():
        return False
    return all(alike_in(name, value, other[name]) for name, value in mine.items() if value is not other[name] and name not in leave_out)


def alike_in(name: str, mine: Any, other: Any) -> bool:
    """Whether one attribute of two modules is the same."""
    if name == "_modules":
        return mine.keys() == other.keys() and all(alike_or_none(mine[key], other[key]) for key in mine)
    if name in OWN_TABLES:
        return mine.keys() == other.keys() and all(mine[key] is other[key] for key in mine)
    return same_value(mine, other)


def same_value(mine: Any, other: Any) -> bool:
    """Whether two attributes hold the same: one object, equal plain values, or lists and dicts of such, which copies have to themselves."""
    if mine is other or type(mine) is not type(other):
        return mine is other
    if isinstance(mine, (list, tuple)):
        return len(mine) == len(other) and all(map(same_value, mine, other))
    if isinstance(mine, dict):
        return mine.keys() == other.keys() and all(same_value(mine[key], other[key]) for key in mine)
    return isinstance(mine, SCALARS) and mine == other


def answering(output: Any) -> Callable[..., Any]:
    """A forward that always gives the same."""
    return lambda *args, **kwargs: copied(output)


Forward = Callable[..., Any]
BLOCK_DEPTH = 1
"""The dots in a block's path: model.5."""


@dataclass
class Known:
    """One batch: by a module's path its arguments and its output. They stay in memory, so that no other tensor can have their place."""

    calls: dict[str, tuple[list[Any], Any]] = field(default_factory=dict)
    called_twice: set[str] = field(default_factory=set)
    versions: list[tuple[Tensor, int]] = field(default_factory=list)

    def put(self, path: str, arguments: list[Any], output: Any) -> None:
        """Remember a call; a module that is called twice is not remembered at all."""
        if path in self.calls:
            self.called_twice.add(path)
        self.calls[path] = (arguments, output)
        tensors = (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and not leaf.is_inference())
        self.versions += [(tensor, tensor._version) for tensor in tensors]

    @property
    def disturbed(self) -> bool:
        """Whether anything that was handed out was changed in place afterwards; outside inference mode, where PyTorch counts that."""
        return any(tensor._version != version for tensor, version in self.versions)

    def answer(self, path: str, arguments: list[Any]) -> tuple[bool, Any]:
        """Whether the same was read before, and what was handed out then."""
        if path not in self.calls or path in self.called_twice:
            return False, None
        before, output = self.calls[path]
        alike = len(before) == len(arguments) and all(same_place(a, b) for a, b in zip(before, arguments, strict=True))
        return alike, output

    @property
    def depths(self) -> list[int]:
        """How deep in the network the modules are that were called."""
        return sorted({path.count(".") for path in self.calls})

    @property
    def nbytes(self) -> int:
        """The bytes of everything that it keeps in memory."""
        leaves = (leaf for arguments, output in self.calls.values() for leaf in (*arguments, *tree_leaves(output)))
        storages = {leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes() for leaf in leaves if isinstance(leaf, Tensor)}
        return sum(storages.values())


class ActivationMemory:
    """Attached to modules, it records the calls of one network, and spares others those that would give the same again."""

    def __init__(self) -> None:
        self._known = Known()
        self._recording = False
        self._depth: int | None = None

    def attach(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        """Watch modules by their paths: all blocks, since the next one must get the same object, and inside them what has parts."""
        for path, module in modules:
            if path.count(".") == BLOCK_DEPTH or any(True for _ in module.children()):
                module.__dict__["forward"] = self._watched(path, module.forward)

    @contextmanager
    def recording(self) -> Iterator[Known]:
        """Remember what runs inside."""
        self._known, self._recording = Known(), True
        try:
            yield self._known
        finally:
            self._known, self._recording = Known(), False

    @contextmanager
    def answering(self, known: Known, depth: int | None = None) -> Iterator[None]:
        """Spare what runs inside the calls that are known; with `depth` only those of modules at that depth."""
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
    """Whether two arguments are one: the same object, or tensors of one kind at the very same place in memory."""
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return left is right
    if left is right:
        return True
    alike = left.shape == right.shape and left.stride() == right.stride() and left.dtype == right.dtype
    return alike and left.data_ptr() == right.data_ptr()
