"""What hangs is given up, and what only gets little of a busy machine is not."""

import asyncio
import os
import time

import pytest

from tui_pruner.domain import deadlines


@pytest.mark.parametrize(("load", "cores", "expected"), [(15.0, 2, 7.5), (0.3, 2, 1.0), (8.0, None, 8.0)])
def test_a_second_alone_is_as_many_seconds_as_processes_want_each_processor(load, cores, expected, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert deadlines.crowd() == expected


def test_a_system_that_does_not_say_how_busy_it_is_counts_as_idle(monkeypatch):
    def refuse():
        raise OSError

    monkeypatch.setattr("os.getloadavg", refuse)
    assert deadlines.crowd() == 1.0


async def late(asked: list[float]) -> str:
    """Answer once it was looked three times how busy the machine is."""
    while len(asked) < 3:
        await asyncio.sleep(0)
    return "answer"


async def test_an_answer_that_is_late_on_a_busy_machine_is_waited_for(monkeypatch):
    asked = []
    monkeypatch.setattr(deadlines, "crowd", lambda: asked.append(0.0) or 0.001 * len(asked) ** 10)
    assert await deadlines.within(1.0, late(asked)) == "answer"


async def test_what_does_not_answer_is_given_up_and_cancelled():
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


async def test_a_refusal_comes_through():
    async def refuse():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await deadlines.within(10.0, refuse())


async def test_what_hangs_is_given_up_by_a_process_that_is_stopped_again_and_again(monkeypatch):
    monkeypatch.setattr(deadlines, "ASLEEP", -2.0)  # so that every wait looks like one of a stopped process
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await deadlines.within(0.05, never)
