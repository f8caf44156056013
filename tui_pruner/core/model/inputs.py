"""The arguments of a model's forward: an image, or any arguments with tensors in them; and random images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from tui_pruner.core.model.predictions import MOST_LEAVES, Unseen, tensors
from tui_pruner.domain.errors import RequestError, user_code

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
FINER = {torch.float32: torch.complex64, torch.float64: torch.complex128}
"""The complex dtype of each precision."""


@dataclass(frozen=True)
class Inputs:
    """The arguments of one forward: `args` and `kwargs`, with tensors at any depth of tuples, lists and dicts; `name` is for messages.

    `forward(model, *args, **kwargs)` is called in place of the model where it is given.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = "input"
    forward: Callable[..., Any] | None = None

    def run(self, model: nn.Module, mode: KnownNumbers | None = None) -> Any:
        """Call a model with these arguments and return its output; `mode`: handles tensor functions meanwhile.

        Raises:
            ProgramEnd: it would have ended this program.
        """
        read = (*self.tensors, *islice(model.parameters(), 1))
        on_meta, exact = (any(map(given, read)) for given in (lambda tensor: tensor.is_meta, lambda tensor: tensor.dtype == torch.float64))
        around = mode or (KnownNumbers() if on_meta else InFloat64() if exact else nullcontext())
        with user_code(f"the forward of {type(model).__name__}"), around, uncompiled():
            given = self.call(model)
            return list(islice(given, MOST_LEAVES + 2)) if isinstance(given, Iterator) else given  # one computes when it is gone through

    def call(self, model: nn.Module) -> Any:
        """Call a model with these arguments, as a program of the user's would."""
        return model(*self.args, **self.kwargs) if self.forward is None else self.forward(model, *self.args, **self.kwargs)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors in them, in order."""
        return [leaf for leaf in tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Tensor)]

    @property
    def channels(self) -> int:
        """How many channels the first tensor has, at its second dimension; 0 where it has none."""
        first = next(iter(self.tensors), None)
        return int(first.shape[1]) if first is not None and first.ndim > 1 else 0

    def changed(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same arguments with every tensor changed."""
        args, kwargs = tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, (self.args, dict(self.kwargs)))
        return replace(self, args=args, kwargs=kwargs)

    def on_meta(self) -> Inputs:
        """The arguments on the meta device. Integers keep their values: forwards use them as indices, masks and lengths."""
        return self.changed(lambda t: torch.empty_like(t, device="meta") if is_real(t) else t.clone())

    def to(self, where: torch.dtype | torch.device) -> Inputs:
        """A copy on a device, or with its floating-point numbers in a precision; what a forward writes into it does not change these."""
        if isinstance(where, torch.device):
            return self.changed(lambda t: t.to(where, copy=True))
        return self.changed(lambda t: t.to(precision_of(t, where), copy=True))

    def computable(self) -> Inputs:
        """The same in single precision where the numbers have less."""
        return self.changed(lambda t: t.detach().float() if t.dtype in (torch.float16, torch.bfloat16) else t.detach())

    def __len__(self) -> int:
        """How many samples are in the batch: the length of the first dimension of the first tensor that has one."""
        return next((int(tensor.shape[0]) for tensor in self.tensors if tensor.ndim), 1)

    def first(self) -> Inputs:
        """The first sample alone, where all tensors have one for each sample; else the whole batch."""
        count = len(self)
        if any(not tensor.ndim or tensor.shape[0] != count for tensor in self.tensors):
            return self
        return self.changed(lambda t: t[:1])


def uncompiled() -> AbstractContextManager[Any]:
    """Have functions that a module compiles run as they are: the compiler would take the trace for a part of them.

    Only where anything was compiled: while the compiler is off, every frame of Python takes longer.
    """
    used = getattr(sys.modules.get("torch._dynamo.eval_frame"), "cached_backends", {})
    return torch.compiler.set_stance("force_eager") if any(used.values()) else nullcontext()


