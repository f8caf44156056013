"""Work in forked children: each starts with everything in memory, and no matter what it breaks is gone with it."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNNING, ENDLESS, DEAD = "running", "never ends", "dies"


@dataclass(frozen=True)
class Child:
    """A running child, where its answer will be, and when it must be done."""

    process: int
    answer: Path
    ends: float


def start(work: Callable[[], Any], folder: Path, seconds: float) -> Child:
    """Run a function in a child that writes its result as JSON; what it prints goes to a file beside."""
    handle, name = tempfile.mkstemp(suffix=".json", dir=folder)
    os.close(handle)
    answer = Path(name)
    process = os.fork()
    if process:
        return Child(process, answer, time.monotonic() + seconds)
    try:
        log = os.open(answer.with_suffix(".log"), os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["XDG_CACHE_HOME"] = str(answer.with_suffix(""))  # a map that another child traced would hide what is broken
        answer.write_text(json.dumps(work()))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def result(child: Child) -> Any:
    """The child's answer, or that it is still running, never ends, or left none."""
    done, _ = os.waitpid(child.process, os.WNOHANG)
    if not done:
        if time.monotonic() < child.ends:
            return RUNNING
        os.kill(child.process, signal.SIGKILL)
        os.waitpid(child.process, 0)
        return ENDLESS
    text = child.answer.read_text()
    return json.loads(text) if text else DEAD


def wait(child: Child) -> Any:
    """The child's answer as soon as it is there."""
    while (answer := result(child)) == RUNNING:
        time.sleep(0.05)
    return answer
