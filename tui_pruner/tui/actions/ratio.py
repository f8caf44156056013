"""The actions that mark layers and say how much of them goes."""

from __future__ import annotations

from tui_pruner.tui.actions.action import RATIO, Action
from tui_pruner.tui.glyphs import GLYPHS

CUT = "preview MODEL --cut LAYER=AMOUNT"

ACTIONS = (
    Action(
        "mark",
        "space",
        "space",
        "Mark",
        "Mark or unmark the layer under the cursor; on a block or section, all that can be cut.",
        RATIO,
        "preview MODEL --cut 'model.6.*=AMOUNT'",
        footer="mark",
    ),
    Action("unmark", "minus", "-", "Clear marks", "Unmark every layer.", RATIO, CUT),
    Action(
        "nudge(1)",
        "right",
        GLYPHS.horizontal,
        "Remove 1 % more",
        "Remove 1 % more from the marked layers, or from the one under the cursor.",
        RATIO,
        CUT,
        footer="ratio",
    ),
    Action(
        "nudge(-1)",
        "left",
        "left",
        "Remove 1 % less",
        "Remove 1 % less from the marked layers, or from the one under the cursor.",
        RATIO,
        CUT,
    ),
    Action("nudge(5)", "pageup,full_stop", "pgup .", "Remove 5 % more", "Remove 5 % more.", RATIO, CUT),
    Action("nudge(-5)", "pagedown,comma", "pgdn ,", "Remove 5 % less", "Remove 5 % less.", RATIO, CUT),
    Action(
        "type_share('')",
        "percent_sign",
        "1-9 %",
        "Type a ratio",
        "Type the share to remove: 30 is 30 %.",
        RATIO,
        "preview MODEL --cut LAYER=30%",
    ),
    Action(
        "type_width",
        "equals_sign",
        "=",
        "Keep an exact width",
        "Type how many channels to keep.",
        RATIO,
        "preview MODEL --cut LAYER=keep:45",
    ),
    Action(
        "clear",
        "0,backspace,x",
        "x 0",
        "Clear the ratio",
        "Cut nothing from the marked layers, or from the one under the cursor.",
        RATIO,
        CUT,
    ),
    Action("clear_all", "c", "c", "Clear all ratios", "Forget everything that is asked for and not applied.", RATIO, CUT),
)
