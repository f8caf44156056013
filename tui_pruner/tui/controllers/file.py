"""Writes and opens files of a session: the pruned model, plans, reports, and exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import PlanError, ProofError, PrunerError, RequestError
from tui_pruner.domain.formatting import file_size, plural
from tui_pruner.storage import paths
from tui_pruner.tui.actions import INTERACTIVE, JOBS, STEPS, STEPS_PANE, VIEW, Action, key_of
from tui_pruner.tui.controllers.base import Controller, Handler, fault_of, unproved_reason
from tui_pruner.tui.job_specs.export import SUFFIXES, Format, export, formats_for, report
from tui_pruner.tui.job_specs.job import JobSpec, ModelFile, OpenCheckpoint
from tui_pruner.tui.messages import EngineMessage, FileWritten, JobsChanged, PlanSaved
from tui_pruner.tui.panes.jobs import Activity, unfinished_jobs
from tui_pruner.tui.state import AppState
from tui_pruner.tui.timeline import last, name_of, plan_key

if TYPE_CHECKING:
    from tui_pruner.tui.opening import Opening

CHECKED = "A .pt file that stock Ultralytics loads, checked in a clean process before it is put there."
PRUNED = f"{CHECKED}\nNow: pruned, the channels are gone. Tab: masked, same shapes, removed channels zero."
MASKED = f"{CHECKED}\nNow: masked, same shapes, removed channels zero. Tab: pruned, the channels are gone."
FOLDER = "A folder with plan.yaml, model.safetensors and about.json, which tp.load reads into a freshly built module."
REDACT, RECOVERED = "redact ", "recovered"
RECOVERIES_OF_A_CUT = ("reconstruct", "recalibrate", "finetune")
MODEL_SUFFIXES, PLAN_SUFFIXES = (".pt",), (".yaml", ".yml")
MakeJob = Callable[[OpenCheckpoint, ModelFile], JobSpec]


class FileController(Controller):
    """Asks before a file is overwritten, and before steps are replaced."""

    def actions(self) -> Sequence[Action]:
        """Model, plan, report, and export."""
        return (
            Action(
                id="write",
                keys="w",
                title="Write",
                help="Save the pruned model, or with Tab the masked one, as a .pt file that stock Ultralytics loads.",
                group=STEPS,
                cli="prune MODEL --plan FILE -o OUT",
                run=self.write,
                footer="write",
                disabled_reason=lambda state: no_steps(state, "write") or unproved_reason(state),
            ),
            Action(
                id="take-mask",
                title="Take the mask over",
                help="Turn the mask of a masked file into a step, whose channels are removed when the model is written.",
                group=STEPS,
                cli="prune MASKED -o OUT",
                run=self.take_mask,
                disabled_reason=lambda state: "" if mask_plan(state) else "the open file is not masked, or its zeros did not stay",
            ),
            Action(
                id="save-plan",
                keys="p",
                title="Save the plan",
                help="Write the steps as editable YAML.",
                group=STEPS,
                cli="steps MODEL --cut LAYER=AMOUNT --save-plan FILE",
                run=self.save_plan,
                footer="save plan",
                pane=STEPS_PANE,
                disabled_reason=lambda state: no_steps(state, "save"),
            ),
            Action(
                id="report",
                keys="r",
                title="Write a report",
                help="Put the steps, their proofs, the metrics and pictures in one file, to attach to a pull request.",
                group=STEPS,
                cli="report PLAN --data DATA [--redact] [--recovered FILE] -o OUT.html",
                run=self.report,
                footer="report",
                pane=STEPS_PANE,
                disabled_reason=lambda state: no_steps(state, "report"),
            ),
            Action(
                id="open-plan",
                keys="o",
                title="Open a plan",
                help="Replace the steps by those of a plan file; one of another checkpoint is refused.",
                group=STEPS,
                cli="steps MODEL --plan FILE",
                run=self.open_plan,
                footer="open plan",
                pane=STEPS_PANE,
            ),
            Action(
                id="export",
                keys="X",
                title="Export",
                help="Export the current model to another format with Ultralytics; it is kept if its outputs are the same.",
                group=JOBS,
                cli="export PRUNED --format onnx",
                run=self.export,
                disabled_reason=unproved_reason,
                footer="export",
            ),
            Action(
                id="quit",
                keys="q",
                title="Quit",
                help="Quit; asks first if something was not written.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.quit,
                footer="quit",
            ),
        )

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of written files."""
        return {FileWritten: self.report_written, PlanSaved: self.report_saved}

    @property
    def opening(self) -> Opening:
        """The options that the checkpoint was opened with, from which default file names are derived."""
        return self.jobs.checkpoint.opening

    @property
    def suffixes(self) -> Sequence[str]:
        """How the name of a model that is written may end; the folder of a module may have any name."""
        return () if self.opening.module else MODEL_SUFFIXES

    @property
    def begins(self) -> str:
        """What a job would start from, as the beginning of a sentence."""
        steps = len(self.state.session.steps)
        return f"The model with {plural(steps, 'step')}" if steps else f"{self.opening.name} as it was opened"

    def begin(self) -> None:
        """Offer to turn the mask of a masked file into a step."""
        mask, opening = self.state.opened.model.mask, self.opening
        if mask is not None and mask.plan is not None and opening.plan is None and opening.saved is None:
            zeros = mask.words.partition(";")[0]
            text = f"{zeros}.\nAs a step they are removed when the model is written, and the step can be undone."
            answers = [("t", "take it over as a step", "take")]
            self.dialogs.confirm("Take the mask over?", text, answers, lambda answer: self.take_mask() if answer else None)

    def take_mask(self) -> None:
        """Turn the mask of the open file into a step."""
        plan = mask_plan(self.state)
        if plan is not None:
            self._replace_by(plan)

    def write(self) -> None:
        """Ask for a path, then save the model; Tab switches to the masked one."""
        place, masked = self.opening.output, self.opening.masked_file
        if self.state.checkpoint.opening.module:
            self.ask_place("Write the pruned module to", self._way(FOLDER), place, self.engine.write)
            return
        ways = ((PRUNED, place), (MASKED, masked))
        at = 0

        def switch(typed: str) -> tuple[str, str]:
            nonlocal at
            was, at = ways[at], 1 - at
            return self._way(ways[at][0]), str(ways[at][1]) if typed == str(was[1]) else typed

        def put(path: str, force: bool) -> None:
            self.engine.write(path, force, mask=at == 1)

        self.ask_place("Write the pruned model to", self._way(PRUNED), place, put, suffixes=MODEL_SUFFIXES, switch=switch)

    def _way(self, words: str) -> str:
        pending = self.state.pending
        asked = f"  {plural(len(pending.amounts), 'ratio')} not applied will not be in it." if pending else ""
        return f"{words}{asked}"

    def save_plan(self) -> None:
        """Ask for a path, then write the plan."""
        text = f"{plural(len(self.state.session.steps), 'step')} as YAML, to read, edit, open again here, or use with --plan."
        self.ask_place("Save the plan as", text, self.opening.plan_file, self.engine.save_plan, "plan.yaml", PLAN_SUFFIXES)

    def report(self) -> None:
        """Ask for the report's content and path, then queue the job that writes it."""
        recovered = self._recovered()
        choices = [("", "all names", "files and classes as they are called"), (REDACT, "neutral names", "to show to others: --redact")]
        if recovered:
            with_it = f"and {Path(recovered).name} measured: --recovered"
            choices += [(RECOVERED, "all names", with_it), (REDACT + RECOVERED, "neutral names", with_it)]
        numbered = [(str(number), name, meaning) for number, (_, name, meaning) in enumerate(choices)]

        def take(chosen: str) -> None:
            if chosen:
                wanted = choices[int(chosen)][0]
                self._place_report(REDACT in wanted, recovered if RECOVERED in wanted else "")

        self.dialogs.choose("Write a report", "The steps with their proofs and figures, in one file.", numbered, take)

    def _place_report(self, redact: bool, recovered: str) -> None:
        module, data = self.opening.module, self.jobs.checkpoint.data
        why = "it was opened without --evaluate" if module else f"no data is chosen ({key_of('choose-data')})"
        measured = (f"with metrics{'' if module else ' and pictures'}") if data else f"without metrics, since {why}"
        text = f"{plural(len(self.state.session.steps), 'step')} in one .html or .md file, {measured}."

        def put(target: str, force: bool) -> None:
            spec = report(self.jobs.checkpoint, self.state.session, str(self.opening.plan_file), target, redact, recovered)
            self.jobs.add(spec)

        self.ask_place("Write the report to", text, self.opening.report_file, put, "report.html", SUFFIXES)

    def open_plan(self) -> None:
        """Ask for a plan file, then replace the steps by its steps."""
        text = "A plan of this checkpoint: its steps replace the present ones."
        self.dialogs.ask_text(
            "Open the plan", text, str(self.opening.plan_file), self._take_plan, "plan.yaml", fault=fault_of(self._readable_plan)
        )

    def export(self) -> None:
        """Choose the format, then a path; the export is kept if its outputs equal the model's."""
        choices = [(str(number), one.argument, one.meaning) for number, one in enumerate(formats_for(self.jobs.checkpoint))]
        by = "PyTorch" if self.opening.module else "Ultralytics"
        text = f"{self.begins} is exported by {by} in the background."
        self.dialogs.choose("Export", text, choices, self._take_format)

    def quit(self) -> None:
        """Quit, after a question if something would be lost."""
        reasons = self._unfinished()
        if not reasons:
            self.dialogs.leave()
            return
        answers = [("q", "quit anyway", "quit")]
        if self.state.session.unsaved:
            answers.insert(0, ("w", "write first", "write"))
        self.dialogs.confirm("Quit?", "\n".join(reasons), answers, self._take_quit)

    def queue_on_file(self, make: MakeJob, then: Callable[[], None] = lambda: None) -> None:
        """Write the session's model, then queue a job on that file, without steps on the checkpoint itself; `then` always follows.

        The session and its unsaved mark do not change.
        """
        self.dialogs.start(self._queue_on_file(make, then), "writing the model for a job")

    def report_written(self, event: FileWritten) -> None:
        """Report where the file is and what was checked."""
        result = event.result
        self.store.update(session=self.state.session.model_copy(update={"unsaved": False}))
        good = sum(check.ok for check in result.checks)
        checked = f"{file_size(result.bytes)}, {good} of {plural(len(result.checks), 'check')} passed"
        masked = "" if result.masked is None else f"; masked: the cut computes the same, to {result.masked:.0e}"
        self.store.note(f"wrote {Path(result.output).name}, {checked}{masked}")
        self.say(f"wrote {result.output}, {checked}{masked}")

    def report_saved(self, event: PlanSaved) -> None:
        """Report where the plan is."""
        text = f"saved {plural(event.result.steps, 'step')} to"
        self.store.note(f"{text} {Path(event.result.output).name}")
        self.say(f"{text} {event.result.output}")

    def _recovered(self) -> str:
        """The newest file that was refitted or fine-tuned from the present state and can be measured; empty where there is none."""
        lineage = self.state.lineage
        files = [stage.path for stage in lineage if stage.parent == lineage.here and stage.kind in RECOVERIES_OF_A_CUT and stage.path]
        there = [path for path in files if Path(path).exists()]
        return there[-1] if there and self.jobs.checkpoint.data else ""

    def _take_format(self, chosen: str) -> None:
        if not chosen:
            return
        one: Format = formats_for(self.jobs.checkpoint)[int(chosen)]
        stem = self.opening.output.stem if self.state.session.steps else self.opening.stem
        place = self.opening.output.with_name(f"{stem}{one.suffix}")

        def put(target: str, force: bool) -> None:
            self.queue_on_file(lambda checkpoint, source: export(one, checkpoint, source, target, force))

        self.ask_place("Export to", one.meaning, place, put)

    def _readable_plan(self, path: str) -> dict[str, Any]:
        """Check a plan's file, as far as that is possible without the model.

        Raises:
            PlanError: it cannot be read, is not a plan, or one of another checkpoint.
        """
        from tui_pruner.storage.yaml import read_plan_file

        file = Path(path).expanduser()
        plan = read_plan_file(file)
        if not isinstance(plan, dict) or not isinstance(plan.get("steps"), list):
            raise PlanError(f"{file} is not a plan: it has no list of steps")
        model = self.jobs.checkpoint.model
        if plan.get("sha256") not in (None, model.sha256):
            raise PlanError(
                f"{file} is a plan for another checkpoint ({plan.get('checkpoint', 'unnamed')}), not for {Path(model.path).name}"
            )
        return plan

    def _take_plan(self, path: str | None) -> None:
        if not path:
            return
        try:
            plan = self._readable_plan(path)
        except PlanError as error:  # it changed since it was typed
            self.say(str(error), "error")
            return
        self._replace_by(plan)

    def _replace_by(self, plan: object) -> None:
        """Open a plan, after a question if there are steps."""
        session = self.state.session
        if not last(session):
            self.engine.load_plan(plan)
            return
        text = f"{plural(last(session), 'step')} will be replaced: {name_of(session, 1)} and what follows."
        answers = [("r", "replace them", "replace"), ("s", "save them first", "save")]
        self.dialogs.confirm("Replace the steps?", text, answers, lambda answer: self._replace_steps(answer, plan))

    def _replace_steps(self, answer: str, plan: object) -> None:
        if answer == "save" and (reason := no_steps(self.state, "save")):
            self.say(reason, "warning")
        elif answer == "save":
            self.save_plan()
        elif answer == "replace":
            self.engine.load_plan(plan)

    def _take_quit(self, answer: str) -> None:
        if answer == "quit":
            self.dialogs.leave()
        elif answer == "write":
            reason = no_steps(self.state, "write") or unproved_reason(self.state)
            if reason:
                self.say(reason, "error")
            else:
                self.write()

    def _unfinished(self) -> list[str]:
        state, queue = self.state, self.jobs.queue
        reasons = []
        if state.session.unsaved:
            reasons.append(f"{plural(len(state.session.steps), 'step')} not written to a file.")
        if state.pending:
            reasons.append(f"{plural(len(state.pending.amounts), 'ratio')} pending, not applied.")
        if queue.busy:
            reasons.append(unfinished_jobs(Activity(queue.running, queue.waiting)))
        if state.doing.startswith("writ"):
            reasons.append("The file is being written.")
        return reasons

    async def _queue_on_file(self, make: MakeJob, then: Callable[[], None]) -> None:
        try:
            source = await self._file()
        except ProofError as error:
            self.say(unproved_reason(self.state) or str(error), "error")
        except (PrunerError, OSError) as error:
            self.say(str(error), "error")
        else:
            self.jobs.add(make(self.jobs.checkpoint, source))
        then()

    async def _file(self) -> ModelFile:
        state, model = self.state, self.jobs.checkpoint.model
        if not state.session.steps:
            return ModelFile(model.path, model.sha256)
        key = plan_key(state.session.plan)
        place = paths.cache_folder() / "stages" / f"{key[:16]}{self.opening.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        written = await self.engine.written(str(place))
        if plan_key(state.session.plan) != key:
            raise RequestError("the steps changed while the model was written for the job: ask for it again")
        return ModelFile(written.output, written.sha256)


def no_steps(state: AppState, verb: str) -> str:
    """Why there is nothing to write; empty where there are steps."""
    return "" if state.session.steps else f"nothing to {verb}: no step was applied"


def mask_plan(state: AppState) -> dict[str, Any] | None:
    """The plan of the mask of the open file; None where it is not masked, or its slices are no longer zero."""
    mask = state.opened.model.mask
    return mask.plan if mask else None
