"""A wrong answer stays in its prompt with the reason; shares without a name are FLOPs; custom fine-tunings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from textual.widgets import Input

import tui_pruner.tui
from tests.jobs.narrow import narrow
from tests.tui.helpers import Desk, unwrapped
from tui_pruner.domain.cuts import known_classes, targets_in
from tui_pruner.domain.errors import RequestError
from tui_pruner.tui.controllers.base import fault_of_place
from tui_pruner.tui.job_specs.measurement import Timed
from tui_pruner.tui.job_specs.recovery import RECOVERIES, SPARSE, own_recovery
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.prompts import PathPrompt

shared = pytest.mark.asyncio(loop_scope="session")
OWN = next(way for way in RECOVERIES if way.own)


@pytest.mark.parametrize(("text", "targets"), [("60%", ["flops=60%"]), ("0.6", ["flops=0.6"]), (".6 params=2M", ["flops=.6", "params=2M"])])
def test_share_without_a_name_is_a_target_on_flops(text, targets):
    assert targets_in(text) == targets


def test_invalid_target_is_refused():
    for text in ("speed=3", "flops=", "120%", "60"):
        with pytest.raises(RequestError):
            targets_in(text)


@shared
async def test_invalid_target_keeps_the_prompt_with_its_text(desk: Desk):
    await desk.press("t")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
    field = desk.app.screen.query_one(Input)
    field.value = "flops=lots"
    await desk.press("enter")
    assert isinstance(desk.app.screen, PathPrompt) and field.value == "flops=lots"
    await desk.until(lambda: "has no number" in desk.text, "what is wrong")
    await desk.press("escape")
    assert desk.app.screen is desk.bench


def test_custom_fine_tuning_has_epochs_rate_batch_and_patience():
    way = own_recovery(OWN, "epochs=7 lr=0.002, batch=4 patience=3")
    assert (way.epochs, way.lr0, way.batch, way.patience) == (7, 0.002, 4, 3)
    assert own_recovery(OWN, "epochs=7").batch == 16
    for words in ("epoch=7", "epochs=0", "epochs=2.5", "lr=0", "lr=nan", "batch"):
        with pytest.raises(RequestError):
            own_recovery(OWN, words)


def test_sparse_training_is_not_a_recovery():
    assert SPARSE not in RECOVERIES and SPARSE.sparsity and not any(way.sparsity for way in RECOVERIES)


def test_overlapping_intervals_of_times_are_not_distinguished():
    timed = Timed("", {"a": 1.9, "b": 2.0}, {"a": 5.6, "b": 1.0}, {"a": ((1.0, 6.0), (1.5, 7.0)), "b": ((1.9, 2.1), (0.9, 1.1))})
    assert not timed.told_apart("a") and timed.told_apart("b") and timed.told_apart("c")


@shared
@pytest.mark.parametrize(
    ("action", "typed", "said"),
    [
        ("open-plan", "nowhere.yaml", "cannot read the plan"),
        ("keep-classes", "nonsuch", "no class 'nonsuch'"),
        ("choose-data", "nowhere.yaml", "no data yaml nowhere.yaml"),
        ("save-plan", "plan.txt", "must end in .yaml or .yml"),
        ("save-plan", "nowhere/plan.yaml", "no folder nowhere"),
    ],
)
async def test_unusable_answer_keeps_the_prompt_with_its_text(desk: Desk, action: str, typed: str, said: str):
    run = {one.id: one.run for one in desk.bench.registry}[action]
    run()
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
    field = desk.app.screen.query_one(Input)
    field.value = typed
    await desk.press("enter")
    assert isinstance(desk.app.screen, PathPrompt) and field.value == typed
    await desk.until(lambda: said in unwrapped(desk.app), "what is wrong")
    await desk.press("escape")
    assert desk.app.screen is desk.bench


def test_plan_of_another_checkpoint_and_unwritable_paths_are_refused_at_once(tmp_path: Path):
    model = tmp_path / "model.pt"
    model.write_bytes(b"")
    assert "never written to" in fault_of_place(model, (".pt",), str(model))
    (tmp_path / "folder.pt").mkdir()
    assert "is a folder" in fault_of_place(tmp_path / "folder.pt", (".pt",), str(model))
    assert fault_of_place(tmp_path / "other.pt", (".pt",), str(model)) == ""
    assert fault_of_place(tmp_path / "folder.pt", (), str(model)) == ""


def test_every_text_prompt_validates_its_answer_while_it_is_open():
    folder = Path(tui_pruner.tui.__file__).parent
    calls = [
        (path.name, node)
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "ask_text"
    ]
    without = {name for name, node in calls if not any(keyword.arg == "fault" for keyword in node.keywords)}
    assert len(calls) >= 6 and without == {"step.py"}, "only a step's name may be anything"


def test_kept_classes_must_be_existing_names_or_numbers():
    known_classes("person,1", ["person", "car"])
    known_classes("", ["person", "car"])
    with pytest.raises(RequestError, match="did you mean person"):
        known_classes("persn", ["person", "car"])
    with pytest.raises(RequestError, match="no class '2'"):
        known_classes("2", ["person", "car"])


async def test_data_of_the_training_is_suggested(start, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    own = trained_on(small_data, tmp_path / "weights.pt")
    async with start(opening=Opening(str(own), imgsz=64)) as desk:
        await desk.press("v")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
        assert Path(desk.app.screen.query_one(Input).value).resolve() == small_data.resolve()


def trained_on(data: Path, file: Path) -> Path:
    """A checkpoint whose training names its data."""
    torch.save({"model": narrow(file.parent).model.half(), "train_args": {"imgsz": 64, "data": str(data)}}, file)
    return file
