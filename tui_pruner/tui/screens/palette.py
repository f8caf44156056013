"""The palette: every action of the screen by name, from any pane, with the reason where it can do nothing now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui_pruner.tui.actions.action import Action
from tui_pruner.tui.screens.base import ActionScreen


class ActionProvider(Provider):
    """Finds actions by their titles; a screen without actions has no palette."""

    async def discover(self) -> Hits:
        """Offer every action before anything is typed."""
        for screen, action in self.offered():
            yield DiscoveryHit(action.title, partial(screen.call_later, screen.action_run, action.id), help=screen.help_of(action))

    async def search(self, query: str) -> Hits:
        """Offer the actions whose titles match."""
        matcher = self.matcher(query)
        for screen, action in self.offered():
            score = matcher.match(action.title)
            if score > 0:
                run = partial(screen.call_later, screen.action_run, action.id)
                yield Hit(score, matcher.highlight(action.title), run, help=screen.help_of(action))

    def offered(self) -> Iterator[tuple[ActionScreen, Action]]:
        """The actions of the screen that is open."""
        if isinstance(self.screen, ActionScreen):
            for action in self.screen.registry:
                yield self.screen, action
