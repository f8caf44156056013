"""Where a network applies its weights, in whichever module, and forwards of all batches that halt at the same layer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tui_pruner.core.model.inputs import Given, Inputs, by_parts, inputs_of
from tui_pruner.domain.errors import Interruption

aten = torch.ops.aten


@dataclass(frozen=True)
class Convolution:
    """The arguments of a convolution of any number of dimensions: stride, zero padding, dilation, output padding and groups."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Application:
    """A weight applied to activations.

    `inputs` is [n, channels, *space] for a convolution and [rows, features] for a matrix product (`geometry` None). `first` is the first
    row of the weight that the operation reads and `count` how many: fewer than all in a packed projection. `turn` counts the applications
    of these rows within one forward, from 0. `outputs` is None before the operation ran. `bias` names the parameter that it adds, `shift`
    the running mean that is subtracted from its outputs only; "" where there is none.
    """

    weight: str
    first: int
    count: int
    inputs: Tensor
    geometry: Convolution | None
    bias: str = ""
    turn: int = 0
    outputs: Tensor | None = None

    @property
    def site(self) -> tuple[str, int, int]:
        """The weight, its first row, and which of its applications this is."""
        return self.weight, self.first, self.turn


class Parameters:
    """The parameters of a network by their memory: a view of a parameter is recognised as part of it."""

    def __init__(self, network: nn.Module) -> None:
        self._known = {p.untyped_storage().data_ptr(): (name, p) for name, p in reversed(list(network.named_parameters()))}

    def part(self, tensor: Tensor | None) -> tuple[str, int, int] | None:
        """The parameter that a tensor is, or is whole rows of: its name, the first row and the number of rows."""
        if tensor is None or (found := self._known.get(tensor.untyped_storage().data_ptr())) is None:
            return None
        name, parameter = found
        row = parameter.stride(0) if parameter.dim() else 0
        start = int(tensor.storage_offset() - parameter.storage_offset())
        if tensor.shape[1:] != parameter.shape[1:] or tensor.stride() != parameter.stride() or not row or start % row:
            return None
        return name, start // row, tensor.shape[0]


def _convolution(
    inputs: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: Any, extra: Any, groups: Any
) -> Any:
    space = weight.dim() - 2
    each = [tuple(value) * (space if len(value) == 1 else 1) for value in (stride, padding, dilation, extra)]
    geometry = Convolution(tuple(weight.shape[2:]), each[0], each[1], each[2], transposed, each[3], groups)
    return inputs if inputs.dim() == space + 2 else inputs[None], weight, bias, geometry


