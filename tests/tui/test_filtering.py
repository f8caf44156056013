"""Finding layers: the filter, free layers only, the order by share; the tree's title says what is shown."""

import pytest

from tui_pruner.domain.formatting import percent
from tui_pruner.tui.outline import with_word
from tui_pruner.tui.panes.tree_row import share

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("words", "layers"),
    [("free", 43), ("linked", 8), ("coupled", 6), ("locked", 7), ("neck free", 14), ("backbone 3x3 coupled", 6), ("nothing like this", 0)],
)
async def test_title_shows_the_filter_and_the_number_of_layers_left(desk, words, layers):
    desk.filter(words)
    await desk.until(lambda: f"/ {words}" in desk.text, "the filter")
    assert f"Model  {words}  {layers} of 64 layers" in desk.text
    assert len({row.layer.name for row in desk.tree.shown if row.layer}) == layers
    await desk.press("escape")
    assert "of 64 layers" not in desk.line("Model")


async def test_free_only_key_is_added_to_the_filter(desk):
    tree = desk.tree
    await desk.press("f")
    assert {row.layer.status for row in tree.shown if row.layer} == {"free"}
    await desk.press("slash", *"head", "enter", "f")
    assert tree.words == "head free"
    assert {row.section for row in tree.shown} == {"head"}
    await desk.press("f")
    assert tree.words == "head"
    await desk.press("escape")
    assert tree.words == "" and not desk.filter_shown


async def test_layers_are_ordered_by_share_and_enter_shows_one_in_the_model(desk):
    tree = desk.tree
    await desk.press("o")
    flops = [row.flops for row in tree.shown]
    assert "64 layers  by FLOPs" in desk.text and len(flops) == 64
    assert flops == sorted(flops, reverse=True) and tree.row is tree.shown[0]
    await desk.press("o", "f")
    sizes = [row.parameters for row in tree.shown]
    assert "Model  free  43 of 64 layers  by parameters" in desk.text
    assert sizes == sorted(sizes, reverse=True) and tree.shown[0].key == "model.7"
    assert "9.8%" in desk.line("7 Conv")
    await desk.shows("ranked-120x40")
    await desk.press("down", "enter")
    assert tree.order == "" and tree.row.key == "model.8.m.0.cv1"
    await desk.press("escape", "o", "escape")
    assert tree.order == "" and tree.row.kind == "layer" and "by FLOPs" not in desk.text


async def test_marks_and_ratios_work_in_every_order(desk):
    await desk.press("o", "o", "down", "space", "down", "down", "space", "pageup", "pageup")
    await desk.previewed()
    assert set(desk.state.pending.amounts) == {"model.8.m.0.cv1", "model.19"}
    assert "128→115" in desk.line("8.m.0.cv1") and "affected" not in desk.line("8.m.0.cv2")
    await desk.press("minus")
    assert not desk.state.marks


async def test_share_is_shown_with_its_bar_if_there_is_space():
    assert share(25, 50, 100, 9) == "██    25%"
    assert share(25, 50, 100, 6) == "███   "
    assert share(0, 50, 100, 9) == " " * 9
    assert [percent(part) for part in (0, 0.0004, 0.0123, 0.0996, 1)] == ["0%", "<.1%", "1.2%", "10%", "100%"]


async def test_word_is_added_to_the_filter_or_removed():
    assert with_word("head conv", "free") == "head conv free"
    assert with_word("head  free conv", "free") == "head conv"
