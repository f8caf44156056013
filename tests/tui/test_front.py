"""The front: measured stages as dots with their intervals, the pending cuts as a ring, in braille and in ASCII."""

from __future__ import annotations

import pytest

from tests.tui.helpers import check_golden
from tests.tui.test_lineage import branching_lineage
from tui_pruner.domain.lineage import ASKED, Stage
from tui_pruner.tui.panes.front import Dot, best, dots_of, front_lines

ASKED_STAGE = Stage(ASKED, "b:1", ASKED, "asked for", 2_100_000, 5_600_000_000, metric=0.85, low=0.82, high=0.88)


@pytest.mark.parametrize(("width", "height"), [(116, 34), (76, 18)])
@pytest.mark.parametrize("braille", [True, False])
def test_front_is_drawn_with_intervals_and_a_line_through_the_best(width: int, height: int, braille: bool):
    dots = dots_of(branching_lineage(), "flops", ASKED_STAGE)
    lines = front_lines(dots, "flops", "mAP", width, height, "b:", braille)
    assert len(lines) == height and all(line.cell_len <= width for line in lines)
    name = f"front-{width + 4}{'' if braille else '-ascii'}"
    check_golden(name, "\n".join(line.plain.rstrip() for line in lines))


def test_dots_are_measured_stages_from_left_to_right_with_one_set_per_axis():
    shown = branching_lineage()
    assert [dot.id for dot in dots_of(shown, "flops", ASKED_STAGE)] == [ASKED, "a:3", "b:", "a:1", "a:"]
    assert [dot.id for dot in dots_of(shown, "ms")] == ["b:", "a:"]
    assert [dot.x for dot in dots_of(shown, "params")] == [2_500_000, 2_500_000, 2_710_000, 3_010_000]


def test_best_dots_are_those_that_no_smaller_one_exceeds():
    dots = [Dot("a", 8, 0.9), Dot("b", 6, 0.8), Dot("c", 7, 0.7), Dot("d", 5, 0.99, hollow=True)]
    assert [dot.id for dot in best(dots)] == ["b", "a"]


def test_empty_front_shows_a_message_and_one_dot_is_drawn():
    lines = front_lines([], "ms", "mAP", 60, 10)
    assert lines[0].plain.startswith("nothing is measured and timed yet: L measures") and len(lines) == 10
    assert len(front_lines([Dot("a", 8e9, 0.9)], "flops", "mAP", 60, 10)) == 10
