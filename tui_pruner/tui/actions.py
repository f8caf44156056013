"""Every action of the workbench, once: its keys, its name in the footer, and its sentence for the help, the tooltip and the palette."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding

from tui_pruner.tui.glyphs import GLYPHS


@dataclass(frozen=True)
class Action:
    """Something that the user can do. `keys` as Textual names them; `shown` as people read them; `footer` where it belongs there."""

    name: str
    keys: str
    shown: str
    title: str
    help: str
    group: str
    footer: str = ""
    palette: bool = True

    @property
    def binding(self) -> Binding:
        """The action as a key binding with its tooltip."""
        return Binding(self.keys, self.name, self.title, show=False, key_display=self.shown, tooltip=self.help, id=self.name)


RATIO, STEPS, JOBS, VIEW = "Ratio", "Steps and file", "Jobs", "Finding one's way"
GROUPS = (RATIO, STEPS, JOBS, VIEW)

ACTIONS = (
    Action(
        "mark",
        "space",
        "space",
        "Mark",
        "Mark or unmark the layer under the cursor; on a block or section, all that can be cut.",
        RATIO,
        "mark",
    ),
    Action("unmark", "minus", "-", "Clear marks", "Unmark every layer.", RATIO),
    Action(
        "nudge(1)",
        "right",
        GLYPHS.horizontal,
        "Remove 1 % more",
        "Remove 1 % more from the marked layers, or from the one under the cursor.",
        RATIO,
        "ratio",
    ),
    Action(
        "nudge(-1)", "left", "left", "Remove 1 % less", "Remove 1 % less from the marked layers, or from the one under the cursor.", RATIO
    ),
    Action("nudge(5)", "pageup,full_stop", "pgup .", "Remove 5 % more", "Remove 5 % more.", RATIO),
    Action("nudge(-5)", "pagedown,comma", "pgdn ,", "Remove 5 % less", "Remove 5 % less.", RATIO),
    Action("type_share('')", "percent_sign,r", "r 1-9", "Type a ratio", "Type the share to remove: 30 is 30 %.", RATIO),
    Action("type_width", "equals_sign", "=", "Keep an exact width", "Type how many channels to keep.", RATIO),
    Action(
        "clear", "0,backspace,x", "x 0", "Clear the ratio", "Cut nothing from the marked layers, or from the one under the cursor.", RATIO
    ),
    Action("clear_all", "c", "c", "Clear all ratios", "Forget everything that is asked for and not applied.", RATIO),
    Action("apply", "a", "a", "Apply", "Make what is asked for a step: it is cut, then proved against the masked twin.", STEPS, "apply"),
    Action("undo", "u,ctrl+z", "u", "Undo", "Take the last step back.", STEPS, "undo"),
    Action("redo", "ctrl+r,ctrl+y", "ctrl+r", "Redo", "Bring the last undone step again.", STEPS),
    Action("write", "w", "w", "Write", "Save the pruned model as a .pt file that stock Ultralytics loads.", STEPS, "write"),
    Action("validate", "v", "v", "Validate", "Measure the model as it stands on the data set, in the background.", JOBS, "validate"),
    Action("choose_data", "d", "d", "Choose the data", "Say which data yaml validations use.", JOBS),
    Action("automatic", "y", "y", "Validate every step", "Switch the validation after every step on or off.", JOBS),
    Action("cancel_job", "k", "k", "Cancel the job", "Stop the running validation.", JOBS),
    Action("expand", "enter", "enter", "Open or close", "Open or close the block under the cursor.", VIEW),
    Action("toggle_all", "z", "z", "Open or close all", "Open every block, or close them all.", VIEW),
    Action(
        "filter",
        "slash",
        "/",
        "Filter",
        "Show only layers whose name, type, section or status matches; several words must all match.",
        VIEW,
        "filter",
    ),
    Action("free_only", "f", "f", "Free only", "Show only layers that can be cut without anybody else's outputs; again shows all.", VIEW),
    Action("sort", "o", "o", "Order", "Order the layers by their share of the FLOPs, of the parameters, or as in the model.", VIEW),
    Action(
        "map",
        "m",
        "m",
        "Map",
        "Show the network as a map with the explained path: arrows go from block to block, enter shows one in the tree.",
        VIEW,
        "map",
    ),
    Action(
        "explain",
        "e",
        "e",
        "Explain",
        "Explain what a cut of the layer or block under the cursor touches; on a second one, the path between them.",
        VIEW,
        "explain",
    ),
    Action("path_to", "p", "p", "Explain the path to", "Type the other end of the explanation, to see how the channels get there.", VIEW),
    Action(
        "station(1)",
        "right_square_bracket,l",
        "] l",
        "Next station",
        "Go to the next station of the explained path, or touched layer.",
        VIEW,
    ),
    Action("station(-1)", "left_square_bracket,h", "[ h", "Previous station", "Go back along the explained path.", VIEW),
    Action("next_problem", "n", "n", "Next asked layer", "Jump to the next layer that is asked for, goes along, or is in conflict.", VIEW),
    Action("next_pane", "tab", "tab", "Next pane", "Move between the model and the detail.", VIEW, "pane"),
    Action("show_steps", "s", "s", "Steps and jobs", "Go to the steps and jobs.", VIEW),
    Action(
        "back",
        "escape",
        "escape",
        "Back",
        "Leave the explanation for where one was; leave the map; drop the filter, then the order; or go back to the model.",
        VIEW,
    ),
    Action("help", "question_mark,f1", "?", "Help", "Show all keys.", VIEW, "help"),
    Action("quit", "q", "q", "Quit", "Leave; asks when something is not written.", VIEW, "quit"),
)
FOOTER_ORDER = ("help", "quit", "next_pane", "mark", "nudge(1)", "apply", "write", "validate", "undo", "filter", "explain", "map")
DIGITS = tuple(Binding(str(digit), f"type_share('{digit}')", "Type a ratio", show=False) for digit in range(1, 10))


def bindings() -> list[Binding]:
    """All key bindings of the workbench."""
    return [*(action.binding for action in ACTIONS), *DIGITS]
