"""Typed amounts are parsed or refused; ratios move by whole percents and never empty a layer."""

import pytest

from tui_pruner.domain.cuts import Amount, Asked, PrunableWidth, classes_to_keep, typed_amount
from tui_pruner.domain.errors import RequestError
from tui_pruner.tui.job_specs.search import classes_left


@pytest.mark.parametrize(
    ("text", "request_text"),
    [("30", "30%"), ("30%", "30%"), ("30 %", "30%"), ("0.3", "30%"), ("keep:45", "keep:45"), ("keep 45", "keep:45")],
)
def test_amounts_are_parsed_as_on_the_command_line(text, request_text):
    assert typed_amount(text).request == request_text


def test_bare_number_is_a_width_in_the_prompt_for_widths():
    assert typed_amount("45", keeping=True) == Amount(keep=45)


def test_amount_of_zero_clears_the_cut():
    assert typed_amount("0") is None


@pytest.mark.parametrize("text", ["", "abc", "-5", "100", "250%", "keep:0", "keep:4.5", "30%%", "1e3"])
def test_invalid_amount_is_refused(text):
    with pytest.raises(RequestError):
        typed_amount(text)


def test_ratio_stops_at_zero_and_below_one_hundred_percent():
    widths = {"model.5": PrunableWidth(128, 128)}
    assert not Asked().nudge(widths, -5)
    assert Asked({"model.5": Amount.share(98)}).nudge(widths, 5).amounts["model.5"] == Amount.share(99)


def test_exact_width_becomes_a_ratio_when_nudged():
    assert Asked({"model.5": Amount(keep=96)}).nudge({"model.5": PrunableWidth(128, 128)}, 1).amounts["model.5"] == Amount.share(26)


def test_shares_of_less_than_one_channel_are_skipped():
    asked = Asked().nudge({"model.0": PrunableWidth(16, 16)}, 1)
    assert asked.amounts["model.0"] == Amount.share(4)
    assert not asked.nudge({"model.0": PrunableWidth(16, 16)}, -1)


def test_setting_an_amount_keeps_the_other_layers():
    asked = Asked({"a": Amount.share(10)}).put(["b", "c"], Amount.share(20)).put(["b"], None)
    assert {layer: amount.percent for layer, amount in asked.amounts.items()} == {"a": 10, "c": 20}


def test_rounded_shares_skip_those_that_keep_all_channels():
    asked = Asked(round_to=8).nudge({"model.3": PrunableWidth(64, 64)}, 1)
    assert asked.amounts["model.3"] == Amount.share(8)  # 59 of 64 is the first width that is nearer to 56 than to 64
    assert not asked.nudge({"model.3": PrunableWidth(64, 64)}, -1)


def test_share_is_set_only_on_layers_that_lose_a_channel():
    widths = {"narrow": PrunableWidth(8, 8), "halves": PrunableWidth(16, 8), "wide": PrunableWidth(16, 16)}
    assert Asked({"narrow": Amount.share(50)}).share(widths, 5).amounts == {"wide": Amount.share(5)}
    assert not Asked(round_to=16).share(widths, 40)


def test_exact_width_of_a_layer_in_two_halves_is_nudged_from_its_total_share():
    assert Asked({"a": Amount(keep=96)}).nudge({"a": PrunableWidth(128, 64)}, 1).amounts["a"] == Amount.share(26)


def test_clearing_the_amounts_keeps_criterion_and_rounding():
    asked = Asked({"a": Amount.share(10)}, criterion="l1", round_to=8)
    assert asked.cleared == Asked(criterion="l1", round_to=8)
    assert asked.put(["a"], None) == asked.cleared


def test_amount_of_classes_is_parsed_and_written_back():
    amount = classes_to_keep(" one , 7,")
    assert amount == Amount(classes="one,7") and amount.request == "keep:one,7"
    assert classes_to_keep(amount.request) == amount and classes_to_keep(" , ") is None
    assert classes_left({"steps": []}, 10) == []
