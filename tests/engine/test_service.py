"""The engine process at its pipes: malformed input, the numbers of answers, and the end of stdin."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tui_pruner.engine.processes import end_group, start_module

GARBAGE = [
    b"hello",
    b"",
    b"[1, 2]",
    b"3",
    b"null",
    b'{"id": 5}',
    b'{"id": 5, "method": "undo"}',
    b"[" * 100_000,
    bytes(range(128, 256)),
    b'{"id": 1, "method": "undo", "params": {}',
]


@pytest.fixture
async def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    process = await start_module("tui_pruner.engine")
    yield process
    await end_group(process)


async def send_request(process: asyncio.subprocess.Process, number: Any, method: Any, params: Any) -> None:
    process.stdin.write(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n")
    await process.stdin.drain()


async def read_answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
    return json.loads(await process.stdout.readline())


async def test_malformed_lines_are_answered_with_an_error(process: asyncio.subprocess.Process):
    for line in GARBAGE:
        process.stdin.write(line + b"\n")
    for _ in GARBAGE:
        told = {"kind": "EngineError", "message": "the engine got a line that is not a request"}
        assert await read_answer(process) == {"id": -1, "error": told}
    await send_request(process, 7, "undo", {})
    assert await read_answer(process) == {"id": 7, "error": {"kind": "EngineError", "message": "no checkpoint is open"}}


SENSELESS = [
    ("explode", {}, "the engine knows no method 'explode'"),
    (["undo"], {}, "failed: TypeError"),
    ("open", {"nothing": 1}, "cannot read the parameters of 'open'"),
    ("open", [], "cannot read the parameters of 'open'"),
    ("preview", {"requests": [{"layer": 3}]}, "cannot read the parameters of 'preview'"),
    ("preview", {"requests": []}, "no checkpoint is open"),
]


async def test_invalid_requests_are_answered_with_an_error_and_the_engine_continues(process: asyncio.subprocess.Process):
    for number, (method, params, words) in enumerate(SENSELESS):
        await send_request(process, number, method, params)
        refused = await read_answer(process)
        assert (refused["id"], refused["error"]["kind"]) == (number, "EngineError")
        assert words in refused["error"]["message"]


async def test_slow_answers_do_not_delay_quick_ones(process: asyncio.subprocess.Process, demo_checkpoint: Path):
    await send_request(process, 1, "open", {"path": str(demo_checkpoint)})
    assert (await read_answer(process))["result"]["model"]["classes"] == 10
    await send_request(process, 2, "check_shapes", {"requests": [{"layer": "model.5", "amount": "30%"}]})
    await send_request(process, 3, "preview", {"requests": [{"layer": "model.5", "amount": "30%"}]})
    first, second = await read_answer(process), await read_answer(process)
    assert (first["id"], first["result"]["preview"]["layers"]["model.5"]["out_after"]) == (3, 90)
    assert (second["id"], second["result"]["ok"]) == (2, True)


async def test_engine_ends_when_its_stdin_closes(process: asyncio.subprocess.Process, demo_checkpoint: Path):
    await send_request(process, 1, "open", {"path": str(demo_checkpoint)})
    assert (await read_answer(process))["id"] == 1
    process.stdin.close()
    assert await process.wait() == 0
    assert await process.stdout.read() == b""


async def test_write_in_progress_is_finished_when_stdin_closes(process: asyncio.subprocess.Process, demo_checkpoint: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    await send_request(process, 1, "open", {"path": str(demo_checkpoint)})
    await send_request(process, 2, "apply", {"requests": [{"layer": "model.5", "amount": "30%"}]})
    await send_request(process, 3, "write", {"path": str(tmp_path / "out" / "pruned.pt")})
    while (await read_answer(process)).get("data", {}).get("doing") != "verifying in a clean process":
        pass
    process.stdin.close()
    last = (await process.stdout.read()).splitlines()[-1]
    assert json.loads(last)["result"]["output"].endswith("pruned.pt")
    assert await process.wait() == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pruned.pt"]
