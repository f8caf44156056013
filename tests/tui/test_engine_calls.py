"""One key press asks the engine once for figures and detail and once for the dry run; see also tests/engine/test_one_resolve.py."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.helpers import Desk
from tui_pruner.tui.controllers import preview

pytestmark = pytest.mark.asyncio(loop_scope="session")
LAYER = "model.6.m.0.cv1"


async def test_key_asks_the_engine_at_most_twice_including_the_dry_run(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go(LAYER)
    asked: list[str] = []
    call = desk.engine._client.call

    async def counting(request):
        asked.append(request.method)
        return await call(request)

    monkeypatch.setattr(desk.engine._client, "call", counting)
    await desk.press("right")
    await desk.previewed()
    await desk.until(lambda: desk.state.detail is not None and desk.state.detail.after < desk.state.detail.current, "the detail")
    assert asked == ["preview", "check_shapes"]


async def test_figures_of_earlier_cuts_go_while_the_engine_is_late(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go(LAYER)
    await desk.press("right")
    await desk.previewed()
    answers = asyncio.Event()
    call = desk.engine._client.call

    async def late(request):
        await answers.wait()
        return await call(request)

    monkeypatch.setattr(desk.engine._client, "call", late)
    monkeypatch.setattr(preview, "LATE", 0.0)
    await desk.press("right")
    await desk.until(lambda: desk.state.doing == preview.UPDATING, "the line on the wait")
    assert desk.state.preview is None and desk.state.after == desk.state.session.current
    answers.set()
    await desk.previewed()
    await desk.until(lambda: desk.state.doing == "", "the end of the wait")