def by_parts(mode: Any, function: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation that a forward runs in inference mode, where PyTorch does not hand its parts to a mode by itself.

    NotImplemented where it has no parts, or runs elsewhere.
    """
    if not torch.is_inference_mode_enabled():
        return NotImplemented
    with mode:
        return function.decompose(*args, **kwargs)


class KnownNumbers(TorchFunctionMode):
    """Whole numbers that a forward makes of Python's keep their values beside the meta device, as those of its inputs do.

    The sizes of feature maps often go through such tensors. Real numbers that it makes on the CPU, as the state of a recurrent layer
    where its input is a tensor of integers, have values too; they lose them where an operation does not take them beside feature maps.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make a tensor on the CPU where it would lose known values; leave these out where an operation does not take them."""
        kwargs = kwargs or {}
        try:
            made = function(*args, **kwargs)
        except (RuntimeError, NotImplementedError):
            leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if not (any(map(has_values, leaves)) and any(leaf.is_meta for leaf in leaves)):
                raise
            if has_values(leaves[0]) and function.__name__.strip("_") in ("setitem", "copy"):
                raise RuntimeError("it writes features into a tensor that it makes on the CPU: make that with their device=") from None
            args, kwargs = tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) and has_values(leaf) else leaf, (args, kwargs))
            made = function(*args, **kwargs)
        of_another = function is Tensor.new_tensor
        if function not in MAKING or not made.is_meta or is_real(made) or not (of_another or "device" in kwargs):
            return made
        numbers = not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args[of_another:], kwargs)))
        return function(*args, **{**kwargs, "device": "cpu"}) if numbers else made


class InFloat64(TorchFunctionMode):
    """What a forward makes in PyTorch's default precision is in float64, where the network is: most operations do not mix the two."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; convert what it makes in a precision that was not asked for."""
        made = function(*args, **(kwargs or {}))
        follows = function in CREATING and "dtype" not in (kwargs or {}) and made.dtype == torch.get_default_dtype()
        return made.to(torch.float64) if follows else made


CREATING = (
    torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace, torch.logspace, torch.eye,
    torch.tensor,
)  # fmt: skip


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has real numbers on another device than meta."""
    return not tensor.is_meta and tensor.ndim > 0 and is_real(tensor)


MAKING = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


Given = Inputs | Tensor | Sequence[Any] | Mapping[str, Any]
"""A batch as users have it: a tensor, a tuple or list of arguments, a dict of arguments by name."""


def image_of(shape: Sequence[int]) -> Inputs:
    """An image [batch, channels, height, width] without values."""
    return Inputs((torch.empty(tuple(shape), device="meta"),), name="image")


def inputs_of(given: Given) -> Inputs:
    """A batch as the arguments of a forward."""
    if isinstance(given, Inputs):
        return given
    if isinstance(given, Mapping):
        return Inputs((), dict(given))
    return Inputs((given,)) if isinstance(given, Tensor) else Inputs(tuple(given))


def as_inputs(given: Inputs | Sequence[int]) -> Inputs:
    """Inputs as they are, or an image of the shape."""
    return given if isinstance(given, Inputs) else image_of(given)


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor holds real or complex numbers, not integers or booleans."""
    return tensor.is_floating_point() or tensor.is_complex()


def precision_of(tensor: Tensor, precision: torch.dtype) -> torch.dtype:
    """The dtype of a tensor's numbers in a precision; integers stay."""
    if tensor.is_complex():
        return FINER.get(precision, tensor.dtype)
    return precision if tensor.is_floating_point() else tensor.dtype


def checked(given: Inputs) -> Inputs:
    """The inputs, detached from any graph."""
    for leaf in tree_leaves((given.args, dict(given.kwargs))):
        if not isinstance(leaf, (Tensor, *PLAIN)) and holds_tensors(leaf):
            raise RequestError(f"example_inputs have tensors in a {type(leaf).__name__}: give tensors, in tuples, lists or dicts")
    if not given.tensors:
        raise RequestError(
            "example_inputs have no tensor: give what the forward reads, such as example_inputs=(torch.rand(1, 3, 224, 224),)"
        )
    if any(tensor.is_meta for tensor in given.tensors):
        raise RequestError("example_inputs have no values, as they are on the meta device: give tensors with numbers")
    if not any(tensor.numel() for tensor in given.tensors):
        raise RequestError("example_inputs are empty: give at least one sample of what the forward reads")
    return given.changed(lambda t: t.detach())


def holds_tensors(leaf: Any) -> bool:
    """Whether an object that PyTorch's pytree takes for a leaf contains a tensor."""
    try:
        return bool(tensors(leaf))
    except Unseen:
        return False


def with_varied_values(given: Inputs, seed: int = 0) -> Inputs:
    """The inputs with varied values: numbers that are all equal, such as zeros given only for the shape, are drawn at random."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.numel() < 2 or not bool((tensor == tensor.flatten()[0]).all()):
            return tensor
        return torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)

    return given.changed(drawn)


def batches_of(batches: Iterable[Any], like: Inputs | None = None) -> Iterator[Inputs]:
    """Batches as the arguments of forwards; of one with more entries than the model takes, such as images and labels, only the first.

    Raises:
        RequestError: a batch is not a tensor, tuple, list or dict, or contains no tensor, or `batches` is not iterable.
        ProgramEnd: the iterator of the batches called for the end of the program.
    """
    for batch in each_batch(batches):
        if not isinstance(batch, (Inputs, Tensor, tuple, list, Mapping)):
            raise RequestError(f"a batch is a {type(batch).__name__}: give tensors, tuples of arguments or dicts of arguments by name")
        one = inputs_of(batch)
        if like is not None and len(one.args) > len(like.args) > 0:
            one = replace(one, args=one.args[: len(like.args)])
        if not one.tensors:
            raise RequestError("a batch has no tensor in it: give what the forward reads")
        if not any(tensor.numel() for tensor in one.tensors):
            raise RequestError("a batch is empty: give at least one sample in each")
        yield one if like is None else replace(one, forward=like.forward)


def each_batch(batches: Iterable[Any]) -> Iterator[Any]:
    """Go through batches; a tensor alone, or a dict of arguments by name, is one batch.

    Raises:
        RequestError: they cannot be gone through.
        ProgramEnd: what gives them would have ended this program.
    """
    with user_code("going through the batches"):
        try:
            given = iter([batches] if isinstance(batches, (Inputs, Tensor, Mapping)) else batches)
        except TypeError as error:
            raise RequestError(f"batches cannot be gone through ({error}): give a list or a loader of them") from error
    end = object()
    while True:
        with user_code("going through the batches"):
            batch = next(given, end)
        if batch is end:
            return
        yield batch


MOST_BYTES, MOST_BATCHES = 4 << 30, 1 << 16
"""Tensors in bytes, and batches, after which an iterator that does not tell its length is taken for one without an end."""


def ending(batches: Iterable[Any]) -> Iterator[Any]:
    """Go through batches that are all kept in memory.

    Raises:
        RequestError: they do not end, or as `each_batch`.
    """
    size, unknown = 0, length_of(batches) is None
    for count, batch in enumerate(each_batch(batches), start=1):
        size += sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
        if unknown and (size > MOST_BYTES or count > MOST_BATCHES):
            raise RequestError(
                f"the batches do not end within {MOST_BYTES >> 30} GB or {MOST_BATCHES:,} batches: give a list, or the first of them, "
                "such as itertools.islice(batches, 16)"
            )
        yield batch


def finite_batches(batches: Iterable[Any]) -> Iterable[Any]:
    """Batches that end: as they are where they tell how many they are, else all of them in memory.

    Raises:
        RequestError: as `ending`.
    """
    return list(ending(batches)) if length_of(batches) is None else batches


def length_of(batches: Any) -> int | None:
    """How many batches there are; None where they do not tell."""
    try:
        return len(batches)
    except Exception:  # a loader asks what it loads from, which may raise anything
        return None


def enough(batches: Iterable[Any], samples: int) -> Iterator[Any]:
    """Go through batches until they have had this many samples.

    Raises:
        RequestError, ProgramEnd: as `each_batch`.
    """
    seen = 0
    for batch in each_batch(batches):
        yield batch
        seen += samples_of(batch)
        if seen >= samples:
            return


def samples_of(batch: Any) -> int:
    """How many samples a batch of any form has: as `Inputs` counts them."""
    return len(batch) if isinstance(batch, Inputs) else len(Inputs((batch,)))


COARSE = 4


def probe_images(count: int, channels: int, side: int, generator: torch.Generator | None = None) -> Tensor:
    """Images [count, channels, side, side] in 0..1. In plain noise local averages would all be alike, and so every image to the network."""
    coarse = torch.rand(count, channels, COARSE, COARSE, generator=generator)
    areas = nn.functional.interpolate(coarse, size=(side, side), mode="nearest")
    contrast = torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.rand(count, channels, side, side, generator=generator)
    return (0.75 * contrast * areas + 0.25 * noise).clamp(0.0, 1.0)
