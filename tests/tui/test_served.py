"""In a browser through `tui-pruner serve`: headless Chromium opens the demo, cuts a layer, and shows the proof.

The page draws on canvases, which hold no text. So its text is what the browser received over the page's own web socket, as a terminal
emulator shows it; and that the page painted it is seen on its screenshots, which must differ from state to state.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest

from tests.deadlines import HANGING, LOOK_EVERY, time_left

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
aiohttp = pytest.importorskip("aiohttp", reason="needs textual-serve")
pytest.importorskip("textual_serve", reason="needs textual-serve")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
KEYS = {"Enter": ("\r", 13), "Escape": ("\x1b", 27)}


def free_port() -> int:
    """A port that no one listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Page:
    """One page of the browser, driven over its debugging protocol."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._number = 0
        self._answers: dict[int, Any] = {}
        self.screen = pyte.Screen(400, 200)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        """What the browser was sent, as a terminal shows it."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    async def call(self, method: str, **parameters: Any) -> Any:
        """Ask the browser for something."""
        self._number += 1
        number = self._number
        await self._channel.send_json({"id": number, "method": method, "params": parameters})
        while number not in self._answers:
            await self._listen(HANGING)
        return self._answers.pop(number)

    async def press(self, *keys: str) -> None:
        """Press keys as a person does."""
        for key in keys:
            text, code = KEYS.get(key, (key, ord(key[0].upper())))
            await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def click(self, x: int, y: int) -> None:
        """Press and release the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def wait_for(self, pattern: str) -> str:
        """The text as soon as it matches."""
        started = time.monotonic()
        while re.search(pattern, self.text) is None:
            left = time_left(started)
            assert left > 0, f"never saw {pattern!r}; the page was sent:\n{self.text}"
            await self._listen(left)
        return self.text

    async def painted(self) -> bytes:
        """The page as a picture."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def _listen(self, seconds: float) -> None:
        try:
            message = await asyncio.wait_for(self._channel.receive_json(), seconds)
        except asyncio.TimeoutError:
            return
        if "id" in message:
            self._answers[message["id"]] = message.get("result", message)
        elif message["method"] == "Network.webSocketFrameReceived" and message["params"]["response"]["opcode"] == 2:
            self._stream.feed(base64.b64decode(message["params"]["response"]["payloadData"]))


async def first_answer(attempt: Callable[[], Any]) -> Any:
    """The first answer of something that is starting up."""
    started = time.monotonic()
    while True:
        try:
            if answer := await attempt():
                return answer
        except (aiohttp.ClientError, ConnectionError):
            assert time_left(started) > 0
        await asyncio.sleep(LOOK_EVERY)


@asynccontextmanager
async def served_page(folder: Path) -> AsyncIterator[Page]:
    """The served demo in a browser; at the end both are gone, and all that they started."""
    port, debugging = free_port(), free_port()
    serve = [sys.executable, "-m", "tui_pruner", "serve", "demo", "--port", str(port)]
    browser = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}",
        f"--remote-debugging-port={debugging}", "--window-size=1300,900", "about:blank",
    ]  # fmt: skip
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True, "env": environment}
    children = [subprocess.Popen(command, cwd=folder, **options) for command in (serve, browser)]
    try:
        async with aiohttp.ClientSession() as client:

            async def tabs() -> list[dict[str, Any]]:
                async with client.get(f"http://127.0.0.1:{debugging}/json") as answer:
                    return [tab for tab in await answer.json(content_type=None) if tab["type"] == "page"]

            async def served() -> bool:
                async with client.get(f"http://localhost:{port}/") as answer:
                    return answer.status == 200

            await first_answer(served)
            address = (await first_answer(tabs))[0]["webSocketDebuggerUrl"]
            async with client.ws_connect(address, max_msg_size=0) as channel:
                page = Page(channel)
                for domain in ("Page", "Network"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=f"http://localhost:{port}/")
                yield page
    finally:
        for child in children:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(HANGING)


async def test_browser_opens_the_demo_cuts_a_layer_and_shows_the_proof(tmp_path: Path):
    async with served_page(tmp_path) as page:
        await page.wait_for("7 Conv .* free")
        await page.click(400, 300)
        await page.wait_for("─ model[.][1-9]")
        await page.press(*"/7", "Enter")
        await page.wait_for("7  [0-9]+ of 64 layers")
        opened = await page.painted()
        await page.press("3", "0", "Enter")
        await page.wait_for("keeps 179 of 256")
        asked = await page.painted()
        await page.press("a")
        await page.wait_for("proved [0-9]")
        proved = await page.painted()
        if folder := os.environ.get("TUI_PRUNER_PICTURES"):
            (Path(folder) / "served.png").write_bytes(proved)
        assert len({opened, asked, proved}) == 3 and min(map(len, (opened, asked, proved))) > 20_000
