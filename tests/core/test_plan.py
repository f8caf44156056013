"""A plan is plain data: exact channels, bound to its checkpoint, checked when it is read."""

from __future__ import annotations

import pytest
import yaml

from tests.core.conftest import ask
from tui_pruner.core.pruning.plan import Plan, dump_yaml, parse_plan, read_plan, replay
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import PlanError, RequestError


def plan_of(nano, *cuts: str) -> Plan:
    session = PruningSession(nano)
    for text in cuts:
        session.apply([parse_request(text)])
    return session.plan


def test_plan_survives_yaml_and_removes_the_same_channels(nano, tmp_path):
    plan = plan_of(nano, "6=30%", "model.12.cv2=20%", "6=10%")
    file = tmp_path / "plan.yaml"
    file.write_text(dump_yaml(plan))
    again = read_plan(file)
    assert again == plan
    assert [len(step.cuts) for step in again.steps] == [1, 1, 1]
    kept = replay(again, nano.coupling, nano.checkpoint.sha256).kept(nano.coupling)
    assert len(kept["model.6.m.0.cv1.conv.weight"]["0"]) == 40  # 64 - 19, then 10 % of 45
    assert len(kept["model.12.cv2.conv.weight"]["0"]) == 102


def test_every_list_of_channels_is_written_on_one_line(nano):
    lines = dump_yaml(plan_of(nano, "model.5=50%")).splitlines()
    assert sum("[" in line for line in lines) == 1


def test_plan_for_another_checkpoint_is_refused(nano):
    with pytest.raises(PlanError, match="was made for"):
        replay(plan_of(nano, "model.5=50%"), nano.coupling, "0" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.99.conv.weight": {0: [1]}}, "does not have"),
        ({"model.5.conv.weight": {0: [128]}}, "which has 128"),
        ({"model.5.conv.weight": {0: list(range(128))}}, "all 128 channels"),
        ({"model.22.cv3.0.2.weight": {0: [1]}}, "locked"),
        ({"model.6.cv1.conv.weight": {0: [1, 2, 70]}}, "equally wide"),
    ],
)
def test_plan_with_impossible_channels_is_refused(nano, change, message):
    plan = plan_of(nano, "model.5=50%")
    plan.steps[0].cuts[0].removes = change
    with pytest.raises(PlanError, match=message):
        replay(plan, nano.coupling, nano.checkpoint.sha256)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: [", "steps: 3", "checkpoint: x\nsha256: y\nsteps: [{cuts: [{layer: 5}]}]", "!!python/object/apply:os.system [true]"],
)
def test_file_that_is_not_a_plan_is_refused_with_its_name(tmp_path, text):
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(PlanError, match=r"plan\.yaml"):
        read_plan(file)


def test_unknown_key_is_refused_with_its_position(nano):
    content = plan_of(nano, "model.5=50%").plain()
    content["steps"][0]["cuts"][0]["rato"] = 1
    with pytest.raises(PlanError, match=r"steps\.0\.cuts\.0\.rato"):
        parse_plan(yaml.safe_load(yaml.safe_dump(content)))


def test_undo_and_redo_move_along_the_steps(nano):
    session = PruningSession(nano)
    assert not session.unsaved
    session.apply([parse_request("model.5=50%")])
    session.apply([parse_request("model.7=50%")])
    sizes = [session.widths.size.parameters]
    session.undo()
    sizes.append(session.widths.size.parameters)
    session.undo()
    sizes.append(session.widths.size.parameters)
    assert sizes[0] < sizes[1] < sizes[2] == 3_012_213
    session.redo()
    session.redo()
    assert session.widths.size.parameters == sizes[0]
    with pytest.raises(RequestError, match="nothing to redo"):
        session.redo()


def test_new_step_discards_undone_ones_and_a_written_state_counts_as_saved(nano):
    session = PruningSession(nano)
    session.apply([parse_request("model.5=50%")])
    session.undo()
    session.apply([parse_request("model.7=50%")])
    assert not session.undone
    session.mark_written()
    assert not session.unsaved
    session.undo()
    assert session.unsaved


def test_plan_is_loaded_with_the_same_channels(nano):
    session = PruningSession(nano)
    session.load(plan_of(nano, "6=30%", "model.12.cv2=20%").plain())
    assert len(session.steps) == 2
    assert session.removal.kept(nano.coupling) == ask(nano, "6=30%", "model.12.cv2=20%").removal.kept(nano.coupling)
