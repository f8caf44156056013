"""Job processes that follow a script, so that a test can stop a job at any moment."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path
from typing import Any

from tui_pruner.engine.messages import Message
from tui_pruner.engine.processes import start_python
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec

PRELUDE = """
import fcntl, json, os, signal, sys
def say(**message): print(json.dumps(message), flush=True)
def log(text): print(text, file=sys.stderr, flush=True)
parameters = json.loads(sys.stdin.readline())
"""
REPORT = 'say(progress={"done": done, "total": 8, "doing": "validating", "metrics": {"metrics/mAP50-95(B)": 0.75, "fitness": 0.75}})\n'
SCRIPTS = {
    "quick": 'say(result={"answer": 42})',
    "hang": f"log('it hangs')\nfor done in (1, 3): {REPORT}signal.pause()",
    "validate": f"log('it begins')\nfor done in (1, 3): {REPORT}signal.pause()",
    "hold": 'stream = open(parameters["lock"], "w"); fcntl.flock(stream, fcntl.LOCK_EX); '
    'say(progress={"done": 1, "total": 2}); signal.pause()',
    "bad data": 'say(error={"kind": "DataError", "message": "data.yaml names no images"}); sys.exit(3)',
    "hungry": "if parameters['batch'] > 4: say(error={'kind': 'JobError', 'message': 'not enough memory for this job'}); sys.exit(3)\n"
    "say(result={'answer': parameters['batch']})",
    "fail": "log('Traceback: the reason'); sys.exit(7)",
    "train": "signal.signal(signal.SIGTERM, lambda *_: (say(result={'answer': 7}), sys.exit(0))); "
    "say(progress={'done': 1, 'total': 2})\nwhile True: signal.pause()",
    "grow": "log('first line'); say(progress={'done': 0, 'total': 2}); os.read(os.open(parameters['lock'], os.O_RDONLY), 1); "
    "log('filler\\n' * 60 + 'second line'); say(progress={'done': 1, 'total': 2}); signal.pause()",
}


class Nothing(Message):
    """Parameters with a lock file at most."""

    lock: str = ""


class Batches(Nothing):
    """Parameters of a job that takes this many images at once."""

    batch: int


async def start_script(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
    """Start the script of this name in a job's place."""
    return await start_python("-c", PRELUDE + SCRIPTS[kind], log=log)


def wanted(
    kind: str, title: str = "", data: str = "", lock: str = "", taken: list[Any] | None = None, early: bool = False, batch: int = 1
) -> JobSpec:
    """A job that does this script; what comes out is added to `taken`."""

    async def take(result: dict[str, Any]) -> JobOutcome:
        if taken is not None:
            taken.append((title, result["answer"]))
        return JobOutcome(f"the answer is {result['answer']}")

    return JobSpec(kind, title, title, lambda: Batches(lock=lock, batch=batch) if batch > 1 else Nothing(lock=lock), take, data, early)


def held(lock: Path) -> bool:
    """Whether a living process holds a lock file."""
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until_free(lock: Path) -> None:
    """Returns when no one holds the lock; an orphan makes the test run into its time limit."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
