"""How long a model takes on this machine, and which widths near its own would be faster."""

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

from tui_pruner.core.model.inputs import Inputs, probe_images
from tui_pruner.core.model.layers import image_channels, sequence
from tui_pruner.domain.results import share_words

WARM_UP_SECONDS = 0.5
SHORTEST_SAMPLE = 0.001
"""Seconds: a sample that would be shorter is the mean of several forwards, since the clock's cost and resolution would show."""
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
        """As text for display."""
        return share_words(self.median, self.low, self.high)


@dataclass(frozen=True)
class Timing:
    """A network's samples in milliseconds per batch, in the order in which they were taken; all networks take turns."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return quantile(self.samples, 0.5)

    @property
    def low(self) -> float:
        """The 10th percentile."""
        return quantile(self.samples, 0.1)

    @property
    def p90(self) -> float:
        """The 90th percentile."""
        return quantile(self.samples, 0.9)


def deployed(model: nn.Module, device: str) -> nn.Module:
    """A copy as Ultralytics predicts with it: BatchNorm folded into the convolutions, in float32."""
    twin: Any = copy.deepcopy(model).float().eval()
    return twin.fuse(verbose=False).to(device).eval()  # type: ignore[no-any-return]


def batch_for(model: nn.Module, size: int, imgsz: int, device: str) -> Tensor:
    """Images to time a forward on: [size, channels, imgsz, imgsz]."""
    return probe_images(size, image_channels(model), imgsz, torch.Generator().manual_seed(0)).to(device)


def time_in_turns(
    models: Sequence[nn.Module],
    images: Sequence[Tensor | Inputs],
    runs: int,
    on_run: Callable[[int], None] = lambda run: None,
    warm_up: float = WARM_UP_SECONDS,
) -> tuple[Timing, ...]:
    """Take `runs` samples of every network, in turns, in reversed order every other time, after a warm-up."""
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


def timer(model: nn.Module, batch: Tensor | Inputs) -> Timer:
    """PyTorch's own timer of a forward, on as many threads as any forward here uses, with a clock that waits for the batch's device.

    Its own clock waits for the current device, which need not be the batch's.
    """
    names = {"model": model, "batch": batch}
    clock = partial(seconds_on, device_of(batch))
    stmt = "model(batch)" if isinstance(batch, Tensor) else "batch.call(model)"
    return Timer(stmt=stmt, globals=names, num_threads=torch.get_num_threads(), timer=clock)


def device_of(batch: Tensor | Inputs) -> torch.device:
    """The device that a batch is on."""
    return batch.device if isinstance(batch, Tensor) else batch.tensors[0].device


def run_on(model: nn.Module, batch: Tensor | Inputs) -> Any:
    """The output of a model on a batch."""
    return model(batch) if isinstance(batch, Tensor) else batch.call(model)


def forwards_per_sample(one: Timer, warm_up: float) -> int:
    """Warm a network up for some seconds; return how many forwards a sample needs to be long enough for the clock."""
    ends = time.perf_counter() + warm_up
    while True:
        seconds = one.timeit(1).median
        if time.perf_counter() >= ends:
            return max(1, math.ceil(SHORTEST_SAMPLE / seconds))


def ratio(timing: Timing, reference: Timing) -> Interval:
    """A network's latency as a share of another's, from samples that were taken in the same turns."""
    shares = sorted(one / other for one, other in zip(timing.samples, reference.samples, strict=True))
    count = len(shares)
    reach = SURE * math.sqrt(count) / 2
    low, high = max(0, math.floor(count / 2 - reach)), min(count - 1, math.ceil(count / 2 + reach))
    return Interval(quantile(shares, 0.5), shares[low], shares[high])


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which a share of the samples are, interpolated between two samples."""
    place = share * (len(samples) - 1)
    low = math.floor(place)
    ordered = sorted(samples)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def time_blocks(
    models: Sequence[nn.Module], images: Sequence[Tensor | Inputs], runs: int, on_run: Callable[[int], None] = lambda run: None
) -> tuple[dict[str, Timing], ...]:
    """The milliseconds of every block within a forward, by its path; networks take turns."""
    found: list[dict[str, list[float]]] = [{} for _ in models]
    with torch.inference_mode():
        for run in range(runs + 1):
            for place, (model, batch) in enumerate(zip(models, images, strict=True)):
                for path, milliseconds in blocks_of_a_forward(model, batch).items():
                    found[place].setdefault(path, []).append(milliseconds)
            on_run(run)
    return tuple({path: Timing(tuple(samples[1:])) for path, samples in one.items()} for one in found)


