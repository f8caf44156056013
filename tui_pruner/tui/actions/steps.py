"""The actions that make, take back and keep steps."""

from __future__ import annotations

from tui_pruner.tui.actions.action import INTERACTIVE, STEPS, Action

PANE = "steps"
UP_TO = "prune MODEL --plan FILE --steps N -o OUT"
COMPARE = "steps MODEL --plan FILE --compare A B"

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
    Action("undo", "u,ctrl+z", "u", "Undo", "Take the last step back.", STEPS, UP_TO, footer="undo"),
    Action("redo", "ctrl+r,ctrl+y", "ctrl+r", "Redo", "Bring the last undone step again.", STEPS, UP_TO),
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
    Action(
        "step_move(-1)", "up", "up", "Step before", "Compare the step before with the one that it follows.", STEPS, INTERACTIVE, pane=PANE
    ),
    Action(
        "step_move(1)", "down", "down", "Step after", "Compare the step after with the one that it follows.", STEPS, INTERACTIVE, pane=PANE
    ),
    Action(
        "go_to_step",
        "enter",
        "enter",
        "Go to the step",
        "Undo or redo until the step under the cursor is the last; the others stay in sight.",
        STEPS,
        UP_TO,
        footer="go there",
        pane=PANE,
    ),
    Action(
        "pin_step",
        "space",
        "space",
        "Compare with it",
        "Hold the step under the cursor, to compare others with it; again lets go.",
        STEPS,
        COMPARE,
        footer="compare with",
        pane=PANE,
    ),
    Action(
        "name_step",
        "n",
        "n",
        "Name the step",
        "Give the step under the cursor a name.",
        STEPS,
        "steps MODEL --plan FILE --name N=WORDS --save-plan FILE",
        footer="name",
        pane=PANE,
    ),
    Action(
        "save_plan",
        "p",
        "p",
        "Save the plan",
        "Write the steps as YAML that a person can read and edit.",
        STEPS,
        "steps MODEL --cut LAYER=AMOUNT --save-plan FILE",
        footer="save plan",
        pane=PANE,
    ),
    Action(
        "report",
        "r",
        "r",
        "Write a report",
        "Put the steps, their proofs, the metrics and pictures in one file, to attach to a pull request.",
        STEPS,
        "report PLAN --data DATA -o OUT.html",
        footer="report",
        pane=PANE,
    ),
    Action(
        "open_plan",
        "o",
        "o",
        "Open a plan",
        "Replace the steps by those of a plan file; one of another checkpoint is refused.",
        STEPS,
        "steps MODEL --plan FILE",
        footer="open plan",
        pane=PANE,
    ),
)
