"""Jobs that run one after another, each in a process of its own; finished ones stay listed with their outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from textual.message_pump import MessagePump

from tui_pruner.domain.errors import Cancelled, DataError, JobError, PrunerError, RequestError
from tui_pruner.domain.formatting import plural
from tui_pruner.storage.error_log import keep_traceback, one_line
from tui_pruner.storage.trust import inherit
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.job_specs.job import CANCELLED, DONE, FAILED, RUNNING, WAITING, JobSpec, QueuedJob
from tui_pruner.tui.messages import JobsChanged

if TYPE_CHECKING:
    from tui_pruner.engine.client import Job, Start

MOST_WAITING = 20
MOST_KEPT = 50


class JobQueue:
    """The jobs in the order in which they were queued; posts JobsChanged to its target and to all observers."""

    def __init__(self, target: MessagePump, start: Start | None = None) -> None:
        self._target = target
        self._watchers: list[MessagePump] = []
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self._job: Job | None = None
        self._number = 0
        self.jobs: list[QueuedJob] = []

    @property
    def running(self) -> QueuedJob | None:
        """The running job."""
        return next((job for job in self.jobs if job.state == RUNNING), None)

    @property
    def waiting(self) -> list[QueuedJob]:
        """The waiting jobs, the next one first."""
        return [job for job in self.jobs if job.state == WAITING]

    @property
    def busy(self) -> bool:
        """Whether any job runs or waits."""
        return not all(job.over for job in self.jobs)

    def add(self, wanted: JobSpec) -> bool:
        """Queue a job; False when the same one runs or waits already.

        Raises:
            RequestError: too many wait.
        """
        if any(job.spec.identity == wanted.identity for job in self.jobs if not job.over):
            return False
        if len(self.waiting) >= MOST_WAITING:
            ways_out = f"{key_of('all-jobs')} lists them and {key_of('cancel-chosen')} cancels one"
            raise RequestError(f"{wanted.name} is not queued: {plural(MOST_WAITING, 'job')} wait already, {ways_out}")
        self._number += 1
        self.jobs.append(QueuedJob(self._with_unique_title(wanted), self._number))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        self._tell()
        return True

    def _with_unique_title(self, wanted: JobSpec) -> JobSpec:
        """The job under a name that no other content has: all of one title say what they are about, numbered if that is not enough."""
        others = [job for job in self.jobs if job.spec.key != wanted.key and job.spec.kind == wanted.kind]
        alike = [job for job in others if job.spec.title == wanted.title or job.spec.title.startswith(f"{wanted.title}: ")]
        if not wanted.about or not alike:
            return wanted
        for job in alike:
            if job.spec.title == wanted.title and job.spec.about:
                job.spec = replace(job.spec, title=f"{wanted.title}: {job.spec.about}")
        taken = {job.spec.title for job in alike}
        titles = (f"{wanted.title}: {wanted.about}{f' ({number})' if number > 1 else ''}" for number in count(1))
        return replace(wanted, title=next(title for title in titles if title not in taken))

    def cancel(self, job: QueuedJob | None = None) -> bool:
        """Stop a job, by default the running one, or remove a waiting one; False when it has ended, or nothing runs.

        A job that can end early with a partial result is asked to, and stopped when it is cancelled again.
        """
        job = job or self.running
        if job is None or job.over:
            return False
        if job.state == RUNNING and self._job is not None and job.spec.stops_early and not job.stopping:
            job.stopping = True
            self._job.stop()
            self._tell()
        elif job.state == RUNNING and self._job is not None:
            self._job.cancel()
        elif job.state == WAITING:
            job.end(CANCELLED, time.monotonic())
            self._tell(job)
        return True

    def again(self, job: QueuedJob) -> bool:
        """Queue a finished job again; False when it has not finished, or the same one runs or waits.

        Raises:
            RequestError: too many wait.
        """
        return job.over and self.add(job.spec)

    def before(self, job: QueuedJob) -> int:
        """The number of jobs before a waiting one."""
        return sum(not other.over for other in self.jobs[: self.jobs.index(job)])

    def close(self) -> None:
        """Stop the running job and drop the others."""
        for job in [*self.waiting, *filter(None, [self.running])]:
            job.stopping = True  # no caller waits for what it has
            self.cancel(job)

    def watch(self, watcher: MessagePump) -> Callable[[], None]:
        """Post JobsChanged to this observer too; return the function that ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    async def _work(self) -> None:
        while waiting := self.waiting:
            job = waiting[0]
            await self._do(job)
            self._forget_old()
            self._tell(job)

    async def _do(self, job: QueuedJob) -> None:
        from tui_pruner.engine.processes import new_log

        try:
            job.start(time.monotonic(), new_log(job.spec.kind))
            self._tell()
            await self._run(job)
        except Cancelled:
            job.end(CANCELLED, time.monotonic())
        except PrunerError as error:
            job.end(FAILED, time.monotonic(), error)
            if isinstance(error, DataError):
                self._drop_readers(job.spec.data, error)
        except Exception as error:  # a job that is never over would hold up all that wait
            keep_traceback(error)
            job.end(FAILED, time.monotonic(), JobError(one_line(job.spec.name, error)))
        finally:
            self._job = None

    async def _run(self, job: QueuedJob) -> None:
        assert job.log is not None
        job.parameters = job.spec.parameters()
        result = await self._result_within_memory(job)
        inherit(str(result.get("sha256", "")), result.get("own_names", ()))
        try:
            outcome = await job.spec.take(result)
        except PrunerError:
            raise
        except Exception as error:
            keep_traceback(error)
            raise JobError(one_line(f"using the result of {job.spec.name}", error)) from error
        job.outcome = replace(outcome, notes=[*outcome.notes, *job.remarks])
        job.end(DONE, time.monotonic())

    async def _result_within_memory(self, job: QueuedJob) -> dict[str, Any]:
        """Run a job, with ever smaller batches while memory does not suffice."""
        from tui_pruner.engine.client import Job, smaller_batch, start_job, with_half_the_batch

        assert job.parameters is not None
        on_progress: Callable[..., None] = lambda progress: job.follow(progress, time.monotonic())  # noqa: E731
        while True:
            self._job = Job(job.spec.kind, job.parameters, on_progress, self._start or start_job, job.log)
            try:
                return await self._job.run()
            except JobError as error:
                smaller = with_half_the_batch(job.parameters, error)
                if smaller is None or job.stopping:
                    raise
                job.remarks.append(smaller_batch(job.parameters, smaller))
                job.parameters = smaller
                self._tell()

    def _drop_readers(self, data: str, error: PrunerError) -> None:
        for job in self.waiting:
            if job.spec.data == data:
                job.end(CANCELLED, time.monotonic(), error)

    def _forget_old(self) -> None:
        over = [job for job in self.jobs if job.over]
        for job in over[: max(len(over) - MOST_KEPT, 0)]:
            self.jobs.remove(job)

    def _tell(self, ended: QueuedJob | None = None) -> None:
        for pump in (self._target, *self._watchers):
            pump.post_message(JobsChanged(ended))
