"""Ratios for many layers at once: presets, a section's share, copies to similar layers, and every ratio key on marked layers."""

import pytest

from tui_pruner.domain.cuts import Amount
from tui_pruner.tui.controllers.preset import pattern, similar_layers
from tui_pruner.tui.screens.forms import Chooser

pytestmark = pytest.mark.asyncio(loop_scope="session")
INNER = [f"model.{block}.m.0.cv1" for block in (2, 4, 6, 8, 12, 15, 18, 21)] + ["model.4.m.1.cv1", "model.6.m.1.cv1"]


async def choose(desk, key, number):
    """Open a chooser and take one of its entries."""
    await desk.press(key)
    await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the chooser")
    await desk.press(str(number))
    await desk.until(lambda: desk.app.screen is desk.bench, "the workbench")


@pytest.mark.parametrize(
    ("block", "layer", "expected"),
    [
        ("model.6", "model.6.m.0.cv1", "m.*.cv1"),
        ("model.6", "model.6.m.1.m.0.cv2", "m.*.m.*.cv2"),
        ("model.22", "model.22.cv2.0.1", "cv2.*.1"),
        ("model.5", "model.5", ""),
    ],
)
async def test_positions_of_repeated_modules_become_wildcards(block, layer, expected):
    assert pattern(block, layer) == expected


async def test_similar_layers_have_the_same_place_in_blocks_of_the_same_type(desk):
    blocks = desk.state.opened.blocks
    assert {*similar_layers(blocks, INNER[0]), INNER[0]} == set(INNER)
    assert similar_layers(blocks, "model.1") == [f"model.{block}" for block in (0, 3, 5, 7, 16, 19)]
    assert similar_layers(blocks, "model.22.cv2.0.0") == ["model.22.cv2.1.0", "model.22.cv2.2.0"]
    assert similar_layers(blocks, "model.22.cv2.0.2") == []


async def test_ratio_is_copied_to_similar_layers_which_are_marked_and_c_clears_all(desk):
    await desk.go("model.6.m.0.cv1")
    await desk.press("J")
    assert any("no ratio to copy" in said for said in desk.said)
    await desk.press("3", "0", "enter", "J")
    await desk.previewed()
    assert desk.state.pending.amounts == dict.fromkeys(INNER, Amount.share(30))
    assert desk.state.marks == set(INNER) and "10 layers marked" in desk.text
    assert any(said == "30 % of 9 layers" for said in desk.said)
    assert not desk.state.clash
    await desk.press("c")
    assert not desk.state.pending and not desk.state.marks


async def test_exact_width_is_copied_as_the_share_that_it_removes(desk):
    await desk.go("model.6.m.0.cv1")
    await desk.press("equals_sign", "4", "8", "enter", "J")
    assert desk.state.pending.amounts["model.8.m.0.cv1"] == Amount.share(25)
    assert desk.state.pending.amounts["model.6.m.0.cv1"] == Amount(keep=48)


async def test_preset_replaces_pending_cuts_and_skips_locked_layers(desk):
    await desk.go("model.5")
    await desk.press("5", "0", "enter")
    await choose(desk, "B", 2)
    await desk.previewed()
    prunable = {layer.name for layer in desk.state.layers.values() if layer.status != "locked"}
    assert desk.state.pending.amounts == dict.fromkeys(prunable, Amount.share(10)) and len(prunable) == 57
    await desk.until(lambda: desk.state.preview.layers["model.5"].out_after == 115, "the preset's figures")
    assert not desk.state.clash and "10 % of 57 layers" in desk.said


async def test_section_gets_the_typed_share(desk):
    await choose(desk, "B", 4)
    await desk.press("2", "5", "enter")
    blocks = {int(name.split(".")[1]) for name in desk.state.pending.amounts}
    assert blocks == {12, 15, 16, 18, 19, 21}
    assert set(desk.state.pending.amounts.values()) == {Amount.share(25)} and len(desk.state.pending.amounts) == 18


async def test_preset_applies_to_the_marked_layers_if_there_are_any(desk):
    for layer in ("model.5", "model.0"):
        await desk.go(layer)
        await desk.press("space")
    await choose(desk, "B", 1)
    assert desk.state.pending.amounts == {"model.0": Amount.share(5), "model.5": Amount.share(5)}


async def test_every_ratio_key_works_on_all_marked_layers(desk):
    marked = {"model.3", "model.5", "model.7"}
    for layer in marked:
        await desk.go(layer)
        await desk.press("space")

    def asked():
        assert set(desk.state.pending.amounts) in (marked, set())
        return set(desk.state.pending.amounts.values())

    await desk.press("pageup", "right", "right", "left")
    assert asked() == {Amount.share(6)}
    await desk.press("4", "0", "enter")
    assert asked() == {Amount.share(40)}
    await desk.press("equals_sign", "4", "0", "enter")
    assert asked() == {Amount(keep=40)}
    await desk.press("pagedown")
    assert len(asked()) == 3  # 40 of 64, of 128 and of 256 are different shares
    await desk.press("x")
    assert asked() == set()


async def test_layers_too_narrow_for_a_share_are_skipped_and_reported(desk):
    for layer in ("model.0", "model.7"):
        await desk.go(layer)
        await desk.press("space")
    await desk.press("2", "enter")
    assert desk.state.pending.amounts == {"model.7": Amount.share(2)}
    assert "2 % of model.7, 1 layer too narrow for it" in desk.said
