"""PyTorch's functions that make tensors on a device or move them there, as they are while a GPU is pretended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.gpu.device import Device, generator_on
from tests.gpu.tensor import PretendedTensor, check_generator, held, machine, tensors_in, wrapped

Function = Callable[..., Any]
CPU = torch.device("cpu")
FACTORIES = (
    "empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "randint", "randperm", "arange", "linspace", "logspace", "eye",
    "tensor", "scalar_tensor", "tril_indices", "triu_indices", "normal", "hann_window", "hamming_window",
)  # fmt: skip
ALIKE = ("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like")
FROM_A_TENSOR = ("new_empty", "new_zeros", "new_ones", "new_full", "new_tensor", "new_empty_strided")
DRAWING = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "geometric_", "cauchy_")
MAKES_INSIDE = ((torch.nn.functional, "one_hot"), (torch._C._nn, "pad_sequence"))


def place_of(device: Any) -> torch.device:
    """A device by its name, number or object; a GPU with its number."""
    found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return torch.device("cuda", machine().at(found).index) if found.type == "cuda" else found


def put(tensor: Tensor, place: torch.device) -> Tensor:
    """A tensor in plain memory as one in its place."""
    return wrapped(tensor, machine().at(place)) if place.type == "cuda" else tensor


class Move(torch.autograd.Function):
    """A copy in another place, whose gradient comes back."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, place: torch.device) -> Tensor:
        context.came_from = tensor.device
        return copied(tensor, place)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return copied(gradient, context.came_from), None


def copied(tensor: Tensor, place: torch.device) -> Tensor:
    """A copy of a tensor's data in a place."""
    if isinstance(tensor, PretendedTensor):
        machine().wait(tensor._block.device)
    with torch.no_grad():
        data = held(tensor).detach()
        return put(data.clone(), place) if place.type != "meta" else data.to("meta")


def moved(tensor: Tensor, place: torch.device) -> Tensor:
    """A tensor in a place: itself where it is there already."""
    if tensor.device == place:
        return tensor
    return Move.apply(tensor, place) if torch.is_grad_enabled() and tensor.requires_grad else copied(tensor, place)


