"""Timeouts: hanging calls are abandoned, slow ones on a busy machine are not."""

import asyncio
import os
import time

import pytest

from tui_pruner.domain import deadlines


@pytest.mark.parametrize(("load", "cores", "expected"), [(15.0, 2, 7.5), (0.3, 2, 1.0), (8.0, None, 8.0)])
def test_deadline_is_multiplied_by_the_load_per_processor(load, cores, expected, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert deadlines.crowd() == expected


def test_missing_load_average_counts_as_idle(monkeypatch):
    def refuse():
        raise OSError

    monkeypatch.setattr("os.getloadavg", refuse)
    assert deadlines.crowd() == 1.0


async def late(asked: list[float]) -> str:
    """Answer once it was looked three times how busy the machine is."""
    while len(asked) < 3:
        await asyncio.sleep(0)
    return "answer"


async def test_late_answer_on_a_busy_machine_is_waited_for(monkeypatch):
    asked = []
    monkeypatch.setattr(deadlines, "crowd", lambda: asked.append(0.0) or 0.001 * len(asked) ** 10)
    assert await deadlines.within(1.0, late(asked)) == "answer"


async def test_unanswered_call_times_out_and_is_cancelled():
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await deadlines.within(0.01, never)
    assert never.cancelled()


async def test_time_in_which_this_process_was_stopped_does_not_count(monkeypatch):
    """What was answered meanwhile is read a few turns of the loop after every deadline of it has passed."""
    monkeypatch.setattr(deadlines, "ASLEEP", 0.05)
    monkeypatch.setattr(deadlines, "crowd", lambda: 1.0)
    reader, writer = os.pipe()
    stream = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb"))

    async def read() -> bytes:
        return (await asyncio.ensure_future(stream.readline())).strip()

    def stop() -> None:
        os.write(writer, b"answer\n")
        time.sleep(0.2)

    loop.call_soon(stop)
    assert await deadlines.within(0.1, read()) == b"answer"
    transport.close()
    os.close(writer)


async def test_exception_is_passed_through():
    async def refuse():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await deadlines.within(10.0, refuse())


async def test_hanging_call_times_out_though_the_process_is_stopped_repeatedly(monkeypatch):
    monkeypatch.setattr(deadlines, "ASLEEP", -2.0)  # so that every wait looks like one of a stopped process
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await deadlines.within(0.05, never)
