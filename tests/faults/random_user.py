"""`python -m tests.faults.random_user CHECKPOINT DATA OUTPUT SEED`: the real app without a terminal, used at random.

Says on stdout, one JSON object a line, what stands on its screen: the steps that count whenever they change, and what it is about to do.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from tests.tui.helpers import Desk
from tui_pruner.domain.cuts import Amount, Asked
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.prompts import Question

LAYERS = ("model.1", "model.3", "model.5", "model.7", "model.16", "model.19")
ACTIONS = ("cut", "cut", "cut", "undo", "redo", "write", "validate")
LOOK_EVERY = 0.01


def say(**what: Any) -> None:
    """A line at once."""
    print(json.dumps(what), flush=True)


async def work(desk: Desk, output: str, chance: random.Random) -> None:
    """Do something again and again, no matter what became of what was done before."""
    while True:
        action = chance.choice(ACTIONS)
        say(does=action)
        await ACTS[action](desk, output, chance)
        await desk.pilot.pause(chance.uniform(0.05, 0.6))


async def do_cut(desk: Desk, output: str, chance: random.Random) -> None:
    """Ask for a layer's ratio and apply it."""
    desk.request(Asked({chance.choice(LAYERS): Amount(percent=chance.randint(5, 30))}))
    await desk.pilot.pause(0.1)
    desk.run("apply")


async def do_undo(desk: Desk, output: str, chance: random.Random) -> None:
    """The key."""
    await desk.press("u")


async def do_redo(desk: Desk, output: str, chance: random.Random) -> None:
    """The key."""
    await desk.press("ctrl+r")


async def do_write(desk: Desk, output: str, chance: random.Random) -> None:
    """Over the file that is there; begun, not waited for."""
    if desk.state.session.steps and desk.open:
        desk.engine.write(output, True)


async def do_validate(desk: Desk, output: str, chance: random.Random) -> None:
    """The key: a job of its own."""
    await desk.press("v")


ACTS = {"cut": do_cut, "undo": do_undo, "redo": do_redo, "write": do_write, "validate": do_validate}


async def watch(desk: Desk) -> None:
    """Say which steps count and which are undone, whenever the screen has others."""
    seen: object = None
    while True:
        if desk.open and desk.state.session is not seen:
            seen = desk.state.session
            say(shows=[step.title for step in desk.state.session.steps], ahead=[step.title for step in desk.state.session.ahead])
        await asyncio.sleep(LOOK_EVERY)


async def main(checkpoint: str, data: str, output: str, seed: str) -> None:
    """Resume the session that is offered, then work until someone kills this process."""
    app = PrunerApp(Opening(checkpoint, imgsz=64, data=data, images=4, device="cpu"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await desk.until(lambda: desk.ready, "the model")
        desk.state.automatic = False
        await desk.pilot.pause(0.3)
        if isinstance(app.screen, Question):
            await desk.press("g")
            await desk.until(lambda: any("back in the session" in said for said in desk.said), "the session")
            say(resumed=True)
        watching = asyncio.create_task(watch(desk))
        await desk.pilot.pause(0.1)
        say(ready=True)
        await work(desk, output, random.Random(int(seed)))
        watching.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
