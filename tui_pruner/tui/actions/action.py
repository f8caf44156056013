"""What an action is: one small object that feeds the key, the footer, the help, the palette and the command line's help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.binding import Binding

if TYPE_CHECKING:
    from tui_pruner.tui.state import AppState

RATIO, STEPS, JOBS, VIEW = "Ratio", "Steps and file", "Jobs", "Navigation"
GROUPS = (RATIO, STEPS, JOBS, VIEW)
INTERACTIVE = "-"
"""The command line of an action that means nothing without a screen."""

TREE, MAP, DETAIL, PATH, STEPS_PANE, ALL_JOBS, STAGES = "tree", "map", "detail", "path", "steps", "all-jobs", "stages"
DETECTIONS = "detections"
SLIDER = "slider"
FLOW = "flow"
PANE_TITLES: Mapping[str, str] = {
    TREE: "The model",
    MAP: "The map",
    DETAIL: "The detail",
    PATH: "The explanation",
    FLOW: "The channel flow",
    STEPS_PANE: "The steps",
    ALL_JOBS: "The background jobs",
    STAGES: "The lineage and the front",
    DETECTIONS: "The detections",
    SLIDER: "The target slider",
}
PANE_MOVES: Mapping[str, tuple[tuple[str, str], ...]] = {
    TREE: (
        ("up down", "Go to the row above or below; k and j too."),
        ("home end", "Go to the first or the last row; g and G too."),
        ("ctrl+u d", "Go half a page up (ctrl+u) or down (ctrl+d), in every pane."),
    ),
    MAP: (("arrows", "Go to the block beside, above or below."), ("enter", "Show the block under the cursor in the tree.")),
    DETAIL: (("up down", "Scroll."),),
    PATH: (("up down", "Go from hop to hop of the explanation."),),
    FLOW: (("up down", "Go from block to block."),),
    SLIDER: (("up down", "Go to the row above or below; all other keys act on the model, and those that cut close the slider."),),
}


def always(state: AppState) -> str:
    """The reason of an action that is never disabled: none."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something that the user can do.

    `id` is how the user's own keymap calls it; `keys` are as Textual names them, none where only the palette has it, and `shown` is how
    people read them; `cli` is the command line that does the same without the app, `INTERACTIVE` where there is nothing to do without a
    screen; `footer` is its word there, where it belongs there. Keys hold in the `pane` (a widget's id) that has the focus, if
    named, and come before the screen's. `disabled_reason` says in one line why it can do nothing now; empty where it can.
    """

    id: str
    title: str
    help: str
    group: str
    cli: str
    run: Callable[..., object]
    keys: str = ""
    shown: str = ""
    footer: str = ""
    pane: str = ""
    disabled_reason: Callable[[AppState], str] = always

    @property
    def binding(self) -> Binding:
        """The action as a key binding with its tooltip."""
        return Binding(
            self.keys,
            f"screen.run('{self.id}')" if self.pane else f"run('{self.id}')",
            self.title,
            show=False,
            key_display=self.shown or self.keys,
            tooltip=self.help,
            id=self.id,
        )
