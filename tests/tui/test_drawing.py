"""Cells have exactly their width, bars grow with what they show, and curves show where they are cut."""

from itertools import pairwise

import pytest
from rich.cells import cell_len

from tui_pruner.tui.drawing import bar, curve, cut_column, fit, fit_clauses, fit_middle, resample, slider, wrapped
from tui_pruner.tui.panes.tree_row import layout


@pytest.mark.parametrize("width", range(1, 12))
def test_text_is_padded_or_cut_to_its_cell(width):
    assert cell_len(fit("model.6", width)) == width


def test_long_name_keeps_its_beginning_and_its_end():
    assert fit_middle("yolov8x-a-very-long-name.pt", 13) == "yolov8…ame.pt"


def test_bar_is_full_at_one_empty_at_zero_and_visible_at_a_trace():
    assert bar(1.0, 4) == "████"
    assert bar(0.0, 4) == "    "
    assert bar(0.5, 4) == "██  "
    assert bar(0.0001, 4) == "▏   "


def test_slider_has_the_requested_length():
    for percent in (0, 1, 50, 99, 100):
        assert slider(percent / 100, 20, "", "").cell_len == 20
    assert slider(0.3, 20, "", "").plain == "━" * 6 + "─" * 14


def test_curve_is_resampled_by_its_mean():
    assert resample([0.0, 1.0, 0.5, 0.5], 2) == [0.5, 0.5]
    assert resample([0.25], 3) == [0.25, 0.25, 0.25]
    assert resample([], 5) == []


def test_curve_has_the_requested_height_and_reaches_the_top_at_one():
    top, middle, bottom = curve([0.0, 0.5, 1.0], 3, height=3)
    assert (top, middle, bottom) == ("  █", " ▄█", "▁██")


def test_cut_line_is_drawn_at_its_column_and_never_hidden():
    assert cut_column(0.0, 40) == 0
    assert cut_column(0.001, 40) == 1
    assert cut_column(0.3, 40) == 12
    assert cut_column(1.0, 40) == 40


def test_wrapping_breaks_between_words():
    assert [line.plain for line in wrapped("keeps as many as the other part", 14)] == ["keeps as many", "as the other", "part"]


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("width", [48, 54, 63, 75, 92, 108, 160])
def test_columns_fill_the_tree_exactly(width, ranked):
    columns = layout(width, ranked)
    assert sum(column.width for column in columns) + len(columns) - 1 == width
    assert columns[0].key == "name" and columns[-1].key == "status"


@pytest.mark.parametrize("width", [56, 63, 76, 110])
def test_ordered_layer_keeps_its_whole_name_beside_scan_columns(width):
    columns = layout(width, True, frozenset({"drop"}), 0.3, name=12)
    assert columns[0].width >= 12 and sum(column.width + 1 for column in columns) - 1 == width


def test_long_text_loses_its_last_clauses_first():
    assert fit_clauses("mAP .894 (.880 to .912), 64 images, 13 s", 38) == "mAP .894 (.880 to .912), 64 images"
    assert fit_clauses("wrote a-file.pt, 6.1 MB", 12) == "wrote a-fil…" and fit_clauses("as it is", 12) == "as it is"


def test_wider_tree_shows_more_columns():
    shown = [{column.key for column in layout(width)} for width in (40, 63, 78, 100)]
    assert all(narrow < wide for narrow, wide in pairwise(shown))