def _addmm(bias: Any, inputs: Any, weight: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    return inputs, weight.t() if beta == alpha == 1 else None, bias, None


def _mm(inputs: Any, weight: Any) -> Any:
    return inputs, weight.t(), None, None


def _bmm(inputs: Any, weight: Any) -> Any:
    return inputs.flatten(0, 1), weight[0].t() if weight.stride(0) == 0 or len(weight) == 1 else None, None, None


LINEAR: dict[Any, Callable[..., tuple[Tensor, Tensor | None, Tensor | None, Convolution | None]]] = {
    aten.convolution.default: _convolution,
    aten.addmm.default: _addmm,
    aten.mm.default: _mm,
    aten.bmm.default: _bmm,
}
NORMALISATIONS = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm"})
RUNNING_MEAN = 3


class Applying(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Call `before` and `after` at each application of a parameter during the network's forward."""

    def __init__(self, parameters: Parameters, before: Callable[[Application], None], after: Callable[[Application], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parameters, self._before, self._after = parameters, before, after
        self._turns: Counter[tuple[str, int]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (made := by_parts(self, func, args, kwargs or {})) is not NotImplemented:
            return made
        application = self._application(func, args, kwargs or {})
        if application is None:
            return func(*args, **(kwargs or {}))
        self._before(application)
        outputs = func(*args, **(kwargs or {}))
        self._after(replace(application, outputs=outputs))
        return outputs

    def _application(self, func: Any, args: Any, kwargs: Any) -> Application | None:
        reading = LINEAR.get(func)
        if reading is None:
            return None
        inputs, weight, bias, geometry = reading(*args, **kwargs)
        part = self._parameters.part(weight)
        if part is None:
            return None
        turn = self._turns[part[:2]]
        self._turns[part[:2]] += 1
        return Application(*part, inputs=inputs, geometry=geometry, bias=(self._parameters.part(bias) or ("",))[0], turn=turn)


@dataclass(frozen=True)
class Site:
    """An application in one forward: the weight, its bias, how many bytes of activations were alive, and the running mean after it."""

    weight: str
    first: int
    turn: int
    bias: str
    alive: int
    shift: str

    @property
    def key(self) -> tuple[str, int, int]:
        """The same as `Application.site`."""
        return self.weight, self.first, self.turn


class _Observer(Applying):  # type: ignore[no-untyped-call]
    """Records the order of applications, the live activations at each, and which normalisation is the only reader of their outputs."""

    def __init__(self, network: nn.Module) -> None:
        self.found: list[Application] = []
        self.alive: list[int] = []
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self._made: dict[int, tuple[int, StorageWeakRef]] = {}
        self._readers: dict[int, list[str]] = {}
        self._means = {buffer.untyped_storage().data_ptr(): name for name, buffer in network.named_buffers()}
        super().__init__(Parameters(network), self._arrive, self._made_by)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)):
            made = self._made.get(tensor.untyped_storage().data_ptr())
            if made is not None and not made[1].expired():  # type: ignore[no-untyped-call]
                self._readers[made[0]].append(self._reader(func, args, tensor))
        outputs = super().__torch_dispatch__(func, types, args, kwargs)
        for tensor in (leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)):
            storage = tensor.untyped_storage()
            self._storages[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        return outputs

    def _reader(self, func: Any, args: Any, tensor: Tensor) -> str:
        name = func._schema.name.removeprefix("aten::")
        if name not in NORMALISATIONS or args[0] is not tensor or args[RUNNING_MEAN] is None:
            return ""
        return self._means.get(args[RUNNING_MEAN].untyped_storage().data_ptr(), "")

    def _arrive(self, application: Application) -> None:
        self._storages = {key: (ref, size) for key, (ref, size) in self._storages.items() if not ref.expired()}  # type: ignore[no-untyped-call]
        self.alive.append(sum(size for _, size in self._storages.values()))

    def _made_by(self, application: Application) -> None:
        assert application.outputs is not None
        storage = application.outputs.untyped_storage()
        self._made[storage.data_ptr()] = len(self.found), StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self._readers[len(self.found)] = []
        self.found.append(replace(application, outputs=None, inputs=torch.empty(0)))

    def sites(self) -> list[Site]:
        """The applications, in the order of the forward."""
        return [
            Site(a.weight, a.first, a.turn, a.bias, alive, readers[0] if len(readers) == 1 else "")
            for a, alive, readers in zip(self.found, self.alive, (self._readers[n] for n in range(len(self.found))), strict=True)
        ]


def observe(network: nn.Module, batch: Given) -> list[Site]:
    """Run one forward and return every application of a parameter in order, with the bytes of activations that are alive there."""
    observer = _Observer(network)
    with torch.no_grad(), observer:
        inputs_of(batch).to(next(network.parameters()).device).run(network)
    return observer.sites()


def by_weight(sites: list[Site]) -> Mapping[tuple[str, int], list[Site]]:
    """The sites of each weight's rows, weights in the order of their first application."""
    found: dict[tuple[str, int], list[Site]] = {}
    for site in sites:
        found.setdefault((site.weight, site.first), []).append(site)
    return found


class Abandoned(Interruption):
    """Ends the thread of an abandoned forward; a BaseException, so that no `except Exception` in a forward catches it."""


class Forward:
    """The forward of one batch, in a thread of its own; only one such thread runs at a time.

    It halts before the operation at a site, or after it where `after` is set; its activations stay in memory while it halts.
    """

    def __init__(self, network: nn.Module, parameters: Parameters, batch: Callable[[], Inputs], after: bool) -> None:
        self._network, self._parameters, self._batch, self._after = network, parameters, batch, after
        self._wanted: tuple[str, int, int] | None = None
        self._thread: threading.Thread | None = None
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self._at: Application | None = None
        self._error: BaseException | None = None
        self._ending = False

    @property
    def under_way(self) -> bool:
        """Whether it is halted."""
        return self._thread is not None

    def advance(self, site: tuple[str, int, int]) -> Application | None:
        """Run to a site; None where the forward ends without it, after which the next call starts over."""
        self._wanted, self._at = site, None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._halted.acquire()
        if self._at is None:
            self._finish()
        return self._at

    def abandon(self) -> None:
        """Discard everything that was computed; the next call of `advance` starts over."""
        if self._thread is None:
            return
        self._ending = True
        self._go.release()
        self._halted.acquire()
        self._at = None
        self._finish()

    def _finish(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread, self._ending = None, False
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        before, after = (self._pass, self._halt) if self._after else (self._halt, self._pass)
        try:
            with torch.no_grad(), Applying(self._parameters, before, after):
                self._batch().run(self._network)
        except Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self._halted.release()

    def _halt(self, application: Application) -> None:
        if application.site != self._wanted:
            return
        self._at = application
        self._halted.release()
        del application
        self._go.acquire()
        if self._ending:
            raise Abandoned

    def _pass(self, application: Application) -> None:
        return


class Lockstep:
    """The forwards of all batches through one network, advanced together.

    As many batches stay halted at a layer as `memory_limit` bytes of activations allow; the others start over for the next layer.
    """

    def __init__(self, network: nn.Module, batches: Sequence[Given], memory_limit: int, after: bool = False) -> None:
        parameters = Parameters(network)
        device = next(network.parameters()).device
        self._forwards = [
            Forward(network, parameters, lambda number=number: inputs_of(batches[number]).to(device), after)  # type: ignore[misc]
            for number in range(len(batches))
        ]
        self._memory_limit = memory_limit // max((len(inputs_of(batch)) for batch in batches), default=1)

    def at(self, site: Site) -> Iterator[Application | None]:
        """Every batch's application at a site, in the order of the batches; use each before asking for the next."""
        halting = self._memory_limit // max(site.alive, 1)
        for number, forward in enumerate(self._forwards):
            yield forward.advance(site.key)
            if number >= halting:
                forward.abandon()

    def restart(self) -> None:
        """Start all forwards over, since a weight that they have passed has changed."""
        for forward in self._forwards:
            forward.abandon()

    close = restart
