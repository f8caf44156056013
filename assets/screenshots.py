"""Take the README's pictures of the real app on the demo checkpoint: `make pictures`, which runs this file in the project's folder.

workbench.svg: two steps applied, proved and validated, and a pending ratio, with what it affects. map.svg: the network with an explained
path. lineage.svg, front.svg: the stages as a tree and as dots. detections.svg: the same image at two stages. steps.svg: two steps side by
side while a validation runs. target.svg: what a scan and a timing found, and cuts that reach a target.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from tui_pruner.storage import paths
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening

SIZE = (132, 40)
PATIENCE = 120.0
LOOK = 0.1
ASSETS = Path(__file__).parent
NAMES = {".": "full_stop", " ": "space"}


def main() -> None:
    """Take all pictures, with nothing of this user's own settings, sessions and cached results on them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            os.environ[name] = str(Path(folder, name.lower()))
        os.environ.pop("NO_COLOR", None)
        os.environ["TUI_PRUNER_THEME"] = "dark"
        asyncio.run(take())


async def take() -> None:
    """Walk through the demo and save what stands on the screen."""
    folder = paths.demo_folder()
    app = PrunerApp(Opening(str(folder / "digits.pt"), data=str(folder / "digits.yaml"), images=64))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, "the checkpoint's metric", lambda screen: "Backbone" in screen and "checkpoint mAP" in screen)
        await apply(pilot, "8.cv2", "30")
        await until(pilot, "the first step", lambda screen: "step 1 mAP" in screen and "proved" in screen)
        await apply(pilot, "12.cv2", "20")
        await pilot.press("s")
        await until(pilot, "a running validation", lambda screen: "/64" in screen and screen.count("proved") >= 2 and "Compare" in screen)
        save(app, "steps")
        await pilot.press("escape")
        await until(pilot, "the second step", lambda screen: "step 2 mAP" in screen)
        await pilot.press("H")
        await until(pilot, "the lineage", lambda screen: "95 % interval" in screen)
        save(app, "lineage")
        await pilot.press("tab")
        await until(pilot, "the front", lambda screen: "95 % interval" not in screen)
        save(app, "front")
        await pilot.press("escape")
        await pilot.press("I")
        await until(pilot, "the detections", lambda screen: "1/24" in screen and "▀" in screen)
        save(app, "detections")
        await pilot.press("escape")
        await ask(pilot, "6.m.0.cv2", "30")
        await until(pilot, "the dry run", lambda screen: "the shapes fit" in screen)
        save(app, "workbench")
        await go_to(pilot, "12.cv1")
        await pilot.press("e")
        await until(pilot, "the explanation", lambda screen: "Explain" in screen and "touches" in screen)
        await pilot.press("m")
        await until(pilot, "the map", lambda screen: "Map" in screen and "SPPF" in screen)
        save(app, "map")
        await pilot.press("m", "escape", "c", "S", "L")
        await until(pilot, "the scan and the latency", lambda screen: "Drop@" in screen and " ms " in screen)
        await pilot.press("t")
        await until(pilot, "the range", lambda screen: "Reachable" in screen)
        await pilot.press("enter")
        await until(pilot, "the cuts", lambda screen: " layers −" in screen and "applies it" in screen)
        await go_to(pilot, "15.cv1")
        await until(pilot, "the dry run", lambda screen: "the shapes fit" in screen)
        await pilot.pause(LOOK)
        save(app, "target")


async def apply(pilot: Pilot[int], words: str, percent: str) -> None:
    """Make a step of one layer."""
    await ask(pilot, words, percent)
    await until(pilot, "the preview", lambda screen: "a applies it" in screen)
    await pilot.press("a")


async def ask(pilot: Pilot[int], words: str, percent: str) -> None:
    """Ask for a share of one layer."""
    await go_to(pilot, words)
    await pilot.press(*percent, "enter")


async def go_to(pilot: Pilot[int], words: str) -> None:
    """Find a layer with the filter and stay on it without the filter."""
    await pilot.press("slash", *(NAMES.get(letter, letter) for letter in words), "enter")
    await until(pilot, "the filter", lambda screen: f"/ {words}" in screen or words in screen)
    await pilot.press("escape")
    await pilot.pause(LOOK)


async def until(pilot: Pilot[int], what: str, condition: Callable[[str], bool]) -> None:
    """Wait for something to stand on the screen."""
    for _ in range(int(PATIENCE / LOOK)):
        await pilot.pause(LOOK)
        if condition(pilot.app.export_screenshot(simplify=True).replace("&#160;", " ")):
            return
    raise SystemExit(f"{what} never came on the screen")


def save(app: PrunerApp, name: str) -> None:
    """Keep the screen as a picture."""
    (ASSETS / f"{name}.svg").write_text(app.export_screenshot(title="tui-pruner"), encoding="utf-8")
    print(ASSETS / f"{name}.svg")


if __name__ == "__main__":
    main()
