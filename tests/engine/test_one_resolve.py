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
    layer, resolved, resolve = CUT[0].layer, [], session_module.resolve
    service.call(PreviewRequest(requests=[], layer=layer))  # the cursor comes to the layer: its usual widths are previewed

    def recorded(analysis, requests, *more):
        resolved.append([request.amount for request in requests])
        return resolve(analysis, requests, *more)

    monkeypatch.setattr(session_module, "resolve", recorded)
    figures = service.call(PreviewRequest(requests=CUT, layer=layer))
    assert figures.preview.layers[layer].out_after == figures.detail.after == 45
    assert service.call(CheckShapes(requests=CUT)).result().ok
    assert resolved == [["30%"]]
    service.call(Apply(requests=CUT))
    assert resolved == [["30%"]], "what was previewed is what is applied"
    assert service.call(PreviewRequest(requests=CUT, layer=layer)).detail.current == 45
    assert resolved.count(["30%"]) == 2, "the same cuts after a step are others"
    service.call(Undo())
    service.call(PreviewRequest(requests=CUT))
    assert resolved.count(["30%"]) == 3


def test_unknown_layer_leaves_out_only_the_detail(service: Service):
    figures = service.call(PreviewRequest(requests=CUT, layer="model.99"))
    assert figures.preview is not None and figures.detail is None and "model.99" in figures.no_detail
