"""Saves the session while the user works, and restores it after a dropped connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from tui_pruner.domain.cuts import CLASSES, Asked, classes_to_keep, typed_amount
from tui_pruner.domain.errors import PrunerError
from tui_pruner.domain.forecast import Forecast
from tui_pruner.domain.formatting import ago, plural
from tui_pruner.domain.lineage import FILE, Stage, file_id
from tui_pruner.storage.error_log import keep_traceback, named
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, Jobs
from tui_pruner.tui.controllers.criterion import CriterionController
from tui_pruner.tui.job_specs.search import Scanned, kept_scan, scan_of
from tui_pruner.tui.messages import EngineMessage, JobsChanged, RequestRefused, SessionChanged
from tui_pruner.tui.session_stages import forget_figures_of_files, kept_lineage, restore_lineage
from tui_pruner.tui.state import JOBS, PROOFS, Store

if TYPE_CHECKING:
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.storage.sessions import SavedSession, SessionFile
    from tui_pruner.tui.engine_session import EngineSession, NewestOnly
    from tui_pruner.tui.opening import Opening

SAVE_AFTER = 0.5
"""Seconds from the first change to the write."""
KEPT = ("session", "pending", "marks", "tree", "metrics", "latency", "scan", "lineage", "doing", "notes", PROOFS, JOBS)
"""The fields that a session consists of, and those that change with it (a saved plan, a job's data)."""


DIGITS = 5
"""Digits of a metric per bootstrap resample in a saved session."""


class Autosave(Controller):
    """Saves steps before they are shown; the pending cuts and the marks half a second after a change."""

    _file: SessionFile | None = None
    _kept: tuple[object, ...] = ()
    _accepted: SessionView | None = None
    _restoring = False
    _told = False
    _taken: tuple[object, ...] = ()
    _due: asyncio.TimerHandle | None = None

    def __init__(self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs, criterion: CriterionController) -> None:
        from tui_pruner.tui.engine_session import NewestOnly

        super().__init__(store, engine, jobs, dialogs)
        self._criterion = criterion
        self._in_turn = asyncio.Lock()
        self._statuses: dict[str, str] = {}
        self._writing: NewestOnly[None] = NewestOnly(lambda _: self._write(), self._tell_unkept)
        self._taking: NewestOnly[None] = NewestOnly(lambda _: self._take_figures_of_files(), keep_traceback)

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of changed steps, and of a refused session."""
        return {SessionChanged: self.take_session, RequestRefused: self.take_refusal}

    def begin(self) -> None:
        """Resume the requested session, or offer the one that a lost connection left."""
        opening, kept = self.opening, self.opening.kept
        self.engine.keep_accepted = self.keep_accepted
        self.store.observe(KEPT, self.keep_soon)
        model = self.state.opened.model
        own = [one for one in kept.sessions if one.is_of(model.sha256) and one.weights == model.weights] if kept else []
        if kept is not None:
            self._statuses.update(kept.data_status)
            self.jobs.checkpoint.opening = replace(opening, kept=None)
        if opening.saved is not None and opening.saved.weights != model.weights:
            self.say(f"not resumed: {opening.model} gives other weights than in the session of {ago(opening.saved.saved_at)}", "error")
        elif opening.saved is not None:
            self.resume(opening.saved)
        elif opening.lineage:
            self._go_on(own if opening.plan is None else [])
        elif opening.plan is None and own:
            self._offer(own)

    def end(self) -> None:
        """Save what is not on the disk yet, and release the session for other windows."""
        if self._due is not None:
            self._due.cancel()
        if self._due is not None or self._writing.busy or self._accepted is not None:
            self._write_at_last()
        if self._file is not None:
            self._file.close()

    @property
    def opening(self) -> Opening:
        """The options that the checkpoint was opened with."""
        return self.jobs.checkpoint.opening

    def keep_soon(self) -> None:
        """Schedule a save in half a second; changes until then are saved together."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(SAVE_AFTER, self.keep)

    def keep(self) -> None:
        """Save the session if it differs from its last save."""
        self._due = None
        found = self._content()
        if found != self._kept:
            self._kept = found
            self._writing.submit(None)

    async def keep_accepted(self, session: SessionView) -> None:
        """Save the steps before the screen shows them."""
        self._accepted = session
        await self._write()

    def leave(self) -> None:
        """Mark the session as left on purpose: the user quits."""
        self._write_at_last(left=True)
        if self._file is not None and not self._restoring:
            self._file.close()

    def _write_at_last(self, left: bool = False) -> None:
        """Save at once, without a word: no screen is left to say on that it failed."""
        if self._restoring:  # the screen has less than the session that is being resumed
            return
        try:
            file = self._session_file()
            file.keep(self._snapshot(file).model_copy(update={"left": left}))
        except Exception as error:
            if not isinstance(error, (OSError, PrunerError)):
                keep_traceback(error)

    def take_session(self, event: SessionChanged) -> None:
        """Note that the steps are saved; after resuming a session, restore the rest of it."""
        if self._accepted is event.session:
            self._accepted = None
        if event.did == "resumed" and self.opening.saved is not None:
            self._restore(self.opening.saved)
        self.keep()

    def take_refusal(self, event: RequestRefused) -> None:
        """Save what there is where a kept session could not be resumed."""
        if event.during == "resumed":
            self._restoring, self._kept = False, ()
            self.keep_soon()

    def resume(self, saved: SavedSession) -> None:
        """Resume a kept session; until it is accepted or refused, nothing is saved."""
        self._restoring = True
        self.jobs.checkpoint.opening = self.opening.resuming(saved)
        self.engine.resume(saved.plan, saved.steps, lambda: self._take_over(saved))

    def _go_on(self, own: Sequence[SavedSession]) -> None:
        """Continue a stage's own session, where it has one: its steps undone, its marks, ratios, measurements and scan as they were."""
        forget_figures_of_files(self.state.lineage)
        if own:
            self.resume(own[0].model_copy(update={"steps": 0}))
        else:
            self._taking.submit(None)

    def _offer(self, own: Sequence[SavedSession]) -> None:
        saved = own[0]
        if saved.left or not saved.is_work:
            self._take_measurements(own)
            return
        parts = ((len(saved.plan["steps"]), "step", ""), (len(saved.asked), "ratio", " not applied"))
        what = ", ".join(f"{plural(number, noun)}{state}" for number, noun, state in parts if number)
        text = f"It was interrupted {ago(saved.saved_at)}.\n{what}"
        answers = [("enter,g", "resume", "go on")]
        self.dialogs.confirm("Resume the last session?", text, answers, lambda answer: self.resume(saved) if answer else None)

    def _take_measurements(self, own: Sequence[SavedSession]) -> None:
        """Show what the sessions that were left have measured; the steps of the first are resumed on demand only."""
        saved = own[0]
        taken = self._restore_metrics(saved) and saved.has_measurements
        for other in own[1:]:
            self._restore_figures(other)
        self._taken = self._beside_work()
        self.store.touch("metrics")
        if steps := len(saved.plan["steps"]):
            what = f"measurements of the session of {ago(saved.saved_at)}" if taken else f"a session was left {ago(saved.saved_at)}"
            self.say(f"{what}; the start screen resumes its {plural(steps, 'step')}")

    def _take_over(self, saved: SavedSession) -> None:
        """Continue the earlier session's file, only after its plan was accepted: a refused session must not change."""
        from tui_pruner.storage.sessions import SessionFile

        if self._file is not None:
            self._file.close()
        self._file = SessionFile(saved.id, saved.saved_at)

    def _restore(self, saved: SavedSession) -> None:
        """Restore what the engine does not know: marks, pending cuts and results."""
        self._restoring = False
        state = self.state
        amounts = {layer: typed_amount(amount) for layer, amount in saved.asked.items() if layer in state.known}
        amounts[CLASSES] = classes_to_keep(saved.asked.get(CLASSES, ""))
        self._restore_metrics(saved)
        self.store.update(marks=set(saved.marks) & set(state.layers), tree=self.view.tree.showing(saved.cursor))
        self.store.touch("metrics")
        pending = Asked({layer: amount for layer, amount in amounts.items() if amount}, saved.criterion, saved.round_to)
        self._criterion.request(pending)
        lost = f"; {plural(saved.damaged, 'line')} at the end of its journal could not be read" if saved.damaged else ""
        if self.opening.lineage and not lost:  # it was asked for, and is as it was left
            return
        self.say(f"back in the session of {ago(saved.saved_at)}: {plural(saved.steps, 'step')}, {plural(len(saved.marks), 'mark')}{lost}")

    def _restore_metrics(self, saved: SavedSession) -> bool:
        """Restore the figures and the stages of a session, and whether all are still true; without data, take over the session's."""
        alike, timed_alike = self._restore_figures(saved)
        untrue = [*([] if alike else ["metric", "low", "high"]), *([] if timed_alike else ["latency"])]
        newer = self.state.lineage.stages if self.opening.lineage else {}  # than the saved ones
        data = self.jobs.checkpoint.data
        alike_data = {saved.data: data} if alike and data else {}  # the same, perhaps by another path
        stages = [{**stage, **dict.fromkeys(untrue)} for stage in saved.lineage if stage.get("id") not in newer]
        restore_lineage(self.state, [{**stage, "data": alike_data.get(stage.get("data"), stage.get("data", ""))} for stage in stages])
        self._taking.submit(None)
        return alike and timed_alike

    async def _take_figures_of_files(self) -> None:
        """Find out which files were overwritten, and give the others what their own sessions have measured and this one does not know."""
        from tui_pruner.storage.sessions import content_of, measured_sessions, sessions

        lineage, own = self.state.lineage, file_id(self.state.opened.model.content)
        files = [stage for stage in lineage if stage.path and stage.id != own and None in (stage.metric, stage.latency)]
        doubtful = lineage.doubtful_paths

        def read() -> tuple[dict[str, str], list[tuple[Stage, list[SavedSession]]]]:
            contents = {path: content_of(path) for path in doubtful}
            known = sessions() if files else []
            return contents, [(stage, measured_sessions(stage.path, known)) for stage in files]

        contents, measured = await asyncio.to_thread(read)
        before, lineage, as_taken = list(self.state.lineage), self.state.lineage, self._beside_work() == self._taken
        lineage.put(*(self._with_figures(stage, found) for stage, found in measured if found and lineage.stages.get(stage.id) is stage))
        lineage.merge_files({path: file_id(content) if content else "" for path, content in contents.items()})
        if list(lineage) != before:
            self._taken = self._beside_work() if as_taken else self._taken
            self.store.touch("lineage")

    def _with_figures(self, stage: Stage, found: Sequence[SavedSession]) -> Stage:
        """A file's stage with the newest metric and latency that these sessions measured with the present data and settings."""
        own = [one for one in found if stage.id in (f"{FILE}{stage.path}", file_id(str(one.plan.get("sha256", ""))))]
        measured = next((one for one in own if "" in one.metrics and self._is_measured_alike(one)), None)
        if measured is not None and stage.metric is None:
            low, high = measured.intervals.get("", (None, None))
            stage = replace(stage, metric=measured.metrics[""], low=low, high=high, data=self.jobs.checkpoint.data or "")
        timed = next((one for one in own if "" in one.latencies and self._is_timed_alike(one)), None)
        return stage if timed is None or stage.latency is not None else replace(stage, latency=timed.latencies[""])

    def _restore_figures(self, saved: SavedSession) -> tuple[bool, bool]:
        """Restore metrics, the scan and latencies that are still true, and whether the metrics and the latencies are."""
        checkpoint, metrics = self.jobs.checkpoint, self.state.metrics
        if checkpoint.data is None:
            checkpoint.data = saved.data
        alike = self._is_measured_alike(saved)
        if alike:
            metrics.name = saved.metric
            metrics.by_plan = {**saved.metrics, **metrics.by_plan}
            metrics.intervals = {**saved.intervals, **metrics.intervals}
            metrics.resamples = {**saved.resamples, **metrics.resamples}
            metrics.refits = {**saved.refits, **metrics.refits}
            metrics.forecasts = {**{key: Forecast(*one) for key, one in saved.forecasts.items()}, **metrics.forecasts}
            if saved.scan and self.state.scan is None:
                scan = scan_of({**saved.scan, "data": checkpoint.data} if saved.scan.get("data") == saved.data else saved.scan)
                self.store.update(scan=scan, tree=self.view.tree.measured(scan.heats))
        timed_alike = self._is_timed_alike(saved)
        if timed_alike:
            metrics.latencies = {**saved.latencies, **metrics.latencies}
        return alike, timed_alike

    def _is_timed_alike(self, saved: SavedSession) -> bool:
        """Whether the settings that a latency depends on are the same now."""
        opening = self.opening
        return (saved.imgsz, saved.classes, saved.device) == (opening.imgsz, opening.classes, opening.device)

    def _is_measured_alike(self, saved: SavedSession) -> bool:
        """Whether a validation now would give the saved metrics: the settings and the data are the same, as far as is cheaply known."""
        from tui_pruner.storage.sessions import same_path

        opening, data = self.opening, self.jobs.checkpoint.data
        settings = (opening.imgsz, opening.images, opening.classes)
        if (saved.imgsz, saved.images, saved.classes) != settings or not same_path(saved.data, data):
            return False
        return data is None or (bool(saved.data_status) and saved.data_status == self._status_of(data))

    def _status_of(self, data: str | None) -> str:
        """The status of the data when it was chosen, so that metrics from before a change of it are not taken for later ones."""
        from tui_pruner.storage.sessions import status_of_data

        statuses = self._statuses
        if data is not None and data not in statuses:
            statuses = self._statuses = {data: status_of_data(data)}
        return statuses[data] if data is not None else ""

    def _content(self) -> tuple[object, ...]:
        """The content of a session, cheap to compare."""
        state = self.state
        return (
            state.session,
            state.session.unsaved,
            state.pending,
            frozenset(state.marks),
            self.view.tree.key,
            tuple(state.metrics.by_plan.items()),
            tuple(state.metrics.latencies.items()),
            tuple(state.metrics.refits.items()),
            tuple(state.lineage),
            self._scan,
            self.jobs.checkpoint.data,
        )

    def _beside_work(self) -> tuple[object, ...]:
        """The measurements and the stages, which make a session worth keeping only where they are not all of earlier sessions."""
        state = self.state
        stages = [(stage["id"], stage["parent"], stage["kind"]) for stage in kept_lineage(state)]
        return (dict(state.metrics.by_plan), dict(state.metrics.latencies), stages, kept_scan(self._scan))

    @property
    def _scan(self) -> Scanned | None:
        """The complete scan; one that runs would be written with each of its trials, which are stored anyway."""
        return self.state.scan if self.state.scan is not None and not self.state.scan.partial else None

    def _session_file(self) -> SessionFile:
        from tui_pruner.storage.sessions import SessionFile, new_id

        self._file = self._file or SessionFile(new_id(self.state.opened.model.path))
        return self._file

    def _snapshot(self, file: SessionFile) -> SavedSession:
        from tui_pruner.storage.sessions import SavedSession

        state, opening = self.state, self.opening
        session = self._accepted or state.session
        snapshot = SavedSession(
            id=file.id,
            model=state.opened.model.path,
            imgsz=opening.imgsz,
            classes=opening.classes,
            data=self.jobs.checkpoint.data,
            data_status=self._status_of(self.jobs.checkpoint.data),
            images=opening.images,
            device=opening.device,
            plan={**session.plan, "steps": [*session.plan["steps"], *session.later]},
            steps=len(session.steps),
            unsaved=session.unsaved,
            asked={layer: amount.request for layer, amount in state.pending.amounts.items()},
            criterion=state.pending.criterion,
            round_to=state.pending.round_to,
            marks=sorted(state.marks),
            cursor=self.view.tree.key,
            metric=state.metrics.name,
            metrics=state.metrics.by_plan,
            intervals=state.metrics.intervals,
            resamples={key: [round(value, DIGITS) for value in draws] for key, draws in state.metrics.resamples.items()},
            latencies=state.metrics.latencies,
            refits=state.metrics.refits,
            forecasts={key: (one.base, one.drop, one.expected, one.spread) for key, one in state.metrics.forecasts.items()},
            lineage=kept_lineage(state),
            scan=kept_scan(self._scan),
            module=asdict(opening.module) if opening.module else {},
            weights=state.opened.model.weights,
        )
        is_new = snapshot.is_work or self._beside_work() != self._taken
        return snapshot if is_new else snapshot.model_copy(update={"metrics": {}, "latencies": {}, "lineage": [], "scan": {}})

    async def _write(self) -> None:
        async with self._in_turn:
            if not self._restoring:  # until then the file has more than the screen
                await self._write_now()

    async def _write_now(self) -> None:
        try:
            await asyncio.to_thread(self._status_of, self.jobs.checkpoint.data)
            file = self._session_file()
            await asyncio.to_thread(file.keep, self._snapshot(file))
        except Exception as error:  # in any case the step that was made must be shown
            self._tell_unkept(error)
        else:
            self._told = False

    def _tell_unkept(self, error: Exception) -> None:
        from tui_pruner.storage import paths

        self._kept = ()
        self.keep_soon()  # try again
        if not self._told:
            if not isinstance(error, OSError):
                keep_traceback(error)
            reason = error if isinstance(error, (OSError, PrunerError)) else named(error)
            where = f"the session cannot be kept in {paths.sessions_folder()} ({reason})"
            self.say(f"{where}: save the plan elsewhere with {key_of('save-plan')} in the steps pane", "error")
        self._told = True
