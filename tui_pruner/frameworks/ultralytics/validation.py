"""Validation with Ultralytics on labelled images: a model's own loss, and many changed copies side by side.

Blocks that a change does not affect are computed once for all copies.
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tui_pruner.core.model.copies import forget_caches, own, with_own
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.model.recorded_forward import ActivationMemory, Known, chain, copied
from tui_pruner.domain.errors import out_of_memory
from tui_pruner.frameworks.ultralytics.building import default_arguments


def differentiable(model: nn.Module, device: str | torch.device = "cpu") -> nn.Module:
    """A copy whose loss has gradients for every parameter, even of a frozen checkpoint; in eval mode, as the model will be used."""
    twin = copy.deepcopy(model).to(device).float().eval().requires_grad_(True)
    settings = getattr(model, "args", None) or {}
    twin.args = SimpleNamespace(**{**default_arguments(), **(settings if isinstance(settings, dict) else vars(settings))})  # type: ignore[assignment]
    twin.nc = len(model.names)  # type: ignore[assignment, arg-type]  # a trainer sets it, and RT-DETR's loss reads it
    twin.criterion = None  # type: ignore[assignment]  # one that was built before has the settings and the device of then
    forget_caches(twin)  # anchors made in inference mode cannot be differentiated through
    return twin


Work = Callable[[], None]


@contextmanager
def one_core_each(device: torch.device) -> Iterator[Callable[[Sequence[Work]], None]]:
    """A function that runs several tasks without gradients: on the CPU each on its own core, elsewhere one after the other.

    Cores that share a small convolution wait for each other; separate networks do not.
    """
    if device.type != "cpu" or cores() == 1:
        yield one_after_the_other
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores()) as pool:

            def beside_each_other(works: Sequence[Work]) -> None:
                for begun in [pool.submit(torch.inference_mode()(work)) for work in works]:
                    begun.result()

            yield beside_each_other
    finally:
        torch.set_num_threads(before)


def one_after_the_other(works: Sequence[Work]) -> None:
    """Run tasks one after the other."""
    for work in works:
        work()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Batch = dict[str, Any]
Metrics = dict[str, float]
KEPT_BYTES = 1 << 30
"""Bytes of images and of the original's activations; where they need more, they are read and computed again for every wave."""


@dataclass(frozen=True)
class Variant:
    """A copy of the network in which only the tensors with these names differ."""

    network: nn.Module
    changed: frozenset[str]

    def differs(self, path: str) -> bool:
        """Whether a module, or anything in it, contains such a tensor."""
        return any(name.startswith(f"{path}.") for name in self.changed)


class Candidate:
    """One network, ready to predict, with its own validator, which gets the same batches as all others."""

    def __init__(self, validator: Any, metrics: Any, backend: Any) -> None:
        self.backend = backend
        self._validator = copy.copy(validator)
        self._validator.metrics = copy.deepcopy(metrics)
        self._validator.jdict = []
        self._validator.init_metrics(backend)

    @property
    def network(self) -> nn.Module:
        """The network inside."""
        inner: nn.Module = self.backend.backend.model
        return inner

    def take(self, batch: Batch) -> None:
        """Predict on a batch and count it."""
        validator = self._validator
        validator.update_metrics(validator.postprocess(self.backend(batch["img"])), dict(batch))

    def result(self) -> Metrics:
        """The metrics over all batches so far, by Ultralytics' names."""
        return {name: float(value) for name, value in self._validator.get_stats().items()}


