"""The engine's answers: open, preview, cut, prove, plan and write; a method for each request."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from tui_pruner.core.model.block_flow import BlockFlow, block_flows
from tui_pruner.core.pruning.importance import calibration_for
from tui_pruner.core.pruning.plan import parse_plan, save_plan
from tui_pruner.core.pruning.preview import dry_run
from tui_pruner.core.pruning.proof import Proof
from tui_pruner.core.pruning.session import AppliedStep, PruningSession
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.planner import Budget, Planner
from tui_pruner.core.search.sensitivity import Sensitivity
from tui_pruner.core.search.targets import Target, parse_target
from tui_pruner.domain.cuts import Request
from tui_pruner.domain.errors import EngineError, OutputError, ProofError, PrunerError
from tui_pruner.engine import requests
from tui_pruner.engine.messages import (
    Calibrated,
    Comparison,
    DryRun,
    ExplainResult,
    Figures,
    Message,
    OpenResult,
    ProgressEvent,
    ProofEvent,
    SavedPlan,
    SessionView,
    TroubleEvent,
)
from tui_pruner.engine.requests import KINDS, Answer, EngineRequest, TargetLadder, TargetRung
from tui_pruner.engine.search_messages import ScanDrops, TargetPlan, TargetReach
from tui_pruner.engine.sources import SessionSource, source_of
from tui_pruner.engine.views import (
    as_requests,
    block_views,
    comparison_view,
    detail_view,
    explain_view,
    model_info,
    preview_view,
    proof_view,
    session_view,
)
from tui_pruner.storage.atomic import check_place
from tui_pruner.storage.error_log import keep_traceback, one_line


def reach_view(planner: Planner) -> TargetReach:
    """The range of every measure."""
    reach = planner.range
    return TargetReach(least=reach.least, most=reach.most)


def target_view(planner: Planner, targets: Sequence[Target], criterion: str, scan: ScanDrops | None) -> TargetPlan:
    """The amounts that meet targets, or what stopped the search.

    Raises:
        RequestError: the checkpoint has no more than that already, or no such criterion.
    """
    pricing = planner.priced_by(measured(planner, scan) if scan else None, criterion)
    return plan_view(planner.plan(targets, criterion, pricing), pricing is not None)


def plan_view(found: Budget, scanned: bool) -> TargetPlan:
    """The amounts of a budget's cuts, by layer."""
    amounts = {cut.layer: cut.amount for cut in found.step.cuts} if found.step else {}
    return TargetPlan(amounts=amounts, shares=found.shares, scanned=scanned, stopped=found.stopped)


def rung_view(session: PruningSession, asked: requests.PlanLadder, share: float, found: Budget, so_far: tuple[int, int]) -> TargetRung:
    """One position of a target slider, with the preview of its amounts."""
    amounts = plan_view(found, False).amounts
    cuts = [Request(layer, amount, asked.criterion, asked.round_to) for layer, amount in amounts.items()]
    preview = preview_view(session, cuts)
    return TargetRung(slider=asked.slider, share=share, amounts=amounts, preview=preview, done=so_far[0], total=so_far[1])


def measured(planner: Planner, scan: ScanDrops) -> Sensitivity:
    """A scan's message as a `Sensitivity`: by groups and the shares of their channels that were gone."""
    groups = planner.analysis.coupling.groups
    drops: dict[int, dict[float, float]] = {}
    for trial in scan.trials:
        if 0 <= trial.group < len(groups):
            drops.setdefault(trial.group, {})[trial.channels / groups[trial.group].channels] = trial.drop
    return Sensitivity(scan.baseline, drops, scan.partial)


def flow_view(block: BlockFlow) -> requests.FlowView:
    """One block's flow of channels."""
    return requests.FlowView.model_validate(dataclasses.asdict(block))


Say = Callable[[str, Message], None]


