"""The help's list of commands by what they are for, in plain text."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

LOOK, CUT, MEASURE, RECOVER, REST = "Look", "Cut and prove", "Measure and decide", "Recover, compress, deploy", "App and files"
GROUPS = {
    LOOK: ("inspect", "contents", "groups", "flow", "explain", "steps"),
    CUT: ("preview", "prune", "prove", "coverage"),
    MEASURE: ("validate", "scan", "plan", "bench", "gate", "report"),
    RECOVER: ("recalibrate", "reconstruct", "finetune", "compress", "export"),
    REST: ("demo", "serve", "sessions", "keys", "locate"),
}
"""By heading: the commands in the order in which they are listed."""


def panel_of(command: str) -> str | None:
    """Return the heading that a command stands under; None where it has none."""
    return next((heading for heading, names in GROUPS.items() if command in names), None)


class GroupedCommands(TyperGroup):
    """The commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading."""
        limit = formatter.width - 6 - max(map(len, self.commands))
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(limit)) for name in names if name in self.commands])
