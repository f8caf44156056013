"""What the keys need that make a file of the session as it stands: the pruned model, written where a job finds it."""

from __future__ import annotations

from collections.abc import Callable

from tui_pruner import places
from tui_pruner.errors import ProofError, PrunerError, RequestError
from tui_pruner.tui.figures import plural
from tui_pruner.tui.queued_job import Wanted
from tui_pruner.tui.scores import plan_key
from tui_pruner.tui.screens.plan_keys import PlanKeys
from tui_pruner.tui.subject import Source, Subject


class FileKeys(PlanKeys):
    """The session stays as it is, and as unsaved as it was."""

    @property
    def as_it_stands(self) -> str:
        """What a job would start from, at the beginning of a sentence."""
        steps = len(self.board.session.steps) if self.board is not None else 0
        return f"The model with {plural(steps, 'step')}" if steps else f"{self.opening.name} as it was opened"

    def queue_on_source(self, job: Callable[[Subject, Source], Wanted], then: Callable[[], None] = lambda: None) -> None:
        """Write the model as it stands, then queue a job on that file, without steps on the checkpoint itself; `then` always follows."""
        self.run_worker(self._queue_on_source(job, then), name="writing the model for a job", exit_on_error=False)

    async def _queue_on_source(self, job: Callable[[Subject, Source], Wanted], then: Callable[[], None]) -> None:
        try:
            source = await self._source()
        except ProofError as error:
            if not self.refuses_unproved():
                self.say(str(error), "error")
        except (PrunerError, OSError) as error:
            self.say(str(error), "error")
        else:
            if self.subject is not None and source is not None:
                self.queue(job(self.subject, source))
        then()

    async def _source(self) -> Source | None:
        board, subject, session = self.board, self.subject, self.session
        if board is None or subject is None or session is None:
            return None
        if not board.session.steps:
            return Source(subject.model.path, subject.model.sha256)
        key = plan_key(board.session.plan)
        place = places.cache_folder() / "stages" / f"{key[:16]}.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        written = await session.written(str(place))
        if plan_key(board.session.plan) != key:
            raise RequestError("the steps changed while the model was written for the job: ask for it again")
        return Source(written.output, written.sha256)
