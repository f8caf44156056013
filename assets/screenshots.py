"""Take the README's pictures of the real app: the demo checkpoint opened, two steps applied, proved and validated, a third one asked for.

Run from the project's folder: ``python assets/screenshots.py``
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from tui_pruner import places
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening

SIZE = (132, 40)
PATIENCE = 120.0


async def until(pilot: Pilot[int], condition: Callable[[str], bool]) -> None:
    """Wait for something to stand on the screen."""
    for _ in range(int(PATIENCE / 0.1)):
        await pilot.pause(0.1)
        if condition(pilot.app.export_screenshot(simplify=True).replace("&#160;", " ")):
            return
    raise SystemExit("the screen never came to that state")


async def step(pilot: Pilot[int], words: str, *keys: str) -> None:
    """Filter for a layer, mark it, and press keys."""
    await type_filter(pilot, words)
    await pilot.press("space", "escape")
    await pilot.pause(0.3)
    await pilot.press(*keys)


async def type_filter(pilot: Pilot[int], words: str) -> None:
    """Open the filter and type."""
    names = {".": "full_stop", " ": "space"}
    await pilot.press("slash", *(names.get(letter, letter) for letter in words), "enter")
    await pilot.pause(0.4)


async def take(target: Path) -> None:
    """Walk through the demo and save what stands on the screen."""
    folder = places.demo_folder()
    app = PrunerApp(Opening(str(folder / "digits.pt"), data=str(folder / "digits.yaml"), images=64))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda screen: "Backbone" in screen and "mAP" in screen)
        await step(pilot, "8.cv2", "3", "0", "enter")
        await pilot.press("a")
        await until(pilot, lambda screen: "step 1 mAP" in screen and "proved" in screen)
        await step(pilot, "12.cv2", "2", "0", "enter")
        await pilot.press("a")
        await until(pilot, lambda screen: "step 2 mAP" in screen and screen.count("proved") >= 2)
        await step(pilot, "6.m.0.cv2", "3", "0", "enter")
        await until(pilot, lambda screen: "the shapes fit" in screen)
        target.write_text(app.export_screenshot(title="tui-pruner"), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(take(Path(__file__).parent / "workbench.svg"))
