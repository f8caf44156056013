"""Asks the engine about the pending cuts and the row under the cursor when they change, and shows the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tui_pruner.domain.deadlines import crowd
from tui_pruner.tui.controllers.base import Controller, Handler
from tui_pruner.tui.job_specs.job import OpenCheckpoint
from tui_pruner.tui.messages import Answered, Doing, DryRan, EngineDied, EngineMessage, JobsChanged, Opened, Refreshed, RequestRefused
from tui_pruner.tui.outline import TreeState
from tui_pruner.tui.timeline import unproved

QUIET = 0.25
"""Seconds without a change before the dry run."""
LATE = 2.0
"""Seconds on an idle machine after which figures of earlier cuts are not shown any more."""
UPDATING = "waiting for the new figures"


class PreviewController(Controller):
    """Requests figures at once, and the dry run when no key was pressed for a moment; shows messages of the engine."""

    _quiet: asyncio.TimerHandle | None = None
    _late: asyncio.TimerHandle | None = None
    _row = ""

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of figures, shapes, and the engine's restarts and end."""
        return {
            Refreshed: self.take_figures,
            DryRan: self.take_dry_run,
            Answered: lambda event: event.give(),
            Opened: self.take_restarted,
            Doing: self.take_doing,
            RequestRefused: self.take_refusal,
            EngineDied: self.take_death,
        }

    def begin(self) -> None:
        """Observe the pending cuts, the steps and the cursor."""
        self.store.observe(("pending",), self.schedule_dry_run, at_once=True)
        self.store.observe(("pending", "session"), self.refresh, at_once=True)
        self.store.observe(("tree",), self.follow_cursor, at_once=True)
        self._row = self.view.tree.key
        self.refresh()

    def end(self) -> None:
        """Stop asking."""
        for timer in (self._quiet, self._late):
            if timer is not None:
                timer.cancel()

    def refresh(self) -> None:
        """Ask for the figures of the pending cuts, with the detail of the layer under the cursor, in one call.

        The target slider has them at hand: while it moves, the engine is not asked.
        """
        if self.view.sliding:
            return
        if not self.engine.refreshing:
            self.expect_figures()
        self.engine.refresh(self.state.pending, self.view.tree.layer or None)

    def expect_figures(self) -> None:
        """Look whether the engine has answered, some time from now."""
        if self._late is not None:
            self._late.cancel()
        self._late = asyncio.get_running_loop().call_later(LATE * crowd(), self.drop_old_figures)

    def drop_old_figures(self) -> None:
        """Show no figures where those of the present cuts are late, and say so."""
        if self.engine.refreshing and not self.view.sliding:
            self.store.update(preview=None, detail=None, doing=self.state.doing or UPDATING)

    def follow_cursor(self) -> None:
        """Request the detail of another row."""
        if self.view.tree.key == self._row:
            return
        self._row = self.view.tree.key
        self.store.update(no_detail="")
        self.refresh()

    def schedule_dry_run(self) -> None:
        """Schedule the dry run for when no key changes the cuts any more."""
        if self._quiet is not None:
            self._quiet.cancel()
        if self.state.pending or self.view.sliding:
            self._quiet = asyncio.get_running_loop().call_later(QUIET, self.dry_run)

    def dry_run(self) -> None:
        """Request the dry run; where the target slider stands still, the detail too."""
        if self.state.pending:
            self.engine.dry_run(self.state.pending)
        if self.view.sliding:
            self.engine.refresh(self.state.pending, self.view.tree.layer or None)

    def take_figures(self, event: Refreshed) -> None:
        """Store the engine's figures."""
        self.expect_figures()
        values: dict[str, object] = {"detail": event.detail, "no_detail": event.no_detail}
        if self.state.pending and not self.view.sliding:
            preview = None if event.no_preview else event.preview or self.state.preview
            values |= {"preview": preview, "no_preview": event.no_preview}
        if self.state.doing == UPDATING:
            values["doing"] = ""
        self.store.update(**values)

    def take_dry_run(self, event: DryRan) -> None:
        """Store the result of the dry run."""
        if self.state.pending:
            self.store.update(dry_run=event.result, no_dry_run=event.reason)

    def take_restarted(self, event: Opened) -> None:
        """Restore the session in a restarted engine, and ask it about the pending cuts."""
        state, tree = self.state, self.view.tree
        for cached in ("layers", "known"):
            vars(state).pop(cached, None)
        checkpoint: OpenCheckpoint = state.checkpoint
        checkpoint.model = event.result.model
        state.metrics.follow(event.result.session)
        state.detail, state.preview = None, None
        fresh = TreeState.of(event.result.blocks, tree.drops)
        self.store.update(opened=event.result, session=event.result.session, doing="", tree=fresh.on(tree.key))
        self.store.request(state.pending)
        self.say("the engine is back, with every step")
        for warning in event.result.warnings:
            self.store.note(warning)

    def take_doing(self, event: Doing) -> None:
        """Show the engine's current long call."""
        self.store.update(doing=event.what)

    def take_refusal(self, event: RequestRefused) -> None:
        """Show why a request was refused; for a file without a proof, name the step to undo."""
        reason = unproved(self.state.session) if event.during == "written" else ""
        self.say(reason or event.reason, "error")

    def take_death(self, event: EngineDied) -> None:
        """Report how the engine ended, and what follows."""
        self.store.note(event.reason, failed=True)
        self.store.update(doing=event.doing)
        self.say(f"{event.reason}; {event.follows}", "error")
