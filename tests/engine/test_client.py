"""The client with a real engine process: a session, a crash and its replay, and invalid messages."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.engine.conftest import Engine
from tui_pruner.domain import errors
from tui_pruner.engine import processes
from tui_pruner.engine.client import EngineClient, as_error
from tui_pruner.engine.messages import CutRequest
from tui_pruner.engine.processes import start_python
from tui_pruner.engine.requests import Apply, CheckShapes, Open, PreviewRequest, Redo, Undo, Write
from tui_pruner.storage import paths

CUT = [CutRequest(layer="model.6.m.0.cv1", amount="30%")]
PRELUDE = """
import fcntl, json, os, subprocess, sys
def say(**message): print(json.dumps(message), flush=True)
def hear(): return json.loads(sys.stdin.readline())
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


async def test_session_is_opened_cut_and_written(engine: Engine, demo_checkpoint: Path, tmp_path: Path):
    client = engine.client
    opened = await client.call(Open(path=str(demo_checkpoint)))
    assert (opened.model.parameters, opened.model.imgsz, len(opened.blocks)) == (3_012_798, 160, 23)
    assert opened.session.steps == []
    seen = (await client.call(PreviewRequest(requests=CUT))).preview
    assert {name: (width.out_after, width.asked) for name, width in seen.layers.items()} == {
        "model.6.m.0.cv1": (45, True),
        "model.6.m.0.cv2": (64, False),
    }
    detail = (await client.call(PreviewRequest(layer="model.6.m.0.cv1", requests=CUT))).detail
    assert (detail.before, detail.current, detail.after, detail.status) == (64, 64, 45, "free")
    assert ("model.6.m.0.cv2", "in", 64, 45) in [(m.layer, m.role, m.before, m.after) for m in detail.members]
    classes = (await client.call(PreviewRequest(requests=[], layer="model.22.cv3.2.2"))).detail
    assert {(m.layer, m.because) for m in classes.members} == {(f"model.22.cv3.{scale}.2", "the same channels") for scale in (0, 1)}
    assert (await client.call(CheckShapes(requests=CUT))).ok
    applied = await client.call(Apply(requests=CUT))
    assert (applied.current, applied.unsaved, len(applied.steps)) == (seen.after, True, 1)
    await engine.until(lambda: engine.of("proof"))
    assert engine.of("proof")[0]["step"] == 1
    assert engine.of("proof")[0]["proof"]["equal"] is True
    undone = await client.call(Undo())
    assert (undone.current, len(undone.ahead), undone.steps) == (opened.session.original, 1, [])
    redone = await client.call(Redo())
    assert redone.steps[0].proof is not None and redone.steps[0].proof.equal
    written = await client.call(Write(path=str(tmp_path / "out.pt")))
    assert all(check.ok for check in written.checks)
    assert (tmp_path / "out.pt").stat().st_size == written.bytes
    assert [data["doing"] for data in engine.of("progress")][-1] == "done"
    assert (await client.call(Undo())).unsaved is True
    assert (await client.call(Redo())).unsaved is False
    assert engine.deaths == []


def kill(client: EngineClient) -> None:
    """End the child from outside, as a system short of memory does."""
    os.killpg(client._process.pid, signal.SIGKILL)


async def test_killed_engine_is_reported_once_and_a_new_one_replays_the_plan(engine: Engine, demo_checkpoint: Path):
    client = engine.client
    await client.call(Open(path=str(demo_checkpoint)))
    before = await client.call(Apply(requests=CUT))
    waiting = asyncio.ensure_future(client.call(CheckShapes(requests=CUT)))
    await asyncio.wait({waiting}, timeout=0)
    kill(client)
    with pytest.raises(errors.EngineGone, match=r"the engine was killed by SIGKILL .*see .*tui-pruner\.log"):
        await waiting
    await engine.until(lambda: engine.deaths)
    assert not client.running
    with pytest.raises(errors.EngineGone, match="the engine is not running"):
        await client.call(Undo())
    await client.start()
    opened = await client.call(Open(path=str(demo_checkpoint), plan=before.plan))
    assert (opened.session.layers, opened.session.current) == (before.layers, before.current)
    assert opened.session.plan == before.plan
    await engine.until(lambda: engine.of("proof"))
    assert engine.of("proof")[-1]["proof"]["equal"] is True
    assert len(engine.deaths) == 1


