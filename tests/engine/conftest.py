"""A real engine process with the events that it sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tui_pruner.engine.client import EngineClient


class Engine:
    """A client, the events that came, and the reasons of its deaths."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.deaths: list[str] = []
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.client = EngineClient(self._on_event, self._on_death)

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        self.events.append((name, data))
        self._tell()

    def _on_death(self, why: str) -> None:
        self.deaths.append(why)
        self._tell()

    def _tell(self) -> None:
        async def tell() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.ensure_future(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events of one name so far."""
        return [data for event, data in self.events if event == name]

    async def until(self, condition) -> None:
        """Wait until something that was said makes a condition true."""
        async with self._news:
            await self._news.wait_for(condition)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine that was started and is ended with the test."""
    engine = Engine()
    await engine.client.start()
    yield engine
    await engine.client.close()
