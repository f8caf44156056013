"""The actions that start, stop and show what runs in the background."""

from __future__ import annotations

from tui_pruner.tui.actions.action import INTERACTIVE, JOBS, Action

VALIDATE = "validate MODEL --plan FILE --data DATA"

ACTIONS = (
    Action(
        "validate",
        "v",
        "v",
        "Validate",
        "Measure the model as it stands on the data set, in the background.",
        JOBS,
        VALIDATE,
        footer="validate",
    ),
    Action("choose_data", "d", "d", "Choose the data", "Say which data yaml validations use.", JOBS, VALIDATE),
    Action("automatic", "y", "y", "Validate every step", "Switch the validation after every step on or off.", JOBS, VALIDATE),
    Action("cancel_job", "k", "k", "Cancel the job", "Stop the running job; the others go on.", JOBS, INTERACTIVE),
)