async def test_refusals_are_raised_as_their_own_classes(engine: Engine, demo_checkpoint: Path, tmp_path: Path):
    client = engine.client
    with pytest.raises(errors.EngineError, match="no checkpoint is open"):
        await client.call(Undo())
    with pytest.raises(errors.CheckpointError, match="no such file"):
        await client.call(Open(path=str(tmp_path / "none.pt")))
    opened = await client.call(Open(path=str(demo_checkpoint)))
    foreign = {**opened.session.plan, "sha256": "0" * 64}
    with pytest.raises(errors.PlanError, match="was made for"):
        await client.call(Open(path=str(demo_checkpoint), plan=foreign))
    with pytest.raises(errors.RequestError, match=r"model\.22\.dfl is locked"):
        await client.call(Apply(requests=[CutRequest(layer="model.22.dfl", amount="30%")]))
    with pytest.raises(errors.ConflictError):
        await client.call(Apply(requests=[CutRequest(layer="model.5", amount="30%"), CutRequest(layer="model.5", amount="40%")]))
    with pytest.raises(errors.RequestError, match="nothing to undo"):
        await client.call(Undo())
    with pytest.raises(errors.OutputError, match="nothing to write"):
        await client.call(Write(path=str(tmp_path / "out.pt")))
    await client.call(Apply(requests=CUT))
    with pytest.raises(errors.OutputError, match="no folder"):
        await client.call(Write(path=str(tmp_path / "none" / "out.pt")))
    assert (await client.call(PreviewRequest(requests=[]))).preview.after.parameters < 3_012_798, "the engine still answers"
    assert engine.deaths == []


async def test_session_continues_after_its_checkpoint_was_deleted(engine: Engine, demo_checkpoint: Path, tmp_path: Path):
    copied = Path(shutil.copy(demo_checkpoint, tmp_path / "best.pt"))
    await engine.client.call(Open(path=str(copied)))
    copied.unlink()
    await engine.client.call(Apply(requests=CUT))
    written = await engine.client.call(Write(path=str(tmp_path / "out.pt")))
    assert Path(written.output).stat().st_size == written.bytes


async def test_closing_the_client_reports_no_crash(demo_checkpoint: Path):
    engine = Engine()
    await engine.client.start()
    await engine.client.close()
    assert not engine.client.running
    assert engine.deaths == []
    await engine.client.close()


async def client_of_script(engine: Engine, script: str) -> EngineClient:
    """The client with a child that plays the engine."""
    await engine.client.start(await start_python("-c", PRELUDE + script))
    return engine.client


@pytest.fixture
async def recording_engine(tmp_path: Path):
    engine = Engine()
    yield engine
    await engine.client.close()


async def test_invalid_lines_are_skipped(recording_engine: Engine):
    script = """
number = hear()["id"]
for line in ("hello", "123", "null", "[1]", "{", '{"id": 99}', '{"id": []}', '{"event": 3}', '{"event": "proof"}', "[" * 100000, ""):
    print(line, flush=True)
sys.stdout.buffer.write(bytes(range(128, 256)) + b"\\n")
say(event="progress", data={"doing": "writing"})
say(id=number, result={"ok": True, "seconds": 0.5})
sys.stdin.read()
"""
    client = await client_of_script(recording_engine, script)
    assert (await client.call(CheckShapes(requests=[]))).seconds == 0.5
    assert recording_engine.events == [("progress", {"doing": "writing"})]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("result={'ok': 'perhaps'}", "the engine's answer to check_shapes makes no sense"),
        ("result=3", "the engine's answer to check_shapes makes no sense"),
        ("nothing=1", "the engine's answer to check_shapes makes no sense"),
        ("error='no view'", "unknown error"),
        ("error={'kind': 'annotations', 'message': 'odd'}", "^odd$"),
        ("error={'kind': ['list'], 'message': 'odd'}", "^odd$"),
    ],
)
async def test_invalid_answer_is_an_engine_error(answer: str, words: str, recording_engine: Engine):
    client = await client_of_script(recording_engine, f"say(id=hear()['id'], {answer}); sys.stdin.read()")
    with pytest.raises(errors.EngineError, match=words):
        await client.call(CheckShapes(requests=[]))


