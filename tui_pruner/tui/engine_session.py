"""The interface's session with the engine: sends requests without queueing, restarts a dead engine, and posts the answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from textual.message import Message
from textual.message_pump import MessagePump

from tui_pruner.domain.cuts import Asked
from tui_pruner.domain.deadlines import within
from tui_pruner.domain.errors import EngineError, EngineGone, PrunerError, UntrustedError
from tui_pruner.engine import requests
from tui_pruner.engine.client import EngineClient
from tui_pruner.engine.messages import CutRequest, Figures, OpenResult, ProgressEvent, ProofEvent, SessionView, TroubleEvent, WriteResult
from tui_pruner.engine.search_messages import ScanDrops
from tui_pruner.storage.error_log import keep_traceback, one_line
from tui_pruner.storage.trust import inherit
from tui_pruner.tui import messages
from tui_pruner.tui.opening import Opening

LONGEST_PREVIEW = 30.0
LONGEST_CHANGE = 60.0
MOST_DEATHS = 5
WITHIN = 180.0
Answer = TypeVar("Answer")
Item = TypeVar("Item")


class NewestOnly(Generic[Item]):
    """Runs `work` for the newest item; items that were replaced meanwhile are dropped. `failed` gets the errors."""

    def __init__(self, work: Callable[[Item], Awaitable[None]], failed: Callable[[Exception], None]) -> None:
        self._work = work
        self._failed = failed
        self._waiting: list[Item] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether an item waits or is under way."""
        return self._task is not None and not self._task.done()

    def submit(self, item: Item) -> None:
        """Queue this item; it replaces the waiting one."""
        self._waiting = [item]
        if not self.busy:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            try:
                await self._work(self._waiting.pop())
            except Exception as error:
                self._failed(error)


