"""No action of the app is reachable by mouse alone, and each has a command line that does the same, with options that exist."""

from __future__ import annotations

import shlex

import pytest
import typer.main

from tui_pruner.__main__ import COMMANDS
from tui_pruner.cli.main import app_of
from tui_pruner.tui.actions import GROUPS, INTERACTIVE, Action, Registry
from tui_pruner.tui.controllers import ACTIONS

PARSER = typer.main.get_command(app_of())
MOVES = {
    "suspend", "expand", "toggle-all", "next-pane", "show-steps", "back", "step-move-1", "step-move-minus-1",
    "all-jobs", "job-move-1", "job-move-minus-1", "next-view", "leave", "copy",
    "stage-move-1", "stage-move-minus-1", "switch-picture", "next-axis", "leave-stages",
    "image-1", "image-minus-1", "pictures", "leave-detections",
}  # fmt: skip
ENDS = {"quit", "cancel-job", "cancel-chosen", "cancel-detections"}


def options_of(command: str) -> set[str]:
    return {name for parameter in PARSER.commands[command].params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_parser_has_exactly_the_listed_commands():
    assert set(PARSER.commands) == set(COMMANDS)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_every_action_has_a_description_a_group_and_a_command_line(action: Action):
    assert action.title and action.help.endswith(".") and action.group in GROUPS
    assert action.keys or not action.pane, "what only the palette has must hold everywhere"
    if action.cli in (INTERACTIVE, "--help"):
        return
    words = shlex.split(action.cli)
    command = "open" if words[0].startswith("-") else words.pop(0)
    assert command in COMMANDS
    assert {word for word in words if word.startswith("-")} <= options_of(command)


def test_only_actions_for_screens_have_no_command_line():
    without = {action.id for action in ACTIONS if action.cli == INTERACTIVE}
    assert without == MOVES | ENDS


def test_action_ids_are_unique_and_each_action_belongs_to_one_screen():
    registry = Registry(ACTIONS)
    assert [registry.find(action.id) for action in ACTIONS] == list(ACTIONS)
