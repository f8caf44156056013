"""What the modules of a network read and handed out: one that is unchanged and reads the very same hands out the very same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

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


class Memory:
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
