"""The actions that a screen offers, found by id: controllers put theirs in, and the registry imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from textual.binding import Binding

from tui_pruner.tui.actions.action import Action

DIGITS = tuple(Binding(str(digit), f"run('type-share', '{digit}')", "Type a ratio", show=False) for digit in range(1, 10))


class Registry:
    """Actions by id in the order in which they came, and moves, which only panes and mouse clicks ask for."""

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self._actions: dict[str, Action] = {}
        self._moves: dict[str, Callable[..., object]] = {}
        self.register(actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def register(self, actions: Iterable[Action], moves: Mapping[str, Callable[..., object]] | None = None) -> None:
        """Take in what a controller offers.

        Raises:
            ValueError: another action has the same id.
        """
        for action in actions:
            if action.id in self._actions:
                raise ValueError(f"two actions are called {action.id}")
            self._actions[action.id] = action
        self._moves.update(moves or {})

    def find(self, id: str) -> Action | None:
        """The action of this id; None where the screen has none."""
        return self._actions.get(id)

    def move(self, id: str) -> Callable[..., object] | None:
        """What a pane or a mouse click asks for by this name; None where the screen has none."""
        return self._moves.get(id)


def bindings(actions: Iterable[Action], pane: str = "") -> list[Binding]:
    """The key bindings of these actions that hold in a pane, by its id; without one, those of the whole screen."""
    return [action.binding for action in actions if action.keys and action.pane == pane]
