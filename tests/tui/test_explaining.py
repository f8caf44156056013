"""`e` explains: what a cut touches, the path between two layers, and follows it while the explanation stays."""

import pytest

from tests.tui.helpers import Desk
from tui_pruner.engine.messages import ExplainResult, Touched
from tui_pruner.tui.panes.explanation import OpenExplanation, explain_title

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def explained(desk: Desk, first: str, second: str = "") -> None:
    """Wait for the explanation between these ends."""

    def there() -> bool:
        found = desk.view.explanation.found if desk.view.explanation else None
        return found is not None and (found.first, found.second) == (first, second)

    await desk.until(there, f"the explanation of {first} {second}")


async def test_two_ends_are_chosen_and_the_explained_path_is_walked(desk):
    tree = desk.tree
    await desk.go("model.4.cv2")
    await desk.press("e")
    await explained(desk, "model.4.cv2")
    assert "4.cv2 touches 5 (input), 15.cv1 (input), nothing" in desk.text
    tree.go_to("model.14")
    await desk.press("e")
    await explained(desk, "model.4.cv2", "model.14")
    assert "4.cv2 and 14: Concat at channel 128..191" in desk.text
    walked = []
    for _ in range(5):
        await desk.press("right_square_bracket")
        walked.append(tree.row.key)
        assert "Concat at channel 128..191" in desk.text
    assert walked == ["model.4.cv2", "model.14", "model.5", "model.15.cv1", "model.15.cv1"]
    await desk.press("left_square_bracket")
    assert tree.row.key == "model.5"
    await desk.press("escape")
    assert desk.view.explanation is None and tree.row.key == "model.4.cv2"
    assert not any(row.key == "model.15.cv1" for row in tree.shown)
    await desk.until(lambda: "Also affected" in desk.text, "the detail again")


async def test_other_end_is_typed_and_a_missing_path_is_reported(desk):
    await desk.press("end", "home", "e")
    assert any("choose a layer or a block" in said for said in desk.said)
    await desk.go("model.5")
    await desk.press("p", "2")
    await desk.until(lambda: desk.tree.row.key == "model.2", "the block that is named exactly")
    await desk.press("enter")
    await explained(desk, "model.5", "model.2")
    assert desk.tree.row.key == "model.5" and not desk.filter_shown
    assert "nothing else; no channel" in desk.line("5 touches 6.cv1 (input)") and desk.line("path to 2")
    await desk.press("p", "6", "full_stop", "c", "v", "down", "up", "enter")
    await explained(desk, "model.5", "model.6.cv1")
    assert desk.view.explanation.found.path[-1].operation == "reads"
    await desk.press("p", "9", "escape")
    assert desk.view.explanation.found.second == "model.6.cv1" and desk.tree.words == ""


async def test_hop_hidden_by_the_filter_is_shown_and_escape_restores_the_filter(desk):
    desk.filter("backbone coupled")
    await desk.go("model.4.m.0.cv2")
    shown = len(desk.tree.shown)
    await desk.press("e")
    await explained(desk, "model.4.m.0.cv2")
    touched = desk.view.explanation.stops
    await desk.press(*["l"] * len(touched))
    assert "model.4.cv2" in touched and desk.tree.words == ""
    await desk.press("escape")
    assert desk.tree.words == "backbone coupled" and len(desk.tree.shown) == shown
    assert desk.filter_shown and desk.tree.row.key == "model.4.m.0.cv2"


async def test_explanation_fits_every_size_and_fills_a_small_window(desk):
    await desk.go("model.6.m.0.cv2")
    await desk.press("e")
    await explained(desk, "model.6.m.0.cv2")
    desk.tree.go_to("model.6.m.1.cv2")
    await desk.press("enter")
    await explained(desk, "model.6.m.0.cv2", "model.6.m.1.cv2")
    await desk.press("l", "l")
    await desk.until(lambda: desk.state.detail is None or desk.state.detail.layer == "model.6.m.0.cv2", "the row's detail")
    await desk.shows("explain-120x40")
    for width, height in ((80, 24), (60, 20)):
        await desk.pilot.resize_terminal(width, height)
        await desk.press("tab")
        await desk.until(lambda: "Path  4 hops" in desk.text and "Backbone" not in desk.text, "the explanation alone")
        await desk.shows(f"explain-{width}x{height}")
        await desk.press("enter")
        await desk.until(lambda: "Backbone" in desk.text, "the tree")
        assert "2/10 6.m.0 add makes the channels of both one" in desk.text


async def test_explanation_after_steps_says_that_its_channels_are_those_of_the_checkpoint():
    found = ExplainResult(
        first="model.8", second="", coupled=True, summary="8 touches 9.cv1 (input), nothing else", path=[],
        touches=[Touched(layer="model.9.cv1", role="in", channels="all 256", because="reads it")],
    )  # fmt: skip
    shown = OpenExplanation(found, None)  # type: ignore[arg-type]
    assert explain_title(shown) == "Explain 8" and explain_title(shown, after_steps=True) == "Explain 8 in the checkpoint"
