"""The actions that start, stop and show what runs in the background."""

from __future__ import annotations

from tui_pruner.tui.actions.action import INTERACTIVE, JOBS, Action

VALIDATE = "validate MODEL --plan FILE --data DATA"
SCREEN = "all-jobs"

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
    Action(
        "scan",
        "S",
        "S",
        "Scan the sensitivity",
        "Measure what the metric loses with the weakest channels of each layer alone; the tree then shows it, and targets go by it.",
        JOBS,
        "scan MODEL --data DATA -o FILE",
    ),
    Action("choose_data", "d", "d", "Choose the data", "Say which data yaml validations use.", JOBS, VALIDATE),
    Action("automatic", "y", "y", "Validate every step", "Switch the validation after every step on or off.", JOBS, VALIDATE),
    Action("cancel_job", "k", "k", "Cancel the job", "Stop the running job; the others go on.", JOBS, INTERACTIVE),
    Action(
        "all_jobs",
        "b",
        "b",
        "Background jobs",
        "List all jobs, waiting, running and over, with what came out of them and their logs.",
        JOBS,
        INTERACTIVE,
    ),
    Action("job_move(-1)", "up", "up", "Job above", "Go to the job above.", JOBS, INTERACTIVE, pane=SCREEN),
    Action("job_move(1)", "down", "down", "Job below", "Go to the job below.", JOBS, INTERACTIVE, pane=SCREEN),
    Action(
        "cancel_chosen",
        "k",
        "k",
        "Cancel this job",
        "Stop the job under the cursor, or drop it from the queue.",
        JOBS,
        INTERACTIVE,
        footer="cancel",
        pane=SCREEN,
    ),
    Action(
        "again",
        "r",
        "r",
        "Run again",
        "Queue the job under the cursor once more.",
        JOBS,
        VALIDATE,
        footer="run again",
        pane=SCREEN,
    ),
    Action(
        "next_view",
        "tab",
        "tab",
        "Next pane of the jobs",
        "Move between the list, the job and its log.",
        JOBS,
        INTERACTIVE,
        footer="pane",
        pane=SCREEN,
    ),
    Action(
        "leave",
        "escape,b,q",
        "escape",
        "Back to the workbench",
        "Leave the list of jobs; they go on.",
        JOBS,
        INTERACTIVE,
        footer="back",
        pane=SCREEN,
    ),
)
