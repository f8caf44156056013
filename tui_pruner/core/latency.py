"""How long a forward takes: networks as they are deployed, timed in turns, so that whatever slows the machine down slows all of them."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from tui_pruner.core.blocks import image_channels, sequence
from tui_pruner.core.probe import probe_images
from tui_pruner.intervals import share_words

WARM_UP_SECONDS = 0.5
SHORTEST_SAMPLE = 0.001
"""Seconds: below, a sample is the mean of several forwards, since a clock's own cost and grain would show."""
SURE = 1.96
"""Standard deviations within which 95 % of a normal distribution lie."""


@dataclass(frozen=True)
class Interval:
    """A median and the range that holds the true one with 95 % probability."""

    median: float
    low: float
    high: float

    @property
    def as_share(self) -> str:
        """For people."""
        return share_words(self.median, self.low, self.high)


@dataclass(frozen=True)
class Timing:
    """A network's samples in milliseconds for a batch, in the order in which they were taken, all networks in turns."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the samples took longer."""
        return quantile(self.samples, 0.5)

    @property
    def p90(self) -> float:
        """One in ten samples took longer."""
        return quantile(self.samples, 0.9)


def deployed(model: nn.Module, device: str) -> nn.Module:
    """A copy as Ultralytics predicts with it: batch normalisation folded into the convolutions, in float32."""
    twin: Any = copy.deepcopy(model).float().eval()
    return twin.fuse(verbose=False).to(device).eval()  # type: ignore[no-any-return]


def batch_for(model: nn.Module, size: int, imgsz: int, device: str) -> Tensor:
    """Images to time a forward on: [size, channels, imgsz, imgsz]."""
    return probe_images(size, image_channels(model), imgsz, torch.Generator().manual_seed(0)).to(device)


def time_in_turns(
    models: Sequence[nn.Module],
    images: Sequence[Tensor],
    runs: int,
    on_run: Callable[[int], None] = lambda run: None,
    warm_up: float = WARM_UP_SECONDS,
) -> tuple[Timing, ...]:
    """Take `runs` samples of every network, one of each in turn, the order reversed every other time, after a warm-up."""
    with torch.inference_mode():
        timers = [timer(model, batch) for model, batch in zip(models, images, strict=True)]
        numbers = [forwards_per_sample(one, warm_up) for one in timers]
        samples: list[list[float]] = [[] for _ in timers]
        for run in range(runs):
            places = range(len(timers)) if run % 2 == 0 else reversed(range(len(timers)))
            for place in places:
                samples[place].append(timers[place].timeit(numbers[place]).median * 1000)
            on_run(run + 1)
    return tuple(Timing(tuple(one)) for one in samples)


def timer(model: nn.Module, batch: Tensor) -> Timer:
    """PyTorch's own timer of a forward, on as many threads as any forward here runs on, by a clock that waits for the batch's device.

    Its own clock waits for the current device, which the batch need not be on.
    """
    names = {"model": model, "batch": batch}
    return Timer(stmt="model(batch)", globals=names, num_threads=torch.get_num_threads(), timer=partial(seconds_on, batch.device))


def forwards_per_sample(one: Timer, warm_up: float) -> int:
    """Warm a network up for some seconds; how many forwards a sample takes to be long enough for the clock."""
    ends = time.perf_counter() + warm_up
    while True:
        seconds = one.timeit(1).median
        if time.perf_counter() >= ends:
            return max(1, math.ceil(SHORTEST_SAMPLE / seconds))


def ratio(timing: Timing, reference: Timing) -> Interval:
    """How long a network takes as a share of another, from samples that were taken in the same turns."""
    shares = sorted(one / other for one, other in zip(timing.samples, reference.samples, strict=True))
    count = len(shares)
    reach = SURE * math.sqrt(count) / 2
    low, high = max(0, math.floor(count / 2 - reach)), min(count - 1, math.ceil(count / 2 + reach))
    return Interval(quantile(shares, 0.5), shares[low], shares[high])


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which a share of the samples lie, between two of them by proportion."""
    place = share * (len(samples) - 1)
    low = math.floor(place)
    ordered = sorted(samples)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def time_blocks(
    models: Sequence[nn.Module], images: Sequence[Tensor], runs: int, on_run: Callable[[int], None] = lambda run: None
) -> tuple[dict[str, Timing], ...]:
    """The milliseconds that every block takes within a forward, by its path; networks in turns."""
    found: list[dict[str, list[float]]] = [{} for _ in models]
    with torch.inference_mode():
        for run in range(runs + 1):
            for place, (model, batch) in enumerate(zip(models, images, strict=True)):
                for path, milliseconds in blocks_of_a_forward(model, batch).items():
                    found[place].setdefault(path, []).append(milliseconds)
            on_run(run)
    return tuple({path: Timing(tuple(samples[1:])) for path, samples in one.items()} for one in found)


def blocks_of_a_forward(model: nn.Module, batch: Tensor) -> dict[str, float]:
    """The milliseconds of every block in one forward."""
    spent: dict[str, float] = {}

    def begin(path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            spent[path] = -seconds_on(batch.device)

        return hook

    def end(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            spent[path] += seconds_on(batch.device)

        return hook

    blocks = sequence(model)
    handles = [block.register_forward_pre_hook(begin(path)) for path, block in blocks]
    handles += [block.register_forward_hook(end(path)) for path, block in blocks]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {path: seconds * 1000 for path, seconds in spent.items()}


def seconds_on(device: torch.device) -> float:
    """The time once everything that was asked of a device is done: a GPU's kernels run on after the call that started them."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
