"""The actions that find one's way: panes, filter, order, map, explanation."""

from __future__ import annotations

from tui_pruner.tui.actions.action import INTERACTIVE, VIEW, Action

INSPECT, EXPLAIN = "inspect MODEL", "explain MODEL A B"

THEMES = (
    ("dark", "dark", "light colours on a dark ground"),
    ("light", "light", "dark colours on a light ground"),
    ("high-contrast", "high contrast", "colours that stand out most"),
    ("ansi", "the terminal's own", "the terminal's own 16 colours"),
)

ACTIONS = (
    Action("expand", "enter", "enter", "Open or close", "Open or close the block under the cursor.", VIEW, INTERACTIVE),
    Action("toggle_all", "z", "z", "Open or close all", "Open every block, or close them all.", VIEW, INTERACTIVE),
    Action(
        "filter",
        "slash",
        "/",
        "Filter",
        "Show only layers whose name, type, section or status matches; several words must all match.",
        VIEW,
        INSPECT,
        footer="filter",
    ),
    Action(
        "free_only",
        "f",
        "f",
        "Free only",
        "Show only layers that can be cut without anybody else's outputs; again shows all.",
        VIEW,
        INSPECT,
    ),
    Action(
        "sort", "o", "o", "Order", "Order the layers by their share of the FLOPs, of the parameters, or as in the model.", VIEW, INSPECT
    ),
    Action(
        "map",
        "m",
        "m",
        "Map",
        "Show the network as a map with the explained path: arrows go from block to block, enter shows one in the tree.",
        VIEW,
        INSPECT,
        footer="map",
    ),
    Action(
        "explain",
        "e",
        "e",
        "Explain",
        "Explain what a cut of the layer or block under the cursor touches; on a second one, the path between them.",
        VIEW,
        "explain MODEL A",
        footer="explain",
    ),
    Action(
        "path_to",
        "p",
        "p",
        "Explain the path to",
        "Type the other end of the explanation, to see how the channels get there.",
        VIEW,
        EXPLAIN,
    ),
    Action(
        "station(1)",
        "right_square_bracket,l",
        "] l",
        "Next station",
        "Go to the next station of the explained path, or touched layer.",
        VIEW,
        EXPLAIN,
    ),
    Action("station(-1)", "left_square_bracket,h", "[ h", "Previous station", "Go back along the explained path.", VIEW, EXPLAIN),
    Action(
        "next_problem",
        "n",
        "n",
        "Next asked layer",
        "Jump to the next layer that is asked for, goes along, or is in conflict.",
        VIEW,
        "preview MODEL --cut LAYER=AMOUNT",
    ),
    Action("next_pane", "tab", "tab", "Next pane", "Move between the model and the detail.", VIEW, INTERACTIVE, footer="pane"),
    Action("show_steps", "s", "s", "Steps and jobs", "Go to the steps and jobs.", VIEW, INTERACTIVE),
    Action(
        "back",
        "escape",
        "escape",
        "Back",
        "Leave the explanation for where one was; leave the map; drop the filter, then the order; or go back to the model.",
        VIEW,
        INTERACTIVE,
    ),
    Action("help", "question_mark,f1", "?", "Help", "Show all keys.", VIEW, "--help", footer="help"),
    *(
        Action(f"use_theme('{name}')", "", "", f"Theme: {words}", f"Draw everything in {colours}.", VIEW, f"--theme {name}")
        for name, words, colours in THEMES
    ),
    Action("quit", "q", "q", "Quit", "Leave; asks when something is not written.", VIEW, INTERACTIVE, footer="quit"),
)