class Service:
    """One session at a time. What takes longer than a key press runs in the thread `slow` and is answered from there."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._session: PruningSession | None = None
        self._source: SessionSource | None = None
        self.slow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slow")
        self.writing: Future[Message] | None = None
        self._slider = 0

    @property
    def session(self) -> PruningSession:
        """The open session.

        Raises:
            EngineError: nothing is open yet.
        """
        if self._session is None:
            raise EngineError("no checkpoint is open")
        return self._session

    @property
    def source(self) -> SessionSource:
        """What the open session is on.

        Raises:
            EngineError: nothing is open yet.
        """
        if self._source is None:
            raise EngineError("no checkpoint is open")
        return self._source

    def answer(self, method: str, params: dict[str, Any]) -> Message | Future[Message]:
        """Answer a request that came over the pipe.

        Raises:
            PrunerError: it cannot be done; the message says why.
        """
        if method not in KINDS:
            raise EngineError(f"the engine knows no method {method!r}")
        try:
            request = KINDS[method].model_validate(params)
        except ValidationError as error:
            raise EngineError(f"the engine cannot read the parameters of {method!r}: {error.errors()[0]['msg']}") from error
        return self.call(request)

    def call(self, request: EngineRequest[Any]) -> Message | Future[Message]:
        """Answer a request: at once, or later from the other thread.

        Raises:
            PrunerError: it cannot be done; the message says why.
        """
        handle: Callable[[Any], Message | Future[Message]] = getattr(self, request.method)
        return handle(request)

    def open(self, asked: requests.Open) -> OpenResult:
        """Read, trace, and replay a plan; its first `steps` steps are applied, the others can be redone."""
        started = time.perf_counter()
        source = source_of(asked)
        analysis = source.analysis()
        session = PruningSession(analysis)
        if asked.plan:
            session.load(asked.plan)
            session.go_to(len(session.steps) if asked.steps is None else asked.steps)
        self._session, self._source = session, source
        opened = OpenResult(
            model=model_info(analysis, session.arithmetic),
            blocks=block_views(analysis, session.arithmetic),
            session=session_view(session),
            criteria=list(analysis.ranking.names),
            warnings=[*analysis.checkpoint.warnings, *analysis.notes],
            seconds=time.perf_counter() - started,
            recorded_data=analysis.checkpoint.recorded_data,
        )
        result = source.described(opened, analysis)
        self.slow.submit(self._prepare, session)
        self._prove_all(session)
        return result

    def preview(self, asked: requests.PreviewRequest) -> Figures:
        """Preview cuts and look at a layer under them; if one of the two fails, the other is still answered."""
        session, cuts, figures = self.session, as_requests(asked.requests), Figures()
        if cuts or asked.layer is None:
            figures.preview, figures.no_preview = answer_or_reason("preview", lambda: preview_view(session, cuts))
        if (layer := asked.layer) is not None:
            figures.detail, figures.no_detail = answer_or_reason(
                f"detail {layer}", lambda: detail_view(session, layer, cuts, asked.criterion)
            )
        return figures

    def explain(self, asked: requests.Explain) -> ExplainResult:
        """Explain why cutting one layer or block changes another."""
        return explain_view(self.session.analysis, asked.first, asked.second)

    def flow(self, asked: requests.FlowRequest) -> Future[Message]:
        """Follow the channels from block to block."""
        analysis, removal, steps = self.session.analysis, self.session.removal, len(self.session.steps)

        def run() -> Message:
            return requests.FlowResult(steps=steps, blocks=[flow_view(block) for block in block_flows(analysis, removal)])

        return self.slow.submit(run)

    def check_shapes(self, asked: requests.CheckShapes) -> Future[Message]:
        """Check the shapes with the model's own forward on the meta device."""
        session = self.session
        removal = session.removal.together(session.preview(as_requests(asked.requests)).removal)

        def run() -> Message:
            report = dry_run(session.analysis, removal)
            return DryRun(ok=report.ok, seconds=report.seconds, error=report.error)

        return self.slow.submit(run)

    def apply(self, asked: requests.Apply) -> SessionView:
        """Apply cuts as a step; its proof follows."""
        session = self.session
        applied = session.apply(as_requests(asked.requests))
        self.slow.submit(self._prove, session, applied)
        return self._view()

    def undo(self, asked: requests.Undo) -> SessionView:
        """Undo the last step."""
        self.session.undo()
        return self._view()

    def redo(self, asked: requests.Redo) -> SessionView:
        """Apply the last undone step again."""
        self.session.redo()
        self._prove_all(self.session)
        return self._view()

    def go_to(self, asked: requests.GoTo) -> SessionView:
        """Undo or redo until this many steps are applied."""
        self.session.go_to(asked.step)
        self._prove_all(self.session)
        return self._view()

    def name_step(self, asked: requests.NameStep) -> SessionView:
        """Give a step a name."""
        self.session.rename(asked.step, asked.name)
        return self._view()

    def compare(self, asked: requests.Compare) -> Comparison:
        """Compare two states of the session."""
        return comparison_view(self.session, asked.first, asked.second)

    def load_plan(self, asked: requests.LoadPlan) -> SessionView:
        """Replace the steps by those of a plan; their proofs follow."""
        self.session.load(parse_plan(asked.plan).plain())
        self._prove_all(self.session)
        return self._view()

    def save_plan(self, asked: requests.SavePlan) -> SavedPlan:
        """Write the plan as YAML."""
        plan, file = self.source.plan(self.session), self.source.folder / asked.path
        check_place(file, f"the plan {file}", "plan.yaml", asked.force)
        save_plan(file, plan, self.session.analysis.checkpoint.path)
        return SavedPlan(output=str(file.resolve()), steps=len(plan.steps))

    def calibrate(self, asked: requests.Calibrate) -> Calibrated:
        """Use the scores of a calibration job's file for criteria that need data."""
        analysis = self.session.analysis
        found = calibration_for(asked.scores, analysis.checkpoint.sha256, analysis.coupling)
        analysis.ranking.calibrate(found)
        return Calibrated(criteria=list(analysis.ranking.names), images=found.images)

    def reach(self, asked: requests.Reach) -> Future[Message]:
        """Find which targets are reachable."""
        session, rules = self.session, Rules(round_to=asked.round_to)
        return self.slow.submit(lambda: reach_view(Planner(session.analysis, session.removal, rules)))

    def plan_target(self, asked: requests.PlanTarget) -> Future[Message]:
        """Find the amounts that meet targets."""
        session, aims, tolerances = self.session, [parse_target(text) for text in asked.targets], self.source.tolerances

        def run() -> Message:
            for tolerance in tolerances:
                rules = Rules(round_to=asked.round_to, tolerance=tolerance)
                found = target_view(Planner(session.analysis, session.removal, rules), aims, asked.criterion, asked.scan)
                if not found.stopped:
                    break
            return found

        return self.slow.submit(run)

    def plan_ladder(self, asked: requests.PlanLadder) -> Future[Message]:
        """Plan the positions of a target slider in turn, until another slider replaces it."""
        session, self._slider = self.session, asked.slider
        return self.slow.submit(self._plan_ladder, session, asked)

    def write(self, asked: requests.Write) -> Future[Message]:
        """Save and verify the pruned model; a scratch file is for a job and leaves the session unsaved."""
        session = self.session
        if not session.steps:
            raise OutputError("nothing to write: no step was applied, the model is as it was")
        self.writing = self.slow.submit(self._write, session, list(session.steps), asked)
        return self.writing

    def _prove_all(self, session: PruningSession) -> None:
        for applied in session.steps:
            if applied.proof is None:
                self.slow.submit(self._prove, session, applied)

    def _view(self) -> SessionView:
        return session_view(self.session)

    def _prepare(self, session: PruningSession) -> None:
        """Warm up in the background; a failure is reported at once, not at the next key press."""
        try:
            self._warm_up(session)
        except BaseException as error:
            keep_traceback(error)
            self._say("trouble", TroubleEvent(message=one_line("preparing the scores and the dry run", error)))

    def _warm_up(self, session: PruningSession) -> None:
        for group in session.analysis.coupling.groups:
            if group.prunable and self._session is session:
                session.analysis.ranking.scores(group)
        dry_run(session.analysis, session.removal)

    def _prove(self, session: PruningSession, applied: AppliedStep) -> None:
        try:
            session.prove(applied)
        except BaseException as error:  # without a verdict the step would look as if its proof were still running
            keep_traceback(error)
            applied.proof = Proof.failed(one_line("the proof", error))
        self._tell_proofs(session, [applied])

    def _tell_proofs(self, session: PruningSession, steps: list[AppliedStep]) -> None:
        for applied in steps:
            if applied.proof is not None and self._session is session and applied in session.steps:
                number = session.steps.index(applied) + 1
                self._say("proof", ProofEvent(step=number, id=applied.id, proof=proof_view(applied.proof)))

    def _plan_ladder(self, session: PruningSession, asked: requests.PlanLadder) -> Message:
        planner = Planner(session.analysis, session.removal, Rules(round_to=asked.round_to))
        least, most = planner.range.least[asked.measure], planner.range.most[asked.measure]
        shares = [share for share in asked.shares if least <= share < most]
        pricing = planner.priced_by(measured(planner, asked.scan) if asked.scan else None, asked.criterion)
        done = 0
        for share, found in zip(shares, planner.plans(asked.measure, shares, asked.criterion, pricing)):
            if self._slider != asked.slider:
                break
            if found.step is not None:
                done += 1
                self._say("rung", rung_view(session, asked, share, found, (done, len(shares))))
        return TargetLadder(slider=asked.slider, least=least, most=most, scanned=pricing is not None)

    def _write(self, session: PruningSession, steps: list[AppliedStep], asked: requests.Write) -> Message:
        def on_progress(doing: str) -> None:
            self._say("progress", ProgressEvent(doing=doing))

        try:
            made = self.source.write(session, steps, asked, on_progress)
        except ProofError:
            self._tell_proofs(session, steps)
            raise
        if not asked.scratch:
            session.written = tuple(applied.step for applied in steps)
        return made


def answer_or_reason(what: str, ask: Callable[[], Answer]) -> tuple[Answer | None, str]:
    """Return an answer, or why there is none, in one line."""
    try:
        return ask(), ""
    except PrunerError as error:
        return None, str(error)
    except Exception as error:
        keep_traceback(error)
        return None, one_line(what, error)
