"""The actions that make, take back and keep steps."""

from __future__ import annotations

from tui_pruner.tui.actions.action import STEPS, Action

ACTIONS = (
    Action(
        "apply",
        "a",
        "a",
        "Apply",
        "Make what is asked for a step: it is cut, then proved against the masked twin.",
        STEPS,
        "prune MODEL --cut LAYER=AMOUNT -o OUT",
        footer="apply",
    ),
    Action("undo", "u,ctrl+z", "u", "Undo", "Take the last step back.", STEPS, "prune MODEL --plan FILE -o OUT", footer="undo"),
    Action("redo", "ctrl+r,ctrl+y", "ctrl+r", "Redo", "Bring the last undone step again.", STEPS, "prune MODEL --plan FILE -o OUT"),
    Action(
        "write",
        "w",
        "w",
        "Write",
        "Save the pruned model as a .pt file that stock Ultralytics loads.",
        STEPS,
        "prune MODEL --plan FILE -o OUT",
        footer="write",
    ),
)
