"""Whether a forward runs the same operations each time: a plan is made for one path, and randomness or stored state may lead to another."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from tui_pruner.core.model.copies import sharing_weights
from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.tracing.labels import Step
from tui_pruner.core.tracing.meta_device import Following
from tui_pruner.core.tracing.size_check import listed, run, same_numbers
from tui_pruner.domain.errors import TraceError

SEEDS = (0, 1, 2, 3)
MOST_NAMED = 4


def demand_deterministic(skeleton: nn.Module, inputs: Inputs) -> list[Step]:
    """Return the operations of a run; refuse a module whose forward takes a random path, or computes with random numbers of Python's.

    Raises:
        TraceError: it does.
    """
    usual: list[Step] | None = None
    for seed in SEEDS:
        with chance(seed):
            before = drawn()
            steps, _ = run(sharing_weights(skeleton), inputs)
            if drawn() == before:
                return steps
        if usual is not None and names(steps) != names(usual):
            raise TraceError(
                f"{type(skeleton).__name__} takes another path from run to run, by chance: no plan for one of them is good for the others; "
                "turn that off in evaluation mode"
            )
        demand_same_numbers(skeleton, usual or steps, steps)
        usual = steps
    return usual or []


def demand_same_numbers(skeleton: nn.Module, usual: Sequence[Step], steps: Sequence[Step]) -> None:
    """Refuse a module that computes with other numbers in each run: no trial could tell them from numbers that depend on a width.

    Raises:
        TraceError: it does.
    """
    for (name, before), (now, after) in zip(usual, steps):
        if name == now and not same_numbers(before, after):
            raise TraceError(
                f"{type(skeleton).__name__} computes with other numbers from run to run, by chance or by the time "
                f"({name} by {listed(before)}, then by {listed(after)}): turn that off in evaluation mode"
            )


def remarks_on(skeleton: nn.Module, inputs: Inputs, usual: Sequence[Step]) -> list[str]:
    """Warnings about a forward: it runs other operations when it is called again, or never reads some modules.

    Raises:
        TraceError: it computes with other numbers than in its `usual` run, on a copy of its own.
    """
    found = []
    network = sharing_weights(skeleton)
    first, second = (run(network, inputs)[0] for _ in range(2))
    demand_same_numbers(skeleton, usual, first)
    if names(first) != names(second):
        found.append("the forward does something else when it is called again: it is cut and proved as it is called first")
    unread = unread_modules(skeleton, inputs)
    if unread:
        more = f" and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
        named = ", ".join(unread[:MOST_NAMED])
        found.append(f"the forward never reads {named}{more} with these inputs: what else uses them may not fit the cut module")
    return found


def unread_modules(skeleton: nn.Module, inputs: Inputs) -> list[str]:
    """The paths of modules with parameters of which the forward reads none."""
    network, given = sharing_weights(skeleton), inputs.on_meta()
    with torch.no_grad(), Following(network) as following:
        given.run(network)
    read = {name.rpartition(".")[0] for name in following.dependence.read}
    own = {name.rpartition(".")[0] for name, _ in skeleton.named_parameters()}
    return sorted(own - read)


def names(steps: Sequence[Step]) -> list[str]:
    """The names of a run's operations, in order."""
    return [name for name, _ in steps]


def drawn() -> tuple[object, ...]:
    """The states of PyTorch's, Python's and NumPy's random generators."""
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), state["state"]["key"].tobytes(), state["state"]["pos"]


@contextmanager
def chance(seed: int) -> Iterator[None]:
    """Seed all random generators, and restore their states afterwards."""
    state, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numbers)
