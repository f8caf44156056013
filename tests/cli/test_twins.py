"""No action of the app is reachable by mouse alone, and each has a command line that does the same, with options that exist."""

from __future__ import annotations

import shlex

import pytest
import typer.main

from tui_pruner.__main__ import COMMANDS
from tui_pruner.cli.main import app
from tui_pruner.tui.actions import ACTIONS, GROUPS, INTERACTIVE, Action

PARSER = typer.main.get_command(app)
MOVES = {
    "expand", "toggle_all", "next_pane", "show_steps", "back", "step_move(1)", "step_move(-1)",
    "all_jobs", "job_move(1)", "job_move(-1)", "next_view", "leave",
}  # fmt: skip
ENDS = {"quit", "cancel_job", "cancel_chosen"}


def options_of(command: str) -> set[str]:
    return {name for parameter in PARSER.commands[command].params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_the_parser_knows_every_command_and_no_other():
    assert set(PARSER.commands) == set(COMMANDS)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_an_action_has_its_sentence_its_group_and_its_twin(action: Action):
    assert action.title and action.help.endswith(".") and action.group in GROUPS
    assert action.keys or not action.pane, "what only the palette has must hold everywhere"
    if action.headless in (INTERACTIVE, "--help"):
        return
    words = shlex.split(action.headless)
    command = "open" if words[0].startswith("-") else words.pop(0)
    assert command in COMMANDS
    assert {word for word in words if word.startswith("-")} <= options_of(command)


def test_only_what_means_nothing_without_a_screen_has_no_twin():
    without = {action.name for action in ACTIONS if action.headless == INTERACTIVE}
    assert without == MOVES | ENDS


def test_ids_are_unique_and_every_action_is_a_method_of_a_screen():
    from tui_pruner.tui.screens.all_jobs import AllJobs
    from tui_pruner.tui.screens.workbench import Workbench

    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    nowhere = [name for name in map(method, ACTIONS) if not any(hasattr(screen, name) for screen in (Workbench, AllJobs))]
    assert nowhere == []


def method(action: Action) -> str:
    return f"action_{action.name.partition('(')[0]}"
