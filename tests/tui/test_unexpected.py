"""Any error in a request to the engine is one line on the screen, and the request works once the fault is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from textual.widgets import Input

from tests.engine.faulty import WORDS, failing
from tests.faults.nth_call import quick_verification
from tests.tui.helpers import Desk, screen_text, until, unwrapped
from tui_pruner.domain.errors import EngineError
from tui_pruner.engine import server
from tui_pruner.engine.client import EngineClient
from tui_pruner.engine.requests import KINDS
from tui_pruner.engine.service import Service
from tui_pruner.storage import paths
from tui_pruner.tui import engine_session as sessions
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens import loading
from tui_pruner.tui.screens.prompts import PathPrompt
from tui_pruner.tui.screens.start import StartScreen
from tui_pruner.tui.screens.workbench import Workbench

pytestmark = pytest.mark.asyncio(loop_scope="session")

LAYER = "model.6.m.0.cv1"
FAULTS: dict[str, BaseException] = {}


class InThisProcess(EngineClient):
    """A client whose engine is the real service and loop here, with the faults of the test: a start takes no second."""

    async def start(self, process: asyncio.subprocess.Process | None = None) -> None:
        loop = asyncio.get_running_loop()
        client = self

        class ToTheClient:
            def send(self, message: dict[str, Any]) -> None:
                loop.call_soon_threadsafe(client._take, json.loads(json.dumps(message)))

        wire = ToTheClient()
        service = Service(lambda event, data: wire.send({"event": event, "data": data.model_dump(mode="json", by_alias=True)}))
        self._handle = lambda line: server.handle(failing(service.answer, lambda: FAULTS), wire, line)

    async def call(self, request: Any) -> Any:
        self._next += 1
        waiting = self._waiting[self._next] = asyncio.get_running_loop().create_future()
        self._handle(json.dumps({"id": self._next, "method": request.method, "params": request.model_dump()}).encode())
        return request.answer.model_validate(await waiting)


async def no_process() -> None:
    return None


@pytest.fixture(scope="module", autouse=True)
def engine_in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "EngineClient", InThisProcess)
        patch.setattr(loading, "start_engine", no_process)
        yield


@pytest.fixture
def faults() -> dict[str, BaseException]:
    """By method; empty at the beginning."""
    FAULTS.clear()
    return FAULTS


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tiny_checkpoint: Path) -> AsyncIterator[Desk]:
    """One app for all requests, which each of them leaves usable."""
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64))
    async with app.run_test(size=(160, 50), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await desk.until(lambda: desk.ready, "the model")
        yield desk


@pytest_asyncio.fixture(loop_scope="session")
async def desk(shared: Desk, faults: dict[str, BaseException]) -> Desk:
    while isinstance(shared.app.screen, PathPrompt):
        await shared.press("escape")
    await shared.calm((160, 50))
    return shared


def shows_the_fault(method: str, text: str) -> bool:
    """Whether a text has the line on a fault, which the screen may have broken in two."""
    return f"{method.replace('_', ' ')} " in text and "ZeroDivisionError" in text


async def ask_for_a_cut(desk: Desk) -> None:
    await desk.go(LAYER)
    await desk.press("3", "0", "enter")


async def apply_cut(desk: Desk, times: int = 1) -> None:
    for number in range(len(desk.state.session.steps), times):
        await desk.go(("model.5", "model.7")[number])
        await desk.press("2", "5", "enter")
        await desk.press("a")
        await desk.until(lambda n=number: len(desk.state.session.steps) == n + 1, "the step")


async def type_over(desk: Desk, text: str) -> None:
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt) and bool(desk.app.screen.query(Input)), "the question")
    desk.app.screen.query_one(Input).value = text
    await desk.press("enter")


async def steps(desk: Desk, *keys: str) -> None:
    await desk.press("s", *keys)


async def named(desk: Desk) -> None:
    await steps(desk, "n")
    await type_over(desk, "neck")
    await desk.press("escape")


async def target(desk: Desk) -> None:
    await desk.press("t")
    await type_over(desk, "flops=80%")


async def other_row(desk: Desk) -> None:
    tree = desk.tree
    tree.go_to("model.9.cv1" if tree.row.key != "model.9.cv1" else LAYER)


async def saved(desk: Desk) -> None:
    file = paths.state_folder() / "plan.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    desk.engine.save_plan(str(file), True)


async def written(desk: Desk) -> None:
    desk.engine.write(str(paths.state_folder() / "pruned.pt"), True)


async def replaced(desk: Desk) -> None:
    desk.engine.load_plan({**desk.state.session.plan, "steps": []})


async def nothing(desk: Desk) -> None:
    pass


Do = Callable[[Desk], Awaitable[None]]
Worked = Callable[[Desk], bool]
REQUESTS: dict[str, tuple[Do, Do, Worked]] = {
    "preview": (
        lambda desk: desk.go(LAYER),
        lambda desk: desk.press("right"),
        lambda desk: desk.state.preview is not None and "Saves" in desk.text,
    ),
    "check_shapes": (nothing, ask_for_a_cut, lambda desk: desk.state.dry_run is not None and desk.state.dry_run.ok),
    "explain": (lambda desk: desk.go(LAYER), lambda desk: desk.press("escape", "e"), lambda desk: desk.view.explanation is not None),
    "flow": (nothing, lambda desk: desk.press("E"), lambda desk: desk.view.flow is not None and desk.view.flow.found is not None),
    "apply": (ask_for_a_cut, lambda desk: desk.press("a"), lambda desk: len(desk.state.session.steps) == 1),
    "undo": (apply_cut, lambda desk: desk.press("u"), lambda desk: not desk.state.session.steps),
    "redo": (
        lambda desk: undone(desk),
        lambda desk: desk.press("ctrl+r"),
        lambda desk: len(desk.state.session.steps) == 1,
    ),
    "go_to": (lambda desk: apply_cut(desk, 2), lambda desk: going_back(desk), lambda desk: len(desk.state.session.steps) == 1),
    "name_step": (apply_cut, named, lambda desk: desk.state.session.steps[0].title == "neck"),
    "compare": (apply_cut, lambda desk: steps(desk, "up", "down"), lambda desk: "Blocks" in desk.text and "Layers" in desk.text),
    "load_plan": (apply_cut, replaced, lambda desk: not desk.state.session.steps),
    "save_plan": (apply_cut, saved, lambda desk: (paths.state_folder() / "plan.yaml").exists()),
    "plan_target": (nothing, target, lambda desk: bool(desk.state.pending)),
    "plan_ladder": (
        nothing,
        lambda desk: desk.press("escape", "ctrl+t"),
        lambda desk: desk.view.slider is not None and desk.view.slider.ladder is not None,
    ),
    "reach": (nothing, lambda desk: desk.press("escape", "t"), lambda desk: "Reachable:" in desk.text),
    "write": (apply_cut, written, lambda desk: (paths.state_folder() / "pruned.pt").exists()),
}
ELSEWHERE = {"open", "calibrate"}


async def undone(desk: Desk) -> None:
    await apply_cut(desk)
    desk.engine.undo()
    await desk.until(lambda: not desk.state.session.steps, "the step gone")


async def going_back(desk: Desk) -> None:
    desk.engine.go_to(1)


async def test_every_request_kind_has_an_entry():
    assert set(REQUESTS) | ELSEWHERE == set(KINDS)


@pytest.mark.parametrize("method", REQUESTS)
async def test_failed_request_is_shown_in_one_line_and_works_the_next_time(method: str, faults, desk: Desk):
    prepare, ask, worked = REQUESTS[method]
    await prepare(desk)
    faults[method] = ZeroDivisionError(WORDS)
    with quick_verification():
        await ask(desk)
        await desk.until(lambda: shows_the_fault(method, desk.text), f"the line on {method}")
        assert not worked(desk) and not desk.state.doing
        faults.clear()
        desk.app.clear_notifications()
        await ask(desk)
        await desk.until(lambda: worked(desk), f"{method} after the fault")
    assert not shows_the_fault(method, desk.text)


async def test_checkpoint_that_fails_to_open_can_be_chosen_and_opened_again(faults, tiny_checkpoint: Path):
    faults["open"] = ZeroDivisionError(WORDS)
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64))
    async with app.run_test(size=(160, 50), notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and shows_the_fault("open", screen_text(app)), "the reason")
        assert str(paths.log_file()) in unwrapped(app).replace(" ", "")
        faults.clear()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Workbench), "the model")


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyboardInterrupt(), SystemExit(1), RecursionError()], ids=lambda error: type(error).__name__
)
async def test_no_class_of_error_leaves_the_loading_screen_open(error: BaseException, faults, tiny_checkpoint: Path):
    faults["open"] = error
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64))
    async with app.run_test(size=(160, 50)) as pilot:
        named = f"failed: {type(error).__name__}"
        await until(pilot, lambda: isinstance(app.screen, StartScreen) and named in unwrapped(app), "the reason")


async def test_scores_that_cannot_be_loaded_fail_only_their_job(faults, desk: Desk):
    faults["calibrate"] = ZeroDivisionError(WORDS)
    with pytest.raises(EngineError, match=f"calibrate scores.npz failed: ZeroDivisionError: {WORDS}"):
        await desk.engine.calibrate("scores.npz", ["obs"])
    assert desk.engine.scores_of("obs") == ""


async def test_failed_proof_is_shown_beside_its_step_with_the_reason(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("tui_pruner.core.pruning.session.prove", fails)
    await apply_cut(desk)
    told = "step 1 is not proved: the proof failed: MemoryError"
    await desk.until(lambda: any(failed and told in note for note, failed in desk.state.notes), "the reason in the jobs pane")


async def test_error_of_the_interface_in_a_request_is_reported(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any) -> None:
        raise KeyError("a mistake")

    await desk.go(LAYER)
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "requests_of", fails)
        await desk.press("3", "0", "enter")
        await desk.until(lambda: any("the request failed: KeyError: 'a mistake'" in said for said in desk.said), "the line")
    await desk.press("right")
    await desk.until(lambda: desk.state.preview is not None, "the app as before")


async def test_engine_that_cannot_be_started_leads_back_to_the_start_screen(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    async def refused() -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(loading, "start_engine", refused)
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64))
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, StartScreen), "the start screen")
        assert "starting the engine failed: BlockingIOError" in screen_text(app)
