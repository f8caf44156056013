"""Copies the layer, the cuts or the equivalent command to the terminal's clipboard, and keeps the log of commands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tui_pruner.domain.formatting import command_line
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.tui.actions import INTERACTIVE, VIEW, Action
from tui_pruner.tui.commands import (
    PROGRAM,
    CommandLog,
    cut_words,
    job_command,
    layer_words,
    preview_command,
    prune_command,
    saved_command,
    step_command,
    steps_command,
)
from tui_pruner.tui.controllers.base import Controller, Handler
from tui_pruner.tui.job_specs.job import DONE
from tui_pruner.tui.messages import EngineMessage, FileWritten, JobsChanged, PlanSaved, SessionChanged

WITHOUT = ("linux", "dumb", "vt100", "vt220", "ansi")
"""Terminals, by TERM, without OSC 52."""
WITH = ("kitty", "foot", "wezterm", "ghostty", "alacritty", "contour")
"""Terminals with OSC 52; for all others it is unknown."""
PROGRAMS = ("iTerm.app", "WezTerm", "ghostty", "WarpTerminal")
LAYER, CUTS, COMMAND, STEPS = "layer", "cuts", "command", "steps"


def takes_copies() -> bool | None:
    """Whether the terminal accepts OSC 52; None where that is unknown."""
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if term in WITHOUT or program == "Apple_Terminal":
        return False
    return True if any(name in term for name in WITH) or program in PROGRAMS else None


class CopyController(Controller):
    """Copies and logs commands; it does not change the session."""

    def actions(self) -> Sequence[Action]:
        """Copying, and the log."""
        return (
            Action(
                id="copy",
                keys="y",
                title="Copy",
                help="Copy the layer, the pending cuts, or the exact command that does the same.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.choose,
                footer="copy",
            ),
            Action(
                id="command-log",
                keys="P",
                title="Command log",
                help="List the commands that do what was done in this session; enter copies one.",
                group=VIEW,
                cli="keys",
                run=self.show_log,
            ),
        )

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of what was done, each with its equivalent command."""
        return {SessionChanged: self.take_session, FileWritten: self.take_file, PlanSaved: self.take_plan, JobsChanged: self.take_job}

    def begin(self) -> None:
        """Observe the pending cuts."""
        self.store.observe(("pending",), self.take_pending)

    def take_pending(self) -> None:
        """Log the present ratios; consecutive changes are one entry."""
        if self.state.pending:
            self.log.note("ratios", preview_command(self.state), instead=True)

    def take_session(self, event: SessionChanged) -> None:
        """Log a step that was applied, undone or gone to."""
        state = self.state
        if event.did == "applied":
            self.log.note(f"step {len(state.session.steps)}", step_command(state))
        elif event.did in ("undone", "redone", "moved") and state.session.steps:
            self.log.note(event.did, steps_command(state, str(state.checkpoint.opening.output)))
        elif event.did == "opened" and not state.checkpoint.opening.module:
            plan = state.checkpoint.opening.plan_file
            self.log.note("plan opened", command_line([PROGRAM, "steps", state.opened.model.path, "--plan", plan]))

    def take_file(self, event: FileWritten) -> None:
        """Log that the model was written."""
        self.log.note("written", steps_command(self.state, event.result.output, event.result.masked is not None))

    def take_plan(self, event: PlanSaved) -> None:
        """Log that the plan was saved."""
        self.log.note("plan saved", saved_command(self.state, event.result.output))

    def take_job(self, event: JobsChanged) -> None:
        """Log a finished job."""
        job = event.ended
        if job is not None and job.state == DONE and job.parameters is not None:
            plan = str(self.state.checkpoint.opening.plan_file)
            self.log.note(job.spec.name, job_command(job.spec.kind, job.parameters.model_dump(), plan))

    @property
    def log(self) -> CommandLog:
        """The logged commands."""
        return self.state.commands

    def choose(self) -> None:
        """Ask what to copy, then copy it."""
        found = self.texts()
        choices = [(name, title, text) for name, title, text in found]
        self.dialogs.choose("Copy", "To the clipboard of your terminal.", choices, lambda name: self._take(name, found))

    def texts(self) -> list[tuple[str, str, str]]:
        """What can be copied now: a name, a description, and the text."""
        state, row = self.state, self.view.tree.row
        found = [(LAYER, "layer", layer_words(state, row.key if row else ""))]
        if state.pending:
            found += [(CUTS, "cuts", cut_words(state)), (COMMAND, "command", prune_command(state, pending=True))]
        if state.session.steps:
            found.append((STEPS, "steps", prune_command(state, pending=False)))
        return [entry for entry in found if entry[2]]

    def show_log(self) -> None:
        """List the commands, newest first; copy the chosen one."""
        entries = list(reversed(self.log.entries))
        if not entries:
            self.say("no command to show yet")
            return
        choices = [(str(number), title, line) for number, (title, line) in enumerate(entries)]
        text = "What was done in this session, the newest first; enter copies the command that does the same."
        self.dialogs.choose("Command log", text, choices, lambda number: self.copy(entries[int(number)][1]) if number else None)

    def copy(self, text: str) -> None:
        """Copy a text to the terminal; without OSC 52, or where it is unknown, write it to a file and show its path."""
        takes = takes_copies()
        if takes is not False:
            self.dialogs.copy(text)
        short = text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."
        if takes:
            self.say(f"copied: {short}")
            return
        try:
            place = write_copy(text)
        except OSError as error:
            self.say(f"copied: {short}" if takes is None else f"nothing was copied: {error}", "information" if takes is None else "error")
            return
        self.say(f"this terminal takes no copies: it is in {place}" if takes is False else f"copied: {short}; also in {place}")

    def _take(self, name: str, found: Sequence[tuple[str, str, str]]) -> None:
        text = next((text for one, _, text in found if one == name), "")
        if text:
            self.copy(text)


SHORT = 60


def write_copy(text: str) -> Path:
    """Write a text to a file for copying.

    Raises:
        OSError: it cannot be written.
    """
    place = paths.state_folder() / "copied.txt"
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_file(place, f"{text}\n".encode(errors="surrogateescape"))
    return place
