"""The app on any module: cut, proved, written and resumed; keys for what a module has not say why."""

from __future__ import annotations

import importlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import tui_pruner as tp
from tests.tui.helpers import Desk
from tui_pruner.storage.model_file import ModuleNames
from tui_pruner.storage.sessions import session_to_resume, sessions
from tui_pruner.tui.actions import NEEDED_BY, NOT_FOR_MODULES, why_not_for
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.opening import Opening, recent_checkpoints
from tui_pruner.tui.screens.prompts import PathPrompt

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOURCE = """
import torch
from torch import nn

def build():
    print("built", flush=True)
    torch.manual_seed({seed})
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.head(self.backbone(x).relu())

def inputs():
    return (torch.ones(2, 3, 12, 16),)

def batches():
    torch.manual_seed(1)
    return [torch.randn(8, 3, 12, 16) for _ in range(4)]

def closeness(net):
    with torch.no_grad():
        return torch.cat([-(net(x) - build()(x)).abs().mean((1, 2, 3)) for x in batches()])

def train(net):
    return net
"""
NAMES = ModuleNames("app_net:build", "app_net:inputs")
OPENING = Opening(NAMES.build, module=NAMES)
MEASURED = replace(NAMES, batches="app_net:batches", evaluate="app_net:closeness", train="app_net:train")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module's code, current for the app and its engine."""
    (tmp_path / "app_net.py").write_text(SOURCE.format(seed=0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


async def apply_half(desk: Desk) -> None:
    """Half of the first layer as a proved step."""
    await desk.go("0")
    await desk.press("5", "0", "enter")
    await desk.previewed()
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1 and desk.state.session.steps[0].proof is not None, "the proof")


async def test_module_is_cut_proved_written_and_resumed(start, project: Path):
    async with start(opening=OPENING) as desk:
        assert "running the code of app_net:build and app_net:inputs" in desk.state.notes[0][0]
        assert "app_net:build" in desk.text and "Sequential module" in desk.text and "0 classes" not in desk.text
        assert "validate every step" not in desk.text and "it is an output" not in desk.text
        await apply_half(desk)
        assert desk.state.session.steps[0].proof.equal
        assert "prune --model app_net:build --inputs app_net:inputs --cut 0=50% -o" in desk.controllers.copy.texts()[-1][2]
        await desk.press("w")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
        assert "app_net-build-pruned.tp" in desk.text and "model.safetensors" in desk.text and "Tab" not in desk.text
        await desk.press("enter")
        await desk.until(lambda: any("wrote app_net-build-pruned.tp" in note for note, _ in desk.state.notes), "the folder")
        assert not desk.state.session.unsaved
        await desk.press("u")
        await desk.until(lambda: not desk.state.session.steps, "the step undone")
        await desk.press("ctrl+r")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step redone")
        await desk.until(lambda: bool(sessions() and sessions()[0].steps), "the kept session")
    net = importlib.import_module("app_net")
    assert tp.load("app_net-build-pruned.tp", net.build())[0].out_channels == 8
    assert recent_checkpoints() == []

    saved = session_to_resume()
    assert (saved.model, saved.module) == ("app_net:build", asdict(NAMES))
    async with start(opening=Opening.of(saved)) as desk:
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the resumed step")
        assert any("back in the session" in said for said in desk.said)
    (project / "app_net.py").write_text(SOURCE.format(seed=1))
    async with start(opening=Opening.of(session_to_resume())) as desk:
        assert any("not resumed: app_net:build gives other weights than" in said for said in desk.said)
        assert not desk.state.session.steps
    assert session_to_resume().id == saved.id and session_to_resume().steps == 1


async def test_keys_for_what_a_module_has_not_say_why(start, project: Path):
    async with start(opening=OPENING) as desk:
        await desk.until(lambda: "All blocks" in desk.text, "the blocks")
        keys = {action.id: action.keys.split(",")[0] for action in ACTIONS if action.keys and not action.pane}
        barred = {id: keys[id] for id in (*NOT_FOR_MODULES, *NEEDED_BY) if id in keys}
        assert {"validate", "scan", "recover", "refitting", "detections", "keep-classes", "flow"} <= barred.keys()
        for id, key in barred.items():
            desk.app.clear_notifications()
            await desk.press(key)
            assert desk.said == [why_not_for(NAMES, id)], id
            assert desk.app.screen is desk.bench and not desk.queue.busy, id
        assert NOT_FOR_MODULES.keys() | NEEDED_BY.keys() <= {action.id for action in ACTIONS}
        assert "--evaluate package.module:evaluate" in why_not_for(NAMES, "scan")
        assert "--batches package.module:batches or --train package.module:train" in why_not_for(NAMES, "recover")


async def test_module_is_measured_refitted_and_opened_as_the_next_stage(start, project: Path):
    async with start(opening=Opening(NAMES.build, module=MEASURED)) as desk:
        await desk.until(lambda: desk.state.origin_metric is not None, "the metric")
        assert desk.state.metrics.name == "closeness" and desk.state.metrics.measurement("").interval is not None
        assert "32 samples" in desk.text and "closeness" in desk.text and "mAP" not in desk.text
        await desk.press("S")
        await desk.until(lambda: desk.state.scan is not None and not desk.state.scan.partial, "the scan")
        assert desk.state.scan.heat("0") > 0
        await desk.press("t")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
        assert "refitted on its batches" in " ".join(desk.text.split())
        await desk.press("ctrl+u", *"params=60%", "enter")
        await desk.until(lambda: bool(desk.state.pending), "the measured plan")
        await desk.previewed()
        await desk.press("a")
        await desk.until(lambda: desk.state.metrics.of_step(1) is not None, "the metric of the step")
        cut = desk.state.metrics.of_step(1)
        await desk.press("R", "1")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the place")
        await desk.press("enter")
        await desk.until(lambda: desk.state.recovered != "", "the refit")
        before, after = next(iter(desk.state.metrics.refits.values()))
        assert after < before
        await desk.press("O")
        await desk.press("enter")
        await desk.until(lambda: desk.text.strip().startswith("app_net-build-recovered.tp") and "original" in desk.text, "the next stage")
    folder = project / "app_net-build-recovered.tp"
    assert tp.load(folder, importlib.import_module("app_net").build())[0].out_channels < 16
    async with start(opening=Opening(NAMES.build, module=replace(MEASURED, folder=str(folder)))) as desk:
        assert desk.text.strip().startswith("app_net-build-recovered.tp")
        await desk.until(lambda: desk.state.origin_metric is not None, "the metric")
        assert desk.state.origin_metric.value > cut


async def test_latency_of_a_module_is_of_its_inputs(start, project: Path):
    async with start(opening=OPENING) as desk:
        await desk.press("L")
        await desk.until(lambda: desk.state.latency is not None, "the latency")
        assert desk.state.latency.before.keys() >= {"0", "2", "4"}
        assert any("2 samples on cpu" in note for note, _ in desk.state.notes)


async def test_every_other_key_works_or_says_why(start, project: Path):
    async with start(opening=OPENING) as desk:
        await apply_half(desk)
        for action in ACTIONS:
            if action.pane or action.id in ("quit", "suspend", "copy", "latency"):
                continue
            desk.run(action.id)
            await desk.pilot.pause()
            while desk.app.screen is not desk.bench:
                await desk.press("escape")
            if desk.view.sliding:
                await desk.press("escape")
        assert not desk.queue.jobs and desk.app._exception is None


async def test_target_may_be_a_latency(start, project: Path):
    async with start(opening=OPENING) as desk:
        await desk.press("t")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
        assert "latency (timed here)" in " ".join(desk.text.split()) and "With data" not in desk.text
        await desk.press("ctrl+u", *"latency=99%", "enter")
        await desk.until(lambda: bool(desk.queue.jobs) and desk.queue.jobs[-1].over, "the search")
        assert desk.queue.jobs[-1].spec.kind == "search-latency" and desk.queue.jobs[-1].error is None
        assert "plans timed on cpu" in desk.queue.jobs[-1].outcome.figure or "latency" in desk.queue.jobs[-1].outcome.figure


async def test_target_is_planned_by_importance(start, project: Path):
    async with start(opening=OPENING) as desk:
        await desk.press("t")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
        await desk.press("ctrl+u", *"params=60%", "enter")
        await desk.until(lambda: bool(desk.state.pending), "the cuts")
        await desk.previewed()
        assert desk.state.after.parameters <= 0.6 * desk.state.origin.parameters
        await desk.press("i")
        await desk.until(lambda: "Importance" in desk.text, "the criteria")
        assert "Taylor" not in desk.text and "FPGM" in desk.text


async def test_blocks_may_be_called_like_sections(start, project: Path):
    async with start(opening=Opening("app_net:Named", module=replace(NAMES, build="app_net:Named"))) as desk:
        assert [row.key for row in desk.tree.rows] == ["all blocks", "backbone", "head"]
        desk.filter("backbone")
        assert [row.key for row in desk.tree.shown] == ["all blocks", "backbone"]
        await desk.press("escape")
        await desk.go("backbone")
        await desk.press("5", "0", "enter")
        await desk.previewed()
        assert desk.state.preview.layers["head"].in_after == 8
