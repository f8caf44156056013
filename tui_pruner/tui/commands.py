"""Command lines equivalent to what was done or requested in the app, with the file names of this session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.criteria import NEED_DATA
from tui_pruner.domain.cuts import CLASSES, Asked
from tui_pruner.domain.formatting import command_line
from tui_pruner.storage.model_file import FUNCTIONS, ModuleNames

if TYPE_CHECKING:
    from tui_pruner.tui.state import AppState

PROGRAM = "tui-pruner"
SAME = {"criterion": "l2", "round_to": 1}


@dataclass(frozen=True)
class CutWords:
    """The cuts of one step as command-line options."""

    cuts: Sequence[tuple[str, str]]
    criterion: str = "l2"
    round_to: int = 1

    def words(self, data: str) -> list[str]:
        """The options; a criterion that scores images needs the data."""
        found: list[str] = []
        for layer, amount in self.cuts:
            found += ["--keep-classes", amount.removeprefix("keep:")] if layer == CLASSES else ["--cut", f"{layer}={amount}"]
        if self.criterion != SAME["criterion"]:
            found += ["--criterion", self.criterion]
        if self.criterion in NEED_DATA:
            found += ["--data", data or "DATA"]
        return [*found, "--round-to", str(self.round_to)] if self.round_to != SAME["round_to"] else found

    @classmethod
    def of_step(cls, requests: Sequence[Any]) -> CutWords:
        """The options of an applied step."""
        first = requests[0] if requests else None
        cuts = [(one.layer, one.amount) for one in requests]
        return cls(cuts, first.criterion, first.round_to) if first else cls(cuts)

    @classmethod
    def of_asked(cls, asked: Asked) -> CutWords:
        """The options of pending cuts."""
        return cls([(layer, amount.request) for layer, amount in asked.amounts.items()], asked.criterion, asked.round_to)


def layer_words(state: AppState, row: str) -> str:
    """The layer or block under the cursor as a command-line argument."""
    return row if row in state.known else row.removeprefix("model.") if row else ""


def cut_words(state: AppState) -> str:
    """The pending cuts, LAYER=AMOUNT each."""
    return " ".join(f"{layer}={amount.request}" for layer, amount in state.pending.amounts.items())


def prune_command(state: AppState, pending: bool) -> str:
    """The command that writes the model with the steps so far, and with the pending cuts if requested.

    `prune` makes one step of its cuts; earlier steps are saved to a plan file first, by one command each.
    """
    opening = state.checkpoint.opening
    steps = [CutWords.of_step(step.requests) for step in state.session.steps]
    if opening.module:  # without the command `steps`: several are in the saved plan
        asked = CutWords.of_asked(state.pending) if pending and state.pending else steps.pop() if len(steps) == 1 else CutWords([])
        plan = ["--plan", opening.plan_file] if steps else []
        return command_line([PROGRAM, "prune", *model_words(state), *plan, *asked.words(""), "-o", opening.output])
    if pending and state.pending:
        steps.append(CutWords.of_asked(state.pending))
    return " && ".join(prune_commands(state, steps, str(opening.output), str(opening.plan_file)))


def prune_commands(state: AppState, steps: Sequence[CutWords], output: str, plan: str) -> list[str]:
    """One command for each of these steps; the last one writes the model."""
    data, common = state.checkpoint.data or "", sizes_of(state)
    lines = []
    for number, step in enumerate(steps, start=1):
        so_far = ["--plan", plan] if number > 1 else []
        last = number == len(steps)
        begin = [PROGRAM, "prune" if last else "steps", state.opened.model.path, *common, *so_far, *step.words(data)]
        ends = ["-o", output] if last else ["--save-plan", plan, *(["--force"] if number > 1 else [])]
        lines.append(command_line([*begin, *ends]))
    return lines


def step_command(state: AppState) -> str:
    """The command that adds the last step to the plan file, in which the log has those before it."""
    opening, number = state.checkpoint.opening, len(state.session.steps)
    if not number or opening.module:
        return ""
    plan = str(opening.plan_file)
    before = ["--plan", plan, "--steps", str(number - 1)] if number > 1 else []
    words = CutWords.of_step(state.session.steps[-1].requests).words(state.checkpoint.data or "")
    ends = ["--save-plan", plan, *(["--force"] if before else [])]
    return command_line([PROGRAM, "steps", state.opened.model.path, *sizes_of(state), *before, *words, *ends])


def saved_command(state: AppState, output: str) -> str:
    """The command that saves the steps so far as a plan with this name."""
    opening, number = state.checkpoint.opening, str(len(state.session.steps))
    if opening.module:
        return ""
    return command_line(
        [PROGRAM, "steps", state.opened.model.path, "--plan", opening.plan_file, "--steps", number, "--save-plan", output, "--force"]
    )


def sizes_of(state: AppState) -> list[str]:
    """The options that the checkpoint was opened with."""
    opening = state.checkpoint.opening
    sizes = ["--imgsz", str(opening.imgsz)] if opening.imgsz else []
    return [*sizes, *(["--classes", str(opening.classes)] if opening.classes else [])]


def preview_command(state: AppState) -> str:
    """The command that previews the pending cuts."""
    plan = steps_of(state) if state.session.steps else []
    words = CutWords.of_asked(state.pending).words(state.checkpoint.data or "")
    return command_line([PROGRAM, "preview", *model_words(state), *plan, *words])


def steps_command(state: AppState, output: str, mask: bool = False) -> str:
    """The command that writes the model with this many steps of the plan, or its mask."""
    kind = ["--mask"] if mask else []
    return command_line([PROGRAM, "prune", *model_words(state), *steps_of(state), *kind, "-o", output])


FUNCTIONS_OF: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("validate", "scan", "report", "gate"), ("evaluate",)),
    **dict.fromkeys(("plan", "reconstruct"), ("batches",)),
    "finetune": ("evaluate", "train"),
    "compress": FUNCTIONS,
}
"""The functions of a module that the command of a job takes."""
OF_CHECKPOINTS = ("data", "images", "imgsz", "teacher", "original", "epochs", "sparsity")
"""Options that a module's commands do not have."""


