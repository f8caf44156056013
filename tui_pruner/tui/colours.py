"""The colours: one dark theme, each colour with one meaning. Nothing is said by colour alone."""

from __future__ import annotations

from textual.theme import Theme

BACKGROUND = "#1a1b26"
SURFACE = "#1f2133"
BAND = "#24283b"
SELECTION = "#2f3d68"
CUT_TINT = "#26382f"
PENDING_TINT = "#40382a"
CONFLICT_TINT = "#482a38"
BORDER = "#3b4261"
TEXT = "#c0caf5"
STRONG = "bold #dfe6ff"
MUTED = "#787fa8"
FAINT = "#4d5478"
BLUE = "#7aa2f7"
HEADING = "bold #7dcfff"
GOOD = "#9ece6a"
WARNING = "#e0af68"
BAD = "#f7768e"
PURPLE = "#bb9af7"

STATUS_COLOURS = {"free": TEXT, "coupled": BLUE, "linked": PURPLE, "locked": MUTED}

THEME = Theme(
    name="tui-pruner",
    dark=True,
    primary=BLUE,
    secondary=PURPLE,
    accent=WARNING,
    warning=WARNING,
    error=BAD,
    success=GOOD,
    foreground=TEXT,
    background=BACKGROUND,
    surface=SURFACE,
    panel=BAND,
    variables={"border-blurred": BORDER, "footer-key-foreground": WARNING, "selection": SELECTION},
)