def test_only_errors_of_this_program_are_raised_by_name():
    assert type(as_error({"kind": "DataError", "message": "bad"})) is errors.DataError
    for kind in ("annotations", "NoSuchError", "__doc__", "", None):
        assert type(as_error({"kind": kind, "message": "bad"})) is errors.EngineError
    assert type(as_error({"kind": "annotations", "message": "bad"}, otherwise=errors.JobError)) is errors.JobError


@pytest.mark.parametrize(
    ("script", "words"), [("hear(); sys.exit(7)", "ended with status 7"), ("hear(); os.kill(os.getpid(), 11)", "was killed by SIGSEGV")]
)
async def test_crash_is_reported_with_its_cause(script: str, words: str, recording_engine: Engine):
    client = await client_of_script(recording_engine, script)
    with pytest.raises(errors.EngineError, match=words):
        await client.call(CheckShapes(requests=[]))
    await recording_engine.until(lambda: recording_engine.deaths)
    assert words in recording_engine.deaths[0]


async def test_line_above_the_length_limit_ends_the_engine_with_a_report(recording_engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "LONGEST_LINE", 1000)
    client = await client_of_script(recording_engine, "hear(); print('x' * 5000, flush=True); sys.stdin.read()")
    with pytest.raises(errors.EngineError, match="the engine"):
        await client.call(CheckShapes(requests=[]))
    await recording_engine.until(lambda: recording_engine.deaths)


HOLDER = (
    "import fcntl, signal, sys; stream = open(sys.argv[1], 'w'); fcntl.flock(stream, fcntl.LOCK_EX);"
    "sys.stderr.write('held'); sys.stderr.close(); signal.pause()"
)
WITH_A_CHILD = f"""
child = subprocess.Popen([sys.executable, "-c", {HOLDER!r}, hear()["params"]["path"]], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
assert child.stderr.read(4) == b"held"
say(event="progress", data={{"doing": "started"}})
"""


@pytest.mark.parametrize("end", ["os._exit(5)", "sys.stdin.read()"])
async def test_children_of_the_engine_end_with_it(end: str, recording_engine: Engine, tmp_path: Path):
    client = await client_of_script(recording_engine, WITH_A_CHILD + end)
    lock = tmp_path / "lock"
    waiting = asyncio.ensure_future(client.call(Write(path=str(lock))))
    await recording_engine.until(lambda: recording_engine.of("progress"))
    await client.close()
    with pytest.raises(errors.EngineError):
        await waiting
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # an orphan that holds it would make the test run into its time limit


NOISY = """
import os, subprocess, sys
from tui_pruner.engine import server
load = server.load_service
def noisy(wire):
    service = load(wire)
    print("a library prints")
    os.write(1, b"native code writes\\n")
    subprocess.run(["echo", "a child writes"])
    from ultralytics.utils import LOGGER
    LOGGER.error("a logger speaks")
    return service
server.load_service = noisy
server.serve()
"""


async def test_prints_of_libraries_do_not_reach_the_engines_pipe():
    process = await start_python("-c", NOISY)
    process.stdin.write(json.dumps({"id": 1, "method": "undo", "params": {}}).encode() + b"\n")
    process.stdin.write_eof()
    out = await process.stdout.read()
    assert await process.wait() == 0
    assert [json.loads(line)["error"]["message"] for line in out.splitlines()] == ["no checkpoint is open"]
    log = paths.log_file().read_text()
    assert all(words in log for words in ("a library prints", "native code writes", "a child writes", "a logger speaks"))
