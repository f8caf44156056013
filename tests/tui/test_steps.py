"""The timeline on the screen: going to a step, comparing two, naming one; plans out and in."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rich.text import Text
from textual.widgets import Input

from tests.tui.helpers import Desk, unwrapped
from tui_pruner.engine.messages import Comparison, ProofEvent, ProofView, SessionView, Totals, Width
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import GLYPHS, titled
from tui_pruner.tui.messages import ProofArrived, SessionChanged
from tui_pruner.tui.panes.comparison import Compared, compare_lines
from tui_pruner.tui.panes.steps import proof_cell, refit_cell, step_lines
from tui_pruner.tui.screens.forms import Chooser
from tui_pruner.tui.screens.prompts import PathPrompt, Question
from tui_pruner.tui.timeline import StepMetrics, Timeline, name_of, unproved

FIRST, SECOND = "model.5", "model.6.m.0.cv1"


async def cut(desk: Desk, layer: str, digits: str) -> None:
    """Make a step of one layer."""
    steps = len(desk.state.session.steps)
    await desk.go(layer)
    await desk.press(*digits, "enter")
    await desk.until(lambda: bool(desk.state.pending), "the ratio")
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == steps + 1, "the step")


async def make_two_steps(desk: Desk) -> None:
    await cut(desk, FIRST, "25")
    await cut(desk, SECOND, "50")
    await desk.press("s")
    await desk.until(lambda: desk.view.comparison is not None, "the comparison")


async def wait_for_comparison(desk: Desk, first: int, second: int) -> None:
    await desk.until(
        lambda: (found := desk.view.comparison) is not None and (found.found.first, found.found.second) == (first, second),
        f"the comparison of {first} with {second}",
    )


async def answer_prompt(desk: Desk, text: str) -> None:
    """Replace what an open prompt holds, and take it."""
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
    desk.app.screen.query_one(Input).value = text
    await desk.press("enter")


async def test_steps_are_selected_compared_named_and_returned_to(start):
    async with start() as desk:
        await make_two_steps(desk)
        await wait_for_comparison(desk, 1, 2)
        assert "Compare 1 model.5 −25% → 2 model.6.m.0.cv1 −50%" in desk.text
        assert "out 64→32" in desk.line("6.m.0.cv1  out")
        assert "go there" in desk.text and "compare with" in desk.text
        await desk.press("up")
        await wait_for_comparison(desk, 0, 1)
        assert desk.line("out 128→96")
        await desk.press("up", "space", "down", "down")
        await wait_for_comparison(desk, 0, 2)
        assert "4 changed" in desk.line("Layers")
        await desk.press("n")
        await answer_prompt(desk, "bottleneck")
        await desk.until(lambda: desk.state.session.steps[1].title == "bottleneck", "the name")
        assert "2 bottleneck" in desk.text
        await desk.press("up", "enter")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the first step")
        assert [step.title for step in desk.state.session.ahead] == ["bottleneck"]
        assert "undone" in desk.line("2 bottleneck")
        desk.kill_engine()
        await desk.until(lambda: any("back, with every step" in said for said in desk.said), "the engine again")
        assert [step.title for step in desk.state.session.ahead] == ["bottleneck"]
        await desk.press("ctrl+r")
        await desk.until(lambda: len(desk.state.session.steps) == 2, "the second step again")
        await desk.press("escape")
        assert desk.view.comparison is None and desk.tree.has_focus


async def test_plan_is_saved_and_opened_and_one_of_another_checkpoint_changes_nothing(start, tmp_path: Path):
    async with start() as desk:
        await make_two_steps(desk)
        plan, other = tmp_path / "plan.yaml", tmp_path / "other.yaml"
        await desk.press("p")
        await answer_prompt(desk, str(plan))
        await desk.until(plan.exists, "the plan")
        content = yaml.safe_load(plan.read_text())
        assert [cut["layer"] for step in content["steps"] for cut in step["cuts"]] == [FIRST, SECOND]
        content["steps"] = [{"cuts": [{"layer": "model.7", "amount": "50%"}]}]
        plan.write_text(yaml.safe_dump(content))
        other.write_text(yaml.safe_dump({**content, "sha256": "0" * 64}))
        await desk.press("o")
        await answer_prompt(desk, str(other))
        await desk.until(lambda: "for another checkpoint" in unwrapped(desk.app), "the refusal")
        assert len(desk.state.session.steps) == 2
        await answer_prompt(desk, str(plan))
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
        assert "2 steps will be replaced" in desk.text
        await desk.press("r")
        await desk.until(lambda: [step.title for step in desk.state.session.steps] == ["model.7 -50%"], "the plan's steps")
        await desk.until(lambda: desk.state.session.steps[0].proof is not None, "its proof")
        assert desk.state.session.layers["model.7"].out_after == 128
        await desk.press("o")
        await answer_prompt(desk, str(tmp_path / "nowhere.yaml"))
        await desk.until(lambda: "cannot read the plan" in unwrapped(desk.app), "the refusal")
        await desk.press("escape", "r")
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "what shall be in the report")
        assert "--redact" in desk.text and "--recovered" not in desk.text
        await desk.press("2")
        await answer_prompt(desk, str(tmp_path / "report.txt"))
        await desk.until(lambda: "must end in .html or .md" in unwrapped(desk.app), "the refusal")
        await answer_prompt(desk, str(tmp_path / "report.md"))
        await desk.until(lambda: "1 step all proved" in desk.text, "the report")
        written = (tmp_path / "report.md").read_text()
        assert "model.7" in written and "tiny" not in written


SIZE = {"parameters": 3_000_000, "flops": 8_000_000_000, "bytes": 6_000_000}
HALF = {key: value // 2 for key, value in SIZE.items()}


@pytest.fixture
def halved(undone_session) -> Compared:
    found = Comparison(
        first=0,
        second=1,
        before=Totals(**SIZE),
        after=Totals(**HALF),
        layers={"model.5": Width(out_before=128, out_after=64, in_before=64, in_after=64)},
        blocks=[],
    )
    scores = StepMetrics()
    scores.follow(undone_session)
    scores.by_plan = {scores.keys[0]: 0.512, scores.keys[1]: 0.490}
    return Compared(found, undone_session, scores)


@pytest.fixture
def undone_session():
    """A session whose only step was undone."""
    from tui_pruner.engine.messages import SessionView, StepView

    step = StepView(number=1, title="model.5 -50%", requests=[], totals=Totals(**HALF), notes=[])
    whole = Totals(**SIZE)
    return SessionView(
        steps=[],
        ahead=[step],
        original=whole,
        current=whole,
        layers={},
        blocks=[],
        unsaved=False,
        plan={"steps": []},
        later=[{"cuts": [1]}],
    )


def plain(lines: list[Text]) -> str:
    return "\n".join(line.plain.rstrip() for line in lines)


def test_comparison_shows_size_metric_proof_and_layers(halved: Compared):
    text = plain(compare_lines(halved, 60))
    assert "parameters  3.00M      → 1.50M      ▼50%" in text
    assert "mAP         .512       → .490       −.022" in text
    assert "step 1      not proved yet" in text
    assert "5  out 128→64      in 64" in text
    assert all(line.cell_len <= 44 for line in compare_lines(halved, 44)[:6])


def test_timeline_cursor_stays_on_existing_steps_and_compares_with_the_held_one(undone_session):
    timeline = Timeline().moved(5, undone_session)
    assert (timeline.at, timeline.ends(undone_session)) == (1, (0, 1))
    assert Timeline(0).ends(undone_session) == (0, 0)
    assert timeline.holding().moved(-5, undone_session).ends(undone_session) == (1, 0)
    assert timeline.holding().holding().held is None
    assert Timeline(1, held=4).kept(undone_session) == Timeline(0, None)


def test_undone_steps_are_shown_as_undone_with_the_cursor_on_them(undone_session):
    from types import SimpleNamespace

    board = SimpleNamespace(session=undone_session, pending=None)
    lines, at = step_lines(board, StepMetrics(), 60, Timeline(1, held=0))
    assert at == 2 and "undone" in lines[2].plain and lines[1].plain.startswith("●")
    assert step_lines(board, StepMetrics(), 60)[1] == 1


def test_long_title_keeps_how_much_its_cut_removes(undone_session):
    from types import SimpleNamespace

    (step,) = undone_session.ahead
    step = step.model_copy(update={"title": "model.22.cv2.0.0 -40%"})
    board = SimpleNamespace(session=undone_session.model_copy(update={"steps": [step], "ahead": []}), pending=None)
    for width in (50, 60):
        line = step_lines(board, StepMetrics(), width)[0][2].plain
        assert f"{GLYPHS.minus}40%" in line and GLYPHS.ellipsis in line, width


def test_two_digit_numbers_are_separated_from_their_steps(undone_session):
    from types import SimpleNamespace

    (step,) = undone_session.ahead
    steps = [step.model_copy(update={"number": number}) for number in range(1, 13)]
    board = SimpleNamespace(session=undone_session.model_copy(update={"steps": steps, "ahead": []}), pending=None)
    lines = [line.plain for line in step_lines(board, StepMetrics(), 60, Timeline(12, held=11))[0]]
    assert [line[:3] for line in (lines[10], lines[12], lines[13])] == ["9  ", "11●", "12 "]
    assert {line.index(titled(step.title)) for line in lines[2:]} == {3} and len({len(line) for line in lines}) == 1


def test_unexercised_cut_is_shown_as_a_failed_proof_with_the_reason(undone_session):
    from types import SimpleNamespace

    reason = "not exercised, since nothing that could be compared depends on it: aux.0"
    proof = ProofView(
        equal=False, max_abs_difference=0.0, relative_difference=0.0, effect=0.0, approximate=[], seconds=0.1,
        not_exercised=["aux.0"], verdict="not exercised", reason=reason,
    )  # fmt: skip
    (step,) = undone_session.ahead
    session = undone_session.model_copy(update={"steps": [step.model_copy(update={"proof": proof})], "ahead": []})
    line = step_lines(SimpleNamespace(session=session, pending=None), StepMetrics(), 60)[0][2]
    assert "NOT EXERCISED" in line.plain
    assert any(span.style == f"bold {colours.BAD}" for span in line.spans)
    assert unproved(session) == f"step 1 is not proved ({reason}): undo it with u"
    unrun = proof.model_copy(update={"verdict": "not equal", "relative_difference": float("inf")})
    assert proof_cell(unrun)[0] == "NOT EQUAL inf"
    equal = proof.model_copy(update={"equal": True, "verdict": "equal"})
    assert proof_cell(equal)[0] == "proved exact"
    assert proof_cell(proof.model_copy(update={"verdict": "approximate", "checked": True})) == ("APPROXIMATE", f"bold {colours.BAD}")
    two = session.model_copy(update={"steps": [*session.steps, step.model_copy(update={"number": 2})]})
    assert unproved(two).endswith("undo the steps from there on with u")


@pytest.mark.asyncio(loop_scope="session")
async def test_proof_that_arrives_before_the_disk_write_is_shown_with_its_step(desk):
    await desk.go("model.5")
    await desk.press("3", "0", "enter", "a")
    await desk.until(lambda: len(desk.state.session.steps) == 1 and desk.state.session.steps[0].proof is not None, "the proved step")
    proved = desk.state.session

    def unproved(id: str) -> SessionView:
        return proved.model_copy(update={"steps": [proved.steps[0].model_copy(update={"proof": None, "id": id})]})

    step, proof = desk.controllers.step, proved.steps[0].proof
    desk.bench.store.update(session=proved.model_copy(update={"steps": []}))
    step.take_proof(ProofArrived(ProofEvent(step=1, id="applied", proof=proof)))
    step.take_session(SessionChanged(unproved("applied"), "applied"))
    assert desk.state.session.steps[0].proof == proof
    step.take_proof(ProofArrived(ProofEvent(step=1, id="of a plan", proof=proof)))
    step.take_session(SessionChanged(unproved("another"), "applied"))
    assert desk.state.session.steps[0].proof is None, "a proof of another step with the same number is none of this one"
    step.take_session(SessionChanged(unproved("of a plan"), "opened"))
    assert desk.state.session.steps[0].proof == proof


def test_title_beginning_with_a_number_is_separated_from_the_step_number(undone_session):
    assert name_of(undone_session, 1) == "1 model.5 −50%"
    undone_session.ahead[0].title = "4 layers"
    assert (name_of(undone_session, 1), name_of(undone_session, 0)) == ("step 1: 4 layers", "checkpoint")


@pytest.mark.parametrize(
    ("refit", "width", "shown"),
    [(None, 12, ""), ((0.12, 0.034), 12, "0.120→0.034"), ((0.0028, 0.0021), 12, "→0.0021"), ((0.0028, 0.0021), 14, "0.0028→0.0021")],
)
async def test_refit_cell_shows_a_complete_figure_or_only_the_result(refit, width, shown):
    assert refit_cell(refit, width) == shown
