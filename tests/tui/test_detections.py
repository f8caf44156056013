"""`I` shows what two stages find on the same images, those that changed most first, drawn where the terminal can."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from textual.widget import Widget

from tests.tui.helpers import Desk
from tests.tui.test_jobs_text import job
from tui_pruner.domain.cuts import Amount, Asked
from tui_pruner.engine.job_messages import Box, DetectedImage
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import half_blocks
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens import detections
from tui_pruner.tui.screens.detections import (
    Detections,
    PictureBox,
    cannot_draw,
    changed_lines,
    graphics,
    need_not_draw,
    places,
    under_way,
    with_boxes,
)
from tui_pruner.tui.screens.stages import Stages
from tui_pruner.tui.terminal import without_control_sequences

LOST = Box(sides=(0.25, 0.25, 0.75, 0.75), label="seven", score=0.9)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch):
    """A terminal without pictures of its own, not over SSH."""
    for name in (
        "SSH_CONNECTION",
        "SSH_TTY",
        "TERM",
        "TERM_PROGRAM",
        "KITTY_WINDOW_ID",
        "TMUX",
        "TEXTUAL_CELL_WIDTH",
        "TEXTUAL_CELL_HEIGHT",
        detections.VARIABLE,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(colours, "_in_use", colours.DARK)


@pytest.fixture
def grey(tmp_path: Path) -> str:
    """A grey picture of 80 by 40 pixels."""
    from PIL import Image

    Image.new("RGB", (80, 40), (100, 100, 100)).save(tmp_path / "grey.png")
    return str(tmp_path / "grey.png")


def test_two_pixels_are_drawn_in_one_cell():
    red, blue = (255, 0, 0), (0, 0, 255)
    (row,) = half_blocks([red, red, blue, red], 2)
    assert [(cell.style.color.triplet, cell.style.bgcolor.triplet) for cell in row] == [(red, blue), (red, red)]


def test_box_is_drawn_in_the_colour_of_its_change(grey: str):
    image = with_boxes(grey, [LOST], after=False, size=(40, 40))
    assert image.size == (40, 20)
    frame = detections.rgb(colours.BAD)
    assert [image.getpixel(place) for place in ((10, 5), (29, 14), (20, 5), (20, 10), (0, 0))] == [frame] * 3 + [(100, 100, 100)] * 2
    assert with_boxes(grey, [LOST], after=True, size=(40, 40)).getpixel((10, 5)) == detections.rgb(colours.WARNING)
    rows = detections.picture_rows(image, [LOST], after=False)
    assert "".join(cell.text for cell in rows[1]).strip("▀") == "seven .900" and (len(rows), len(rows[0])) == (10, 40)


def test_changed_detections_are_described_in_words():
    both = LOST.model_copy(update={"matched": True})
    image = DetectedImage(image="a.jpg", file="", before=[LOST, both], after=[both], changed=0.9)
    assert [text for text, _ in changed_lines(image, "no pictures")] == [
        "1 detection in both",
        "lost: seven .900",
        "no pictures · p draws them",
    ]


def test_pictures_are_disabled_with_a_reason(monkeypatch: pytest.MonkeyPatch):
    assert (cannot_draw(False), need_not_draw()) == ("", "")
    assert "NO_COLOR" in cannot_draw(True)
    monkeypatch.setattr(colours, "_in_use", colours.ANSI)
    assert "16 colours" in cannot_draw(False)
    monkeypatch.setenv("SSH_CONNECTION", "1")
    assert "SSH" in need_not_draw()
    monkeypatch.setenv(detections.VARIABLE, "blocks")
    assert need_not_draw() == ""
    monkeypatch.setenv(detections.VARIABLE, "never")
    assert "switched off" in need_not_draw()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "TGPImage"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "SixelImage"),
        ({"TERM": "xterm-kitty", "TMUX": "1"}, ""),
        ({"TERM": "xterm-kitty", detections.VARIABLE: "blocks"}, ""),
        ({"TERM": "xterm-256color"}, ""),
    ],
)
def test_terminals_with_graphics_are_recognised(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert graphics() == expected


class TerminalsOwn(Widget):
    """What textual-image offers: a widget of a picture."""

    def __init__(self, picture) -> None:
        super().__init__()
        self.picture = picture


def with_package(monkeypatch: pytest.MonkeyPatch, kind: type[Widget]) -> None:
    """A textual-image whose kitty widget is this one."""
    package, widgets = types.ModuleType("textual_image"), types.ModuleType("textual_image.widget")
    widgets.TGPImage = kind
    monkeypatch.setitem(sys.modules, "textual_image", package)
    monkeypatch.setitem(sys.modules, "textual_image.widget", widgets)


def test_terminal_is_hidden_from_the_optional_package_while_it_is_imported(monkeypatch: pytest.MonkeyPatch):
    terminal = sys.__stdout__
    monkeypatch.setitem(sys.modules, "textual_image", None)
    monkeypatch.delitem(sys.modules, "textual_image.widget", raising=False)
    assert detections.graphics_widget("TGPImage") is None and sys.__stdout__ is terminal
    with_package(monkeypatch, Widget)
    assert detections.graphics_widget("TGPImage") is Widget and sys.__stdout__ is terminal


def test_picture_of_the_terminals_graphics_keeps_its_aspect_ratio(monkeypatch: pytest.MonkeyPatch):
    assert detections.fitted((512, 256), (58, 32)) == (58, 14) and detections.fitted((256, 512), (58, 32)) == (32, 32)
    monkeypatch.setenv("TEXTUAL_CELL_WIDTH", "8")
    monkeypatch.setenv("TEXTUAL_CELL_HEIGHT", "24")
    assert detections.fitted((512, 512), (58, 32)) == (58, 19)


def test_control_character_filter_keeps_the_placeholders_of_kitty():
    assert (
        without_control_sequences("\U0010eeee\u0305 a") == "\U0010eeee\u0305 a"
        and without_control_sequences("\x1b[2J\U0010eeee") == "[2J\U0010eeee"
    )


async def apply_a_costly_cut(desk: Desk) -> None:
    """One step that costs detections."""
    desk.state.automatic = False
    desk.request(Asked({"model.4.cv2": Amount.share(60), "model.15.cv2": Amount.share(50)}))
    await desk.previewed()
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1 and desk.state.session.steps[0].proof is not None, "the proved step")


async def test_detections_of_two_stages_are_drawn_with_the_most_changed_images_first(
    start, demo_checkpoint: Path, demo_data: Path, monkeypatch: pytest.MonkeyPatch
):
    async with start(opening=Opening(str(demo_checkpoint), images=4, data=str(demo_data))) as desk:
        await desk.press("I")
        assert "two stages are needed" in desk.said[-1]
        await apply_a_costly_cut(desk)
        desk.app.use_palette("dark")
        await desk.press("I")
        await desk.until(lambda: isinstance(desk.app.screen, Detections), "the screen")
        await desk.until(lambda: bool(desk.state.detected), "the detections")
        (found,) = desk.state.detected.values()
        changes = [one.changed for one in found.images]
        assert changes == sorted(changes, reverse=True) and changes[0] > 0.5 and len(changes) == 4
        first = found.images[0]
        await desk.until(lambda: f"1/4  {first.image}   changed by {changes[0]:.2f}" in desk.text and "▀" in desk.text, "the first image")
        assert f"digits.pt: {len(first.before)} found" in desk.text and "lost: " in desk.text
        label = detections.label_of(first.before[0])
        assert any(label in line and "▀" in line for line in desk.text.splitlines())
        await desk.press("right")
        await desk.until(lambda: f"2/4  {found.images[1].image}" in desk.text, "the next image")
        await desk.press("left", "left")
        await desk.until(lambda: f"1/4  {first.image}" in desk.text, "the first image again")
        await desk.pilot.resize_terminal(80, 24)
        rows = desk.app.screen.query_one("#picture-before", PictureBox)
        await desk.until(lambda: 0 < len(rows._rows) <= 16, "the smaller picture")
        await desk.press("p")
        await desk.until(lambda: "▀" not in desk.text and "no pictures · p draws them" in desk.text, "words alone")
        await desk.press("escape", "H")
        await desk.until(lambda: isinstance(desk.app.screen, Stages), "the stages")
        await desk.press("I")
        await desk.until(lambda: isinstance(desk.app.screen, Detections) and "1/4" in desk.text, "the same two, known by now")
        assert len([job for job in desk.queue.jobs if job.spec.kind == "detect"]) == 1
        await desk.press("escape", "escape")
        monkeypatch.setenv("TERM", "xterm-kitty")
        with_package(monkeypatch, TerminalsOwn)
        await desk.press("I")
        await desk.until(lambda: len(desk.app.screen.query(TerminalsOwn)) == 2, "the terminal's own pictures")
        own = desk.app.screen.query_one("#before", Widget).query_one(TerminalsOwn)
        assert own.picture.size == (160, 160) and "▀" not in desk.text
        assert own.picture.getpixel((0, 0)) != own.picture.getpixel(places(first.before[0], (160, 160))[:2])
        await desk.press("escape")


async def test_detection_job_is_cancelled_by_a_key(start, demo_checkpoint: Path, demo_data: Path):
    async with start(opening=Opening(str(demo_checkpoint), images=24, data=str(demo_data))) as desk:
        await apply_a_costly_cut(desk)
        await desk.press("I")
        await desk.until(lambda: isinstance(desk.app.screen, Detections), "the screen")
        await desk.press("K")
        await desk.until(lambda: "cancelled" in desk.text, "its end")
        assert not desk.state.detected
        desk.queue.close()


def test_waiting_detections_show_the_progress_of_the_running_job():
    waiting = job("detect", "a → b", 2)
    assert under_way(waiting, 20.0, job("validate", "step 2", done=16)) == "waits for validate step 2: validating 16/64  10 s"
    assert under_way(waiting, 20.0) == "waits for the jobs before it"
    assert under_way(job("detect", "a → b", done=16), 20.0) == "validating 16/64  10 s"