def to(stock: Function) -> Function:
    """`Tensor.to`: the conversion as PyTorch does it, then the move."""

    @functools.wraps(stock)
    def converted(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = dict(kwargs)
        wanted, flags = {name: kwargs.pop(name) for name in ("device", "dtype", "other") if name in kwargs}, []
        for one in args:
            if isinstance(one, Tensor):
                wanted["other"] = one
            elif isinstance(one, torch.dtype):
                wanted["dtype"] = one
            elif isinstance(one, bool):
                flags.append(one)
            elif one is not None:
                wanted["device"] = one
        if (other := wanted.get("other")) is not None:
            wanted = {"device": other.device, "dtype": other.dtype}
        place = tensor.device if wanted.get("device") is None else place_of(wanted["device"])
        if place.type != "cuda" and not isinstance(tensor, PretendedTensor):
            return stock(tensor, *args, **given)
        there = moved(tensor, place)
        options = {**dict(zip(("non_blocking", "copy"), flags)), **kwargs}
        if there is not tensor:
            options.pop("copy", None)
        return stock(there, dtype=wanted.get("dtype") or tensor.dtype, **options)

    return converted


def cuda(tensor: Tensor, device: Any = None, non_blocking: bool = False, **named: Any) -> Tensor:
    """`Tensor.cuda`."""
    return moved(tensor, place_of("cuda" if device is None else device))


def type_as(stock: Function) -> Function:
    """`Tensor.type_as`, which moves too."""

    @functools.wraps(stock)
    def converted(tensor: Tensor, other: Tensor) -> Tensor:
        ours = isinstance(tensor, PretendedTensor) or isinstance(other, PretendedTensor)
        return tensor.to(other.device, other.dtype) if ours else stock(tensor, other)

    return converted


def cpu(stock: Function) -> Function:
    """`Tensor.cpu`."""

    @functools.wraps(stock)
    def brought(tensor: Tensor, **named: Any) -> Tensor:
        return moved(tensor, CPU) if isinstance(tensor, PretendedTensor) else stock(tensor, **named)

    return brought


def pin_memory(tensor: Tensor, device: Any = None) -> Tensor:
    """`Tensor.pin_memory` of a CPU tensor: a copy in memory that says it is pinned."""
    twin = tensor.clone()
    twin.pinned = True
    return twin


def factory(stock: Function) -> Function:
    """A function that makes a tensor in the place that `device` says; without it as ever."""

    @functools.wraps(stock)
    def made(*args: Any, **kwargs: Any) -> Any:
        pinned = kwargs.pop("pin_memory", False)
        asked = kwargs.get("device")
        place = CPU if asked is None else place_of(asked)
        check_generator(kwargs.get("generator"), place)
        if asked is None and args and isinstance(args[0], PretendedTensor):
            place = args[0].device  # torch.tensor(of a tensor)
        if place.type != "cuda":
            result = stock(*args, **kwargs)
            return pin_memory(result) if pinned else result
        return put(stock(*held(args), **{**kwargs, **of_the_device(stock, kwargs, machine().at(place)), "device": "cpu"}), place)

    return made


def of_the_device(stock: Function, kwargs: dict[str, Any], device: Device) -> dict[str, Any]:
    """The device's own generator, for what draws random numbers and was given none."""
    draws = stock.__name__ in ("rand", "randn", "randint", "randperm", "normal") and kwargs.get("generator") is None
    return {"generator": device.generator} if draws else {}


def like(stock: Function) -> Function:
    """A function that makes a tensor in the place of its first argument, unless `device` says another one."""

    @functools.wraps(stock)
    def made(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        place = tensor.device if kwargs.get("device") is None else place_of(kwargs["device"])
        if place.type != "cuda" and not isinstance(tensor, PretendedTensor):
            return stock(tensor, *args, **kwargs)
        named = {name: value for name, value in kwargs.items() if name not in ("device", "requires_grad")}
        if place.type == "cuda" and stock.__name__ in ("rand_like", "randn_like", "randint_like"):
            made = put(torch._C._VariableFunctions.empty_like(held(tensor), **named), place)
            drawn = {"rand_like": made.uniform_, "randn_like": made.normal_, "randint_like": lambda: made.random_(*args)}[stock.__name__]
            return drawn()
        result = stock(held(tensor), *held(args), **named, device="meta" if place.type == "meta" else "cpu")
        return put(result, place).requires_grad_(kwargs.get("requires_grad", False))

    return made


def as_tensor(stock: Function) -> Function:
    """`torch.as_tensor` and `asarray`: a tensor is moved, all else is made in its place."""

    @functools.wraps(stock)
    def made(data: Any, *args: Any, **kwargs: Any) -> Tensor:
        asked = kwargs.pop("device", None)
        if isinstance(data, Tensor):
            return data.to(asked or data.device, kwargs.get("dtype") or (args[0] if args else data.dtype))
        place = CPU if asked is None else place_of(asked)
        return put(stock(data, *args, device=CPU if place.type == "cuda" else place, **kwargs), place)

    return made


def drawing_in_place(stock: Function) -> Function:
    """A method that fills a tensor with random numbers: on the CPU, only from a generator of the CPU."""

    @functools.wraps(stock)
    def drawn(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_generator(kwargs.get("generator"), tensor.device)
        return stock(tensor, *args, **kwargs)

    return drawn


def making_inside(stock: Function) -> Function:
    """A function that makes a tensor in C++ where its argument is, which for C++ is the CPU."""

    @functools.wraps(stock)
    def made(given: Any, *args: Any, **kwargs: Any) -> Tensor:
        tensors = tensors_in(given)
        if any(tensor.requires_grad for tensor in tensors if isinstance(tensor, PretendedTensor)):
            raise NotImplementedError(f"{stock.__name__} of pretended tensors cannot be differentiated")
        return put(stock(held(given), *args, **kwargs), tensors[0].device)

    return made


class AnyGenerator(type(torch._C.Generator)):
    """Every generator is an instance, as of the class that it stands in for."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, torch._C.Generator)


class GeneratorAnywhere(torch._C.Generator, metaclass=AnyGenerator):
    """`torch.Generator`, also of a pretended GPU."""

    def __new__(cls, device: Any = "cpu") -> torch._C.Generator:
        place = place_of(device)
        return generator_on(place.index) if place.type == "cuda" else torch._C.Generator(device)


def rebuilt(stock: Function) -> Function:
    """What a file's tensor is made by: on the device that its storage was read for."""

    @functools.wraps(stock)
    def made(storage: Any, *args: Any) -> Tensor:
        place = getattr(storage._untyped_storage, "read_for", None)
        return stock(storage, *args) if place is None else put(stock(storage, *args), torch.device(place))

    return made


def tag(storage: Any) -> str | None:
    """The place that a file says of a storage."""
    return getattr(storage, "pretended", None)


def restore(storage: Any, location: str) -> Any:
    """The storage of a file for the place that is asked for.

    Raises:
        RuntimeError: no such GPU.
    """
    if not location.startswith("cuda"):
        return None
    index = torch.device(location).index or 0
    if index >= len(machine().devices):
        raise RuntimeError(
            f"Attempting to deserialize object on CUDA device {index} but torch.cuda.device_count() is {len(machine().devices)}. "
            "Please use torch.load with map_location to map your storages to an existing device."
        )
    storage.read_for = f"cuda:{index}"
    return storage


def applied(stock: Function) -> Function:
    """`Module._apply`: parameters stay the same objects when they come to another device, as with CUDA."""

    @functools.wraps(stock)
    def apply(module: Any, function: Function, recurse: bool = True) -> Any:
        own = [one for one in module._parameters.values() if one is not None]
        if not own:
            return stock(module, function, recurse)
        if recurse:
            for child in module.children():
                child._apply(function)
        with torch.no_grad():
            probe = function(torch.empty(0, dtype=own[0].dtype))
        swaps = isinstance(probe, PretendedTensor) or any(isinstance(one, PretendedTensor) for one in own)
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(swaps or before)
        try:
            return stock(module, function, False)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return apply


def shallow(stock: Function) -> Function:
    """Whether one tensor can take over another's data: not where a GPU's is among them, for which parameters are swapped."""

    @functools.wraps(stock)
    def compatible(left: Tensor, right: Tensor) -> bool:
        return not any(isinstance(one, PretendedTensor) for one in (left, right)) and stock(left, right)

    return compatible


def grouped(stock: Function) -> Function:
    """What optimizers sort tensors by their devices with; in C++ all of ours are on the CPU."""

    @functools.wraps(stock)
    def groups(lists: Any, with_indices: bool = False) -> Any:
        found = {}
        for (device, dtype), rest in stock(lists, with_indices).items():
            one = next((tensor for part in rest[0] for tensor in part if isinstance(tensor, PretendedTensor)), None)
            found[one.device if one is not None else device, dtype] = rest
        return found

    return groups
