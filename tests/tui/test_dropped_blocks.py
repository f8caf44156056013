"""Dropped blocks in the app: by a key or a typed `drop`, applied, shown as removed, and undone."""

import pytest

from tests.tui.helpers import Desk
from tui_pruner.domain.cuts import Amount, Asked, typed_amount

pytestmark = pytest.mark.asyncio(loop_scope="session")
LAYER, BLOCK = "model.6.m.1.cv2", "model.6.m.1"
DROP = Amount()


async def test_drop_is_an_amount_of_the_block_around_a_layer():
    assert typed_amount(" Drop ") == DROP and DROP.drops and (DROP.request, DROP.written(), DROP.percent_of(64)) == ("drop", "drop", 100)
    asked = Asked({BLOCK: DROP, "model.0": Amount.share(20)})
    assert asked.of(LAYER) == DROP and asked.of("model.0") == Amount.share(20)
    assert asked.of("model.6.m.10.cv1") is None and asked.of(BLOCK) == DROP


async def test_key_drops_the_block_and_the_same_key_keeps_it(desk: Desk):
    await desk.go(LAYER)
    await desk.press("2", "0", "enter", "D")
    assert dict(desk.state.pending.amounts) == {BLOCK: DROP}
    await desk.until(lambda: desk.state.preview and desk.state.preview.layers[LAYER].out_after == 0, "the preview")
    assert desk.state.preview.layers[LAYER].asked
    assert f"drops {BLOCK}" in desk.said and "drop" in desk.line(" m.1.cv2")
    await desk.press("D")
    assert not desk.state.pending and f"keeps {BLOCK}" in desk.said


async def test_drop_is_typed_in_the_prompt_for_shares_and_cleared_by_a_key(desk: Desk):
    await desk.go(LAYER)
    await desk.press("percent_sign", *"drop", "enter")
    assert dict(desk.state.pending.amounts) == {BLOCK: DROP}
    await desk.press("x")
    assert not desk.state.pending


async def test_impossible_drop_reports_which_blocks_can_be_dropped(desk: Desk):
    await desk.go("model.5")
    await desk.press("D")
    assert not desk.state.pending
    assert any(
        said.startswith("model.5 is in no inner block that can be dropped: this model can do without model.2.m.0") for said in desk.said
    )


async def test_applied_drop_is_shown_as_removed_and_is_undone(desk: Desk):
    await desk.go(LAYER)
    whole = desk.state.session.current.parameters
    await desk.press("D", "a")
    await desk.until(lambda: bool(desk.state.session.steps), "the step")
    assert desk.state.session.current.parameters < whole
    assert "dropped" in desk.line(" m.1.cv2")
    await desk.press("space")
    assert not desk.state.marks and any("went with a dropped block" in said for said in desk.said)
    await desk.press("u")
    await desk.until(lambda: not desk.state.session.steps, "the step undone")
    assert desk.state.session.current.parameters == whole
