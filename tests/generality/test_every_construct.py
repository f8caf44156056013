"""Every module of one construct is cut correctly, locked with a reason, or refused; an independent twin confirms each cut called equal."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
from torch import nn

import tui_pruner as tp
from tests.generality.constructs import CONSTRUCTS
from tests.generality.modules import CASES, Case
from tests.generality.test_any_module import EXACT, HALF, built, differences, opened

EVERY = {**CASES, **CONSTRUCTS}


def own_words(case: Case, session: tp.ModuleSession) -> Iterator[str]:
    """The reasons why groups are held that are neither the input's nor the predictions'."""
    for group in session.groups():
        if not group.prunable and group.reason not in ("reads the input", "feeds the model's predictions"):
            yield f"{'first ' if 'first' in group.layers else ''}{group.reason}"


def wrongly_equal(case: Case, net: nn.Module, session: tp.ModuleSession, rounding: float) -> Iterator[str]:
    """Cut every layer alone that can be: what is called equal and differs from a twin, what is not proved, and what changes the module."""
    before = copy.deepcopy(session.layers())
    for layer, width in before.items():
        if width.out_channels < 2 or width.status == "locked":
            continue
        foreseen = session.preview([f"{layer}=30%"]).after.parameters
        session.apply([f"{layer}=30%"])
        proof = session.prove()
        if proof.equal and foreseen != (count := sum(parameter.numel() for parameter in session.model().parameters())):
            yield f"{layer} leaves {count} parameters, where {foreseen} were foreseen"
        if not proof.equal:
            yield f"{layer} can be cut, and is not proved: {proof}"
        elif (difference := differences(session, net, case, rounding == EXACT)[0]) > rounding:
            yield f"{layer} is called equal, and is {difference:.1e} from its twin"
        session.undo()


@pytest.mark.parametrize("name", EVERY)
def test_every_construct_is_cut_correctly_or_locked_or_refused(name):
    case = EVERY[name]
    net = built(case)
    try:
        session = opened(case, net)
    except tp.PrunerError as error:
        assert case.held and case.held in str(error) and "\n" not in str(error)
        return
    reasons = list(own_words(case, session))
    assert all(reasons) and (not case.held or any(case.held in reason for reason in reasons))
    assert list(wrongly_equal(case, net, session, HALF if "half precision" in name else EXACT)) == []
