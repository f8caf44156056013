"""Labels of numbers: savings, changes of metrics, titles of columns, and steps with equal numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.message_pump import MessagePump

import tui_pruner.tui
from tests.tui.helpers import Desk
from tests.tui.scripted_jobs import start_script, wanted
from tui_pruner.tui import drawing
from tui_pruner.tui.controllers.preset import presets
from tui_pruner.tui.drawing import titled
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.job_specs.job import ModelFile
from tui_pruner.tui.job_specs.recovery import refit
from tui_pruner.tui.panes.map import draw_wires
from tui_pruner.tui.panes.tree import column_order
from tui_pruner.tui.panes.tree_row import layout

shared = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("environment", "ascii"), [({"LC_ALL": "C"}, True), ({"LC_ALL": "POSIX"}, True), ({"LC_ALL": "C.UTF-8"}, False), ({}, False)]
)
def test_locale_names_containing_cs_get_ascii(monkeypatch, environment, ascii):
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "TUI_PRUNER_ASCII"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(drawing.locale, "getpreferredencoding", lambda _: "UTF-8")
    assert drawing.wants_ascii() is ascii


def test_click_on_a_column_title_is_mapped_to_its_order():
    columns = layout(110, measured=frozenset(["drop"]))
    found, x = {}, 0
    for column in columns:
        found[column.key] = column_order(columns, x)
        x += column.width + 1
    assert found["flops"] == "by FLOPs" and found["parameters"] == "by parameters" and found["drop"] == "by drop" and found["name"] == ""
    assert found["type"] is None


@shared
async def test_click_on_a_column_title_orders_the_tree(desk: Desk):
    await desk.click("Params ")
    await desk.until(lambda: desk.tree.order == "by parameters", "the order")
    await desk.click("Params ")
    await desk.until(lambda: not desk.tree.order, "the model's order")


@shared
async def test_total_saving_is_shown_without_a_minus(desk: Desk):
    await desk.go("model.5")
    await desk.press("5", "0", "enter")
    await desk.previewed()
    line = desk.line("Saves")
    assert "in all" in line and "−" not in line


@shared
async def test_preset_applies_to_the_layers_that_the_filter_shows(desk: Desk):
    desk.filter("neck")
    chosen, word = desk.controllers.preset._chosen()
    found = presets(desk.state.opened.blocks, chosen, word)
    assert {name.split(".")[1] for preset in found for name in preset.layers} <= {"12", "15", "16", "18", "19", "21"}
    assert "shown layer" in found[0].meaning


async def test_validations_of_two_steps_with_one_number_are_both_queued(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    from dataclasses import replace

    queue = JobQueue(MessagePump(), start_script)
    one = replace(wanted("hang", "step 1"), about="model.5 -25%", key="a")
    queue.add(one)
    queue.add(replace(one, about="model.7 -50%", key="b"))
    assert [job.spec.title for job in queue.jobs] == ["step 1: model.5 -25%", "step 1: model.7 -50%"]
    queue.close()
    await asyncio.sleep(0)


def test_crossing_wires_keep_every_arrowhead(monkeypatch):
    from tests.tui.test_map import nano
    from tui_pruner.tui.panes.map import Canvas
    from tui_pruner.tui.panes.map_layout import chart

    for width in (63, 76, 100, 130):
        plan = chart(nano(), width)
        canvas = Canvas(width, plan.height)
        draw_wires(canvas, plan, set())
        for link in plan.links:
            (y, x), (before_y, before_x) = link.points[-1], link.points[-2]
            sign = canvas.cells[y - 1, x][0] if y > before_y else canvas.cells[y, x - 1][0] if x > before_x else None
            assert sign in (None, drawing.GLYPHS.opened, drawing.GLYPHS.closed), (link.source, link.target)


def test_refits_of_two_steps_with_one_number_have_different_keys():
    checkpoint: Any = SimpleNamespace(fields={"data": "d.yaml"}, model=SimpleNamespace(path="a.pt"))
    specs = [
        refit(checkpoint, ModelFile(f"{name}.pt", "0"), f"{name}-refitted.pt", True, lambda _: None, "step 1", title)
        for name, title in (("a", "model.5 -25%"), ("b", "model.7 -50%"))
    ]
    assert [(spec.title, spec.about) for spec in specs] == [("step 1", "model.5 -25%"), ("step 1", "model.7 -50%")]


def test_titles_have_a_minus_sign_and_results_of_jobs_have_no_duration():
    assert titled("1 model.5 -30%") == "1 model.5 −30%" and titled("head-2 keep:4") == "head-2 keep:4"
    folder = Path(tui_pruner.tui.__file__).parent / "job_specs"
    timed = [path.name for path in folder.glob("*.py") if "duration(result.seconds)" in path.read_text(encoding="utf-8")]
    assert timed == [], "the list of jobs and the notes have the time"
