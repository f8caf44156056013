"""The map: sections as rows of blocks, every link drawn from its source to its target, the tree's cursor and the explained path on it."""

import os
import random
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from tui_pruner.engine.messages import BlockView
from tui_pruner.tui import colours
from tui_pruner.tui.panes.map import Face, lit_blocks, map_lines, steps, tint_of
from tui_pruner.tui.panes.map_layout import CARD, HEIGHT, MapWire, beside, chart, goals

pytestmark = pytest.mark.asyncio(loop_scope="session")
WIDTHS = (50, 63, 76, 108)


def network(*sources: list[int], backbone: int = 10) -> list[BlockView]:
    """Blocks that read these blocks."""
    last = len(sources) - 1
    return [
        BlockView(
            index=index, name=f"model.{index}", type="Concat" if len(reads) > 1 else "C2f", **{"from": reads},
            section="backbone" if index < backbone else "head" if index == last else "neck",
            in_channels=8, out_channels=8, parameters=0, flops=0, output_shape=[8, 4, 4], layers=[],
        )
        for index, reads in enumerate(sources)
    ]  # fmt: skip


def nano() -> list[BlockView]:
    """The links of YOLOv8."""
    joined = {11: [10, 6], 14: [13, 4], 16: [15], 17: [16, 12], 20: [19, 9], 22: [15, 18, 21]}
    return network(*(joined.get(index, [index - 1]) for index in range(23)))


def random_network(seed: int) -> list[BlockView]:
    """A random network in the manner of YOLO: mostly in a row, some blocks reading earlier ones."""
    draw = random.Random(seed)
    return network(
        *([index - 1, *draw.sample(range(max(index - 1, 0)), draw.randint(0, min(2, max(index - 1, 0))))] for index in range(30))
    )


@pytest.mark.parametrize("width", WIDTHS)
async def test_every_link_is_drawn_from_its_source_to_its_target(width):
    for blocks in (nano(), *(random_network(seed) for seed in range(8))):
        plan = chart(blocks, width)
        pairs = {(source, block.index) for block in blocks for source in block.from_ if source >= 0}
        assert {(link.source, link.target) for link in plan.links} == pairs
        for link in plan.links:
            for (y, x), end in ((link.points[0], link.source), (link.points[-1], link.target)):
                card = plan.card(end)
                assert card.x <= x < card.x + CARD and plan.tops[card.row] <= y < plan.tops[card.row] + HEIGHT
            assert all(x == to_x or y == to_y for (y, x), (to_y, to_x) in pairwise(link.points))


@pytest.mark.parametrize("width", WIDTHS)
async def test_wires_overlap_only_if_they_end_at_the_same_block(width):
    blocks = nano()
    plan = chart(blocks, width)
    covered = {(plan.tops[card.row] + line, card.x + x) for card in plan.cards for line in range(HEIGHT) for x in range(CARD)}
    going: dict[tuple[int, int, bool], set[tuple[int, int]]] = {}
    for link in plan.links:
        if beside(plan.card(link.source), plan.card(link.target)):
            continue
        for (y, x), mask in steps(link.points):
            ends = (y, x) in ((link.points[0]), (link.points[-1]))
            assert ends or (y, x) not in covered, (link, y, x)
            for level in (True, False):
                if mask & (12 if level else 3):
                    going.setdefault((y, x, level), set()).add((link.source, link.target))
    for place, links in going.items():
        assert len({source for source, _ in links}) == 1 or len({target for _, target in links}) == 1, (place, links)


async def test_continuing_wire_shares_no_line_with_an_ending_one():
    ends = goals([MapWire(1, 9, 1, 1, 2, 5, False), MapWire(2, 9, 1, 1, 15, 5, False), MapWire(2, 20, 1, 3, 15, 5, False)])
    assert ends[1, 1] == {9} and ends[1, 2] == {9, -3} and ends[3, 2] == {20}


async def test_map_rows_are_sections_and_fit_the_screen():
    plan = chart(nano(), 63)
    assert [[card.index for card in plan.cards if card.row == row] for row in range(6)] == [
        [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19], [20, 21], [22],
    ]  # fmt: skip
    for width in (*WIDTHS, 11):
        lines = map_lines(chart(nano(), width), {index: Face("8", "white on black") for index in range(23)}, set(), width)
        assert all(line.cell_len == width for line in lines)
        text = "\n".join(line.plain for line in lines)
        assert all(f"{index} " in text for index in range(23)) and "22 C2f" not in text
    assert plan.neighbour(7, 0, 1) == 12 and plan.neighbour(21, 0, -1) == 16 and plan.neighbour(0, -1, 0) == 0


