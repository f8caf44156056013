"""A plan that a person wrote: layers and amounts without channels, which are chosen when it is opened."""

from __future__ import annotations

import pytest

from tui_pruner.core.pruning.plan import parse_plan, replay
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import ConflictError, PlanError, RequestError


def by_hand(nano, *steps: list[dict[str, str]]) -> dict[str, object]:
    return {"checkpoint": "yolov8n.yaml", "sha256": nano.checkpoint.sha256, "steps": [{"cuts": cuts} for cuts in steps]}


def test_each_step_removes_the_same_channels_as_the_requests_by_its_own_criterion(nano):
    first = [{"layer": "model.5", "amount": "25%", "criterion": "l1"}, {"layer": "7", "amount": "keep:205", "criterion": "fpgm"}]
    session, asked = PruningSession(nano), PruningSession(nano)
    session.load(by_hand(nano, first, [{"layer": "model.5", "amount": "25%"}]))
    asked.apply([parse_request("model.5=25%", "l1"), parse_request("7=keep:205", "fpgm")])
    asked.apply([parse_request("model.5=25%")])
    assert session.plan == asked.plan
    assert session.widths.size.parameters == asked.widths.size.parameters < 3_012_213
    assert not any(step.unsettled for step in session.plan.steps)


def test_impossible_plan_is_refused_and_the_session_does_not_change(nano):
    session = PruningSession(nano)
    session.apply([parse_request("model.5=25%")])
    before = session.plan
    for layer, error in (("model.99", RequestError), ("model.22.cv3.0.2", RequestError)):
        with pytest.raises(error):
            session.load(by_hand(nano, [{"layer": layer, "amount": "25%"}]))
    with pytest.raises(ConflictError):
        session.load(by_hand(nano, [{"layer": "model.6.m.0.cv2", "amount": "30%"}, {"layer": "model.6.m.1.cv2", "amount": "40%"}]))
    with pytest.raises(RequestError, match="calibrate it first"):
        session.load(by_hand(nano, [{"layer": "model.5", "amount": "25%", "criterion": "taylor"}]))
    with pytest.raises(PlanError, match="made for"):
        session.load({**by_hand(nano, [{"layer": "model.5", "amount": "25%"}]), "sha256": "0" * 64})
    assert session.plan == before


def test_plan_without_channels_is_not_applied(nano):
    plan = parse_plan(by_hand(nano, [{"layer": "model.5", "amount": "25%"}]))
    with pytest.raises(PlanError, match="step 1 of the plan does not say which channels it removes"):
        replay(plan, nano.coupling, nano.checkpoint.sha256)
