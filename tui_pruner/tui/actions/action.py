"""What an action is: one small object that feeds the key, the footer, the help, the palette and the command line's help."""

from __future__ import annotations

import re
from dataclasses import dataclass

from textual.binding import Binding

RATIO, STEPS, JOBS, VIEW = "Ratio", "Steps and file", "Jobs", "Finding one's way"
GROUPS = (RATIO, STEPS, JOBS, VIEW)
INTERACTIVE = "-"


@dataclass(frozen=True)
class Action:
    """Something that the user can do.

    `name` is the screen's `action_` method with its arguments; `keys` are as Textual names them, none where only the palette has it;
    `shown` is how people read the keys; `headless` is the command line that does the same without the app, `INTERACTIVE` where there
    is nothing to do without a screen; `footer` is its word there, where it belongs there. Keys hold in the `pane` (a widget's id) that has
    the focus, where one is named, and come before the screen's.
    """

    name: str
    keys: str
    shown: str
    title: str
    help: str
    group: str
    headless: str
    footer: str = ""
    pane: str = ""

    @property
    def binding(self) -> Binding:
        """The action as a key binding with its tooltip."""
        return Binding(
            self.keys,
            f"screen.{self.name}" if self.pane else self.name,
            self.title,
            show=False,
            key_display=self.shown,
            tooltip=self.help,
            id=self.id,
        )

    @property
    def method(self) -> str:
        """The screen's method without its `action_`: of `nudge(-5)` it is `nudge`."""
        return self.name.partition("(")[0]

    @property
    def id(self) -> str:
        """How the user's own keymap calls it: `nudge(-5)` is `nudge-minus-5`."""
        name, _, argument = self.name.replace("'", "").rstrip(")").partition("(")
        return "-".join(part for part in (name.replace("_", "-"), re.sub("^-", "minus-", argument)) if part)