def model_words(state: AppState, *functions: str) -> list[str]:
    """The open model on a command line: a file, or the names of a module as options, with those of these functions."""
    names = state.checkpoint.opening.module
    return [state.opened.model.path] if names is None else names.words(*functions)


def steps_of(state: AppState) -> list[str]:
    """The steps so far as options: those of the saved plan, for a module all of it."""
    opening = state.checkpoint.opening
    return ["--plan", str(opening.plan_file), *([] if opening.module else ["--steps", str(len(state.session.steps))])]


WORDS: Mapping[str, tuple[str, Sequence[str]]] = {
    "validate": ("validate", ("data", "images", "masked")),
    "scan": ("scan", ("data", "images", "criterion")),
    "plan": ("plan", ("data", "images", "criterion", "round_to", "targets")),
    "search-latency": ("plan", ("criterion", "round_to", "targets")),
    "bench": ("bench", ("imgsz", "blocks", "suggest")),
    "reconstruct": ("reconstruct", ("data", "images", "original", "output")),
    "recalibrate": ("recalibrate", ("data", "images", "output")),
    "finetune": ("finetune", ("data", "epochs", "teacher", "sparsity", "output")),
    "export": ("export", ("format", "output")),
    "report": ("report", ("data", "output")),
    "compress": ("compress", ("data", "targets", "images", "epochs", "max_drop", "criterion", "round_to", "format", "folder")),
}
"""For each kind of job its command, and which of the job's parameters are options."""
NAMES = {"masked": "--mask", "output": "-o", "folder": "-o", "targets": "--target", "max_drop": "--max-drop", "round_to": "--round-to"}
ON_A_PLAN = ("validate", "plan", "search-latency", "compress")
WRITES = {"scan": "scan.json", "plan": "plan.yaml"}


def job_command(kind: str, parameters: Mapping[str, Any], plan_file: str) -> str:
    """The command equivalent to a job; empty where there is none. A job's plan is that of the session, as it is saved."""
    if kind not in WORDS:
        return ""
    command, fields = WORDS[kind]
    names = parameters.get("module") or {}
    words: list[object] = [PROGRAM, command, *(ModuleNames(**names).words(*FUNCTIONS_OF.get(kind, ())) if names else [])]
    if kind == "report":
        words.append(parameters.get("plan_file") or plan_file)
    elif kind == "bench":
        words += dict.fromkeys(entry["checkpoint"] for entry in parameters.get("models", []) if entry["checkpoint"] != names.get("build"))
        words += ["PRUNED"] if any(entry.get("plan") for entry in parameters.get("models", [])) else []
    else:
        checkpoint = parameters.get("checkpoint", "MODEL")
        words += [checkpoint] if checkpoint != names.get("build") else []
        words += ["--plan", plan_file] if parameters.get("plan") and kind in ON_A_PLAN else []
    for field_name in fields if not names else (name for name in fields if name not in OF_CHECKPOINTS):
        value, option = parameters.get(field_name), NAMES.get(field_name, f"--{field_name}")
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [word for one in value for word in (option, one)]
        elif value not in (None, "", False, 0, 0.0):
            words += [option, value]
    return command_line([*words, *(["-o", WRITES[command]] if command in WRITES else [])])


@dataclass
class CommandLog:
    """What was done in the session, as command lines with a description; newest last."""

    entries: list[tuple[str, str]] = field(default_factory=list)

    def note(self, words: str, line: str, instead: bool = False) -> None:
        """Log an action. A repetition makes a single entry; `instead` replaces the last entry if that had the same words."""
        last = self.entries[-1] if self.entries else ("", "")
        if not line or last == (words, line):
            return
        if instead and last[0] == words:
            self.entries.pop()
        self.entries.append((words, line))
