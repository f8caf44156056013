"""A disk that fails leaves the app usable: it is reported in one line, and the session is saved as soon as possible."""

from __future__ import annotations

import errno

from tests.faults.failing_disk import FailingDisk, Fault
from tui_pruner.storage import paths, sessions


async def test_session_continues_while_the_disk_fails_and_is_saved_afterwards(start):
    disk = FailingDisk(paths.state_folder(), Fault("write", 1, errno.ENOSPC, lasting=True))
    with disk.used():
        async with start() as desk:
            for number, layer in enumerate(("model.5", "model.7"), start=1):
                await desk.go(layer)
                await desk.press("2", "5", "enter", "a")
                await desk.until(lambda n=number: len(desk.state.session.steps) == n, "the step")
            await desk.press("u")
            await desk.until(lambda: len(desk.state.session.steps) == 1, "the undone step")
            (said,) = [said for said in desk.said if "the session cannot be kept" in said]
            assert disk.failed and "\n" not in said and "save the plan elsewhere" in said
            disk.fault = None
            await desk.until(lambda: [kept.steps for kept in sessions.sessions()] == [1], "the session")
    assert [len(kept.plan["steps"]) for kept in sessions.sessions()] == [2]
