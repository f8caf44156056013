"""The workbench: the screen with every action bound, its engine, and its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import on
from textual.worker import Worker, WorkerState

from tui_pruner.engine.processes import kill_group, start_module
from tui_pruner.trust import fingerprint, remember
from tui_pruner.tui.figures import plural
from tui_pruner.tui.jobs_text import unfinished_jobs
from tui_pruner.tui.messages import OpenFailed
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.keeping import Keeping
from tui_pruner.tui.screens.question import Answer, Question
from tui_pruner.tui.unfinished import SessionChosen
from tui_pruner.unexpected import keep_traceback, one_line

ENGINE = "engine"


class Workbench(Keeping):
    """One checkpoint being pruned."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._painted = asyncio.Event()
        self._engine: asyncio.subprocess.Process | None = None

    def on_mount(self) -> None:
        """Start the engine first of all, then paint."""
        self.call_after_refresh(self._painted.set)
        self.run_worker(self._start_engine(), name=ENGINE, exit_on_error=False)

    @on(Worker.StateChanged)
    def tell_failed_work(self, event: Worker.StateChanged) -> None:
        """Say what went wrong in work of this screen; without an engine there is nothing to wait for."""
        error = event.worker.error
        if event.state is not WorkerState.ERROR or error is None:
            return
        keep_traceback(error)
        if event.worker.name == ENGINE:
            self.post_message(OpenFailed(one_line("starting the engine", error)))
        else:
            self.say(one_line(event.worker.name, error), "error")

    async def _start_engine(self) -> None:
        self._engine = await start_module("tui_pruner.engine")
        await self._painted.wait()
        # Only now: the messages' classes take a tenth of a second to import, and the first screen shall not wait for them.
        from tui_pruner.tui.session import EngineSession

        self.session = EngineSession(self, self.opening, self.keep_accepted)
        await self.session.start(self._engine)

    @on(OpenFailed)
    def back_to_start(self, event: OpenFailed) -> None:
        """Say on the start screen why the checkpoint cannot be used, or first ask whether it is trusted."""
        self.close_children()
        if event.untrusted:
            self.run_worker(self._ask_for_trust(event.reason), name="asking whether the file is trusted", exit_on_error=False)
        else:
            self._give_up(event.reason)

    async def _ask_for_trust(self, reason: str) -> None:
        from tui_pruner.tui.screens.trust_prompt import TrustPrompt

        try:
            sha256 = await asyncio.to_thread(fingerprint, Path(self.opening.model).expanduser())
        except Exception as error:  # what cannot be read cannot be trusted either
            keep_traceback(error)
            self._give_up(reason)
            return
        if await self.app.push_screen_wait(TrustPrompt(reason, sha256)) is None:
            self.call_after_refresh(self._give_up, reason)  # this screen is about to be drawn again first
            return
        remember(sha256)
        self.app.post_message(SessionChosen(self.opening))

    def _give_up(self, reason: str) -> None:
        from tui_pruner.tui.screens.start import StartScreen

        self.app.switch_screen(StartScreen(self.opening.model, reason))

    def action_back(self) -> None:
        """While a checkpoint is being opened: leave it for another one."""
        if self.board is None and self.doing:
            self.close_children()
            self._give_up("")
        else:
            super().action_back()

    def action_quit(self) -> None:
        """Leave, after a question where something would be lost."""
        reasons = self._unfinished()
        if not reasons:
            self._leave()
            return
        answers = [Answer("q", "quit anyway", "quit")]
        if self.board is not None and self.board.session.unsaved:
            answers.insert(0, Answer("w", "write first", "write"))
        self.app.push_screen(Question("Quit?", "\n".join(reasons), answers), self._take_answer)

    def close_children(self) -> None:
        """End the engine and the running job at once."""
        self.jobs.close()
        if self.session is not None:
            self.session.kill()
        elif self._engine is not None:
            kill_group(self._engine)

    async def on_unmount(self) -> None:
        """End the children and wait for the engine."""
        self.close_children()
        if self.session is not None:
            await self.session.close()

    def _leave(self) -> None:
        self.leave_session()
        self.app.exit(0)

    def _take_answer(self, answer: str | None) -> None:
        if answer == "quit":
            self._leave()
        elif answer == "write":
            self.action_write()

    def _unfinished(self) -> list[str]:
        reasons = []
        if self.board is not None and self.board.session.unsaved:
            reasons.append(f"{plural(len(self.board.session.steps), 'step')} not written to a file.")
        if self.board is not None and self.board.asked:
            reasons.append(f"{plural(len(self.board.asked.amounts), 'ratio')} asked for and not applied.")
        if self.jobs.busy:
            reasons.append(unfinished_jobs(self.work()))
        if self.doing.startswith("writ"):
            reasons.append("The file is being written.")
        return reasons
