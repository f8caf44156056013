"""Validations one after another, each in a process of its own; the checkpoint's own metric always comes first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.message_pump import MessagePump

from tui_pruner.errors import Cancelled, DataError, PrunerError
from tui_pruner.tui.figures import duration, plural, score
from tui_pruner.tui.messages import JobsChanged
from tui_pruner.tui.metrics import BASELINE, Scores, plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import JobProgress, ValidationParameters
    from tui_pruner.engine.protocol import ModelInfo, SessionView
    from tui_pruner.engine.runner import Job
    from tui_pruner.tui.opening import Opening


@dataclass(frozen=True)
class Validation:
    """One validation that is wanted: of a plan, known by its key."""

    title: str
    key: str
    plan: dict[str, Any] | None


class Validations:
    """The queue, what runs now, and the scores that came out."""

    def __init__(self, target: MessagePump, opening: Opening, model: ModelInfo, scores: Scores) -> None:
        self._target = target
        self._opening = opening
        self._model = model
        self._scores = scores
        self._task: asyncio.Task[None] | None = None
        self._job: Job | None = None
        self.data = opening.data
        self.waiting: list[Validation] = []
        self.running: Validation | None = None
        self.progress: JobProgress | None = None
        self.started = 0.0

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self.running is not None or bool(self.waiting)

    def ask(self, session: SessionView) -> bool:
        """Queue the validation of the session as it stands, and of the checkpoint before it; False when both are known or queued."""
        steps = len(session.steps)
        wanted = [Validation("checkpoint", BASELINE, None)]
        if steps:
            wanted.append(Validation(f"step {steps}", plan_key(session.plan, steps), session.plan))
        queued = {entry.key for entry in self.waiting} | ({self.running.key} if self.running else set())
        fresh = [entry for entry in wanted if entry.key not in queued and entry.key not in self._scores.by_plan]
        self.waiting += fresh
        if fresh and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work())
        self._target.post_message(JobsChanged())
        return bool(fresh)

    def cancel(self) -> bool:
        """Stop what runs; the queue goes on. False when nothing runs."""
        if self._job is None:
            return False
        self._job.cancel()
        return True

    def close(self) -> None:
        """Stop what runs and forget the rest."""
        self.waiting.clear()
        self.cancel()

    async def _work(self) -> None:
        while self.waiting:
            self.running = self.waiting.pop(0)
            self.progress = None
            self.started = time.monotonic()
            self._target.post_message(JobsChanged())
            note, failed = await self._validate(self.running)
            self.running = self._job = None
            self._target.post_message(JobsChanged(note, failed))

    async def _validate(self, wanted: Validation) -> tuple[str, bool]:
        from tui_pruner.engine.job_messages import ValidationResult
        from tui_pruner.engine.runner import Job

        self._job = Job("validate", self._parameters(wanted), self._on_progress)
        try:
            result = ValidationResult.model_validate(await self._job.run())
        except Cancelled:
            return f"validation of {wanted.title} cancelled", False
        except PrunerError as error:
            if isinstance(error, DataError):
                self.data = None
                self.waiting.clear()
            return str(error), True
        value = self._scores.put(wanted.key, result.metrics)
        figure = "no metric" if value is None else f"{self._scores.name} {score(value)}"
        cached = "cached" if result.cached else duration(result.seconds)
        return f"{wanted.title} {figure}, {plural(result.images, 'image')}, {cached}", False

    def _parameters(self, wanted: Validation) -> ValidationParameters:
        from tui_pruner.engine.job_messages import ValidationParameters

        return ValidationParameters(
            checkpoint=self._model.path,
            sha256=self._model.sha256,
            plan=wanted.plan,
            data=self.data or "",
            images=self._opening.images,
            imgsz=self._model.imgsz,
            device=self._opening.device,
            classes=self._opening.classes,
        )

    def _on_progress(self, progress: JobProgress) -> None:
        self.progress = progress
