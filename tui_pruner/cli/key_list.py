"""`keys`: every action of the app, with its keys and the command that does the same without it."""

from __future__ import annotations

from typing import Any

from tui_pruner.cli.options import Json
from tui_pruner.cli.output import reserved_stdout, say


def keys(as_json: Json = False) -> None:
    """The app's actions: id (for the keymap in the config file), keys, what each does, and the command line that does the same."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.config import read_config
        from tui_pruner.tui.actions.action import GROUPS, INTERACTIVE, Action
        from tui_pruner.tui.actions.keymap import keymap_of, shown_keys
        from tui_pruner.tui.controllers import ACTIONS

        config = read_config()
        keymap = keymap_of(ACTIONS, config.settings.keymap)
        for problem in (*config.problems, *keymap.problems):
            say(problem)

        def plain(action: Action) -> dict[str, Any]:
            return {
                "id": action.id,
                "keys": action.keys.split(",") if action.keys else [],
                "title": action.title,
                "help": action.help,
                "group": action.group,
                "headless": None if action.cli == INTERACTIVE else f"tui-pruner {action.cli}",
            }

        output.document({"actions": [plain(action) for action in keymap.actions]})
        for group in GROUPS:
            output.line(group, "bold")
            members = [action for action in keymap.actions if action.group == group]
            rows = [[shown_keys(action), action.id, action.help, plain(action)["headless"] or ""] for action in members]
            output.table(["keys", "id", "does", "without the app"], rows)
            output.line()
