"""The state of pretended GPUs: how much of their memory is taken, how long their kernels still run, and their random numbers."""

from __future__ import annotations

import os
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import torch

MIB = 1 << 20
SEGMENT = 2 * MIB
"""What the caching allocator takes from the driver at a time."""


class Block:
    """The memory of one storage; it is given back when the last tensor on it is gone."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.device, self.nbytes = device, nbytes
        device.take(nbytes)

    def __del__(self) -> None:
        self.device.allocated -= self.nbytes


class Generator(torch.Generator):
    """A generator that only tensors of one pretended GPU may draw from."""

    pretended: torch.device

    @property
    def device(self) -> torch.device:
        """The GPU that it is for."""
        return self.pretended


def generator_on(index: int) -> Generator:
    """A generator of a pretended GPU."""
    made = Generator("cpu")
    made.pretended = torch.device("cuda", index)
    return made


@dataclass
class Device:
    """One pretended GPU."""

    index: int
    name: str
    total: int
    allocated: int = 0
    peak: int = 0
    reserved: int = 0
    peak_reserved: int = 0
    kernels: int = 0
    pending: float = 0.0
    blocks: WeakValueDictionary[int, Block] = field(default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        self.generator = generator_on(self.index)
        self.generator.manual_seed(0)

    def take(self, nbytes: int) -> None:
        """Allocate, as the caching allocator does.

        Raises:
            torch.OutOfMemoryError: there is not so much.
        """
        wanted = self.allocated + nbytes
        if wanted > self.total:
            self.allocated += nbytes  # the block that asked gives it back when it is taken down
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {nbytes / MIB:.2f} MiB. GPU {self.index} has a total capacity of "
                f"{self.total / MIB:.2f} MiB of which {max(0, self.total - wanted + nbytes) / MIB:.2f} MiB is free."
            )
        self.allocated = wanted
        self.peak = max(self.peak, wanted)
        self.reserved = max(self.reserved, min(self.total, -(-wanted // SEGMENT) * SEGMENT))
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def block_of(self, inner: torch.Tensor) -> Block:
        """The memory that a tensor's data is in; taken now where it is new."""
        storage = inner.untyped_storage()
        block = self.blocks.get(storage._cdata)
        if block is None:
            block = self.blocks[storage._cdata] = Block(self, storage.nbytes())
        return block


class Machine:
    """All pretended GPUs of this process, the one that is current, and the clock that their kernels take time on."""

    def __init__(self, count: int, total: int, name: str, evidence: Path | None = None) -> None:
        self.devices = [Device(index, name, total) for index in range(count)]
        self.current = 0
        self.initialised = False
        self.forked = False
        self.kernel_seconds = 0.0
        self.skew = 0.0
        self._evidence = evidence

    def at(self, device: torch.device | str | int | None) -> Device:
        """The GPU that something names; the current one where it names none.

        Raises:
            RuntimeError: there are not this many, or this process was forked off one that used them.
        """
        if self.forked:
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"
            )
        if isinstance(device, str):
            device = torch.device(device)
        if isinstance(device, torch.device) and device.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {device}")
        index = device.index if isinstance(device, torch.device) else device
        if index is None or index < 0:
            index = self.current
        if index >= len(self.devices):
            raise RuntimeError("CUDA error: invalid device ordinal")
        self.initialised = True
        return self.devices[index]

    def launch(self, device: Device) -> None:
        """Have a kernel run on a device: it is asked for at once, and done later."""
        if not device.kernels and self._evidence is not None:
            with self._evidence.open("a") as stream:
                stream.write(f"cuda:{device.index} {os.getpid()}\n")
        device.kernels += 1
        device.pending += self.kernel_seconds

    def wait(self, device: Device) -> None:
        """Wait until a device has done all that it was asked for: the clock moves on by so much."""
        self.skew += device.pending
        device.pending = 0.0

    @contextmanager
    def slow_kernels(self, seconds: float) -> Iterator[None]:
        """Let every kernel take so long on a clock that only waiting for the device moves on; nothing really waits.

        A time that is read without waiting for the device does not have what its kernels took.
        """
        real, machine = time.perf_counter, self

        def skewed() -> float:
            return real() + machine.skew

        kept = time.perf_counter, timeit.default_timer, self.kernel_seconds
        time.perf_counter = timeit.default_timer = skewed
        self.kernel_seconds = seconds
        try:
            yield
        finally:
            time.perf_counter, timeit.default_timer, self.kernel_seconds = kept