class RestartLimit:
    """Counts crashes of the engine; the fifth within three minutes exceeds the limit."""

    def __init__(self, most: int = MOST_DEATHS, within: float = WITHIN) -> None:
        self._most = most
        self._within = within
        self._deaths: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Record a crash at `now` (seconds); return whether to restart."""
        self._deaths.append(now)
        while now - self._deaths[0] > self._within:
            self._deaths.popleft()
        return len(self._deaths) < self._most


class EngineSession:
    """One opened checkpoint in one engine, which may be restarted.

    Every request ends in a message: the answer, the reason why there is none, or the engine's end, after which another engine is
    started. Every change of the steps is saved by `keep_accepted` before the screen shows it.
    """

    def __init__(self, target: MessagePump, opening: Opening) -> None:
        self.target = target
        self.keep_accepted: Callable[[SessionView], Awaitable[None]] = nothing_to_keep
        self._opening = opening
        self._plan = opening.plan
        self._scores: dict[str, str] = {}
        self._steps: int | None = None
        self._client = EngineClient(self._on_event, self._on_death)
        self._restarts = RestartLimit()
        self._opened = False
        self._over = False
        self._figures: NewestOnly[tuple[Asked, str | None]] = NewestOnly(self._refresh, self._report_own_error)
        self._dry_runs: NewestOnly[Asked] = NewestOnly(self._dry_run, self._report_own_error)
        self._questions: dict[str, NewestOnly[Callable[[], Awaitable[None]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def scores_of(self, criterion: str) -> str:
        """The file with the scores by which the engine ranks for a criterion; empty where there is none."""
        return self._scores.get(criterion, "")

    async def start(self, process: asyncio.subprocess.Process | None = None, replayed: bool = False) -> None:
        """Start the engine, or use the running one, and open the checkpoint with the plan so far; posts Opened or OpenFailed."""
        try:
            result = await self._answer(self._open(process))
        except EngineGone:
            return  # its death is reported by itself
        except PrunerError as error:
            self._post(messages.OpenFailed(str(error), isinstance(error, UntrustedError)))
            return
        for scores in dict.fromkeys(self._scores.values()):
            with contextlib.suppress(PrunerError):  # then the criteria that need them are not there, which is said when they are asked for
                result.criteria = (await self._answer(self._client.call(requests.Calibrate(scores=scores)))).criteria
        self._opened = True
        self._keep(result.session)
        self._post(messages.Opened(result, replayed))

    @property
    def refreshing(self) -> bool:
        """Whether figures were requested and have not come."""
        return self._figures.busy

    def refresh(self, asked: Asked, layer: str | None) -> None:
        """Request the figures of these amounts and one layer's detail in one call; posts Refreshed."""
        self._figures.submit((asked, layer))

    def dry_run(self, asked: Asked) -> None:
        """Request the dry run of the shapes; posts DryRan."""
        self._dry_runs.submit(asked)

    def ask(
        self,
        request: requests.EngineRequest[requests.Answer],
        then: Callable[[requests.Answer], None],
        otherwise: Callable[[str], None] | None = None,
        at_once: bool = False,
    ) -> None:
        """Send a request and pass the answer to `then`, or the error to `otherwise`; without that it is shown as a refusal.

        A waiting request is replaced by a newer one of its kind; `at_once`: send it even if the previous one is not answered yet.
        """

        async def work() -> None:
            try:
                answer = await self._answer(self._client.call(request))
            except PrunerError as error:
                reason = str(error)
                self._post(messages.Answered(partial(otherwise, reason)) if otherwise else messages.RequestRefused(reason))
            else:
                self._post(messages.Answered(partial(then, answer)))

        if at_once:
            self._spawn(work())
            return
        newest = self._questions.setdefault(request.method, NewestOnly(lambda question: question(), self._report_own_error))
        newest.submit(work)

    def apply(self, asked: Asked) -> None:
        """Apply the amounts as a step; posts SessionChanged or RequestRefused."""
        self._spawn(self._change(lambda: self._client.call(requests.Apply(requests=requests_of(asked))), "applied"))

    def undo(self) -> None:
        """Undo the last step; posts SessionChanged or RequestRefused."""
        self._spawn(self._change(lambda: self._client.call(requests.Undo()), "undone"))

    def redo(self) -> None:
        """Redo the last undone step; posts SessionChanged or RequestRefused."""
        self._spawn(self._change(lambda: self._client.call(requests.Redo()), "redone"))

    def go_to(self, step: int) -> None:
        """Undo or redo until this many steps are applied; posts SessionChanged or RequestRefused."""
        self._spawn(self._change(lambda: self._client.call(requests.GoTo(step=step)), "moved"))

    def name_step(self, step: int, name: str) -> None:
        """Give a step a name; posts SessionChanged or RequestRefused."""
        self._spawn(self._change(lambda: self._client.call(requests.NameStep(step=step, name=name)), "named"))

    def load_plan(self, plan: Any) -> None:
        """Replace the steps by those of a plan; posts SessionChanged or RequestRefused."""
        self._spawn(self._change(lambda: self._client.call(requests.LoadPlan(plan=plan)), "opened"))

    def resume(self, plan: dict[str, Any], steps: int, accepted: Callable[[], None]) -> None:
        """Replace the steps by those of a plan, this many of them applied, and call `accepted`; posts SessionChanged or RequestRefused."""

        async def go_on() -> SessionView:
            await self._client.call(requests.LoadPlan(plan=plan))
            session = await self._client.call(requests.GoTo(step=steps))
            accepted()
            return session

        self._spawn(self._change(go_on, "resumed"))

    def plan_target(self, targets: Sequence[str], asked: Asked, scan: ScanDrops | None) -> None:
        """Request the amounts that meet targets, chosen as `asked` says; posts TargetPlanned or RequestRefused."""
        self._spawn(self._plan_target(targets, asked, scan))

    def save_plan(self, path: str, force: bool) -> None:
        """Write the plan as YAML; posts PlanSaved or RequestRefused."""
        self._spawn(self._tell(requests.SavePlan(path=path, force=force), messages.PlanSaved, "saved"))

    def write(self, path: str, force: bool, mask: bool = False) -> None:
        """Save the pruned or the masked model; posts Doing while it runs, then FileWritten or RequestRefused."""
        self._spawn(self._write(requests.Write(path=path, force=force, mask=mask)))

    async def written(self, path: str) -> WriteResult:
        """Save the pruned model for a job, replacing an existing file; posts Doing while it runs.

        Raises:
            PrunerError: it cannot be written, or did not pass its checks.
        """
        self._post(messages.Doing("writing"))
        try:
            result = await self._answer(self._client.call(requests.Write(path=path, force=True, scratch=True)))
            inherit(result.sha256, result.own_names, lasting=False)
            return result
        finally:
            self._post(messages.Doing(""))

    async def calibrate(self, scores: str, criteria: Sequence[str]) -> list[str]:
        """Pass scores by these criteria to this engine and later ones; return the available criteria.

        Raises:
            PrunerError: the scores do not fit this checkpoint, or the engine has ended.
        """
        known = (await self._answer(self._client.call(requests.Calibrate(scores=scores)))).criteria
        self._scores |= dict.fromkeys(criteria, scores)
        return known

    def kill(self) -> None:
        """End the engine at once and permanently; no messages are posted from now on."""
        self._over = True
        self._client.end()

    async def close(self) -> None:
        """End the engine and wait for it."""
        self._over = True
        await self._client.close()

    async def _open(self, process: asyncio.subprocess.Process | None) -> OpenResult:
        opening = self._opening
        await self._client.start(process)
        asked = requests.Open(
            path=opening.model, module=opening.module, imgsz=opening.imgsz, classes=opening.classes, plan=self._plan, steps=self._steps
        )
        return await self._client.call(asked)

    async def _answer(self, ask: Awaitable[Answer], limit: float | None = None) -> Answer:
        """Return the engine's answer; without one within the limit in seconds, end the engine and start another.

        Raises:
            EngineGone: it died, or did not answer in time.
            PrunerError: any other failure, in one line.
        """
        try:
            return await (ask if limit is None else within(limit, ask))
        except asyncio.TimeoutError:
            why = f"the engine did not answer within {limit:.0f} s and is started again"
            self._client.give_up(why)
            raise EngineGone(why) from None
        except PrunerError:
            raise
        except Exception as error:
            keep_traceback(error)
            raise EngineError(one_line("asking the engine", error)) from error

    async def _answer_or_reason(self, ask: Awaitable[Answer], limit: float | None = None) -> tuple[Answer | None, str]:
        """Return the engine's answer, or why there is none; raises EngineGone where it died: the next request restarts it."""
        try:
            return await self._answer(ask, limit), ""
        except EngineGone:
            raise
        except PrunerError as error:
            return None, str(error)

    async def _refresh(self, wanted: tuple[Asked, str | None]) -> None:
        asked, layer = wanted
        preview = requests.PreviewRequest(requests=requests_of(asked), layer=layer, criterion=asked.criterion)
        with contextlib.suppress(EngineGone):
            found, why = await self._answer_or_reason(self._client.call(preview), LONGEST_PREVIEW)
            if found is None:
                found = Figures(no_preview=why if asked else "", no_detail=why if layer is not None else "")
            self._post(messages.Refreshed(found, with_preview=bool(asked)))

    async def _dry_run(self, asked: Asked) -> None:
        await self._send_with_retry(requests.CheckShapes(requests=requests_of(asked)), messages.DryRan)

    async def _tell(self, asked: requests.EngineRequest[Any], message: Callable[[Any], Message], during: str = "") -> None:
        """Send a request once, and post the answer or why there is none."""
        try:
            self._post(message(await self._answer(self._client.call(asked))))
        except PrunerError as error:
            self._post(messages.RequestRefused(str(error), during))

    async def _send_with_retry(self, asked: requests.EngineRequest[Any], message: Callable[[Any, str], Message]) -> None:
        """Send a request, again to the next engine if one dies, and post the answer or why there is none."""
        with contextlib.suppress(EngineGone):
            self._post(message(*await self._answer_or_reason(self._client.call(asked))))

    async def _plan_target(self, targets: Sequence[str], asked: Asked, scan: ScanDrops | None) -> None:
        self._post(messages.Doing("finding cuts"))
        try:
            planning = self._client.call(
                requests.PlanTarget(targets=list(targets), criterion=asked.criterion, round_to=asked.round_to, scan=scan)
            )
            self._post(messages.TargetPlanned(await self._answer(planning)))
        except PrunerError as error:
            self._post(messages.RequestRefused(str(error)))
        finally:
            self._post(messages.Doing(""))

    async def _change(self, ask: Callable[[], Awaitable[SessionView]], did: str) -> None:
        try:
            session = await self._answer(ask(), LONGEST_CHANGE)
        except PrunerError as error:
            self._post(messages.RequestRefused(str(error), during=did))
            return
        self._keep(session)
        await self.keep_accepted(session)
        self._post(messages.SessionChanged(session, did))

    def _keep(self, session: SessionView) -> None:
        """Remember all steps, undone ones too, for an engine that has to be restarted."""
        self._plan = {**session.plan, "steps": [*session.plan["steps"], *session.later]}
        self._steps = len(session.steps)

    async def _write(self, asked: requests.Write) -> None:
        self._post(messages.Doing("writing"))
        try:
            result = await self._answer(self._client.call(asked))
            inherit(result.sha256, result.own_names)
        except PrunerError as error:
            self._post(messages.RequestRefused(str(error), during="written"))
        else:
            self._post(messages.FileWritten(result))
        finally:
            self._post(messages.Doing(""))

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        if name == "proof":
            self._post(messages.ProofArrived(ProofEvent.model_validate(data)))
        elif name == "rung":
            self._post(messages.RungPlanned(requests.TargetRung.model_validate(data)))
        elif name == "progress":
            self._post(messages.Doing(ProgressEvent.model_validate(data).doing))
        elif name == "trouble":
            self._post(messages.RequestRefused(TroubleEvent.model_validate(data).message))

    def _on_death(self, reason: str) -> None:
        restarting = self._restarts.allows(time.monotonic())
        if restarting or self._opened:
            self._post(messages.EngineDied(reason, restarting))
        else:
            self._post(messages.OpenFailed(f"{reason}; that was the engine's end {MOST_DEATHS} times over {self._opening.name}"))
        if restarting:
            self._spawn(self.start(replayed=True))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._report_own_error(error)

    def _report_own_error(self, error: BaseException) -> None:
        """Report an error of this class itself: a request without an answer would be waited for indefinitely."""
        keep_traceback(error)
        self._post(messages.RequestRefused(one_line("the request", error)))

    def _post(self, message: Message) -> None:
        if not self._over:
            self.target.post_message(message)


async def nothing_to_keep(session: SessionView) -> None:
    """Do nothing with changed steps: the default until a session is kept."""


def requests_of(asked: Asked) -> list[CutRequest]:
    """The amounts as requests to the engine."""
    return [
        CutRequest(layer=layer, amount=amount.request, criterion=asked.criterion, round_to=asked.round_to)
        for layer, amount in asked.amounts.items()
    ]