async def test_blocks_on_the_explained_path_are_highlighted():
    blocks = [block if block.index in (10, 11, 13, 14, 17, 20) else block.model_copy(update={"layers": [None]}) for block in nano()]
    assert lit_blocks(blocks, ["model.9.cv2", "model.12.cv1"]) == {9, 10, 11, 12}
    assert lit_blocks(blocks, ["model.1"]) == {1}
    assert lit_blocks(blocks, ["model.9.cv2", "model.20"]) == {9, 20}


async def test_map_of_a_large_network_is_drawn_within_one_frame():
    blocks = random_network(3)
    faces = {block.index: Face("8", "white on black") for block in blocks}
    plan = chart(blocks, 76)
    began = time.process_time()
    map_lines(plan, faces, {1, 2}, 76)
    assert time.process_time() - began < 0.1


ASCII = """
from tests.tui.test_map import nano
from tui_pruner.tui.panes.map_layout import chart
from tui_pruner.tui.panes.map import Face, map_lines
print(*(line.plain for line in map_lines(chart(nano(), 63), {n: Face("8", "white on black") for n in range(23)}, {4, 14}, 63)), sep="\\n")
"""


async def test_map_is_drawn_in_ascii_without_unicode():
    run = subprocess.run(
        [sys.executable, "-c", ASCII], env={**os.environ, "TUI_PRUNER_ASCII": "1"}, capture_output=True, text=True, check=True
    )
    assert run.stdout.isascii() and "0 C2f      ->1 C2f" in run.stdout and "+---" in run.stdout


async def test_map_and_tree_share_the_cursor_and_enter_shows_the_block(desk):
    tree = desk.tree
    await desk.go("model.4.cv2")
    await desk.press("m")
    await desk.until(lambda: "─▸4 C2f" in desk.text, "the map")
    assert not tree.display and desk.bench.query_one("#map").has_focus
    await desk.press("down", "right", "right")
    assert tree.row.key == "model.11"
    await desk.press("up", "left", "left", "left")
    assert tree.row.key == "model.3"
    await desk.press("full_stop")
    await desk.previewed()
    await desk.until(lambda: "64→61" in desk.text, "the new width on the map")
    assert desk.state.pending.amounts["model.3"].percent == 5
    await desk.press("end", "enter")
    await desk.until(lambda: tree.display, "the tree")
    assert tree.display and tree.row.key == "model.22" and tree.is_open("model.22")
    await desk.press("m", "home", "escape")
    assert tree.display and tree.has_focus and tree.row.key == "model.0"


async def test_click_selects_a_block_then_opens_it_and_selects_a_hop_of_an_explanation(desk):
    tree = desk.tree
    await desk.press("m")
    await desk.until(lambda: "12 C2f" in desk.text, "the map")
    await desk.click("12 C2f")
    assert tree.row.key == "model.12" and not tree.display
    await desk.click("12 C2f")
    await desk.until(lambda: tree.display and tree.is_open("model.12"), "the block in the tree")
    await desk.press("e")
    await desk.until(lambda: "reads it in a concat, from channel 64" in desk.text, "the explanation")
    await desk.click("reads it in a concat, from channel 64")
    assert tree.row.key == "model.18.cv1"


async def test_cut_blocks_are_tinted_and_the_explained_path_is_highlighted(desk):
    board, tree = desk.state, desk.tree
    await desk.go("model.16")
    await desk.press("5", "0", "enter")
    await desk.previewed()
    tints = {row.key: tint_of(row, board) for row in tree.rows if row.kind == "block"}
    assert {key for key, tint in tints.items() if tint == colours.PENDING_TINT} == {"model.16", "model.17", "model.18"}
    await desk.press("a")
    await desk.until(lambda: board.session.steps and board.session.steps[0].proof is not None, "the proof")
    tints = {row.key: tint_of(row, board) for row in tree.rows if row.kind == "block"}
    assert {key for key, tint in tints.items() if tint == colours.CUT_TINT} == {"model.16", "model.17"}
    await desk.go("model.4.cv2")
    await desk.press("m", "e")
    await desk.until(lambda: desk.view.explanation is not None, "the explanation")
    await desk.press("p", "1", "4", "enter")
    await desk.until(lambda: desk.view.explanation.found.second == "model.14", "the path")
    await desk.press("l", "l")
    await desk.until(lambda: "◆ 64" in desk.text and "◆ 192" in desk.text, "the lit path")
    assert tree.row.key == "model.14"
    await desk.shows("map-120x40")
    for width, height in ((80, 24), (60, 20)):
        await desk.pilot.resize_terminal(width, height)
        await desk.until(lambda: "◆ 192" in desk.text and "Concat at channel" in desk.text.splitlines()[-2], "the map at the new size")
        await desk.shows(f"map-{width}x{height}")
    await desk.pilot.resize_terminal(120, 40)
    await desk.press("escape", "escape", "u")
    await desk.until(lambda: not board.session.steps, "the undone step")
