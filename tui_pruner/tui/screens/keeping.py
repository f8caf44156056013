"""The session is kept on disk while one works, and brought back after a dropped line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import events, on

from tui_pruner.errors import PrunerError
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.amounts import CLASSES, Asked, classes_to_keep, parse_amount
from tui_pruner.tui.board import Board
from tui_pruner.tui.figures import ago, plural
from tui_pruner.tui.latest import Latest
from tui_pruner.tui.messages import Opened, SessionChanged
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.look_keys import LookKeys
from tui_pruner.tui.screens.question import Answer, Question
from tui_pruner.unexpected import keep_traceback, named

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import SessionView
    from tui_pruner.sessions import SavedSession, SessionFile

EVERY = 0.5


class Keeping(LookKeys):
    """Steps are on the disk before they are shown; what is asked for and marked, twice a second."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._file: SessionFile | None = None
        self._kept: tuple[object, ...] = ()
        self._accepted: SessionView | None = None
        self._restoring = False
        self._in_turn = asyncio.Lock()
        self._writing: Latest[None] = Latest(lambda _: self._write(), self._tell_unkept)
        self._told = False

    def on_mount(self) -> None:
        """Look regularly whether there is something new to keep."""
        self.set_interval(EVERY, self.keep_session)

    @on(events.Unmount)
    def release_session(self) -> None:
        """Another window may go on with it."""
        if self._file is not None:
            self._file.close()

    def keep_session(self) -> None:
        """Write the session where it differs from what was kept last."""
        board = self.board
        if board is None:
            return
        state = self._state(board)
        if state != self._kept:
            self._kept = state
            self._writing.submit(None)

    async def keep_accepted(self, session: SessionView) -> None:
        """Have the steps on the disk before the screen says that they were made."""
        if self.board is not None:
            self._accepted = session
            await self._write()

    def leave_session(self) -> None:
        """The user quits: keep the session as one that was left on purpose."""
        board = self.board
        if board is not None:
            try:
                file = self._session_file(board)
                file.keep(self._snapshot(board, file).model_copy(update={"left": True}))
                file.close()
            except Exception:
                self._told = True  # there is no screen to say it on any more

    @on(Opened)
    def bring_back(self, event: Opened) -> None:
        """After the first opening: go on with the session that was asked for, or offer the one that a dropped line left."""
        if not event.replayed:
            self.call_later(self._bring_back, event)

    def _bring_back(self, event: Opened) -> None:
        if self.opening.saved is not None:
            self._resume(self.opening.saved)
        elif self.opening.plan is None:
            self._offer(event.result.model.path, event.result.model.sha256)

    @on(SessionChanged)
    def keep_steps(self, event: SessionChanged) -> None:
        """Steps are kept by now; after an earlier session's have come back, bring back the rest of it."""
        if self._accepted is event.session:
            self._accepted = None
        if event.did == "resumed" and self.opening.saved is not None:
            self.call_later(self._restore, self.opening.saved)
        self.call_later(self.keep_session)

    def _offer(self, path: str, sha256: str) -> None:
        from tui_pruner.sessions import dropped_session

        saved = dropped_session(path)
        if saved is None or saved.plan["sha256"] != sha256:
            return
        what = f"{plural(len(saved.plan['steps']), 'step')}, {plural(len(saved.asked), 'ratio')} not applied"
        question = Question(
            "Go on with the last session?", f"It ended {ago(saved.saved_at)} without being left.\n{what}", [Answer("g", "go on", "go on")]
        )
        self.app.push_screen(question, lambda answer: self._resume(saved) if answer else None)

    def _resume(self, saved: SavedSession) -> None:
        if self.session is None:
            return
        self.opening = self.opening.resuming(saved)
        self.session.resume(saved.plan, saved.steps, lambda: self._take_over(saved))

    def _take_over(self, saved: SavedSession) -> None:
        """From now on the earlier session is written on; not before it was accepted, since a refused one stays as it is."""
        from tui_pruner.sessions import SessionFile

        if self._file is not None:
            self._file.close()
        self._file, self._restoring = SessionFile(saved.id), True

    def _restore(self, saved: SavedSession) -> None:
        """Bring back what the engine does not know."""
        board, self._restoring = self.board, False
        assert board is not None
        amounts = {layer: parse_amount(amount) for layer, amount in saved.asked.items() if layer in board.known}
        amounts[CLASSES] = classes_to_keep(saved.asked.get(CLASSES, ""))
        board.marks = set(saved.marks) & set(board.layers)
        self._restore_metrics(saved)
        self.model_tree.show(saved.cursor)
        self.ask(Asked({layer: amount for layer, amount in amounts.items() if amount}, saved.criterion, saved.round_to))
        self.draw_all()
        lost = f"; {plural(saved.damaged, 'line')} at the end of its journal could not be read" if saved.damaged else ""
        self.say(f"back in the session of {ago(saved.saved_at)}: {plural(saved.steps, 'step')}, {plural(len(saved.marks), 'mark')}{lost}")

    def _restore_metrics(self, saved: SavedSession) -> None:
        """Metrics belong to the data that they were measured on, which a session without data takes over."""
        if self.subject is not None and self.subject.data is None:
            self.subject.data = saved.data
        if self._data == saved.data:
            self.scores.name = saved.metric
            self.scores.by_plan = {**saved.metrics, **self.scores.by_plan}

    @property
    def _data(self) -> str | None:
        return self.subject.data if self.subject else self.opening.data

    def _state(self, board: Board) -> tuple[object, ...]:
        """What a session is made of, quick to compare."""
        row = self.model_tree.row
        return (
            board.session,
            board.session.unsaved,
            board.asked,
            frozenset(board.marks),
            row.key if row else "",
            tuple(self.scores.by_plan.items()),
            self._data,
        )

    def _session_file(self, board: Board) -> SessionFile:
        from tui_pruner.sessions import SessionFile, new_id

        self._file = self._file or SessionFile(new_id(board.opened.model.path))
        return self._file

    def _snapshot(self, board: Board, file: SessionFile) -> SavedSession:
        from tui_pruner.sessions import SavedSession

        row, session, opening = self.model_tree.row, self._accepted or board.session, self.opening
        return SavedSession(
            id=file.id,
            model=board.opened.model.path,
            imgsz=opening.imgsz,
            classes=opening.classes,
            data=self._data,
            images=opening.images,
            device=opening.device,
            plan={**session.plan, "steps": [*session.plan["steps"], *session.later]},
            steps=len(session.steps),
            unsaved=session.unsaved,
            asked={layer: amount.request for layer, amount in board.asked.amounts.items()},
            criterion=board.asked.criterion,
            round_to=board.asked.round_to,
            marks=sorted(board.marks),
            cursor=row.key if row else "",
            metric=self.scores.name,
            metrics=self.scores.by_plan,
        )

    async def _write(self) -> None:
        async with self._in_turn:
            if self.board is not None and not self._restoring:  # until then the file has more than the screen
                await self._write_now(self.board)

    async def _write_now(self, board: Board) -> None:
        try:
            file = self._session_file(board)
            await asyncio.to_thread(file.keep, self._snapshot(board, file))
        except Exception as error:  # whatever it is, the step that was made must be shown
            self._tell_unkept(error)
        else:
            self._told = False

    def _tell_unkept(self, error: Exception) -> None:
        from tui_pruner import places

        self._kept = ()  # try again
        if not self._told:
            if not isinstance(error, OSError):
                keep_traceback(error)
            reason = error if isinstance(error, (OSError, PrunerError)) else named(error)
            where = f"the session cannot be kept in {places.sessions_folder()} ({reason})"
            self.say(f"{where}: save the plan elsewhere with {key_of('save-plan')} in the steps pane", "error")
        self._told = True