class SharedRun:
    """A validator that has validated the unchanged network once, and then validates changed copies of it."""

    def __init__(self, validator: Any, network: nn.Module) -> None:
        import torch

        self._metrics = copy.deepcopy(validator.metrics)
        validator(model=copy.deepcopy(network))
        self.baseline: Metrics = {name: float(value) for name, value in validator.metrics.results_dict.items()}
        self.images = len(validator.dataloader.dataset)
        self._validator = validator
        self._kept: list[tuple[Batch, Known]] | None = None
        self._keeps = True
        self._memory = ActivationMemory()
        self.shares, self.can_share = False, True
        self._blocks = [path for path, _ in sequence(network)] if chain(network) else []
        with torch.inference_mode():
            self._original = Candidate(validator, self._metrics, backend_of(validator, network))
            try:
                self.shares = self.can_share = bool(self._blocks) and self._is_exact()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise

    def wave(self, variants: Sequence[Variant]) -> Iterator[Metrics]:
        """The metrics of networks, in their order."""
        import torch

        if not self._keeps:
            gc.collect()  # earlier networks are in reference cycles, and a full GPU does not make Python collect them
        with torch.inference_mode(), one_core_each(self._validator.device) as everyone:
            candidates = [Candidate(self._validator, self._metrics, self._backend(variant)) for variant in variants]
            for batch, known in self._batches():
                with self._memory.answering(known):
                    everyone([partial(candidate.take, batch) for candidate in candidates])
            for candidate in candidates:
                yield candidate.result()

    def keep_nothing(self) -> bool:
        """Stop keeping data in memory to save time; whether any was kept until now."""
        kept, self._keeps, self._kept = self._keeps, False, None
        return kept

    def share_nothing(self) -> bool:
        """Let every network compute everything itself, in less memory; whether anything was shared until now."""
        shared, self.shares = self.shares, False
        return shared

    def _backend(self, variant: Variant) -> Any:
        """A variant ready to predict: blocks that differ are prepared, all others are the original's."""
        changed = [path for path in self._blocks if variant.differs(path)]
        inside = tuple(f"{path}." for path in changed)
        if not self.shares or not all(name.startswith(inside) for name in variant.changed):
            return backend_of(self._validator, variant.network)
        network = with_own(self._original.network, {path.rpartition(".")[0] for path in changed})
        for path, block in zip(changed, prepared_blocks(self._validator, variant.network, changed), strict=True):
            parent, _, name = path.rpartition(".")
            network.get_submodule(parent)._modules[name] = block
            self._memory.attach((below, module) for below, module in block.named_modules(prefix=path) if not variant.differs(below))
        return around(self._original.backend, network)

    def _batches(self) -> Iterator[tuple[Batch, Known]]:
        """The images as the validator prepares them, with the original's activations; kept where they are few."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[tuple[Batch, Known]] | None = [] if self._keeps else None
        memory_left = KEPT_BYTES
        for batch in self._validator.dataloader:
            ready = self._validator.preprocess(batch)
            with self._memory.recording() as known:
                if self.shares:
                    self._original.backend(ready["img"])
            memory_left -= known.nbytes + ready["img"].nbytes
            if kept is not None:
                kept.append((ready, known))
            kept = kept if memory_left >= 0 else None
            yield ready, known
        self._kept = kept

    def _is_exact(self) -> bool:
        """Whether nothing works in place, and a network with recorded answers predicts exactly the same at each depth."""
        import torch

        with torch.inference_mode(False), torch.no_grad():
            image = self._validator.preprocess(next(iter(self._validator.dataloader)))["img"]
            whole = copied(self._original.backend(image))
            blocks = [(path, self._original.network.get_submodule(path)) for path in self._blocks]
            self._memory.attach((below, module) for path, block in blocks for below, module in block.named_modules(prefix=path))
            with self._memory.recording() as known:
                self._original.backend(image)
            return not known.changed_in_place and all(self._answers(known, depth, image, whole) for depth in known.depths)

    def _answers(self, known: Known, depth: int, image: Any, whole: Any) -> bool:
        with self._memory.answering(known, depth):
            return same(self._original.backend(image), whole)


def backend_of(validator: Any, network: nn.Module) -> Any:
    """The network as the validator itself would run it: a copy with folded BatchNorm."""
    from ultralytics.nn.autobackend import AutoBackend

    settings = validator.args
    return AutoBackend(
        model=copy.deepcopy(network),
        device=validator.device,
        dnn=settings.dnn,
        data=settings.data,
        fp16=settings.quantize == 16,
        channels_last=settings.channels_last,
        end2end=settings.nms is False,
        verbose=False,
    ).eval()


def prepared_blocks(validator: Any, network: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    """Copies of some blocks as the validator would run them, made by the network's own `fuse`."""
    from torch import nn

    blocks = [copy.deepcopy(network.get_submodule(path)) for path in paths]
    shell: Any = own(network, {})
    shell._modules["model"] = nn.Sequential(*blocks)
    if hasattr(shell, "end2end"):
        shell.end2end = validator.args.nms is False
    shell.fuse(verbose=False)
    shell.to(validator.device).float().eval()
    return blocks


def around(backend: Any, network: nn.Module) -> Any:
    """A backend like another one, for another network."""
    twin: Any = own(backend, {})
    twin.backend = copy.copy(backend.backend)
    twin.backend.model = network
    return twin


def same(left: Any, right: Any) -> bool:
    """Whether two nested structures of tensors are equal bit by bit."""
    import torch
    from torch.utils._pytree import tree_leaves

    mine, other = tree_leaves(left), tree_leaves(right)
    return len(mine) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(mine, other, strict=True)
    )
