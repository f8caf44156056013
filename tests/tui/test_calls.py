"""One key press asks the engine once for figures and detail and once for the dry run, and the engine resolves the cuts once for all."""

from __future__ import annotations

import pytest

from tests.tui.helpers import Desk
from tui_pruner.core import session as sessions
from tui_pruner.core.analysis import analyse
from tui_pruner.core.checkpoint import open_model
from tui_pruner.core.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")
LAYER = "model.6.m.0.cv1"


async def test_a_key_asks_the_engine_at_most_twice_with_the_dry_run(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go(LAYER)
    asked: list[str] = []
    ask = desk.engine._client.ask

    async def counting(answer, method, **params):
        asked.append(method)
        return await ask(answer, method, **params)

    monkeypatch.setattr(desk.engine._client, "ask", counting)
    await desk.press("right")
    await desk.previewed()
    await desk.until(lambda: desk.state.detail is not None and desk.state.detail.after < desk.state.detail.current, "the detail")
    assert asked == ["preview", "dry_run"]


async def test_the_engine_resolves_once_for_figures_detail_dry_run_and_step(tiny_checkpoint, monkeypatch: pytest.MonkeyPatch):
    resolved: list[int] = []
    resolve = sessions.resolve

    def counting(analysis, requests, gone):
        resolved.append(len(requests))
        return resolve(analysis, requests, gone)

    monkeypatch.setattr(sessions, "resolve", counting)
    service = Service(lambda event, message: None)
    service._session = sessions.Session(analyse(open_model(str(tiny_checkpoint)), 64))
    cut = [{"layer": LAYER, "amount": "30%"}]
    found = service.preview(cut, detail_of=LAYER)
    assert found.detail is not None and found.detail.after < found.detail.current
    assert service.dry_run(cut).result().ok
    service.apply(cut)
    assert resolved == [1]
    service.preview(cut)
    assert len(resolved) == 2, "after a step it is another question"
    service.slow.shutdown(wait=True)
