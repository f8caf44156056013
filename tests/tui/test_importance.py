"""The importance of a group's channels as a curve: where the cut falls, what it takes, and the same in plain ASCII."""

import os
import subprocess
import sys

import pytest

from tests.tui.helpers import Desk
from tui_pruner.tui.panes.detail import lost_importance

pytestmark = pytest.mark.asyncio(loop_scope="session")
LAYER = "model.6.m.0.cv2"


async def drawn(desk: Desk, *keys: str) -> list[str]:
    """The lines of the curve, once the figures for these keys are there."""
    await desk.go(LAYER)
    await desk.press(*keys)
    await desk.previewed()
    await desk.until(lambda: desk.state.detail.cut_at > 0, "the cut")
    lines = desk.text.splitlines()
    first = next(number for number, line in enumerate(lines) if "Importance" in line) + 1
    return [line.split("││")[1][1:-1] for line in lines[first : first + 4]]


async def test_cut_line_moves_with_the_ratio_and_is_in_every_row(desk):
    places = []
    for key in ("2", "5"):
        *curve, said = await drawn(desk, key, "0", "enter")
        assert len({row.index("│") for row in curve}) == 1
        places.append(curve[0].index("│"))
        assert said.startswith(f"the weakest {key}0% carry ")
    assert places[0] / places[1] == pytest.approx(2 / 5, abs=0.03)


async def test_importance_removed_by_a_cut_is_summed_from_the_weakest(desk):
    await drawn(desk, "2", "5", "enter")
    detail = desk.state.detail
    assert detail.cut_at == 0.25 and detail.curve == sorted(detail.curve)
    assert lost_importance(detail) == pytest.approx(sum(detail.curve[:16]) / sum(detail.curve))
    assert 0.2 < lost_importance(detail) < 0.25


ASCII = """
from tui_pruner.tui.drawing import curve
from tui_pruner.tui.drawing import GLYPHS
print("|".join(curve([0.0, 0.5, 1.0], 6, 3)), GLYPHS.cut)
"""


async def test_curve_is_drawn_in_ascii_without_unicode():
    run = subprocess.run(
        [sys.executable, "-c", ASCII], env={**os.environ, "TUI_PRUNER_ASCII": "1"}, capture_output=True, text=True, check=True
    )
    assert run.stdout.isascii()
    assert run.stdout.split("|")[0] == "    @@"
