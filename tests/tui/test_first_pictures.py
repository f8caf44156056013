"""A pane's first picture has its lines: nothing is painted empty first."""

from __future__ import annotations

import pytest

from tests.tui.helpers import Desk
from tui_pruner.tui.panes.map import MapPane

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_map_has_its_lines_before_its_first_layout(desk: Desk):
    pane = desk.bench.query_one(MapPane)
    pane._lines._texts = []
    assert not pane.scrollable_content_region.width
    desk.bench.store.view.on_map = True
    pane.show(desk.bench.store)
    drawn = [line.plain for line in pane._lines._texts]
    desk.bench.store.view.on_map = False
    assert any("0 Conv" in line for line in drawn)
    await desk.press("m")
    assert [line.plain for line in pane._lines._texts] == drawn
    await desk.press("escape")
