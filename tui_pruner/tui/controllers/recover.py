"""Recovers accuracy: the pruned model is written, refitted or trained in the background, and opened as the next stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner.domain.errors import PrunerError
from tui_pruner.domain.lineage import FILE, ORIGINAL, PRUNED, STEP, Stage
from tui_pruner.tui.actions import JOBS, Action, key_of
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, Jobs, fault_of, unproved_reason
from tui_pruner.tui.controllers.file import FileController
from tui_pruner.tui.controllers.target import ranking
from tui_pruner.tui.drawing import titled
from tui_pruner.tui.job_specs.compression import KIND as COMPRESS
from tui_pruner.tui.job_specs.compression import compression, default_lines, edit
from tui_pruner.tui.job_specs.recovery import OWN, SPARSE, Recovery, moved, own_recovery, recovery, refit, ways_for
from tui_pruner.tui.messages import EngineMessage, JobsChanged, ModelChosen, ProofArrived, SessionChanged
from tui_pruner.tui.state import AppState, Store
from tui_pruner.tui.timeline import plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.recovery_messages import ReconstructionResult
    from tui_pruner.tui.engine_session import EngineSession
    from tui_pruner.tui.job_specs.job import JobSpec, ModelFile, OpenCheckpoint

REFIT = "reconstruct PRUNED --data DATA -o OUT"


class RecoverController(Controller):
    """Starts recoveries; the session does not change, since the result is a file of its own that can be opened as the next stage."""

    _to_refit = ""

    def __init__(
        self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs, files: FileController, keep: Callable[[], None]
    ) -> None:
        super().__init__(store, engine, jobs, dialogs)
        self._files = files
        self._keep = keep

    def actions(self) -> Sequence[Action]:
        """Recovery, the refit of every step, and compression."""
        return (
            Action(
                id="recover",
                keys="R",
                title="Recover accuracy",
                help="Refit the layers or re-estimate BatchNorm statistics, without labels, or fine-tune; the result can be "
                "opened as the next stage.",
                group=JOBS,
                cli=REFIT,
                run=lambda: self.jobs.with_data(self.choose, "Recover on"),
                disabled_reason=nothing_to_recover,
                footer="recover",
            ),
            Action(
                id="go-on",
                keys="O",
                title="Continue from the recovered model",
                help="Open the file that was recovered last, as the next stage; this session is kept.",
                group=JOBS,
                cli="open MODEL",
                run=self.go_on,
                disabled_reason=nothing_recovered,
                footer="go on",
            ),
            Action(
                id="train-sparse",
                title="Train with sparse scales",
                help="Before cutting by bn-scale: train with a penalty that drives unimportant normalisation scales to zero.",
                group=JOBS,
                cli="finetune MODEL --data DATA --sparsity 0.001 -o OUT",
                run=lambda: self.jobs.with_data(partial(self._recover, SPARSE), "Train on"),
                disabled_reason=unproved_reason,
            ),
            Action(
                id="compress",
                keys="C",
                title="Compress",
                help="Everything in one recipe: scan, plan to a target, cut and prove, refit, fine-tune, validate, time, export, report; "
                "each stage is shown, is kept, and may be edited until it starts.",
                group=JOBS,
                cli="compress MODEL --data DATA --recipe FILE -o FOLDER",
                run=lambda: self.jobs.with_data(self.show_recipe, "Compress on"),
                disabled_reason=unproved_reason,
                footer="recipe",
            ),
            Action(
                id="refitting",
                keys="Y",
                title="Refit every step",
                help="Switch the refit after every step on or off: how close it comes to the original's outputs is shown with the step.",
                group=JOBS,
                cli=REFIT,
                run=self.switch_refitting,
            ),
        )

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of new steps and their proofs: a step is refitted after its proof, and measured then."""
        return {SessionChanged: self.take_session, ProofArrived: self.take_proof}

    def choose(self) -> None:
        """Choose how to recover accuracy, then a path for the file."""
        module = self.jobs.checkpoint.opening.module
        choices = [(str(number), way.name, way.meaning) for number, way in enumerate(ways_for(module))]
        written = "a file" if module is None else "a folder"
        text = f"{self._files.begins} is refitted or trained in the background, and written to {written} of its own."
        self.dialogs.choose("Recover accuracy", text, choices, self._take_recovery)

    def switch_refitting(self) -> None:
        """Switch the refit after every step on or off."""
        on = not self.state.refitting
        self.store.update(refitting=on)
        waits = "" if self.jobs.checkpoint.fitted_on else f"; it waits for data: {key_of('choose-data')} chooses it"
        self.say(f"refit after every step is {'on' if on else 'off'}{waits if on else ''}")

    def go_on(self) -> None:
        """Open the file that was recovered last, after a question."""
        files = recovered_files(self.state)
        output = next((file for file in files if Path(file).exists()), "")
        if not output:
            self.say(f"{files[0]} no longer exists", "warning")
            return
        text = f"{output}\nContinuing from it begins a session of its own; the present session is kept."

        def take(answer: str) -> None:
            if answer:
                self._keep()
                self.dialogs.send(ModelChosen(output, self.jobs.checkpoint.data, tuple(self.state.lineage)))

        self.dialogs.confirm(f"Continue from {Path(output).name}?", text, [("enter,g", "continue", "go")], take)

    def show_recipe(self) -> None:
        """Show the recipe of the compression that waits or runs, else one to start from the present steps."""
        running = next((job for job in self.jobs.queue.jobs if job.spec.kind == COMPRESS and not job.over), None)
        if running is not None:
            self.dialogs.ask_recipe("A stage may be edited until it starts.", running.spec.recipe, running.spec.key, self._edit, running)
            return
        state, output = self.state, self._files.opening.output
        begins = f"{self._files.begins}, stage by stage. A compression that was killed resumes in its folder."
        folder = output.with_name(f"{output.stem}-compressed".replace("-pruned", ""))
        lines = default_lines(ranking(state), state.pending.round_to, self.jobs.checkpoint.opening.module)
        sample = self.jobs.checkpoint.sample
        self.dialogs.ask_recipe(begins, lines, str(folder), self._take_recipe, steps=len(state.session.steps), sample=sample)

    def take_session(self, event: SessionChanged) -> None:
        """Measure a new step; if it is to be refitted first, after its proof."""
        if event.did != "applied":
            return
        if self.state.refitting and self.jobs.checkpoint.fitted_on:
            self._to_refit = plan_key(self.state.session.plan)
            self._refit_proved()
        else:
            self.jobs.validate_step()

    def take_proof(self, event: ProofArrived) -> None:
        """Refit the step that waits for this proof."""
        self._refit_proved()

    def _refit_proved(self) -> None:
        """Refit the waiting step after its proof, then measure it; a step without a valid proof is only measured."""
        last = self.state.session.steps[-1:]
        if not self._to_refit or not last or last[0].proof is None:
            return
        key, self._to_refit = self._to_refit, ""
        if key != plan_key(self.state.session.plan):
            return
        if last[0].proof.equal:
            self._files.queue_on_file(partial(self._refit_of, key), then=self.jobs.validate_step)
        else:
            self.jobs.validate_step()

    def _take_recovery(self, chosen: str) -> None:
        if not chosen:
            return
        way: Recovery = ways_for(self.jobs.checkpoint.opening.module)[int(chosen)]
        if not way.own:
            self._recover(way)
            return
        text = "Names with numbers; Ultralytics chooses what is left out. Patience: stop after this many epochs without a better one."

        def take(typed: str | None) -> None:
            if typed:
                self._recover(own_recovery(way, typed))

        self.dialogs.ask_text("Fine-tune", text, OWN, take, OWN, fault=fault_of(partial(own_recovery, way)))

    def _recover(self, way: Recovery) -> None:
        def put(target: str, force: bool) -> None:
            judged = partial(self._show_refit, plan_key(self.state.session.plan))
            offer = partial(self._offer_stage, way.kind, self.state.lineage.here)
            self._files.queue_on_file(lambda checkpoint, source: recovery(way, checkpoint, source, target, force, offer, judged))

        self.ask_place(
            "Write the recovered model to",
            f"{way.name}: {way.meaning}.",
            self._files.opening.recovered_file,
            put,
            suffixes=self._files.suffixes,
        )

    def _take_recipe(self, lines: dict[str, str], folder: str) -> None:
        offer = partial(self._offer_stage, COMPRESS, self.state.lineage.here)
        spec = compression(self.jobs.checkpoint, self.state.session, lines, folder, offer)
        self.jobs.add(spec, f"every stage follows, and is kept; {key_of('compress')} shows them", "this compression waits or runs already")

    def _edit(self, lines: dict[str, str], folder: str) -> None:
        job = next((job for job in self.jobs.queue.jobs if job.spec.key == folder and job.spec.kind == COMPRESS and not job.over), None)
        if job is None:
            self.say("this compression is over by now", "warning")
            return
        try:
            late = edit(job, lines)
        except PrunerError as error:
            self.say(str(error), "error")
            return
        self.say(f"{', '.join(late)} had already started and is unchanged" if late else "the stages that follow are edited")

    def _show_refit(self, key: str, result: ReconstructionResult) -> None:
        """Store the distances before and after the refit with the state of this key."""
        self.state.metrics.refits[key] = moved(result)
        self.store.touch("metrics")

    def _refit_of(self, key: str, checkpoint: OpenCheckpoint, source: ModelFile) -> JobSpec:
        output = Path(source.path).with_name(f"{key[:16]}-refitted{Path(source.path).suffix}")
        steps = self.state.session.steps
        return refit(checkpoint, source, str(output), True, partial(self._show_refit, key), f"step {len(steps)}", titled(steps[-1].title))

    def _offer_stage(self, kind: str, parent: str, output: str) -> None:
        made, path = self.state.lineage.stages.get(parent), str(Path(output).absolute())
        sizes = (made.parameters, made.flops) if made is not None and kind != COMPRESS else (0, 0)
        self.state.lineage.replace_file(Stage(f"{FILE}{path}", parent, kind, Path(output).name, *sizes, path=path))
        # No unasked question: it would take the keys of a user who is typing.
        self.store.update(recovered=output)
        self.say(f"Saved {Path(output).name}. Press {key_of('go-on')} to continue from it")


def recovered_files(state: AppState) -> list[str]:
    """The file that was recovered last in this session, then those that the lineage has of its present stage, the newest first."""
    lineage = state.lineage
    made = [stage.path for stage in lineage if stage.path and stage.parent == lineage.here and stage.id != lineage.here]
    return [*filter(None, [state.recovered]), *reversed(made)]


def nothing_recovered(state: AppState) -> str:
    """Why there is no recovered file to continue from."""
    if recovered_files(state):
        return ""
    before = state.lineage.chain(state.lineage.here)
    if any(stage.path and stage.kind not in (ORIGINAL, STEP, PRUNED) and stage not in before for stage in state.lineage):
        return f"nothing was recovered from this step: {key_of('lineage')} shows what was"
    return f"nothing was recovered yet: {key_of('recover')} does"


def nothing_to_recover(state: AppState) -> str:
    """Why nothing can be recovered: the job would refuse an uncut model, but only after it has started."""
    cut = state.session.steps or state.opened.model.stages
    return unproved_reason(state) or ("" if cut else "nothing to recover: apply a cut first")
