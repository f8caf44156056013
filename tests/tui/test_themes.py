"""Themes, no colour, ASCII, calm: what reaches the terminal, and that no information is in colour alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.widgets import Input

from tests.deadlines import HANGING
from tests.terminal import Terminal
from tests.tui.conftest import Start
from tests.tui.helpers import Desk
from tui_pruner.tui import colours
from tui_pruner.tui.colours import ANSI, DARK, HIGH_CONTRAST, LIGHT, PALETTES, Palette, wanted_palette
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.terminal import InReverse, OnlyAscii, as_ascii

GROUNDS = ("background", "surface", "band", "selection", "cut_tint", "pending_tint", "conflict_tint")
SIGNS = ("text", "strong", "muted", "blue", "heading", "good", "warning", "bad", "purple")
SGR = re.compile(rb"\x1b\[([0-9;]*)m")
COMMAND = [sys.executable, "-m", "tui_pruner", "demo"]
COLOUR_CODE = re.compile(r"(^|;)(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;|$)")


def contrast(palette: Palette, sign: str, ground: str) -> float:
    """The ratio of WCAG 2.1 between 1 and 21."""

    def luminance(name: str) -> float:
        parts = [part / 255 for part in Color.parse(getattr(palette, name).split()[-1]).rgb]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(sign), luminance(ground)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(
    ("palette", "least"), [(DARK, 4.5), (LIGHT, 4.5), (HIGH_CONTRAST, 7.0)], ids=lambda value: getattr(value, "name", "")
)
def test_every_colour_has_enough_contrast_on_every_background(palette, least):
    found = {(sign, ground): contrast(palette, sign, ground) for sign in SIGNS for ground in GROUNDS}
    assert {pair: ratio for pair, ratio in found.items() if ratio < least} == {}
    assert contrast(palette, "faint", "background") >= 3.5


def test_palette_is_the_requested_one_or_fits_the_terminal(monkeypatch):
    monkeypatch.delenv("TUI_PRUNER_THEME", raising=False)
    assert wanted_palette("truecolor", False) == ("dark", "") == wanted_palette("256", False)
    assert wanted_palette("standard", False) == ("ansi", "") == wanted_palette("truecolor", True)
    monkeypatch.setenv("TUI_PRUNER_THEME", "light")
    assert wanted_palette("standard", False) == ("light", "")
    monkeypatch.setenv("TUI_PRUNER_THEME", "drak")
    name, problem = wanted_palette("256", False)
    assert name == "dark" and "no theme 'drak'" in problem and "high-contrast" in problem


async def test_changed_theme_recolours_everything_on_the_screen(start: Start, demo_checkpoint: Path):
    async with start(opening=Opening(str(demo_checkpoint))) as desk:
        for palette in PALETTES.values():
            desk.app.use_palette(palette.name)
            await desk.pilot.pause()
            drawn = {segment.style for line in desk.app.screen._compositor.render_strips() for segment in line}
            used = {str(colour.name) for style in drawn if style for colour in (style.color, style.bgcolor) if colour}
            foreign = {getattr(other, sign).split()[-1] for other in (DARK, LIGHT, HIGH_CONTRAST) for sign in (*SIGNS, *GROUNDS)}
            own = {getattr(palette, sign).split()[-1] for sign in (*SIGNS, *GROUNDS, "border", "faint")}
            assert used & (foreign - own) == set(), palette.name
        await desk.press("ctrl+p")
        await desk.until(lambda: isinstance(desk.app.focused, Input), "the palette")
        await desk.press(*"theme high", "enter")
        await desk.until(lambda: colours.in_use() is HIGH_CONTRAST and desk.app.screen is desk.bench, "the chosen theme")
    colours.use(DARK)


def test_missing_background_colour_is_shown_in_reverse_on_16_colours():
    line = [Segment("a", Style.parse(f"{ANSI.text} on {ground}")) for ground in (ANSI.background, ANSI.selection, ANSI.conflict_tint)]
    plain, chosen, conflict = InReverse().apply(line, Color(0, 0, 0))
    assert not plain.style.reverse
    assert chosen.style.reverse and chosen.style.color.is_default and chosen.style.bgcolor.is_default
    assert conflict.style.reverse and conflict.style.color.name == "red"


def test_every_sign_becomes_ascii_of_the_same_width():
    assert as_ascii("╭─ Módel → 64×45 ● 漢 ▔▁█") == "+- M?del > 64x45 * ?? -_#"
    (segment,) = OnlyAscii().apply([Segment("│ x", Style(bold=True))], Color(0, 0, 0))
    assert segment.text == "| x" and segment.style.bold


class Listener(Terminal):
    """A terminal that keeps every byte, of an app that leaves its session to no other test."""

    def __init__(self, command: list[str], columns: int, rows: int, cwd: Path, env: dict[str, str] | None = None) -> None:
        super().__init__(command, columns, rows, cwd, {"XDG_STATE_HOME": str(cwd), **(env or {})})
        self.sent = bytearray()
        feed = self._stream.feed
        self._stream.feed = lambda data: (self.sent.extend(data), feed(data))


def walk(terminal: Terminal) -> None:
    """Open everything that draws something of its own: help, palette, map, an input, a question."""
    terminal.wait_for("Backbone")
    for opening, seen, closing in (
        ("?", "Esc close", "escape"),
        ("\x10", "Search", "escape"),
        ("m", "[─-] Map", "m"),
        ("d", "Validate on", "escape"),
    ):
        terminal.press(opening)
        terminal.wait_for(seen)
        terminal.press(closing)
        terminal.wait_for(lambda text, seen=seen: re.search(seen, text) is None)
    terminal.press("3", "0", "enter")
    terminal.wait_for("keeps 11 of 16")
    terminal.press("q")
    terminal.wait_for("1 ratio pending, not applied")


def test_ascii_without_colour_sends_only_ascii_bold_dim_and_reverse(tmp_path: Path):
    with Listener([*COMMAND, "--ascii"], 100, 30, cwd=tmp_path, env={"NO_COLOR": "1"}) as terminal:
        walk(terminal)
        assert max(terminal.sent) < 128 and len(terminal.sent) > 10_000
        assert b"??" not in terminal.sent, "a sign that has no ASCII"
        codes = {code.decode() for code in SGR.findall(bytes(terminal.sent))}
        assert {code for code in codes if COLOUR_CODE.search(code)} == set()
        assert any("7" in code.split(";") for code in codes)


@pytest.mark.asyncio(loop_scope="session")
async def test_each_status_of_a_layer_is_distinguished_by_text_alone(desk: Desk):
    await desk.calm((120, 54))
    for layer, share in (("model.6.m.0.cv2", "30"), ("model.6.m.1.cv2", "50")):
        await desk.go(layer)
        await desk.press(*share, "enter")
    await desk.until(lambda: bool(desk.state.clash), "the conflict")
    await desk.press("space")
    assert "✗" in desk.line(" m.1.cv2  ") and "●" in desk.line(" m.1.cv2  ") and "conflict" in desk.line("6 C2f")
    await desk.press("x", "space")
    await desk.until(lambda: not desk.state.clash and "affected" in desk.text, "no conflict")
    assert "affected" in desk.line(" m.1.cv2  ") and "−30%" in desk.line(" m.0.cv2  ")
    assert "free" in desk.line("5 Conv") and "locked" in desk.line("22 Detect")
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1 and not desk.state.pending, "the step")
    assert "cut −30%" in desk.line(" m.0.cv2  ")


BEATS = "from tui_pruner.tui.screens import base; from tui_pruner.tui.drawing import GLYPHS; print(base.BEAT_SECONDS, len(GLYPHS.spinner))"


@pytest.mark.parametrize(("calm", "expected"), [("1", "2.0 1"), ("0", "0.25 6")])
def test_calm_mode_updates_every_two_seconds_without_animation(calm, expected):
    environment = {**os.environ, "TUI_PRUNER_CALM": calm, "PYTHONUTF8": "1", "TUI_PRUNER_ASCII": ""}
    done = subprocess.run([sys.executable, "-c", BEATS], env=environment, capture_output=True, text=True, check=True, timeout=HANGING)
    assert done.stdout.strip() == expected


def test_terminal_of_16_colours_gets_its_palette_and_calm_mode_does_not_animate_loading(tmp_path: Path):
    with Listener([*COMMAND, "--calm"], 100, 30, cwd=tmp_path, env={"TERM": "linux", "COLORTERM": ""}) as terminal:
        terminal.wait_for("Backbone")
        assert "loading" in terminal.sent.decode(errors="replace")
        assert not set("⠋⠙⠸⠴⠦⠇") & set(terminal.sent.decode(errors="replace"))
        assert b"8;2;" not in terminal.sent and b"8;5;" not in terminal.sent
        codes = {code.decode() for code in SGR.findall(bytes(terminal.sent))}
        assert any(COLOUR_CODE.search(code) for code in codes)
