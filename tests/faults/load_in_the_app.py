"""`python -m tests.faults.load_in_the_app CHECKPOINT TIMES`: cuts and undos in the real app, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.faults.resource_use import ResourceUse, compared
from tests.tui.helpers import Desk
from tui_pruner.domain.cuts import Amount, Asked
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening

POOL = min(32, (os.cpu_count() or 1) + 4)
"""As many threads asyncio keeps for what waits, and starts them one by one."""
LAYERS = ("model.1", "model.3", "model.5", "model.7", "model.16", "model.19")


async def work(checkpoint: str, times: int) -> list[str]:
    """This many, a fifth of them to warm up; gives what grew."""
    seconds: list[float] = []
    app = PrunerApp(Opening(checkpoint, imgsz=64))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await desk.until(lambda: desk.ready, "the model")
        before = ResourceUse.now()
        for number in range(times):
            if number == times // 5:
                before = ResourceUse.now()
            started = time.perf_counter()
            desk.request(Asked({LAYERS[number % len(LAYERS)]: Amount.share(5 + number % 7 * 5)}))
            await desk.previewed()
            desk.run("apply")
            await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
            desk.run("undo")
            await desk.until(lambda: not desk.state.session.steps, "the step taken back")
            seconds.append(time.perf_counter() - started)
        after = ResourceUse.now()
    return compared("interface, a cut and an undo", before, after, seconds[times // 5 :], pool=POOL)


if __name__ == "__main__":
    found = asyncio.run(work(sys.argv[1], int(sys.argv[2])))
    print("\n".join(found), end="")
    sys.exit(1 if found else 0)
