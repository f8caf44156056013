"""Numbers are short, keep three digits, and never show a sign or a change that is not there."""

from functools import partial
from types import SimpleNamespace

import pytest

from tui_pruner.domain.cuts import Amount, usual_widths
from tui_pruner.domain.formatting import count, duration, file_size, giga, operations, score, tiny
from tui_pruner.tui import drawing
from tui_pruner.tui.panes.tree_row import status_of
from tui_pruner.tui.state import AppState, Change


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (812, "812"),
        (64_512, "64.5K"),
        (999_700, "1.00M"),
        (3_012_213, "3.01M"),
        (25_902_640, "25.9M"),
        (68_229_648, "68.2M"),
        (165_000_000_000, "165G"),
    ],
)
def test_counts_have_three_digits(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    ("flops", "text"), [(512e6, "0.512"), (999.6e6, "1.00"), (1.022e9, "1.02"), (8.1e9, "8.10"), (99.96e9, "100"), (165.2e9, "165")]
)
def test_giga_flops_keep_distinguishable_digits(flops, text):
    assert giga(flops) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(100, 73, "▼27%"), (1000, 983, "▼1.7%"), (100, 103, "▲3.0%"), (100, 100, ""), (0, 5, "")],
)
def test_change_has_its_direction_and_is_empty_if_there_is_none(before, after, text):
    assert drawing.change(before, after) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0612, "61 ms"), (2.34, "2.3 s"), (48.2, "48 s"), (59.6, "1:00"), (65, "1:05")])
def test_durations_are_formatted_like_a_clock(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (3.4e-7, "3e-7"), (1.2e-10, "1e-10"), (0.5, "5e-1")])
def test_tiny_differences_are_powers_of_ten(number, text):
    assert tiny(number) == text


def test_scores_omit_the_zero_but_not_the_one():
    assert [score(value) for value in (0.5123, 0.9999, 1.0, 0.0)] == [".512", "1.000", "1.000", ".000"]


def test_saving_has_its_unit_and_a_minus_only_if_the_size_grew():
    assert drawing.saving(3_012_213, 2_800_000, count) == "212K"
    assert drawing.saving(8.1e9, 7.7e9, operations) == "400 MFLOPs"
    assert drawing.saving(7.7e9, 8.1e9, operations) == "−400 MFLOPs"


def test_change_of_a_metric_equals_the_difference_of_the_shown_values():
    assert drawing.gain(0.8943, 0.5819) == "−.312" and drawing.gain(0.5, 0.5004) == "0"


def test_decrease_has_no_sign_and_an_increase_has_one():
    assert [drawing.fall(value) for value in (0.079, -0.003, 0.0001)] == [".079", "+.003", "0"]


def test_file_sizes_have_a_space_before_the_unit():
    assert file_size(6_177_397) == "6.18 MB"
    assert file_size(812) == "812 B"


def test_change_too_small_for_a_digit_is_still_shown():
    assert drawing.change(10_000, 9_999) == "▼<0.1%"


def test_spread_of_ratios_and_relative_change_have_their_signs():
    assert (drawing.spread([30]), drawing.spread([50, 10, 30])) == ("−30%", "−10…50%")
    assert (drawing.relative(0.602, 0.588), drawing.relative(0.5, 0.51)) == (" (−2.3%)", " (+2.0%)")
    assert drawing.relative(0.9, 0.9) == drawing.relative(0.0, 0.1) == drawing.relative(0.9004, 0.8999) == ""


@pytest.mark.parametrize(
    ("now", "step", "widths"),
    [(256, 32, [224, 192, 160, 128, 96, 64]), (64, 8, [56, 48, 40, 32, 24, 16]), (3, 1, [2, 1]), (1, 1, [])],
)
def test_usual_widths_are_multiples_down_to_a_quarter(now, step, widths):
    assert usual_widths(now) == (step, widths)


@pytest.mark.parametrize(("after", "words"), [([22, 45], "2 × −30%"), ([22, 56], "2 × −12…31%"), ([16, 32], "2 × −50%")])
def test_block_says_what_its_layers_really_lose(after, words):
    layers = [SimpleNamespace(name=str(width), out_channels=width, widest_group=width) for width in (32, 64)]
    widths = {
        layer.name: Change((layer.out_channels, layer.out_channels, left), (3, 3, 3)) for layer, left in zip(layers, after, strict=True)
    }
    state = SimpleNamespace(change=lambda layer: widths[layer.name], pending=SimpleNamespace(of={"32": Amount(remove=0.3)}.get))
    state.in_conflict, state.loss, state.loses = (lambda name: False), partial(AppState.loss, state), partial(AppState.loses, state)
    assert status_of(SimpleNamespace(layer=None, layers=layers), state)[0] == words
