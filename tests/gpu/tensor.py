"""A tensor that says it is on a GPU, keeps its data on the CPU and computes there, and refuses what CUDA refuses."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from tests.gpu.device import Block, Device, Generator, Machine

aten = torch.ops.aten
MACHINES: list[Machine] = []
"""The machine that is pretended; none where nothing is."""
CROSSES = {aten.copy_, aten._to_copy}
"""They move data from one device to another."""
INDEXES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index, aten._unsafe_index_put}
"""They take indices that are on the CPU."""
TAKES_A_NUMBER = {aten.masked_fill, aten.masked_fill_, aten.fill, aten.fill_, aten.index_fill, aten.index_fill_}
"""Besides all that is done element by element: they take a tensor without dimensions that is on the CPU as a number."""
ON_THE_HOST = {aten._local_scalar_dense, aten.is_same_size, aten.equal, aten.nonzero, aten._unique2, aten.masked_select}
"""What the host has to wait for, since it gets a number or a size that only the device knows."""


def machine() -> Machine:
    """The machine that is pretended now."""
    return MACHINES[-1]


def dtype_name(tensor: Tensor) -> str:
    """As in torch.cuda.FloatTensor."""
    return Tensor.type(tensor._held).rpartition(".")[2]


class Content(str):
    """What a pretended tensor is made of; anyone who looks through a tensor's attributes for more tensors finds no more than a string."""

    held: Tensor
    block: Block


class PretendedTensor(torch.Tensor):
    """`_held` has the data, `_block` the device and the memory on it. In C++ it is a CPU tensor."""

    _content: Content
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, device: Device) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="cpu",
        )
        made._content = Content()
        made._content.held, made._content.block = held, device.block_of(held)
        return made

    def __init__(self, held: Tensor, device: Device) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return run(function, args, kwargs or {})

    @property
    def _held(self) -> Tensor:
        return self._content.held

    @property
    def _block(self) -> Block:
        return self._content.block

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self._block.device.index)

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, PretendedTensor) or value._block.device is not self._block.device:
            raise RuntimeError("Attempted to call `variable.set_data(tensor)`, but `variable` and `tensor` have incompatible tensor type")
        if value.shape != self.shape or value.dtype != self.dtype or value.stride() != self.stride():
            raise NotImplementedError("a pretended tensor takes no data of another shape or type")
        self._content = value._content

    @property
    def grad(self) -> Tensor | None:
        return torch._C.TensorBase.grad.__get__(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value.device != self.device:
            raise RuntimeError(f"assigned grad has data located on a different device: expected {self.device} but got {value.device}")
        torch._C.TensorBase.grad.__set__(self, value)

    @grad.deleter
    def grad(self) -> None:
        torch._C.TensorBase.grad.__set__(self, None)

    def get_device(self) -> int:
        return self._block.device.index

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return self.detach().cpu().numpy()

    def tolist(self) -> Any:
        machine().wait(self._block.device)
        return self._held.tolist()

    def type(self, dtype: Any = None, non_blocking: bool = False, **named: Any) -> Any:
        if dtype is None:
            return f"torch.cuda.{dtype_name(self)}"
        return self.to(dtype if isinstance(dtype, torch.dtype) else torch.empty(0).type(dtype).dtype)

    def is_pinned(self, device: Any = None) -> bool:
        return False

    def pin_memory(self, device: Any = None) -> Tensor:
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")

    def data_ptr(self) -> int:
        return self._held.data_ptr()

    def untyped_storage(self) -> Any:
        return self._held.untyped_storage()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{str(self._held).removesuffix(')')}, device='{self.device}')"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.")
        if id(self) not in memo:
            twin = wrapped(self._held.clone(), self._block.device).requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                twin._is_param = True
            if self.grad is not None:
                twin.grad = self.grad.__deepcopy__(memo)
            memo[id(self)] = twin
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a CUDA tensor: its storage is tagged with its place, and what reads the file may say where it is to go."""
        if getattr(self, "_is_param", False):
            return torch._utils._rebuild_parameter, (self.detach(), self.requires_grad, OrderedDict())
        storage = self._held.untyped_storage()
        storage.pretended = str(self.device)
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=self.dtype, _internal=True)
        place = self.storage_offset(), tuple(self.size()), self.stride()
        return torch._utils._rebuild_tensor_v2, (typed, *place, self.requires_grad, OrderedDict())


def wrapped(held: Tensor, device: Device) -> PretendedTensor:
    """A tensor on a device; it takes that memory."""
    return PretendedTensor(held, device)


def held(value: Any) -> Any:
    """What is inside a pretended tensor, and inside lists and tuples of them; all else as it is."""
    if isinstance(value, PretendedTensor):
        return value._held
    if type(value) in (list, tuple):
        return type(value)(held(one) for one in value)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of an argument."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for one in value for tensor in tensors_in(one)] if isinstance(value, (list, tuple)) else []


def run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation: refused where CUDA refuses it, else computed on the CPU, its new tensors on the device of what it read."""
    tensors = tensors_in([*args, *kwargs.values()])
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendedTensor)]
    device = next(tensor._block.device for tensor in ours)
    packet = function.overloadpacket
    if packet not in CROSSES and not all(isinstance(t, PretendedTensor) and t._block.device is device for t in tensors):
        refuse_two_devices(function, args, kwargs, device)
    looks = only_looks(function)
    if not looks:
        machine().launch(device)
    if packet in ON_THE_HOST or (packet in CROSSES and not isinstance(args[0], PretendedTensor)):
        machine().wait(device)
    if packet is aten.copy_ and isinstance(args[0], PretendedTensor):
        device = args[0]._block.device
    known = {id(held(tensor)): tensor for tensor in tensors}
    result = function(*(held(one) for one in args), **drawing(function, {name: held(one) for name, one in kwargs.items()}, device))
    if torch.Tag.inplace_view in function.tags:  # the shape of the tensor itself changes, as `squeeze_` has it
        with torch._C._DisableTorchDispatch():
            function(*args, **kwargs)
    if looks and torch.is_inference_mode_enabled() and not args[0].is_inference():
        with torch.inference_mode(False):  # another look at a tensor is of its kind
            return outside(result, known, device)
    return outside(result, known, device)


