"""`torch.cuda` and `torch.accelerator` as they answer while a GPU is pretended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

from tests.gpu.device import Device
from tests.gpu.tensor import machine


def at(device: Any = None) -> Device:
    """The device that an argument names."""
    return machine().at(device)


def set_device(device: Any) -> None:
    machine().current = at(device).index


@contextmanager
def on(device: Any) -> Iterator[None]:
    """`with torch.cuda.device(1):`"""
    before, machine().current = machine().current, at(device).index
    try:
        yield
    finally:
        machine().current = before


def properties(device: Any = None) -> Any:
    found = at(device)
    return SimpleNamespace(name=found.name, total_memory=found.total, major=8, minor=0, multi_processor_count=1, is_integrated=0)


def reset_peak(device: Any = None) -> None:
    found = at(device)
    found.peak, found.peak_reserved = found.allocated, found.reserved


def empty_cache() -> None:
    for device in machine().devices:
        device.reserved = min(device.reserved, -(-device.allocated // (1 << 21)) * (1 << 21))


def seed_all(seed: int) -> None:
    for device in machine().devices:
        device.generator.manual_seed(seed)


class Stream:
    """A queue of work; a pretended device has one."""

    def __init__(self, device: Any = None, priority: int = 0, **named: Any) -> None:
        self.device = torch.device("cuda", at(device).index)
        self.cuda_stream = 0

    def synchronize(self) -> None:
        machine().wait(at(self.device))

    def wait_stream(self, other: Stream) -> None:
        """There is only one."""

    def wait_event(self, event: Event) -> None:
        """There is only one."""

    def record_event(self, event: Event | None = None) -> Event:
        found = event or Event()
        found.record(self)
        return found

    def query(self) -> bool:
        return at(self.device).pending == 0.0

    def is_capturing(self) -> bool:
        return False


class Event:
    """A moment in a device's queue: when all is done that was asked for before."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, **named: Any) -> None:
        self._timed, self._moment, self._device = enable_timing, None, None

    def record(self, stream: Stream | None = None) -> None:
        self._device = at(stream.device if stream else None)
        self._moment = time.perf_counter() + self._device.pending

    def synchronize(self) -> None:
        if self._device is not None:
            machine().wait(self._device)

    def query(self) -> bool:
        return self._moment is None or self._device.pending == 0.0

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds.

        Raises:
            RuntimeError: one was not recorded, or not made for timing.
        """
        if self._moment is None or other._moment is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        if not (self._timed and other._timed):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        return (other._moment - self._moment) * 1000


@contextmanager
def in_stream(stream: Any) -> Iterator[None]:
    """`with torch.cuda.stream(s):`"""
    if stream is None:
        yield
        return
    with on(stream.device):
        yield


class Autocast(torch.amp.autocast_mode.autocast):
    """`torch.autocast`: for a GPU the CPU's one, since C++ takes our tensors for the CPU's; in float16, as CUDA's is by default."""

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None) -> None:
        ours = device_type.startswith("cuda")
        super().__init__("cpu" if ours else device_type, dtype or (torch.float16 if ours else None), enabled, cache_enabled)


CUDA = {
    "is_available": lambda: bool(machine().devices),
    "is_initialized": lambda: machine().initialised,
    "init": lambda: None,
    "_lazy_init": lambda: None,
    "_is_in_bad_fork": lambda: machine().forked,
    "device_count": lambda: len(machine().devices),
    "current_device": lambda: at().index,
    "set_device": set_device,
    "device": on,
    "get_device_name": lambda device=None: at(device).name,
    "get_device_capability": lambda device=None: (8, 0),
    "get_device_properties": properties,
    "memory_allocated": lambda device=None: at(device).allocated,
    "max_memory_allocated": lambda device=None: at(device).peak,
    "memory_reserved": lambda device=None: at(device).reserved,
    "max_memory_reserved": lambda device=None: at(device).peak_reserved,
    "reset_peak_memory_stats": reset_peak,
    "mem_get_info": lambda device=None: (at(device).total - at(device).reserved, at(device).total),
    "empty_cache": empty_cache,
    "ipc_collect": lambda: None,
    "synchronize": lambda device=None: machine().wait(at(device)),
    "is_bf16_supported": lambda including_emulation=True: True,
    "manual_seed": lambda seed: at().generator.manual_seed(seed),
    "manual_seed_all": seed_all,
    "get_rng_state": lambda device="cuda": at(device).generator.get_state(),
    "set_rng_state": lambda state, device="cuda": at(device).generator.set_state(state),
    "get_rng_state_all": lambda: [device.generator.get_state() for device in machine().devices],
    "Stream": Stream,
    "Event": Event,
    "stream": in_stream,
    "current_stream": lambda device=None: Stream(device),
    "default_stream": lambda device=None: Stream(device),
    "is_current_stream_capturing": lambda: False,
}
ACCELERATOR = {
    "is_available": lambda: bool(machine().devices),
    "current_accelerator": lambda check_available=False: torch.device("cuda"),
    "device_count": lambda: len(machine().devices),
    "current_device_index": lambda: at().index,
    "current_device_idx": lambda: at().index,
    "set_device_index": set_device,
    "set_device_idx": set_device,
    "current_stream": lambda device=None: Stream(device),
    "synchronize": lambda device=None: machine().wait(at(device)),
}
