"""`explain` answers the field reports' questions: what touches what, by which operation, at which channel."""

from __future__ import annotations

import pytest

from tui_pruner.core.pruning.explain import explain
from tui_pruner.domain.errors import RequestError


def hops(found) -> list[tuple[str, str, str]]:
    return [(step.at, step.operation, step.detail) for step in found.path]


def test_explain_finds_no_channel_path_from_block_five_to_block_two(nano):
    found = explain(nano, "5", "2")
    assert not found.coupled
    assert found.path == ()


def test_explain_finds_that_block_five_affects_only_the_input_of_block_six(nano):
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
def test_explain_finds_every_concat_with_its_sources_at_their_offsets(nano, concat, sources):
    for source, where in sources.items():
        assert (f"model.{concat}", "Concat", f"at channel {where}") in hops(explain(nano, source, concat))
    for other in ("3", "5", "7"):
        assert not any(at == f"model.{concat}" for at, _, _ in hops(explain(nano, other, concat)))


@pytest.mark.parametrize(("source", "concat"), [("8", "11"), ("6", "14"), ("3", "17"), ("15", "17"), ("4", "20")])
def test_explain_finds_no_path_to_a_concat_that_the_reports_suspected(nano, source, concat):
    found = explain(nano, source, concat)
    assert not found.coupled and found.summary.endswith(f"no channel path to {concat}")


def test_explained_path_has_only_layers_between_its_ends(nano):
    assert [at for at, _, _ in hops(explain(nano, "9", "20"))] == ["model.9.cv2", "model.20"]


def test_explained_path_of_the_reported_cascade_ends_at_its_first_link(nano):
    for a, b in (("6", "4"), ("5", "14"), ("5", "7"), ("1", "4"), ("10", "20")):
        for first, second in ((a, b), (b, a)):
            assert not explain(nano, first, second).coupled, (first, second)
    assert [touch.layer for touch in explain(nano, "1").touches] == ["model.2.cv1"]


def test_explain_finds_only_the_forward_path_between_blocks_four_and_five(nano):
    for a, b in (("4", "5"), ("5", "4")):
        found = explain(nano, a, b)
        assert [at for at, _, _ in hops(found)] == ["model.4.cv2", "model.5"]
        assert found.summary == f"{a} and {b}: 5 reads the channels of 4.cv2"


@pytest.mark.parametrize(("block", "before"), [("3", "2"), ("5", "4"), ("12", "11"), ("15", "14"), ("18", "17"), ("21", "20")])
def test_reported_mismatches_are_explained_as_a_block_that_reads_the_one_before(nano, block, before):
    for a, b in ((before, block), (block, before)):
        *_, last = hops(explain(nano, a, b))
        assert last[1] == "reads" and last[0].startswith(f"model.{block}")


@pytest.mark.parametrize(
    ("cut", "reader"),
    [("7", "8.cv1"), ("8.m.0.cv1", "8.m.0.cv2"), ("1", "2.cv1"), ("3", "4.cv1"), ("5", "6.cv1")],
)
def test_inputs_that_broke_in_manual_pruning_are_explained_as_also_affected(nano, cut, reader):
    assert [(touch.layer, touch.role) for touch in explain(nano, cut).touches] == [(f"model.{reader}", "in")]
    assert hops(explain(nano, cut, reader))[-1][:2] == (f"model.{reader}", "reads")


def test_explain_shows_the_couplings_inside_a_c2f(nano):
    assert ("model.8.m.0", "add", "makes the channels of both one") in hops(explain(nano, "8.m.0.cv2", "8.cv1"))
    assert hops(explain(nano, "8.m.0.cv2", "8.cv2"))[-1] == ("model.8.cv2", "reads", "input channels 128..383")
    touches = {(touch.layer, touch.role): touch.channels for touch in explain(nano, "8.cv1").touches}
    assert touches["model.8.m.0.cv1", "in"] == "all 128"
    assert touches["model.8.cv2", "in"] == "0..127"


@pytest.mark.parametrize(
    ("a", "b", "summary"),
    [
        ("5", None, "5 touches 6.cv1 (input), nothing else"),
        ("5", "2", "5 touches 6.cv1 (input), nothing else; no channel path to 2"),
        ("4", "14", "4 and 14: Concat at channel 128..191"),
        ("model.9", "model.11", "9 and 11: Upsample at channel all 256, Concat at channel 0..255"),
        ("6.m.0.cv2", "6.m.1.cv2", "6.m.0.cv2 and 6.m.1.cv2: add in 6.m.0, add in 6.m.1"),
        ("22.cv2.0.2", None, "22.cv2.0.2 cannot be cut"),
        (
            "2.m.0.cv2",
            None,
            "2.m.0.cv2 touches 2.cv1 (output, as wide), 2.cv2 (input), 2.m.0.cv1 (input), nothing else",
        ),
    ],
)
def test_explanation_has_a_summary_in_one_sentence(nano, a, b, summary):
    assert explain(nano, a, b).summary.startswith(summary)


def test_explained_path_from_nine_to_eleven_goes_through_the_upsampling_in_ten(nano):
    assert hops(explain(nano, "9", "11")) == [
        ("model.9.cv2", "writes", "output channels all 256"),
        ("model.10", "Upsample", "at channel all 256"),
        ("model.11", "Concat", "at channel 0..255"),
    ]


def test_explained_path_names_a_shortcut(nano):
    assert ("model.6.m.1", "add", "makes the channels of both one") in hops(explain(nano, "6.m.0.cv2", "6.m.1.cv2"))


def test_explained_path_names_a_link(nano):
    touches = {(touch.layer, touch.role): touch.channels for touch in explain(nano, "6.m.0.cv2").touches}
    assert touches["model.6.cv1", "linked"] == "0..63"
    assert touches["model.6.cv1", "out"] == "64..127"


def test_unknown_layer_gets_the_nearest_names(nano):
    with pytest.raises(RequestError, match="the nearest are"):
        explain(nano, "model.6.cv9", "2")
