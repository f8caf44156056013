"""The interface's session with the engine: asks without ever queueing, restarts a dead engine, and posts what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from tui_pruner.engine.client import EngineClient
from tui_pruner.engine.protocol import CutRequest, Detail, PreviewResult, ProgressEvent, ProofEvent, ScanDrops, SessionView, WriteResult
from tui_pruner.errors import EngineError, PrunerError, UntrustedError
from tui_pruner.patience import within
from tui_pruner.trust import inherit
from tui_pruner.tui import messages
from tui_pruner.tui.amounts import Asked
from tui_pruner.tui.latest import Latest
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.restarts import Restarts

LONGEST_PREVIEW = 30.0
LONGEST_CHANGE = 60.0


class EngineSession:
    """One opened checkpoint in one engine, which may be started several times.

    Every change of the steps goes through `keep_accepted` before anybody hears of it.
    """

    def __init__(self, target: MessagePump, opening: Opening, keep_accepted: Callable[[SessionView], Awaitable[None]]) -> None:
        self._target = target
        self._keep_accepted = keep_accepted
        self._opening = opening
        self._plan = opening.plan
        self._scores: dict[str, str] = {}
        self._steps: int | None = None
        self._client = EngineClient(self._on_event, self._on_death)
        self._restarts = Restarts()
        self._figures: Latest[tuple[Asked, str | None]] = Latest(self._refresh)
        self._dry_runs: Latest[Asked] = Latest(self._dry_run)
        self._explanations: Latest[tuple[str, str]] = Latest(self._explain)
        self._comparisons: Latest[tuple[int, int]] = Latest(self._compare)
        self._tasks: set[asyncio.Task[None]] = set()

    def scores_of(self, criterion: str) -> str:
        """The file with the scores that the engine ranks by for a criterion; empty where there is none."""
        return self._scores.get(criterion, "")

    async def start(self, process: asyncio.subprocess.Process | None = None, replayed: bool = False) -> None:
        """Start the engine, or take over the one that runs, and open the checkpoint with the plan so far; posts Opened or OpenFailed."""
        opening = self._opening
        try:
            await self._client.start(process)
            result = await self._client.open(
                opening.model, imgsz=opening.imgsz, classes=opening.classes, plan=self._plan, steps=self._steps
            )
        except EngineError:
            return
        except (PrunerError, OSError) as error:
            self._post(messages.OpenFailed(str(error), isinstance(error, UntrustedError)))
            return
        for scores in dict.fromkeys(self._scores.values()):
            with contextlib.suppress(PrunerError):  # then the criteria that need them are not there, which is said where one is asked for
                result.criteria = (await self._client.calibrate(scores)).criteria
        self._keep(result.session)
        self._post(messages.Opened(result, replayed))

    def refresh(self, asked: Asked, layer: str | None) -> None:
        """Ask for the figures of these amounts and for one layer's detail; posts Refreshed."""
        self._figures.submit((asked, layer))

    def dry_run(self, asked: Asked) -> None:
        """Ask for PyTorch's word on the shapes; posts DryRan."""
        self._dry_runs.submit(asked)

    def explain(self, first: str, second: str) -> None:
        """Ask why cutting one layer or block touches another, or with no `second` what it touches; posts Explained or Refused."""
        self._explanations.submit((first, second))

    def apply(self, asked: Asked) -> None:
        """Make the amounts a step; posts SessionChanged or Refused."""
        self._spawn(self._change(lambda: self._client.apply(requests_of(asked)), "applied"))

    def undo(self) -> None:
        """Take the last step back; posts SessionChanged or Refused."""
        self._spawn(self._change(self._client.undo, "undone"))

    def redo(self) -> None:
        """Bring the last undone step again; posts SessionChanged or Refused."""
        self._spawn(self._change(self._client.redo, "redone"))

    def go_to(self, step: int) -> None:
        """Undo or redo until so many steps count; posts SessionChanged or Refused."""
        self._spawn(self._change(lambda: self._client.go_to(step), "moved"))

    def name_step(self, step: int, name: str) -> None:
        """Give a step a name; posts SessionChanged or Refused."""
        self._spawn(self._change(lambda: self._client.name_step(step, name), "named"))

    def load_plan(self, plan: Any) -> None:
        """Replace the steps by those of a plan; posts SessionChanged or Refused."""
        self._spawn(self._change(lambda: self._client.load_plan(plan), "opened"))

    def resume(self, plan: dict[str, Any], steps: int, accepted: Callable[[], None]) -> None:
        """Replace the steps by those of a plan, of which so many count, and call `accepted`; posts SessionChanged or Refused."""

        async def go_on() -> SessionView:
            await self._client.load_plan(plan)
            session = await self._client.go_to(steps)
            accepted()
            return session

        self._spawn(self._change(go_on, "resumed"))

    def reach(self, asked: Asked) -> None:
        """Ask what targets can be met with this rounding; posts ReachKnown."""
        self._spawn(self._reach(asked))

    def plan_target(self, targets: Sequence[str], asked: Asked, scan: ScanDrops | None) -> None:
        """Ask for the amounts that meet targets, chosen as `asked` says; posts TargetPlanned or Refused."""
        self._spawn(self._plan_target(targets, asked, scan))

    def compare(self, first: int, second: int) -> None:
        """Ask for two states side by side; posts StatesCompared."""
        self._comparisons.submit((first, second))

    def save_plan(self, path: str, force: bool) -> None:
        """Write the plan as YAML; posts PlanSaved or Refused."""
        self._spawn(self._save_plan(path, force))

    def write(self, path: str, force: bool) -> None:
        """Save the pruned model; posts Doing while it runs, then Written or Refused."""
        self._spawn(self._write(path, force))

    async def written(self, path: str) -> WriteResult:
        """Save the pruned model for a job, over what was there; posts Doing while it runs.

        Raises:
            PrunerError: it cannot be written, or did not pass its checks.
        """
        self._post(messages.Doing("writing"))
        try:
            result = await self._client.write(path, force=True, scratch=True)
            inherit(result.sha256, result.own_names, lasting=False)
            return result
        finally:
            self._post(messages.Doing(""))

    async def calibrate(self, scores: str, criteria: Sequence[str]) -> list[str]:
        """Hand over the scores by these criteria, to this engine and to those that follow it; gives the criteria that there are then.

        Raises:
            PrunerError: the scores are no good for this checkpoint, or the engine is gone.
        """
        known = (await self._client.calibrate(scores)).criteria
        self._scores |= dict.fromkeys(criteria, scores)
        return known

    def kill(self) -> None:
        """End the engine at once, for good."""
        self._restarts = Restarts(most=1)
        self._client.kill()

    async def close(self) -> None:
        """End the engine."""
        await self._client.close()

    async def _refresh(self, wanted: tuple[Asked, str | None]) -> None:
        asked, layer = wanted
        requests = requests_of(asked)
        preview: PreviewResult | None = None
        detail: Detail | None = None
        try:
            if asked:
                preview = await within(LONGEST_PREVIEW, self._client.preview(requests))
            if layer is not None:
                detail = await within(LONGEST_PREVIEW, self._client.detail(layer, requests, asked.criterion))
        except asyncio.TimeoutError:
            self._client.kill()
            return
        except EngineError:
            return
        except PrunerError as error:
            self._post(messages.Refused(str(error)))
        self._post(messages.Refreshed(preview, detail))

    async def _dry_run(self, asked: Asked) -> None:
        with contextlib.suppress(PrunerError):
            self._post(messages.DryRan(await self._client.dry_run(requests_of(asked))))

    async def _explain(self, ends: tuple[str, str]) -> None:
        try:
            self._post(messages.Explained(await self._client.explain(*ends)))
        except PrunerError as error:
            self._post(messages.Refused(str(error)))

    async def _compare(self, ends: tuple[int, int]) -> None:
        with contextlib.suppress(PrunerError):  # a step that is gone by now is compared no more
            self._post(messages.StatesCompared(await self._client.compare(*ends)))

    async def _reach(self, asked: Asked) -> None:
        with contextlib.suppress(PrunerError):  # the question stands without it
            self._post(messages.ReachKnown(await self._client.reach(asked.round_to)))

    async def _plan_target(self, targets: Sequence[str], asked: Asked, scan: ScanDrops | None) -> None:
        self._post(messages.Doing("finding cuts"))
        try:
            self._post(messages.TargetPlanned(await self._client.plan_target(targets, asked.criterion, asked.round_to, scan)))
        except PrunerError as error:
            self._post(messages.Refused(str(error)))
        finally:
            self._post(messages.Doing(""))

    async def _save_plan(self, path: str, force: bool) -> None:
        try:
            self._post(messages.PlanSaved(await self._client.save_plan(path, force)))
        except PrunerError as error:
            self._post(messages.Refused(str(error), during="saved"))

    async def _change(self, ask: Callable[[], Awaitable[SessionView]], did: str) -> None:
        try:
            session = await within(LONGEST_CHANGE, ask())
        except asyncio.TimeoutError:
            self._client.kill()  # it hangs; the next one replays what was accepted
            self._post(messages.Refused("the engine does not answer and is started again", during=did))
            return
        except PrunerError as error:
            self._post(messages.Refused(str(error), during=did))
            return
        self._keep(session)
        await self._keep_accepted(session)
        self._post(messages.SessionChanged(session, did))

    def _keep(self, session: SessionView) -> None:
        """Remember all steps, the undone ones too, for an engine that has to start anew."""
        self._plan = {**session.plan, "steps": [*session.plan["steps"], *session.later]}
        self._steps = len(session.steps)

    async def _write(self, path: str, force: bool) -> None:
        self._post(messages.Doing("writing"))
        try:
            result = await self._client.write(path, force)
            inherit(result.sha256, result.own_names)
        except PrunerError as error:
            self._post(messages.Refused(str(error), during="written"))
        else:
            self._post(messages.Written(result))
        finally:
            self._post(messages.Doing(""))

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        if name == "proof":
            self._post(messages.ProofArrived(ProofEvent.model_validate(data)))
        elif name == "progress":
            self._post(messages.Doing(ProgressEvent.model_validate(data).doing))

    def _on_death(self, reason: str) -> None:
        restarting = self._restarts.allows(time.monotonic())
        self._post(messages.EngineDied(reason, restarting))
        if restarting:
            self._spawn(self.start(replayed=True))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _post(self, message: Message) -> None:
        self._target.post_message(message)


def requests_of(asked: Asked) -> list[CutRequest]:
    """The amounts as the engine takes them."""
    return [
        CutRequest(layer=layer, amount=amount.request, criterion=asked.criterion, round_to=asked.round_to)
        for layer, amount in asked.amounts.items()
    ]
