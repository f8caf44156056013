"""Any error in a method is answered in one line and the engine continues; failures of background work are reported too."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Engine
from tests.engine.faulty import failing
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain import errors
from tui_pruner.engine import server
from tui_pruner.engine.messages import CutRequest, Message, SavedPlan
from tui_pruner.engine.processes import start_python
from tui_pruner.engine.requests import KINDS, Apply, CheckShapes, Open, PreviewRequest, Undo
from tui_pruner.engine.service import Service
from tui_pruner.storage import paths
from tui_pruner.storage.error_log import one_line

CUT = [{"layer": "model.6.m.0.cv1", "amount": "30%"}]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Said:
    """A wire that keeps what is sent, as it would arrive."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(json.loads(json.dumps(message)))


def answered(ask: server.Ask, method: str, **params: Any) -> dict[str, Any]:
    """The one line that comes back."""
    said = Said()
    server.handle(ask, said, json.dumps({"id": 7, "method": method, "params": params}).encode())
    (message,) = said.messages
    assert message.pop("id") == 7
    return message


UNEXPECTED = [
    ZeroDivisionError("on purpose\nand a second line"),
    MemoryError(),
    RecursionError("too deep"),
    KeyboardInterrupt(),
    SystemExit(3),
    UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "odd"),
    OSError(28, "No space left on device"),
    AssertionError("\udce9 and \x1b[2J"),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", KINDS)
def test_every_method_answers_unexpected_errors_in_one_line(method: str, error: BaseException):
    def never(method: str, params: dict[str, Any]) -> Message:
        raise NotImplementedError

    refused = answered(failing(never, lambda: {method: error}), method, path="best.pt")["error"]
    assert refused["kind"] == "EngineError"
    assert refused["message"].startswith(f"{method.replace('_', ' ')} best.pt failed: {type(error).__name__}")
    assert f"the traceback is in {paths.log_file()}: " in refused["message"]
    assert refused["message"].isprintable()
    assert type(error).__name__ in paths.log_file().read_text()


def test_own_errors_keep_their_class_and_message_without_a_traceback():
    refused = answered(failing(lambda *_: None, lambda: {"open": errors.DataError("bad data")}), "open")["error"]
    assert refused == {"kind": "DataError", "message": "bad data"} and not paths.log_file().exists()


class Unsendable(SavedPlan):
    """A result that fails only when it is sent."""

    def model_dump(self, **_: Any) -> dict[str, Any]:
        raise RecursionError("no end of it")


@pytest.mark.parametrize("late", [False, True])
def test_result_that_cannot_be_serialised_is_an_error(late: bool):
    result = Unsendable(output="x", steps=1)

    def ask(method: str, params: dict[str, Any]) -> Message | Future[Message]:
        if not late:
            return result
        future: Future[Message] = Future()
        future.set_result(result)
        return future

    assert "save plan x failed: RecursionError: no end of it" in answered(ask, "save_plan", path="x")["error"]["message"]


def test_error_line_names_the_request_and_its_parameters():
    many = [{"layer": f"model.{number}", "amount": "30%"} for number in range(5)]
    assert server.described("plan_target", {"targets": ["flops=70%"]}) == "plan target ['flops=70%']"
    assert server.described("preview", {"requests": CUT}) == "preview model.6.m.0.cv1=30%"
    assert server.described("apply", {"requests": many}) == "apply model.0=30%, model.1=30%, model.2=30%, 2 more"
    for odd in (None, [], {"requests": 3}, {"requests": [None, {}]}, {"path": ["x"]}):
        assert server.described(["undo"], odd)