@functools.cache
def only_looks(function: Any) -> bool:
    """Whether an operation only gives another look at the same memory, which no kernel runs for."""
    return any(one.alias_info is not None and not one.alias_info.is_write for one in function._schema.returns)


def refuse_two_devices(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], device: Device) -> None:
    """Raise unless CUDA lets these tensors of several places meet: numbers and indices may be on the CPU.

    Raises:
        RuntimeError: it does not.
    """
    packet = function.overloadpacket
    named = {argument.name: argument for argument in function._schema.arguments}
    given = {**dict(zip(named, args)), **kwargs}
    takes_numbers = torch.Tag.pointwise in function.tags or packet in TAKES_A_NUMBER | INDEXES or packet.__name__.startswith("_foreach")
    for name, value in given.items():
        written = named[name].alias_info is not None and named[name].alias_info.is_write
        for tensor in tensors_in(value):
            if isinstance(tensor, PretendedTensor):
                if tensor._block.device is device:
                    continue
            elif (not written and tensor.dim() == 0 and takes_numbers) or (
                packet in INDEXES and name == "indices" and isinstance(args[0], PretendedTensor)
            ):
                continue
            if packet in INDEXES and name in ("self", "indices"):
                raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({args[0].device})")
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:{device.index} and {tensor.device}! "
                f"(when checking argument {name} in method {packet.__name__})"
            )


def drawing(function: Any, kwargs: dict[str, Any], device: Device) -> dict[str, Any]:
    """The arguments with the device's own generator, where an operation draws random numbers and was given none.

    Raises:
        RuntimeError: it was given one of another device.
    """
    if torch.Tag.nondeterministic_seeded not in function.tags:
        return kwargs
    if not any(argument.name == "generator" for argument in function._schema.arguments):
        return kwargs
    given = kwargs.get("generator")
    check_generator(given, torch.device("cuda", device.index))
    return {**kwargs, "generator": given if given is not None else device.generator}


def check_generator(given: torch.Generator | None, place: torch.device) -> None:
    """Refuse a generator of another device.

    Raises:
        RuntimeError: as CUDA says it.
    """
    if given is None:
        return
    own = given.device if isinstance(given, Generator) else torch.device("cpu")
    if own.type != place.type or (place.index is not None and own.type == "cuda" and own.index != place.index):
        raise RuntimeError(f"Expected a '{place}' device type for generator but found '{own}'")


def outside(result: Any, known: dict[int, Tensor], device: Device) -> Any:
    """A result as it is seen from outside: an argument that was worked on is itself, every other tensor is on the device."""
    if isinstance(result, Tensor):
        same = known.get(id(result))
        if same is None:
            return wrapped(result, device)
        if same.shape != result.shape:
            raise NotImplementedError("a pretended tensor cannot change its shape in place")
        return same
    if isinstance(result, (list, tuple)):
        return type(result)(outside(one, known, device) for one in result)
    return result
