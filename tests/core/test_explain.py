"""`explain` answers the field reports' questions: what touches what, by which operation, at which channel."""

from __future__ import annotations

import pytest

from tui_pruner.core.explain import explain
from tui_pruner.errors import RequestError


def stations(found) -> list[tuple[str, str, str]]:
    return [(step.at, step.operation, step.detail) for step in found.path]


def test_no_channel_path_leads_from_block_five_to_block_two(nano):
    found = explain(nano, "5", "2")
    assert not found.coupled
    assert found.path == ()


def test_block_five_touches_the_input_of_block_six_and_nothing_else(nano):
    assert [(touch.layer, touch.role, touch.because) for touch in explain(nano, "5").touches] == [("model.6.cv1", "in", "reads it")]


@pytest.mark.parametrize(
    ("concat", "sources"),
    [
        ("11", {"10": "0..255", "6": "256..383"}),
        ("14", {"13": "0..127", "4": "128..191"}),
        ("17", {"16": "0..63", "12": "64..191"}),
        ("20", {"19": "0..127", "9": "128..383"}),
    ],
)
def test_every_concat_has_its_true_sources_at_their_offsets(nano, concat, sources):
    for source, where in sources.items():
        assert (f"model.{concat}", "Concat", f"at channel {where}") in stations(explain(nano, source, concat))
    for other in {"3", "5", "7", "18"} - set(sources):
        assert not any(at == f"model.{concat}" for at, _, _ in stations(explain(nano, other, concat)))


def test_the_upsampled_nine_reaches_eleven_through_ten(nano):
    assert stations(explain(nano, "9", "11")) == [
        ("model.9.cv2", "writes", "output channels all 256"),
        ("model.10", "Upsample", "at channel all 256"),
        ("model.11", "Concat", "at channel 0..255"),
    ]


def test_a_shortcut_is_named_on_the_way(nano):
    assert ("model.6.m.1", "add", "makes the channels of both one") in stations(explain(nano, "6.m.0.cv2", "6.m.1.cv2"))


def test_a_link_is_named_on_the_way(nano):
    touches = {(touch.layer, touch.role): touch.channels for touch in explain(nano, "6.m.0.cv2").touches}
    assert touches["model.6.cv1", "linked"] == "0..63"
    assert touches["model.6.cv1", "out"] == "64..127"


def test_an_unknown_name_gets_the_nearest_ones(nano):
    with pytest.raises(RequestError, match="the nearest are"):
        explain(nano, "model.6.cv9", "2")