def test_advice_depends_on_the_error():
    for error, words in (
        (MemoryError(), "close other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "close other programs"),
        (ModuleNotFoundError("No module named 'torch'"), "install what is missing"),
        (KeyError("x"), "please report it with that log"),
    ):
        assert words in one_line("it", error)


@pytest.fixture(scope="module")
def opened(demo_checkpoint: Path) -> tuple[Service, list[tuple[str, dict[str, Any]]]]:
    said: list[tuple[str, dict[str, Any]]] = []
    service = Service(lambda event, data: said.append((event, data.model_dump())))
    service.call(Open(path=str(demo_checkpoint)))
    service.slow.submit(int).result()
    return service, said


def test_proof_that_cannot_be_computed_is_reported_as_failed(opened, monkeypatch: pytest.MonkeyPatch):
    service, said = opened
    said.clear()

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(PruningSession, "prove", fails)
    service.call(Apply(requests=CUT))
    service.slow.submit(int).result()
    (event,) = said
    assert event[0] == "proof" and (event[1]["step"], event[1]["proof"]["equal"]) == (1, False)
    assert "the proof failed: MemoryError" in event[1]["proof"]["reason"]
    service.call(Undo())


def test_failed_warm_up_is_reported(opened, monkeypatch: pytest.MonkeyPatch, demo_checkpoint: Path):
    service, said = opened
    said.clear()

    def fails(*_: Any) -> None:
        raise ZeroDivisionError("cold")

    monkeypatch.setattr("tui_pruner.engine.service.dry_run", fails)
    service.call(Open(path=str(demo_checkpoint)))
    service.slow.submit(int).result()
    (event,) = said
    assert event[0] == "trouble" and "ZeroDivisionError: cold" in event[1]["message"]


BROKEN = """
from tui_pruner.engine import server
def load(wire): raise ModuleNotFoundError("No module named 'torch'")
server.load_service = load
server.serve()
"""


async def test_engine_that_fails_to_load_answers_with_the_reason_and_continues(demo_checkpoint: Path):
    engine = Engine()
    await engine.client.start(await start_python("-c", BROKEN))
    for _ in range(2):
        with pytest.raises(
            errors.PrunerError, match=r"loading the engine failed: ModuleNotFoundError: No module named 'torch'.*install"
        ) as told:
            await engine.client.call(Open(path=str(demo_checkpoint)))
        assert not isinstance(told.value, errors.EngineGone)
    await engine.client.close()
    assert engine.deaths == []


async def test_ctrl_c_does_not_end_the_engine(engine: Engine, demo_checkpoint: Path):
    await engine.client.call(Open(path=str(demo_checkpoint)))
    os.kill(engine.client._process.pid, signal.SIGINT)
    assert (await engine.client.call(PreviewRequest(requests=[CutRequest(**CUT[0])]))).preview.layers
    assert engine.deaths == []


ENDS = {
    "hangs": "hear(); signal.pause()",
    "closes its stdout and lives on": "hear(); os.close(1); signal.pause()",
}
PRELUDE = "import json, os, signal, sys\ndef hear(): return sys.stdin.readline()\n"


async def test_engine_ended_by_the_app_is_reported_with_the_apps_reason():
    engine = Engine()
    await engine.client.start(await start_python("-c", PRELUDE + ENDS["hangs"]))
    waiting = asyncio.ensure_future(engine.client.call(Undo()))
    await asyncio.wait({waiting}, timeout=0)
    engine.client.give_up("it did not answer within 30 s")
    with pytest.raises(errors.EngineGone, match=r"^it did not answer within 30 s$"):
        await waiting
    await engine.until(lambda: engine.deaths)
    assert engine.deaths == ["it did not answer within 30 s"]


async def test_engine_that_closes_its_stdout_is_not_reported_as_out_of_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tui_pruner.engine.processes.LAST_MOMENT", 0.1)
    engine = Engine()
    await engine.client.start(await start_python("-c", PRELUDE + ENDS["closes its stdout and lives on"]))
    with pytest.raises(errors.EngineGone, match="the engine stopped answering and was ended; see"):
        await engine.client.call(Undo())
    await engine.until(lambda: engine.deaths)
    assert "out of memory" not in engine.deaths[0]


async def test_unreadable_request_leaves_no_other_request_waiting():
    engine = Engine()
    script = "hear(); print(json.dumps({'id': -1, 'error': {'kind': 'EngineError', 'message': 'no request'}}), flush=True); signal.pause()"
    await engine.client.start(await start_python("-c", PRELUDE + script))
    with pytest.raises(errors.EngineError, match=r"^no request$"):
        await engine.client.call(Undo())
    await engine.client.close()
    assert engine.deaths == []


async def test_exception_in_an_event_handler_does_not_stop_the_client():
    def fails(name: str, data: dict[str, Any]) -> None:
        raise ValueError("a mistake of the interface")

    from tui_pruner.engine.client import EngineClient

    client = EngineClient(fails, lambda why: None)
    script = (
        "number = json.loads(hear())['id']; print(json.dumps({'event': 'proof', 'data': {}}), flush=True);"
        "print(json.dumps({'id': number, 'result': {'ok': True, 'seconds': 0.5}}), flush=True); signal.pause()"
    )
    await client.start(await start_python("-c", PRELUDE + script))
    assert (await client.call(CheckShapes(requests=[]))).seconds == 0.5
    await client.close()
    assert "a mistake of the interface" in paths.log_file().read_text()


def test_garbage_collector_skips_the_imported_modules_of_the_engine():
    gc.disable()
    before = gc.get_freeze_count()
    try:
        server.freeze_present_objects()
        assert gc.isenabled() and gc.get_freeze_count() > before
        frozen = gc.get_freeze_count()
        server.freeze_present_objects()
        assert gc.get_freeze_count() <= frozen
    finally:
        gc.enable()
        gc.unfreeze()
