"""What the engine can be asked: one method per request of the protocol, on one session."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tui_pruner.core.analysis import analyse
from tui_pruner.core.budget.ladders import Rules
from tui_pruner.core.budget.planning import Planner
from tui_pruner.core.budget.targets import parse_target
from tui_pruner.core.budget.views import reach_view, target_view
from tui_pruner.core.calibrated import calibration_for
from tui_pruner.core.checkpoint import open_model
from tui_pruner.core.cut_prove_write import cut_prove_write
from tui_pruner.core.plan import parse_plan, save_plan
from tui_pruner.core.preview import dry_run
from tui_pruner.core.proof import Proof
from tui_pruner.core.requests import Request
from tui_pruner.core.session import AppliedStep, Session
from tui_pruner.core.step_views import comparison_view, proof_view, session_view
from tui_pruner.core.views import as_requests, block_views, detail_view, explain_view, model_info, preview_view
from tui_pruner.engine.protocol import (
    Calibrated,
    Check,
    Comparison,
    CutRequest,
    Detail,
    DryRun,
    ExplainResult,
    Message,
    OpenResult,
    PreviewResult,
    ProgressEvent,
    ProofEvent,
    SavedPlan,
    ScanDrops,
    SessionView,
    TroubleEvent,
    WriteResult,
)
from tui_pruner.errors import EngineError, OutputError, ProofError
from tui_pruner.unexpected import keep_traceback, one_line
from tui_pruner.whole_file import check_place

Say = Callable[[str, Message], None]


class Service:
    """One session at a time. What takes longer than a key press runs in `slow`, one after the other, and is answered from there."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._session: Session | None = None
        self.slow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slow")
        self.writing: Future[Message] | None = None

    @property
    def session(self) -> Session:
        """The open session.

        Raises:
            EngineError: nothing is open yet.
        """
        if self._session is None:
            raise EngineError("no checkpoint is open")
        return self._session

    def answer(self, method: str, params: dict[str, Any]) -> Message | Future[Message]:
        """Do what a request asks.

        Raises:
            PrunerError: it cannot be done, and why.
        """
        if method not in METHODS:
            raise EngineError(f"the engine knows no method {method!r}")
        return METHODS[method](self, **params)

    def open(
        self,
        path: str,
        imgsz: int | None = None,
        classes: int | None = None,
        plan: dict[str, Any] | None = None,
        steps: int | None = None,
    ) -> OpenResult:
        """Read, trace, and replay a plan; of its steps the first `steps` count, the others can be redone."""
        started = time.perf_counter()
        analysis = analyse(open_model(path, classes), imgsz)
        session = Session(analysis)
        if plan:
            session.load(plan)
            session.go_to(len(session.steps) if steps is None else steps)
        self._session = session
        result = OpenResult(
            model=model_info(analysis, session.arithmetic),
            blocks=block_views(analysis, session.arithmetic),
            session=session_view(session),
            criteria=list(analysis.ranking.names),
            warnings=[*analysis.checkpoint.warnings, *analysis.notes],
            seconds=time.perf_counter() - started,
        )
        self.slow.submit(self._prepare, session)
        self._prove_all(session)
        return result

    def preview(self, requests: list[dict[str, Any]], detail_of: str = "", criterion: str = "l2") -> PreviewResult:
        """What the session plus requests would be, with one layer's detail where that is asked for."""
        found = preview_view(self.session, wanted(requests))
        if detail_of:
            found.detail = detail_view(self.session, detail_of, wanted(requests), criterion)
        return found

    def detail(self, layer: str, requests: list[dict[str, Any]], criterion: str = "l2") -> Detail:
        """One layer under requests."""
        return detail_view(self.session, layer, wanted(requests), criterion)

    def explain(self, first: str, second: str = "") -> ExplainResult:
        """Why cutting one layer or block touches another."""
        return explain_view(self.session.analysis, first, second)

    def dry_run(self, requests: list[dict[str, Any]]) -> Future[Message]:
        """PyTorch's word on the shapes."""
        session = self.session
        removal = session.removal.together(session.preview(wanted(requests)).removal)

        def run() -> Message:
            report = dry_run(session.analysis, removal)
            return DryRun(ok=report.ok, seconds=report.seconds, error=report.error)

        return self.slow.submit(run)

    def apply(self, requests: list[dict[str, Any]]) -> SessionView:
        """Make requests a step; its proof follows."""
        session = self.session
        applied = session.apply(wanted(requests))
        self.slow.submit(self._prove, session, applied)
        return self._view()

    def undo(self) -> SessionView:
        """Take the last step back."""
        self.session.undo()
        return self._view()

    def redo(self) -> SessionView:
        """Bring a step again."""
        self.session.redo()
        self._prove_all(self.session)
        return self._view()

    def go_to(self, step: int) -> SessionView:
        """Undo or redo until so many steps count."""
        self.session.go_to(step)
        self._prove_all(self.session)
        return self._view()

    def name_step(self, step: int, name: str) -> SessionView:
        """Give a step a name."""
        self.session.rename(step, name)
        return self._view()

    def compare(self, first: int, second: int) -> Comparison:
        """Two states side by side."""
        return comparison_view(self.session, first, second)

    def load_plan(self, plan: Any) -> SessionView:
        """Replace the steps by those of a plan; their proofs follow."""
        self.session.load(parse_plan(plan).plain())
        self._prove_all(self.session)
        return self._view()

    def save_plan(self, path: str, force: bool = False) -> SavedPlan:
        """Write the plan as YAML."""
        plan, file = self.session.plan, Path(path)
        check_place(file, f"the plan {file}", "plan.yaml", force)
        save_plan(file, plan)
        return SavedPlan(output=str(file.resolve()), steps=len(plan.steps))

    def calibrate(self, scores: str) -> Calibrated:
        """Rank by the scores in a calibration job's file where a criterion needs data."""
        analysis = self.session.analysis
        found = calibration_for(scores, analysis.checkpoint.sha256, analysis.coupling)
        analysis.ranking.calibrate(found)
        self.session.forget_preview()
        return Calibrated(criteria=list(analysis.ranking.names), images=found.images)

    def reach(self, round_to: int = 1) -> Future[Message]:
        """What targets can be met."""
        session = self.session
        return self.slow.submit(lambda: reach_view(Planner(session.analysis, session.removal, Rules(round_to=round_to))))

    def plan_target(
        self, targets: list[str], criterion: str = "l2", round_to: int = 1, scan: dict[str, Any] | None = None
    ) -> Future[Message]:
        """The amounts that meet targets."""
        session, aims = self.session, [parse_target(text) for text in targets]
        drops = ScanDrops.model_validate(scan) if scan else None

        def run() -> Message:
            planner = Planner(session.analysis, session.removal, Rules(round_to=round_to))
            return target_view(planner, aims, criterion, drops)

        return self.slow.submit(run)

    def write(self, path: str, force: bool = False, scratch: bool = False) -> Future[Message]:
        """Save and verify the pruned model; a scratch file is for a job, and leaves the session unsaved."""
        session = self.session
        if not session.steps:
            raise OutputError("nothing to write: no step was applied, the model is as it was")
        steps = list(session.steps)
        self.writing = self.slow.submit(self._write, session, steps, path, force, scratch)
        return self.writing

    def _prove_all(self, session: Session) -> None:
        for applied in session.steps:
            if applied.proof is None:
                self.slow.submit(self._prove, session, applied)

    def _view(self) -> SessionView:
        return session_view(self.session)

    def _prepare(self, session: Session) -> None:
        """Warm up behind the answers; what fails here is told at once, not when a key press meets it."""
        try:
            self._warm_up(session)
        except BaseException as error:
            keep_traceback(error)
            self._say("trouble", TroubleEvent(message=one_line("preparing the scores and the dry run", error)))

    def _warm_up(self, session: Session) -> None:
        for group in session.analysis.coupling.groups:
            if group.prunable and self._session is session:
                session.analysis.ranking.scores(group)
        dry_run(session.analysis, session.removal)

    def _prove(self, session: Session, applied: AppliedStep) -> None:
        try:
            session.prove(applied)
        except BaseException as error:  # without a verdict the step would look as if it were still being proved
            keep_traceback(error)
            applied.proof = Proof.failed(one_line("the proof", error))
        self._tell_proofs(session, [applied])

    def _tell_proofs(self, session: Session, steps: list[AppliedStep]) -> None:
        for applied in steps:
            if applied.proof is not None and self._session is session and applied in session.steps:
                self._say("proof", ProofEvent(step=session.steps.index(applied) + 1, proof=proof_view(applied.proof)))

    def _write(self, session: Session, steps: list[AppliedStep], path: str, force: bool, scratch: bool) -> Message:
        def on_progress(doing: str) -> None:
            self._say("progress", ProgressEvent(doing=doing))

        try:
            written = cut_prove_write(session, path, steps=steps, force=force, on_progress=on_progress).file
        except ProofError:
            self._tell_proofs(session, steps)
            raise
        if not scratch:
            session.written = tuple(applied.step for applied in steps)
        checks = [Check(name=check.name, ok=check.ok, detail=check.detail) for check in written.checks]
        return WriteResult(
            output=written.output, sha256=written.sha256, bytes=written.bytes, checks=checks, own_names=list(written.own_names)
        )


def wanted(requests: list[dict[str, Any]]) -> list[Request]:
    """Requests from their messages."""
    return as_requests([CutRequest.model_validate(request) for request in requests])


METHODS: dict[str, Callable[..., Message | Future[Message]]] = {
    "open": Service.open,
    "preview": Service.preview,
    "detail": Service.detail,
    "explain": Service.explain,
    "dry_run": Service.dry_run,
    "apply": Service.apply,
    "undo": Service.undo,
    "redo": Service.redo,
    "go_to": Service.go_to,
    "name_step": Service.name_step,
    "compare": Service.compare,
    "load_plan": Service.load_plan,
    "save_plan": Service.save_plan,
    "calibrate": Service.calibrate,
    "reach": Service.reach,
    "plan_target": Service.plan_target,
    "write": Service.write,
}
