"""One key press asks the engine once for figures and detail and once for the dry run; see also tests/engine/test_one_resolve.py."""

from __future__ import annotations

import pytest

from tests.tui.helpers import Desk

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
