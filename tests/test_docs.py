"""What the guides tell people to type exists, and the workflow for pull requests is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from tui_pruner.cli.commands import module_results  # noqa: F401  # it registers its commands
from tui_pruner.cli.commands.module import app as of_modules
from tui_pruner.cli.main import app_of

DOCS = Path(__file__).parent.parent / "docs"
PARSER = typer.main.get_command(app_of())
OF_MODULES = typer.main.get_command(of_modules)
GUIDES = ("flow.md", "gate.md", "soft-pruning.md")
COMMAND = re.compile(r"tui-pruner (?P<words>[a-z]+ [^`|#]*)")


def commands_in(text: str) -> list[list[str]]:
    found = [match.group("words").strip().rstrip(";,.") for match in COMMAND.finditer(text.replace("\n          --", " --"))]
    return [shlex.split(one.splitlines()[0]) for one in found]


@pytest.mark.parametrize("name", GUIDES)
def test_commands_in_a_guide_have_existing_options(name: str):
    commands = [words for words in commands_in((DOCS / name).read_text()) if words[0] in PARSER.commands]
    assert len(commands) >= 2
    for command, *words in commands:
        parser = OF_MODULES if "--model" in words else PARSER
        known = {option for parameter in parser.commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, (command, words)


def test_gate_workflow_of_the_guide_runs_the_gate_command():
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "gate.md").read_text(), re.DOTALL)
    steps = yaml.safe_load(block)["jobs"]["gate"]["steps"]
    (gate,) = (step["run"] for step in steps if step.get("name") == "Gate")
    command, *words = shlex.split(gate)[1:]
    known = {option for parameter in PARSER.commands[command].params for option in parameter.opts}
    assert command == "gate" and {word for word in words if word.startswith("--")} <= known
    assert {"--junit", "--markdown", "--max-drop", "--against"} <= set(words)
