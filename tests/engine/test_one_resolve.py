"""One key press: one answer for totals, conflicts and a layer's detail, and the cuts are resolved once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_pruner.core.pruning import session as session_module
from tui_pruner.engine.messages import CutRequest
from tui_pruner.engine.requests import Apply, CheckShapes, Open, PreviewRequest, Undo
from tui_pruner.engine.service import Service

CUT = [CutRequest(layer="model.6.m.0.cv1", amount="30%")]


@pytest.fixture(scope="module")
def service(demo_checkpoint: Path) -> Service:
    service = Service(lambda event, data: None)
    service.call(Open(path=str(demo_checkpoint), imgsz=64))
    service.slow.submit(int).result()
    return service


def test_key_press_and_its_dry_run_resolve_the_cuts_once(service: Service, monkeypatch: pytest.MonkeyPatch):
    resolved, resolve = [], session_module.resolve
    monkeypatch.setattr(session_module, "resolve", lambda *given: resolved.append(given) or resolve(*given))
    figures = service.call(PreviewRequest(requests=CUT, layer="model.6.m.0.cv1"))
    assert figures.preview.layers["model.6.m.0.cv1"].out_after == figures.detail.after == 45
    assert service.call(CheckShapes(requests=CUT)).result().ok
    assert len(resolved) == 1
    service.call(Apply(requests=CUT))
    assert len(resolved) == 1, "what was previewed is what is applied"
    assert service.call(PreviewRequest(requests=CUT, layer="model.6.m.0.cv1")).detail.current == 45
    assert len(resolved) == 2, "the same cuts after a step are others"
    service.call(Undo())
    service.call(PreviewRequest(requests=CUT))
    assert len(resolved) == 3


def test_unknown_layer_leaves_out_only_the_detail(service: Service):
    figures = service.call(PreviewRequest(requests=CUT, layer="model.99"))
    assert figures.preview is not None and figures.detail is None and "model.99" in figures.no_detail
