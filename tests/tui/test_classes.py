"""Classes in the app: asked for by name, previewed, applied as a step, refused where there is none."""

import pytest

from tests.tui.helpers import Desk, unwrapped
from tui_pruner.domain.cuts import CLASSES
from tui_pruner.tui.job_specs.search import classes_left
from tui_pruner.tui.screens.prompts import PathPrompt

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def keep_classes(desk: Desk, text: str) -> None:
    await desk.press("N")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
    await desk.press("ctrl+u", *text, "enter")


async def test_kept_classes_are_previewed_and_applied_as_a_step(desk: Desk):
    await keep_classes(desk, "seven, one")
    await desk.previewed()
    assert desk.state.preview.layers["model.22.cv3.0.2"].out_after == 2
    assert "classes keep seven,one" in desk.text
    await desk.press("a")
    await desk.until(lambda: bool(desk.state.session.steps), "the step")
    (step,) = desk.state.session.steps
    assert step.title == "classes keep:seven,one" and step.requests[0].layer == CLASSES
    await desk.until(lambda: desk.state.session.steps[0].proof is not None, "its proof")
    assert desk.state.session.steps[0].proof.equal
    assert classes_left(desk.state.session.plan, 10) == [1, 7]


async def test_unknown_class_is_refused_and_an_empty_answer_clears(desk: Desk):
    await keep_classes(desk, "eleven")
    await desk.until(lambda: "no class 'eleven'" in unwrapped(desk.app), "the refusal")
    await desk.press("escape")
    assert not desk.state.pending
    await keep_classes(desk, "")
    await desk.until(lambda: not desk.state.pending, "nothing asked for")
