"""Ultralytics' non-maximum suppression without its time limit: stock stops after 2 s + 0.05 s an image and drops the rest of the batch."""

from __future__ import annotations

import functools
import math
from types import FunctionType, SimpleNamespace
from typing import Any

SUPPRESSION = "non_max_suppression"
"""The function of `ultralytics.utils.nms` that looks at the clock; its limit is `max_time_img`, which no caller in Ultralytics passes."""


@functools.cache
def without_time_limit(stock: type[Any]) -> type[Any]:
    """Return a validator or predictor class whose figures do not depend on how busy the machine is; any other class as it is.

    Only instances of the returned class are affected. The class that calls the suppression gets an heir with the same `postprocess`,
    which finds a suppression without a limit under the name `nms`; the heir comes right before that class in the order of methods, so
    that the classes of other tasks reach it by their own `super().postprocess`.
    """
    caller = next((base for base in stock.__mro__ if SUPPRESSION in names_in(vars(base).get("postprocess"))), None)
    if caller is None or "_time_limit" in vars(caller):
        return stock
    content = {"postprocess": without_clock(vars(caller)["postprocess"]), "_time_limit": None, "__module__": caller.__module__}
    heir = type(caller.__name__, (caller,), content)
    return heir if stock is caller else type(stock.__name__, (stock, heir), {"__module__": stock.__module__})


def names_in(function: Any) -> tuple[str, ...]:
    """Return the names that a function looks up; none for what is not a function in Python."""
    return function.__code__.co_names if isinstance(function, FunctionType) else ()


def without_clock(function: FunctionType) -> FunctionType:
    """Return the same function with a suppression in sight that takes the time that it needs."""
    from ultralytics.utils import nms

    def non_max_suppression(*arguments: Any, **options: Any) -> Any:
        return nms.non_max_suppression(*arguments, **{**options, "max_time_img": math.inf})

    patient = SimpleNamespace(**{**vars(nms), SUPPRESSION: non_max_suppression})
    seen = {**function.__globals__, "nms": patient}
    same = FunctionType(function.__code__, seen, function.__name__, function.__defaults__, function.__closure__)
    same.__kwdefaults__ = function.__kwdefaults__
    return same


class UnhurriedEvaluations:
    """What a trainer does otherwise than stock: its evaluations, which tell the best epoch, do not depend on how busy the machine is."""

    def get_validator(self) -> Any:
        """Return stock's validator without the time limit."""
        validator = super().get_validator()  # type: ignore[misc]
        stock: Any = type(validator)
        validator.__class__ = without_time_limit(stock)
        return validator
