"""Which parameters and buffers each tensor was computed from: what a comparison of outputs can tell of them, and what it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tui_pruner.core.flow.evaluate import ShapeMode, tensors_in, written_by
from tui_pruner.core.predictions import storage_of
from tui_pruner.core.skeleton import named_tensors


class Dependence:
    """Follows a forward operation by operation. A tensor stands for its memory, so that views and changes in place are followed too.

    `tensors` has the parameters and buffers by name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.tensors = dict(named_tensors(model))
        self._model = model
        self._sources: dict[int, int] = {}
        self._alive: list[Any] = []
        self._seen = 0
        self._written: set[int] = set()
        for number, tensor in enumerate(self.tensors.values()):
            key = storage_of(tensor)
            self._sources[key] = self._sources.get(key, 0) | 1 << number

    def follow(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        """Take note of one operation: what it gives, and what it writes into, depends on all that it reads."""
        given = [*args, *kwargs.values()]
        sources = self._of(tensors_in(given))
        written = tensors_in(written_by(function._schema, args, kwargs)) if function._schema.is_mutable else []
        for tensor in (*tensors_in(result), *written):
            key = storage_of(tensor)
            self._sources[key] = self._sources.get(key, 0) | sources
        self._seen |= sources
        self._written.update(map(storage_of, written))
        self._alive.append(result)  # memory that is given back would be handed out again

    @property
    def read(self) -> set[str]:
        """The names of all parameters and buffers that an operation has read."""
        return self._names(self._seen)

    def read_by(self, tensors: Iterable[Tensor]) -> set[str]:
        """Return the names of all parameters and buffers that these tensors were computed from."""
        return self._names(self._of(tensors))

    def idle(self, outputs: Iterable[Tensor]) -> set[str]:
        """Return the names of those that none of the outputs depends on, but for single numbers."""
        return {name for name, tensor in self.tensors.items() if tensor.ndim} - self.read_by(outputs)

    @property
    def state(self) -> dict[str, Tensor]:
        """The buffers to which the forward gave new values: what it leaves behind beside its output."""
        now = dict(self._model.named_buffers())
        return {name: one for name, one in now.items() if one is not self.tensors.get(name) or storage_of(one) in self._written}

    def _names(self, sources: int) -> set[str]:
        return {name for number, name in enumerate(self.tensors) if sources >> number & 1}

    def _of(self, tensors: Iterable[Tensor]) -> int:
        sources = 0
        for tensor in tensors:
            sources |= self._sources.get(storage_of(tensor), 0)
        return sources


class Following(ShapeMode):  # type: ignore[no-untyped-call]
    """Runs a network on the meta device for its dependences alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dependence = Dependence(model)

    def observe(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Follow one operation."""
        self.dependence.follow(function, args, kwargs, result)


@contextmanager
def training_paths(model: nn.Module, idle: Iterable[str]) -> Iterator[bool]:
    """Have the modules above some parameters take the paths of training; whether there are any.

    Layers stay in evaluation mode, so that normalisation and dropout do what they did.
    """
    above = {model.get_submodule(path) for name in idle for path in ancestors(name)}
    switched = [module for module in above if next(module.children(), None) is not None]
    for module in switched:
        module.training = True
    try:
        yield bool(switched)
    finally:
        for module in switched:
            module.training = False


def ancestors(name: str) -> list[str]:
    """Return the paths of all modules above a parameter, the model's own among them."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]
