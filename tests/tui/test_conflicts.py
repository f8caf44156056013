"""Contradictory amounts: the ways out are listed beside the conflict, and one key settles it."""

import pytest

from tests.tui.test_many_layers import choose
from tui_pruner.domain.cuts import Amount, Asked
from tui_pruner.engine.messages import Conflict, PreviewResult, RefusedRequest, Totals
from tui_pruner.tui.conflicts import nearest_trouble, troubles

pytestmark = pytest.mark.asyncio(loop_scope="session")
FIRST, SECOND = "model.6.m.0.cv2", "model.6.m.1.cv2"
NOTHING = Totals(parameters=0, flops=0, bytes=0)


def preview(conflicts=(), refused=()):
    return PreviewResult(
        before=NOTHING, after=NOTHING, layers={}, blocks=[], groups=[], notes=[], seconds=0,
        conflicts=[Conflict(group=n, layers=layers, amounts=[], message="clash") for n, layers in enumerate(conflicts)],
        refused=[RefusedRequest(layer=layer, message=f"{layer} refused") for layer in refused],
    )  # fmt: skip


async def test_layers_with_equal_amounts_form_one_side_of_a_conflict():
    asked = Asked({"a": Amount.share(20), "b": Amount.share(40), "c": Amount.share(20)})
    (trouble,) = troubles(preview(conflicts=[["a", "b", "c"]]), asked)
    assert [(way.stays, way.dropped) for way in trouble.ways] == [(("a", "c"), ("b",)), (("b",), ("a", "c")), ((), ("a", "b", "c"))]


async def test_equal_amounts_for_different_widths_are_settled_layer_by_layer():
    asked = Asked({"a": Amount(keep=20), "b": Amount(keep=20)})
    (trouble,) = troubles(preview(conflicts=[["a", "b"]]), asked)
    assert [way.stays for way in trouble.ways] == [("a",), ("b",), ()]


async def test_impossible_cut_has_one_way_out_and_comes_last():
    asked = Asked(dict.fromkeys("abcd", Amount.share(1)))
    make_conflict, refused = troubles(preview(conflicts=[["a", "b"]], refused=["c", "d"]), asked)
    assert make_conflict.title == "conflict" and refused.title == "cannot be done"
    assert [way.dropped for way in refused.ways] == [("c", "d")] and "1 more like it" in refused.message
    assert nearest_trouble([make_conflict, refused], "d") is refused and nearest_trouble([make_conflict, refused], "z") is make_conflict
    assert troubles(preview(conflicts=[["a", "b"]]), Asked()) == []


async def make_conflict(desk):
    """Two coupled layers with different shares; the cursor stays on the second."""
    for layer, digit in ((FIRST, "2"), (SECOND, "4")):
        await desk.go(layer)
        await desk.press(digit, "0", "enter")
    await desk.until(lambda: bool(desk.state.clash), "the conflict")


async def test_detail_shows_both_layers_and_the_ways_out(desk):
    await make_conflict(desk)
    text = " ".join(line.split("││")[1].strip(" │") for line in desk.text.splitlines() if "││" in line)
    assert f"conflict: {FIRST} (20%) and {SECOND} (40%)" in text
    assert f"T 1 −20% of {FIRST}; {SECOND} is also affected" in " ".join(text.split())
    assert "keeps ? of 64" in text and "Saves" not in text and "Dry run" not in text, "no figures of cuts that are not made"
    assert f"T 2 −40% of {SECOND}; {FIRST} is also affected" in " ".join(text.split())


@pytest.mark.parametrize(("number", "stays", "width"), [(1, FIRST, 51), (2, SECOND, 38)])
async def test_one_side_of_a_conflict_is_kept_and_the_other_follows(desk, number, stays, width):
    await make_conflict(desk)
    await choose(desk, "T", number)
    assert set(desk.state.pending.amounts) == {stays}
    await desk.until(lambda: desk.state.preview and SECOND in desk.state.preview.layers, "the settled figures")
    assert not desk.state.clash
    assert {desk.state.preview.layers[layer].out_after for layer in (FIRST, SECOND)} == {width}


async def test_layer_under_the_cursor_is_proposed_first_and_escape_changes_nothing(desk):
    await make_conflict(desk)
    before = desk.state.pending
    await desk.press("T", "escape")
    assert desk.state.pending == before
    await desk.press("T", "enter")
    assert set(desk.state.pending.amounts) == {SECOND}


async def test_settle_key_without_a_conflict_is_reported(desk):
    await desk.press("T")
    assert any("nothing to settle" in said for said in desk.said)
