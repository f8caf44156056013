"""A step whose proof fails is shown as failed, and is neither written nor measured until it is undone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.damage import damaged_environment
from tests.terminal import Terminal
from tui_pruner.domain.errors import ProofError
from tui_pruner.storage.trust import fingerprint
from tui_pruner.tui.colours import DARK
from tui_pruner.tui.opening import Opening

FAILED = r"1 model\.5 [−-]30%.*NOT EQUAL \d"
STEP, OTHER = ({"cuts": [{"layer": layer, "amount": "30%"}]} for layer in ("model.5", "model.7"))


@pytest.fixture
def checkpoint(tmp_path: Path, demo_checkpoint: Path) -> Path:
    """A copy of the bundled checkpoint in a folder of its own."""
    (tmp_path / "work").mkdir()
    return Path(shutil.copy(demo_checkpoint, tmp_path / "work" / "digits.pt"))


def files_of(folder: Path) -> list[str]:
    """All files below a folder, but for coupling maps."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz")


def test_unproved_step_is_red_in_a_terminal_and_its_file_never_appears(checkpoint: Path, tmp_path: Path):
    command = [sys.executable, "-m", "tui_pruner", str(checkpoint)]
    with Terminal(command, 140, 40, cwd=checkpoint.parent, env=damaged_environment()) as terminal:
        terminal.wait_for("3.01M")
        terminal.press("/")
        terminal.press("model.5", "enter")
        terminal.wait_for(r"/ model\.5")
        terminal.press("30", "enter")
        terminal.wait_for("128→90")
        terminal.press("a", "w")  # the proof may be under way: then the place is asked for, and the write waits
        terminal.wait_for("Write the pruned model to|is not proved")
        terminal.press("enter")
        terminal.wait_for(FAILED)
        terminal.wait_for(r"(?s)step 1 is not proved \(the masked twin.*undo it with u")
        column = next(line for line in terminal.screen.display if "NOT EQUAL" in line).index("NOT EQUAL")
        row = next(number for number, line in enumerate(terminal.screen.display) if "NOT EQUAL" in line)
        assert terminal.screen.buffer[row][column].fg == DARK.bad.removeprefix("#")
        terminal.press("u")
        terminal.wait_for("undone, failed")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    assert files_of(tmp_path) == ["digits.pt"]


ASKING = {
    "w": "write",
    "R": "recover",
    "X": "export",
    "v": "validate",
    "L": "time",
    "t": "plan a target on",
}
"""The keys that would make something of the session."""


async def test_no_key_uses_an_unproved_step_until_it_is_undone(
    start, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", damaged_environment()["PYTHONPATH"])
    async with start(opening=Opening(str(tiny_checkpoint), imgsz=64, images=1)) as desk:
        await desk.go("model.5")
        await desk.press("3", "0", "enter", "a")
        await desk.until(lambda: any("step 1 is not proved" in said for said in desk.said), "the failed proof")
        assert "NOT EQUAL" in desk.line("1 model.5 −30%")
        assert any(failed and note.startswith("step 1 is not proved: the masked twin disagrees") for note, failed in desk.state.notes)
        for key, what in ASKING.items():
            desk.app.clear_notifications()
            await desk.press(key)
            await desk.until(lambda: any("undo it with u" in said for said in desk.said), f"the refusal to {what} it")
            assert desk.app.screen is desk.bench, f"{key} asks for nothing"
        with pytest.raises(ProofError, match="not written: step 1 is not proved"):
            await desk.engine.written(str(tmp_path / "scratch.pt"))
        assert not desk.queue.busy
        await desk.press("s")
        await desk.until(lambda: "the masked twin disagrees" in desk.text, "the reason beside the comparison")
        await desk.press("escape", "u")
        await desk.until(lambda: not desk.state.session.steps, "the checkpoint")
        desk.app.clear_notifications()
        await desk.until(lambda: "is not proved (" not in desk.text, "the whole screen")
        assert "undone, failed" in desk.line("1 model.5 −30%")
        await desk.press("ctrl+r")
        await desk.until(lambda: bool(desk.state.session.steps), "the step again")
        assert "NOT EQUAL" in desk.line("1 model.5 −30%"), "redoing it proves nothing"
    assert files_of(tmp_path) == []


async def test_replayed_plan_must_be_proved_too(start, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    plan = {"sha256": fingerprint(tiny_checkpoint), "checkpoint": "tiny.pt", "steps": [STEP, OTHER]}
    monkeypatch.setenv("PYTHONPATH", damaged_environment()["PYTHONPATH"])
    async with start(opening=Opening(str(tiny_checkpoint), imgsz=64, plan=plan)) as desk:
        await desk.until(lambda: all(step.proof is not None for step in desk.state.session.steps), "both proofs")
        assert [step.proof.verdict for step in desk.state.session.steps] == ["not equal", "not equal"]
        with pytest.raises(ProofError, match="not written: step 1 is not proved"):
            await desk.engine.written(str(tmp_path / "scratch.pt"))
        desk.app.clear_notifications()
        await desk.press("w")
        await desk.until(lambda: any("undo the steps from there on with u" in said for said in desk.said), "the refusal")
    assert files_of(tmp_path) == []
