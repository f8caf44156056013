"""At most one request under way, and only the newest waiting: what keeps a held-down key smooth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Latest(Generic[Item]):
    """Runs `work` for the newest item; items that were overtaken while it ran are dropped. `failed` gets what it raises."""

    def __init__(self, work: Callable[[Item], Awaitable[None]], failed: Callable[[Exception], None]) -> None:
        self._work = work
        self._failed = failed
        self._waiting: list[Item] = []
        self._task: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> None:
        """Ask for this item; it replaces the one that waits."""
        self._waiting = [item]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            try:
                await self._work(self._waiting.pop())
            except Exception as error:
                self._failed(error)
