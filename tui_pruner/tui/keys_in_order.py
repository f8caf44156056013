"""Keys in order: each is dispatched when the previous one has been handled completely."""

from __future__ import annotations

import asyncio
from collections import deque

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message import Message

from tui_pruner.domain.deadlines import crowd

PATIENCE, TURN = 1.0, 0.05
"""Seconds; they are counted in turns, since each comes late where this process gets little of a processor."""


class CameThrough(Message):
    """Follows a key on its way, from what it was given to up to the app, and so arrives when the key has been handled."""

    def __init__(self, key: events.Key, *, then: DOMNode | None = None) -> None:
        self.key = key
        self.then = then
        super().__init__()


class KeysInOrder(App[int]):
    """An app for people who type faster than a busy machine, or over a line that delivers what they typed in one piece.

    Textual gives a key to what has the focus when the key arrives. A key that moves the focus is handled later, in
    the widget's own time; what was typed after it has gone to the wrong place by then: a space that should mark a
    layer lands in the filter that enter was to close. Here the next key waits until the one before has come through
    its widget and all that holds it, then the messages that it caused there, and then a screen that came up by it.
    What never lets a key through is waited for a second, on a busy machine for more (`patience`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[events.Key] = deque()
        self._under_way: events.Key | None = None
        self._screen_before: DOMNode | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def keys_waiting(self) -> bool:
        """Whether a key that was typed has not been handled yet."""
        return self._under_way is not None or bool(self._typed)

    async def on_event(self, event: events.Event) -> None:
        """Keep a new key until its turn comes; all else goes its way at once."""
        if isinstance(event, events.Key) and not event.is_forwarded:
            self._typed.append(event)
            await self._hand_out()
        else:
            await super().on_event(event)

    async def on_came_through(self, message: CameThrough) -> None:
        """Follow what the key caused, and hand out the next one after that."""
        if message.key is not self._under_way:
            return
        follower = message.then
        if follower is None and self.screen is not self._screen_before:
            follower = self._screen_before = self.screen
        if follower is None or not follower.post_message(CameThrough(message.key)):
            await self._go_on(message.key)

    async def _hand_out(self) -> None:
        while self._typed and self._under_way is None:
            key = self._under_way = self._typed.popleft()
            self._screen_before = self.screen
            target = self.focused or self.screen
            self._give_up_on(key, PATIENCE * crowd())
            await super().on_event(key)
            if not target.post_message(CameThrough(key, then=target)):
                self._free()

    def _give_up_on(self, key: events.Key, left: float) -> None:
        if left > 0:
            self._deadline = asyncio.get_running_loop().call_later(TURN, self._give_up_on, key, left - TURN)
        else:
            self.call_later(self._go_on, key)

    async def _go_on(self, key: events.Key) -> None:
        if key is self._under_way:
            self._free()
            await self._hand_out()

    def _free(self) -> None:
        self._under_way = None
        if self._deadline is not None:
            self._deadline.cancel()
