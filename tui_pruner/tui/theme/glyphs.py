"""The signs that the screen draws with: Unicode, or plain ASCII where the terminal cannot show more."""

from __future__ import annotations

import locale
import os
from dataclasses import dataclass, replace

from tui_pruner.storage.settings import is_on


@dataclass(frozen=True)
class Glyphs:
    """One set of signs; each is a single cell wide, except that `blocks` and `levels` are ladders of such signs, and
    `wires` has one for each set of sides: 1 up, 2 down, 4 left, 8 right."""

    arrow: str
    down: str
    up: str
    times: str
    minus: str
    about: str
    mark: str
    lit: str
    opened: str
    closed: str
    pending: str
    good: str
    bad: str
    dot: str
    ellipsis: str
    line: str
    track: str
    cut: str
    blocks: str
    levels: str
    spinner: str
    horizontal: str
    wires: str


UNICODE = Glyphs(
    arrow="→",
    down="▼",
    up="▲",
    times="×",
    minus="−",
    about="±",
    mark="●",
    lit="◆",
    opened="▾",
    closed="▸",
    pending="▸",
    good="✓",
    bad="✗",
    dot="·",
    ellipsis="…",
    line="━",
    track="─",
    cut="│",
    blocks=" ▏▎▍▌▋▊▉█",
    levels=" ▁▂▃▄▅▆▇█",
    spinner="⠋⠙⠸⠴⠦⠇",
    horizontal="←→",
    wires=" │││─╯╮┤─╰╭├─┴┬┼",
)
ASCII = Glyphs(
    arrow=">",
    down="",
    up="+",
    times="x",
    minus="-",
    about="+-",
    mark="*",
    lit="#",
    opened="v",
    closed=">",
    pending=">",
    good="ok",
    bad="x",
    dot="-",
    ellipsis="~",
    line="#",
    track=".",
    cut="|",
    blocks=" #",
    levels=" .:-=+*#%@",
    spinner="|/-\\",
    horizontal="left/right",
    wires=" |||-+++-+++-+++",
)


def wants_ascii() -> bool:
    """Whether the user asked for ASCII (TUI_PRUNER_ASCII) or the locale cannot carry Unicode."""
    return is_on("TUI_PRUNER_ASCII") or _asks_for_c() or "utf" not in locale.getpreferredencoding(False).lower()


def _asks_for_c() -> bool:
    """Whether the locale is C's by its name: Python then runs in its UTF-8 mode, which says nothing of the terminal."""
    return next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "") in ("C", "POSIX")


def wants_calm() -> bool:
    """Whether the user asked for a screen on which nothing spins or blinks (TUI_PRUNER_CALM)."""
    return is_on("TUI_PRUNER_CALM")


CALM = wants_calm()
SIGNS = ASCII if wants_ascii() else UNICODE
GLYPHS = replace(SIGNS, spinner=SIGNS.pending) if CALM else SIGNS
