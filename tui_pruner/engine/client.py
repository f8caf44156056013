"""The interface's side of the engine: starts the child, asks, listens, and says when it died."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from tui_pruner import errors, places
from tui_pruner.engine.lines import next_line, parse_message
from tui_pruner.engine.processes import end_group, kill_group, own_end, start_module
from tui_pruner.engine.protocol import (
    Calibrated,
    Comparison,
    CutRequest,
    Detail,
    DryRun,
    ExplainResult,
    Message,
    OpenResult,
    PreviewResult,
    SavedPlan,
    ScanDrops,
    SessionView,
    TargetPlan,
    TargetReach,
    WriteResult,
)
from tui_pruner.unexpected import keep_traceback

MODULE = "tui_pruner.engine"
Answer = TypeVar("Answer", bound=Message)
EventHandler = Callable[[str, dict[str, Any]], None]


class EngineClient:
    """One engine child. `on_event` gets what the engine says unasked; `on_death` is called once when the child ends by itself."""

    def __init__(self, on_event: EventHandler, on_death: Callable[[str], None]) -> None:
        self._on_event = on_event
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._closing = False
        self._given_up = ""

    @property
    def running(self) -> bool:
        """Whether the child is alive."""
        return self._process is not None and self._process.returncode is None

    async def start(self, process: asyncio.subprocess.Process | None = None) -> None:
        """Start the child, or take over one that the caller started; it imports torch while the caller goes on."""
        self._closing, self._given_up = False, ""
        self._process = process or await start_module(MODULE)
        self._reader = asyncio.create_task(self._read())

    async def open(
        self,
        path: str,
        imgsz: int | None = None,
        classes: int | None = None,
        plan: dict[str, Any] | None = None,
        steps: int | None = None,
    ) -> OpenResult:
        """Read and trace a checkpoint, and replay a plan on it; of its steps the first `steps` count, the others can be redone."""
        return await self.ask(OpenResult, "open", path=path, imgsz=imgsz, classes=classes, plan=plan, steps=steps)

    async def preview(self, requests: Sequence[CutRequest], layer: str = "", criterion: str = "l2") -> PreviewResult:
        """What the session plus these requests would be, with the detail of one layer where that is named; milliseconds."""
        return await self.ask(PreviewResult, "preview", requests=_plain(requests), detail_of=layer, criterion=criterion)

    async def detail(self, layer: str, requests: Sequence[CutRequest], criterion: str = "l2") -> Detail:
        """Everything about one layer under these requests; milliseconds."""
        return await self.ask(Detail, "detail", layer=layer, requests=_plain(requests), criterion=criterion)

    async def explain(self, first: str, second: str = "") -> ExplainResult:
        """Why cutting one layer or block touches another; milliseconds."""
        return await self.ask(ExplainResult, "explain", first=first, second=second)

    async def dry_run(self, requests: Sequence[CutRequest]) -> DryRun:
        """PyTorch's own word on the shapes; about a tenth of a second."""
        return await self.ask(DryRun, "dry_run", requests=_plain(requests))

    async def apply(self, requests: Sequence[CutRequest]) -> SessionView:
        """Make the requests a step. Its proof follows as the event "proof"."""
        return await self.ask(SessionView, "apply", requests=_plain(requests))

    async def undo(self) -> SessionView:
        """Take the last step back."""
        return await self.ask(SessionView, "undo")

    async def redo(self) -> SessionView:
        """Bring the last undone step again."""
        return await self.ask(SessionView, "redo")

    async def go_to(self, step: int) -> SessionView:
        """Undo or redo until so many steps count."""
        return await self.ask(SessionView, "go_to", step=step)

    async def name_step(self, step: int, name: str) -> SessionView:
        """Give a step a name; an empty one takes it away."""
        return await self.ask(SessionView, "name_step", step=step, name=name)

    async def compare(self, first: int, second: int) -> Comparison:
        """Two states of the session side by side, each after so many steps; milliseconds."""
        return await self.ask(Comparison, "compare", first=first, second=second)

    async def load_plan(self, plan: Any) -> SessionView:
        """Replace the steps by those of a plan (plain data); nothing changes where it does not fit this checkpoint."""
        return await self.ask(SessionView, "load_plan", plan=plan)

    async def save_plan(self, path: str, force: bool = False) -> SavedPlan:
        """Write the plan as YAML."""
        return await self.ask(SavedPlan, "save_plan", path=path, force=force)

    async def calibrate(self, scores: str) -> Calibrated:
        """Hand over the file that a calibration job wrote, for the criteria that need data; again after every `open`."""
        return await self.ask(Calibrated, "calibrate", scores=scores)

    async def reach(self, round_to: int) -> TargetReach:
        """What targets can be met on top of the session."""
        return await self.ask(TargetReach, "reach", round_to=round_to)

    async def plan_target(self, targets: Sequence[str], criterion: str, round_to: int, scan: ScanDrops | None) -> TargetPlan:
        """The amounts that meet targets such as flops=70% on top of the session, by a scan where there is one of all that can be cut."""
        drops = scan.model_dump() if scan else None
        return await self.ask(TargetPlan, "plan_target", targets=list(targets), criterion=criterion, round_to=round_to, scan=drops)

    async def write(self, path: str, force: bool = False, scratch: bool = False) -> WriteResult:
        """Save the pruned model and verify it in a clean process; seconds, with events "progress". `scratch`: the session stays unsaved."""
        return await self.ask(WriteResult, "write", path=path, force=force, scratch=scratch)

    async def ask(self, answer: type[Answer], method: str, **params: Any) -> Answer:
        """One request.

        Raises:
            PrunerError: the engine's refusal, as the class that it was there.
            EngineError: its answer makes no sense.
            EngineGone: the engine is not there, or went away before it answered.
        """
        if self._process is None or self._process.stdin is None or not self.running:
            raise errors.EngineGone(f"the engine is not running; see {places.log_file()}")
        self._next += 1
        number, waiting = self._next, asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        line = json.dumps({"id": number, "method": method, "params": params})
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
            return answer.model_validate(await waiting)
        except ValidationError as error:
            raise errors.EngineError(f"the engine's answer to {method} makes no sense; see {places.log_file()}") from error
        except (BrokenPipeError, ConnectionResetError) as error:
            raise errors.EngineGone(f"the engine died; see {places.log_file()}") from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the child and all that it started, and wait for it."""
        self.end()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    def end(self) -> None:
        """End the child at once and for good: this is no death."""
        self._closing = True
        self._kill()

    def give_up(self, why: str) -> None:
        """End a child that hangs; `on_death` is told why in these words, since how it ended is our doing."""
        self._given_up = why
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            kill_group(self._process)

    async def _read(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        how = "was ended"
        try:
            while line := await next_line(process.stdout):
                self._take(parse_message(line))
            how = await own_end(process)
        finally:
            await end_group(process)
            why = self._given_up or f"the engine {'was ended' if self._closing else how}; see {places.log_file()}"
            self._settle_all(errors.EngineGone(why))
        if not self._closing:
            self._on_death(why)

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"event": str(event), "data": dict(data)}:
                try:
                    self._on_event(event, data)
                except Exception as error:  # what comes after it must be heard all the same
                    keep_traceback(error)
            case {"id": -1, "error": error}:  # it could not even read which request it was
                self._settle_all(as_error(error))
            case {"id": int(number)} if number in self._waiting and not self._waiting[number].done():
                settle(self._waiting[number], message)

    def _settle_all(self, error: errors.PrunerError) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def settle(waiting: asyncio.Future[Any], message: Mapping[str, Any]) -> None:
    """Give whoever waits what the engine answered."""
    if "error" in message:
        waiting.set_exception(as_error(message["error"]))
    else:
        waiting.set_result(message.get("result"))


def as_error(view: Any, otherwise: type[errors.PrunerError] = errors.EngineError) -> errors.PrunerError:
    """The exception that an error message stands for; `otherwise` where it names none of ours."""
    view = view if isinstance(view, dict) else {}
    message = str(view.get("message", "unknown error"))
    kind = getattr(errors, str(view.get("kind")), None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, errors.PrunerError) else otherwise(message)


def _plain(requests: Sequence[CutRequest]) -> list[dict[str, Any]]:
    return [request.model_dump() for request in requests]
