"""The workbench on a real checkpoint with the real engine: look, mark, set ratios, apply, prove, undo, write, quit."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.tui.helpers import Desk
from tui_pruner.domain.cuts import Amount
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.prompts import PathPrompt, Question

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONV, COUPLED, OTHER, LOCKED = "model.5", "model.6.m.0.cv2", "model.6.m.1.cv2", "model.22.cv2.0.2"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tiny_desk(tiny_checkpoint: Path) -> AsyncIterator[Desk]:
    """One app on the tiny checkpoint for all tests that neither end it nor its engine."""
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await desk.until(lambda: desk.ready, "the model")
        yield desk


@pytest_asyncio.fixture(loop_scope="session")
async def desk(tiny_desk: Desk) -> Desk:
    await tiny_desk.calm()
    return tiny_desk


async def test_frame_is_shown_before_the_engine_answers(start):
    async with start(wait=False) as desk:
        assert not desk.open
        assert "tiny.pt" in desk.text and "loading" in desk.text
        assert "? help" in desk.text
        await desk.until(lambda: desk.ready, "the model")
        assert "YOLOv8n detect · 3 classes · 64" in desk.text
        assert "Backbone" in desk.text and "Neck" in desk.text and "Head" in desk.text


async def test_ratio_shows_the_width_the_also_affected_layers_and_the_dry_run(desk: Desk):
    await desk.go(CONV)
    await desk.press("right", "pageup", "full_stop", "left")
    await desk.previewed()
    assert desk.state.pending.amounts == {CONV: Amount.share(10)}
    assert desk.state.preview.layers[CONV].out_after == 115
    assert desk.state.after.parameters < desk.state.session.original.parameters
    assert "128→115" in desk.line("5 Conv") and "−10%" in desk.line("5 Conv")
    assert "fewer inputs" in desk.line("6 C2f")
    assert desk.state.dry_run.ok and "the shapes fit at 64×64" in desk.text
    assert any(member.layer == "model.6.cv1" and (member.before, member.after) == (128, 115) for member in desk.state.detail.members)
    await desk.press("x")
    await desk.until(lambda: not desk.state.pending and desk.state.preview is None, "the cleared ratio")
    assert "→" not in desk.line("5 Conv")


async def test_marked_layers_change_together_and_become_a_proved_step(desk: Desk):
    await desk.go(CONV)
    await desk.press("space")
    await desk.go("model.16")
    await desk.press("space")
    assert "2 layers marked" in desk.text
    await desk.press("3", "0", "enter")
    await desk.previewed()
    assert desk.state.pending.amounts == {CONV: Amount.share(30), "model.16": Amount.share(30)}
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1 and desk.state.session.steps[0].proof is not None, "the proof")
    proof = desk.state.session.steps[0].proof
    assert proof.equal and proof.relative_difference <= 1e-4
    assert not desk.state.pending and not desk.state.marks
    assert "proved" in desk.text and "cut −30%" in desk.line("5 Conv")
    cut = desk.state.session.current.parameters
    await desk.press("u")
    await desk.until(lambda: not desk.state.session.steps, "the undone step")
    assert desk.state.session.current == desk.state.session.original
    await desk.press("ctrl+r")
    await desk.until(lambda: len(desk.state.session.steps) == 1, "the step again")
    assert desk.state.session.current.parameters == cut


async def test_exact_width_is_typed_and_an_invalid_one_is_explained(desk: Desk):
    await desk.go(CONV)
    await desk.press("equals_sign", "9", "9", "9", "enter")
    assert any("cannot keep 999" in said for said in desk.said) and not desk.state.pending
    await desk.press("backspace", "backspace", "backspace", "1", "1", "8", "enter")
    await desk.previewed()
    assert desk.state.preview.layers[CONV].out_after == 118
    await desk.press("5", "escape")
    assert desk.state.pending.amounts == {CONV: Amount(keep=118)}
    assert desk.tree.has_focus


async def test_conflict_is_shown_and_refused_until_it_is_resolved(desk: Desk):
    await desk.go(COUPLED)
    await desk.press("2", "0", "enter")
    await desk.go(OTHER)
    await desk.press("4", "0", "enter")
    await desk.until(lambda: bool(desk.state.clash), "the conflict")
    assert "conflict" in desk.line("6 C2f") and "✗" in desk.line("     m.1.cv2")
    await desk.press("a")
    await desk.until(lambda: any("share coupled channels" in said for said in desk.said), "the reason")
    assert not desk.state.session.steps
    await desk.press("x")
    await desk.until(lambda: not desk.state.clash, "the resolved conflict")
    assert "affected" in desk.line("     m.1.cv2")
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")


async def test_locked_layer_shows_the_reason(desk: Desk):
    await desk.go(LOCKED)
    await desk.press("right")
    assert not desk.state.pending
    assert any(said.startswith(f"{LOCKED} is locked: ") and len(said) > len(LOCKED) + 15 for said in desk.said)
    await desk.press("space")
    assert not desk.state.marks


async def test_filter_finds_layers_and_escape_clears_it(desk: Desk):
    everything = len(desk.tree.shown)
    await desk.press("slash", *"head locked")
    shown = desk.tree.shown
    assert [row.layer.status for row in shown if row.kind == "layer"] == ["locked"] * 7
    await desk.press("enter")
    assert desk.tree.has_focus and len(desk.tree.shown) == len(shown)
    await desk.press("slash", "escape")
    assert len(desk.tree.shown) == everything


async def test_blocks_open_and_close_and_next_jumps_to_changed_layers(desk: Desk):
    tree = desk.tree
    closed = len(tree.shown)
    tree.go_to("model.2")
    await desk.press("enter")
    assert len(tree.shown) == closed + 4
    await desk.press("z")
    assert len([row for row in tree.shown if row.kind == "layer"]) > 40
    await desk.press("z")
    assert len(tree.shown) == closed
    await desk.go(CONV)
    await desk.press("pageup")
    await desk.previewed()
    await desk.press("home", "n")
    assert tree.row.key == CONV
    await desk.press("n")
    assert tree.row.key == "model.6.cv1"


async def test_writing_asks_for_a_path_and_quitting_afterwards_asks_nothing(start, tmp_path):
    target = tmp_path / "pruned.pt"
    async with start() as desk:
        await desk.go(CONV)
        await desk.press("5", "0", "enter")
        await desk.previewed()
        await desk.press("a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        await desk.press("q")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
        assert "1 step not written" in desk.text
        await desk.press("w")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
        assert "tiny-pruned.pt" in desk.text
        await desk.press("ctrl+u", *str(target), "enter")
        await desk.until(lambda: any(note.startswith("wrote pruned.pt") for note, _ in desk.state.notes), "the written file")
        assert target.stat().st_size > 1_000_000
        assert not desk.state.session.unsaved
        await desk.press("q")
        await desk.until(lambda: desk.app.return_value == 0, "the end")


async def test_existing_file_is_replaced_only_after_a_question(desk: Desk, tmp_path):
    target = tmp_path / "there.pt"
    target.write_text("precious")
    await desk.go(CONV)
    await desk.press("5", "0", "enter")
    await desk.previewed()
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
    await desk.press("w")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
    await desk.press("ctrl+u", *str(target), "enter")
    await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
    await desk.press("escape")
    await desk.until(lambda: desk.app.screen is desk.bench, "the workbench")
    assert target.read_text() == "precious"


async def test_killed_engine_is_restarted_with_its_steps_and_pending_cuts(start):
    async with start() as desk:
        await desk.go(CONV)
        await desk.press("2", "5", "enter")
        await desk.previewed()
        await desk.press("a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        totals = desk.state.session.current
        await desk.go("model.7")
        await desk.press("pageup")
        opened = desk.state.opened
        desk.kill_engine()
        await desk.until(lambda: any("starting it again" in said for said in desk.said), "the word on it")
        await desk.until(lambda: desk.state.opened is not opened, "the engine again")
        assert desk.state.session.current == totals and len(desk.state.session.steps) == 1
        assert desk.state.pending.amounts == {"model.7": Amount.share(5)}
        await desk.previewed()


async def test_small_window_shows_one_pane_at_a_time(desk: Desk):
    await desk.calm((80, 24))
    lines = desk.text.splitlines()
    assert lines[0].startswith(" tiny.pt") and lines[1].startswith(" params 3.01M") and "? help" in lines[-1]
    assert "Backbone" in desk.text and "Also affected" not in desk.text
    await desk.press("tab")
    await desk.until(lambda: "Also affected" in desk.text, "the detail")
    assert "Backbone" not in desk.text
    await desk.press("s")
    await desk.until(lambda: "checkpoint" in desk.text and "Jobs" in desk.text, "the steps")
    await desk.press("escape")
    await desk.until(lambda: "Backbone" in desk.text, "the model")
    assert all(len(line) <= 80 for line in desk.text.splitlines())


async def test_too_small_window_shows_the_required_size_and_recovers(desk: Desk):
    await desk.calm((50, 12))
    assert "50x12" in desk.text and "60x15" in desk.text
    view = desk.bench.store.view
    at = view.tree.cursor
    await desk.press("down", "right", "space", "a", "question_mark")
    assert not desk.state.pending.amounts and not desk.state.marks and desk.app.screen is desk.bench and view.tree.cursor == at
    await desk.pilot.resize_terminal(60, 20)
    await desk.until(lambda: "Backbone" in desk.text, "the model")
    await desk.until(lambda: desk.app.focused is not None, "the focus")
    await desk.press("down")
    assert view.tree.cursor != at


async def test_composed_screens_equal_their_goldens(shared_app: Desk):
    for width, height in ((120, 40), (80, 24), (60, 20), (200, 60)):
        await shared_app.calm((width, height))
        await shared_app.go(COUPLED)
        await shared_app.press("3", "0", "enter")
        await shared_app.previewed()
        await shared_app.shows(f"{width}x{height}")


async def test_validation_shows_the_metric_of_the_checkpoint_and_of_the_step(start, demo_checkpoint: Path, demo_data: Path):
    async with start(opening=Opening(str(demo_checkpoint), data=str(demo_data), images=8)) as desk:
        await desk.until(lambda: desk.state.metrics.baseline is not None, "the checkpoint's metric")
        assert 0.5 < desk.state.metrics.baseline <= 1
        await desk.go(CONV)
        await desk.press("pageup")
        await desk.previewed()
        await desk.press("a")
        await desk.until(lambda: desk.state.metrics.latest is not None, "the step's metric")
        assert 0 < desk.state.metrics.latest <= 1
        assert "mAP" in desk.text.splitlines()[0] and not desk.bench.busy
        await desk.press("u")
        await desk.until(lambda: not desk.state.session.steps, "the undone step")
        assert desk.state.metrics.latest is None


async def test_unusable_data_is_explained_and_the_app_continues(desk: Desk, tmp_path):
    await desk.press("v")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
    await desk.press(*str(tmp_path / "none.yaml"), "enter")
    await desk.until(lambda: "none.yaml" in " ".join(desk.text.split("Data")[-1].split()), "the explanation")
    assert isinstance(desk.app.screen, PathPrompt), "the question stays, with the text"
    await desk.press("escape")
    await desk.go(CONV)
    await desk.press("right")
    await desk.previewed()
    assert desk.state.dry_run.ok
