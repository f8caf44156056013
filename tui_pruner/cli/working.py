"""Jobs in processes of their own, as commands run them: Ctrl-C asks for what there is, and a lack of memory for smaller batches."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

from tui_pruner.cli.output import say
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.memory import smaller_batch, with_half_the_batch
from tui_pruner.engine.protocol import Message
from tui_pruner.engine.runner import Job
from tui_pruner.errors import Cancelled, JobError


def run_job(kind: str, parameters: Message, on_progress: Callable[[JobProgress], None], ends_early: bool = True) -> dict[str, Any]:
    """A job's result; the first Ctrl-C has it end early, where the job can do that, the second at once.

    Where memory does not suffice for its batch, it is tried with half of it, and so on.

    Raises:
        KeyboardInterrupt: ended at once, or before there was anything to keep.
        PrunerError: the job's own explanation.
    """
    while True:
        job = Job(kind, parameters, on_progress)
        try:
            return asyncio.run(interruptible(job) if ends_early else job.run())
        except JobError as error:
            smaller = with_half_the_batch(parameters, error)
            if smaller is None:
                raise
            say(smaller_batch(parameters, smaller))
            parameters = smaller


async def interruptible(job: Job) -> dict[str, Any]:
    """Run a job and heed Ctrl-C."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        say("stopping: what there is so far is kept; once more to end at once")
        loop.add_signal_handler(signal.SIGINT, job.cancel)
        job.stop()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        return await job.run()
    except Cancelled:
        raise KeyboardInterrupt from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