def blocks_of_a_forward(model: nn.Module, batch: Tensor | Inputs) -> dict[str, float]:
    """The milliseconds of every block in one forward; a block that runs several times has the sum of them."""
    spent: dict[str, float] = {}
    device = device_of(batch)

    def begin(path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            spent[path] = spent.get(path, 0.0) - seconds_on(device)

        return hook

    def end(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            spent[path] += seconds_on(device)

        return hook

    blocks = sequence(model)
    handles = [block.register_forward_pre_hook(begin(path)) for path, block in blocks]
    handles += [block.register_forward_hook(end(path)) for path, block in blocks]
    try:
        run_on(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {path: seconds * 1000 for path, seconds in spent.items()}


def seconds_on(device: torch.device) -> float:
    """The time after all work queued on a device is done: a GPU's kernels run on after the call that started them."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


MULTIPLES = (8, 16, 32)
WIDTH_WARM_UP_SECONDS = 0.02


@dataclass(frozen=True)
class FasterWidth:
    """A layer's milliseconds alone at its own width and at the nearest width that is certainly faster; `ratio` of the two."""

    layer: str
    width: int
    milliseconds: float
    faster: int
    faster_milliseconds: float
    ratio: Interval


def faster_widths(
    original: nn.Module,
    pruned: nn.Module,
    batch: Tensor | Inputs,
    runs: int,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> list[FasterWidth]:
    """Time every layer that is narrower than in the original at the next multiples around its width, in turns with its own width."""
    layers = narrowed_layers(original, pruned)
    shapes = input_shapes(pruned, layers, batch)
    found = []
    for number, (name, most) in enumerate(layers.items(), start=1):
        layer: Any = pruned.get_submodule(name)
        found += nearest_faster(name, layer, candidates(layer.out_channels, most), shapes[name], runs)
        on_layer(number, len(layers))
    return found


def narrowed_layers(original: nn.Module, pruned: nn.Module) -> dict[str, int]:
    """The plain convolutions whose outputs were cut, by path, with their outputs in the original."""
    wide = {name: module.out_channels for name, module in original.named_modules() if isinstance(module, nn.Conv2d)}
    return {
        name: wide[name]
        for name, module in pruned.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.out_channels < wide.get(name, 0)
    }


def candidates(width: int, most: int) -> list[int]:
    """The multiples next to a width on both sides, none above `most`, nearest first; of two equally near ones the wider."""
    around = {side for step in MULTIPLES for side in ((width - 1) // step * step, (width // step + 1) * step)}
    return sorted((side for side in around if 0 < side <= most and side != width), key=lambda side: (abs(side - width), -side))


def input_shapes(model: nn.Module, layers: dict[str, int], batch: Tensor | Inputs) -> dict[str, torch.Size]:
    """The shape of each layer's input in one forward."""
    shapes: dict[str, torch.Size] = {}

    def keep(name: str) -> Any:
        return lambda module, args: shapes.__setitem__(name, args[0].shape)

    handles = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in layers]
    with torch.inference_mode():
        run_on(model, batch)
    for handle in handles:
        handle.remove()
    return shapes


def nearest_faster(name: str, layer: nn.Conv2d, widths: list[int], shape: torch.Size, runs: int) -> list[FasterWidth]:
    """The first of some widths that is certainly faster than the layer's own, by more than it is narrower; None where there is none."""
    image = torch.rand(shape, device=layer.weight.device)
    layers = [layer, *(as_wide_as(width, layer) for width in widths)]
    own, *others = time_in_turns(layers, [image] * len(layers), runs, warm_up=WIDTH_WARM_UP_SECONDS)
    for width, timing in zip(widths, others, strict=True):
        share = ratio(timing, own)
        if share.high < min(1.0, width / layer.out_channels):
            return [FasterWidth(name, layer.out_channels, own.median, width, timing.median, share)]
    return []


def as_wide_as(width: int, layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with another number of outputs."""
    wide: Any = nn.Conv2d(
        layer.in_channels,
        width,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    return wide.to(layer.weight.device).eval()  # type: ignore[no-any-return]
