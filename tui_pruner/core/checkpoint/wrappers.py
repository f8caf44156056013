"""What trainings wrap a model in, and what comes out: the model for several devices, the compiled one, the average of weights."""

from __future__ import annotations

from typing import Any

from torch import nn

WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
    "torch.optim.swa_utils.AveragedModel",
    "torch._dynamo.eval_frame.OptimizedModule",
}
COMPILER = ("torch._dynamo.", "torch._inductor.", "torch._TorchCompile")
"""Where a compiled model's other parts are: they differ from one PyTorch to the next, and are of no use here."""
INSIDE = ("module", "_orig_mod")


class Wrapper(nn.Module):
    """Stands in for a module that only passes on to another, without what it needs to live: processes, devices, a compiler."""

    def __init__(self, inside: nn.Module | None = None, *others: object) -> None:
        super().__init__()
        if inside is not None:
            self.module = inside

    def __setstate__(self, state: dict[str, Any]) -> None:
        inside = self.__dict__.get("_modules") or {}
        self.__dict__.update(state)
        self.__dict__["_modules"] = {**inside, **state.get("_modules", {})}

    @property
    def inside(self) -> nn.Module | None:
        """The module that it passes on to."""
        held = self.__dict__.get("_modules") or {}
        return next((held[name] for name in INSIDE if isinstance(held.get(name), nn.Module)), None)


class Ignored:
    """Stands in for a part of a compiled model."""

    def __init__(self, *arguments: object, **options: object) -> None:
        """As whatever it was called with."""

    def __setstate__(self, state: object) -> None:
        """Without it."""

    def __getattr__(self, name: str) -> Ignored:
        if name.startswith("__"):
            raise AttributeError(name)
        return Ignored()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without wrappers around it or around its parts; one that wraps itself stays as it is."""
    model = innermost(model)
    for module in list(model.modules()):
        for name, part in module._modules.items():
            if isinstance(part, Wrapper):
                module._modules[name] = innermost(part)
    return model


def innermost(model: nn.Module) -> nn.Module:
    """What is within one or more wrappers."""
    met: set[int] = set()
    while isinstance(model, Wrapper) and model.inside is not None and id(model) not in met:
        met.add(id(model))
        model = model.inside
    return model
