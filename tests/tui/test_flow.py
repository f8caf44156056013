"""`E` shows where the channels of every block come from, and follows the cursor, the steps and the size of the window."""

from __future__ import annotations

import pytest

from tests.tui.helpers import Desk
from tui_pruner.domain.cuts import Amount, Asked
from tui_pruner.engine import requests
from tui_pruner.engine.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")


def answer_of(service: Service, request):
    found = service.call(request)
    return found.result() if hasattr(found, "result") else found


async def test_flow_request_uses_the_model_after_the_steps(demo_checkpoint):
    service = Service(lambda name, message: None)
    answer_of(service, requests.Open(path=str(demo_checkpoint)))
    whole = answer_of(service, requests.FlowRequest())
    answer_of(service, requests.Apply(requests=[{"layer": "model.6.cv2", "amount": "keep:100"}]))
    cut = answer_of(service, requests.FlowRequest())
    service.slow.shutdown()
    assert (whole.steps, cut.steps) == (0, 1)
    concat = whole.blocks[11]
    assert [(part.index, part.channels, part.offset) for part in concat.sources] == [(10, 256, 0), (6, 128, 256)]
    assert (concat.reads, concat.previous, concat.writes) == (384, 256, 384)
    assert [(part.index, part.layers) for part in concat.origins] == [(9, ["model.9.cv2"]), (6, ["model.6.cv2"])]
    assert "a Concat of block 10 at offset 0 (256) and block 6 at offset 256 (128)" in concat.mismatch
    assert [(part.channels, part.offset) for part in cut.blocks[11].sources] == [(256, 0), (100, 256)]
    assert cut.blocks[12].reads == 356 and "block 6 at offset 256 (100)" in cut.blocks[12].mismatch


async def wait_for_flow(desk: Desk, steps: int = 0) -> None:
    await desk.until(
        lambda: desk.view.flow and desk.view.flow.found and desk.view.flow.found.steps == steps, f"the flow after {steps} steps"
    )


async def test_flow_pane_fits_every_size_and_follows_the_cursor(desk):
    await desk.go("model.12.cv1")
    await desk.press("E")
    await wait_for_flow(desk)
    await desk.until(lambda: "256..383   block 6: 6.cv2" in desk.text, "the sources of block 12")
    await desk.shows("flow-120x40")
    desk.tree.go_to("model.0")
    await desk.until(lambda: "the image, 3 channels" in desk.text, "the sources of the first block")
    walked = []
    for _ in range(3):
        await desk.press("l")
        walked.append(desk.tree.row.key)
    assert walked == ["model.3", "model.5", "model.7"]
    await desk.press("h")
    assert desk.tree.row.key == "model.5"
    await desk.press("tab", "down")
    assert desk.tree.row.key == "model.6" and desk.view.flow is not None
    desk.tree.go_to("model.14")
    await desk.pilot.resize_terminal(80, 24)
    await desk.until(lambda: "no mismatch: block 14 reads 192 channels" in desk.text and "Backbone" not in desk.text, "the flow alone")
    await desk.shows("flow-80x24")
    await desk.press("escape")
    assert desk.view.flow is None
    await desk.until(lambda: "─ Model ─" in desk.text, "the tree")


async def test_flow_pane_follows_the_steps_and_yields_to_an_explanation(desk):
    await desk.go("model.6.cv2")
    await desk.press("E")
    await wait_for_flow(desk)
    desk.request(Asked({"model.6.cv2": Amount.share(25)}))
    await desk.previewed()
    await desk.press("a")
    await wait_for_flow(desk, 1)
    desk.tree.go_to("model.11")
    await desk.until(lambda: "Channel flow after 1 step" in desk.text and "256..351" in desk.text, "the narrower Concat")
    await desk.press("e")
    await desk.until(lambda: desk.view.explanation is not None, "the explanation")
    assert desk.view.flow is None
    await desk.press("E")
    await wait_for_flow(desk, 1)
    assert desk.view.explanation is None
    await desk.press("E")
    assert desk.view.flow is None
