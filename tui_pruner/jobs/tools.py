"""Ultralytics' own validators, predictors and trainers by the class of the model, without their time limit; and the devices of jobs."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.job_messages import JobProgress

if TYPE_CHECKING:
    from torch import nn


SUPPRESSION = "non_max_suppression"
"""The function of `ultralytics.utils.nms` with a time limit: `max_time_img`, which no caller in Ultralytics passes."""


@functools.cache
def without_time_limit(stock: type[Any]) -> type[Any]:
    """Return a validator or predictor class whose results do not depend on how busy the machine is; any other class as it is.

    Only instances of the returned class are affected. The class that calls the suppression gets a subclass with the same `postprocess`,
    in which the name `nms` refers to a suppression without a limit; the subclass comes right before that class in the method resolution
    order, so that the classes of other tasks reach it by their own `super().postprocess`.
    """
    caller = next((base for base in stock.__mro__ if SUPPRESSION in names_in(vars(base).get("postprocess"))), None)
    if caller is None or "_time_limit" in vars(caller):
        return stock
    content = {"postprocess": without_clock(vars(caller)["postprocess"]), "_time_limit": None, "__module__": caller.__module__}
    subclass = type(caller.__name__, (caller,), content)
    return subclass if stock is caller else type(stock.__name__, (stock, subclass), {"__module__": stock.__module__})


def names_in(function: Any) -> tuple[str, ...]:
    """Return the global names that a function uses; empty for what is not a Python function."""
    return function.__code__.co_names if isinstance(function, FunctionType) else ()


def without_clock(function: FunctionType) -> FunctionType:
    """Return the same function, with a suppression without a time limit among its globals."""
    from ultralytics.utils import nms

    def non_max_suppression(*arguments: Any, **options: Any) -> Any:
        return nms.non_max_suppression(*arguments, **{**options, "max_time_img": math.inf})

    patient = SimpleNamespace(**{**vars(nms), SUPPRESSION: non_max_suppression})
    seen = {**function.__globals__, "nms": patient}
    same = FunctionType(function.__code__, seen, function.__name__, function.__defaults__, function.__closure__)
    same.__kwdefaults__ = function.__kwdefaults__
    return same


class UntimedEvaluations:
    """A trainer mixin: evaluations, which choose the best epoch, do not depend on how busy the machine is."""

    def get_validator(self) -> Any:
        """Return stock's validator without the time limit."""
        validator = super().get_validator()  # type: ignore[misc]
        stock: Any = type(validator)
        validator.__class__ = without_time_limit(stock)
        return validator


OnProgress = Callable[[JobProgress], None]


class StockTool(NamedTuple):
    """A tool for a model class, and the task that its data must have."""

    task: str
    module: str
    name: str

    def load(self) -> Any:
        """Return the class, without time limits; Ultralytics is imported only now."""
        return without_time_limit(getattr(importlib.import_module(self.module), self.name))


def tool_for(model: nn.Module, tools: Mapping[str, StockTool], fault: str) -> StockTool:
    """The tool for a model's class, or for the class of Ultralytics that a user's class extends.

    Raises:
        RequestError: there is none; `fault` says what cannot be done with such a model, followed by the classes that have one.
    """
    name = next((kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("ultralytics.")), type(model).__name__)
    if name not in tools:
        raise RequestError(f"a {name} {fault}: it can be done for {', '.join(tools)}")
    return tools[name]


def choose_device(asked: str) -> str:
    """The one device to run on, as torch names it.

    Raises:
        RequestError: it does not exist, or several were given.
    """
    found = chosen_devices(asked)
    if len(found) > 1:
        raise RequestError(f"{asked!r} names {len(found)} devices, but this runs on one of them: give --device {found[0]}, for example")
    return found[0]


def chosen_devices(asked: str) -> list[str]:
    """All devices that "cuda:1", "0,1" or "cpu" name; by default the first GPU if there is one, else the CPU.

    Raises:
        RequestError: one of them does not exist.
    """
    import torch
    from ultralytics.utils.torch_utils import parse_device, select_device

    if not asked:
        return ["cuda:0" if torch.cuda.is_available() else "cpu"]
    try:
        wanted = parse_device(asked)
        first = str(select_device(wanted, verbose=False))
    except (ValueError, RuntimeError, AssertionError):
        raise missing_device(asked) from None
    if first == "cpu" and wanted not in ("cpu", ""):  # Ultralytics falls back to the CPU where Apple's GPU was requested and does not exist
        raise missing_device(asked)
    return [f"cuda:{number}" for number in dict.fromkeys(wanted.split(","))] if "," in wanted else [first]


def missing_device(asked: str) -> RequestError:
    """The message for a device that torch does not see."""
    import torch

    count = torch.cuda.device_count()
    known = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
    return RequestError(f"no device {asked!r} here: the devices are {known}")


def device_name(device: str) -> str:
    """The device, with the model of a GPU."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
