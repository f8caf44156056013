"""A module by the names of what builds it in a real engine: the engine runs the user's code, and its pipe stays clean."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

import tui_pruner as tp
from tests.engine.conftest import Engine
from tui_pruner.domain import errors
from tui_pruner.engine.client import EngineClient
from tui_pruner.engine.messages import CutRequest
from tui_pruner.engine.requests import Apply, CheckShapes, Explain, Open, PlanTarget, PreviewRequest, SavePlan, Write
from tui_pruner.storage.model_file import ModuleNames

SOURCE = """
import os
import torch
from torch import nn

print("imported", flush=True)

def build():
    torch.manual_seed(0)
    print("built", flush=True)
    os.system("cat; echo from a shell")
    assert not os.read(0, 1)
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))

def inputs():
    return (torch.ones(2, 3, 12, 16),)

def ending():
    raise SystemExit(4)

builds = []

def another():
    builds.append(1)
    return nn.Sequential(nn.Conv2d(3, 15 + len(builds), 3), nn.ReLU(), nn.Conv2d(15 + len(builds), 4, 1))
"""
CUT = [CutRequest(layer="0", amount="50%")]
NAMED = Open(path="engine_net:build", module=ModuleNames("engine_net:build", "engine_net:inputs"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module's code, current for the engine."""
    (tmp_path / "engine_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def client(project: Path, engine_in_project: Engine) -> EngineClient:
    return engine_in_project.client


@pytest.fixture
async def engine_in_project(project: Path):
    engine = Engine()
    await engine.client.start()
    yield engine
    await engine.client.close()


async def test_named_module_is_previewed_cut_proved_and_written(engine_in_project: Engine, project: Path, monkeypatch):
    client = engine_in_project.client
    opened = await client.call(NAMED)
    assert (opened.model.path, opened.model.task) == ("engine_net:build", "module") and len(opened.model.weights) == 64
    assert [layer.status for block in opened.blocks for layer in block.layers] == ["free", "free", "locked"]
    figures = await client.call(PreviewRequest(requests=CUT, layer="0"))
    assert figures.preview is not None and figures.preview.layers["0"].out_after == 8 and figures.detail is not None
    assert (await client.call(CheckShapes(requests=CUT))).ok
    assert (await client.call(Explain(first="0", second="2"))).coupled
    assert (await client.call(PlanTarget(targets=["params=60%"]))).shares["params"] <= 0.6
    await client.call(Apply(requests=CUT))
    await engine_in_project.until(lambda: engine_in_project.of("proof"))
    assert engine_in_project.of("proof")[0]["proof"]["equal"]
    await client.call(SavePlan(path="net.yaml"))
    written = await client.call(Write(path="small.tp"))
    assert written.output == "small.tp" and all(check.ok for check in written.checks)
    files = {file.name: file for file in (project / "small.tp").iterdir()}
    assert set(files) == {"plan.yaml", "model.safetensors", "about.json"}
    assert written.bytes == sum(file.stat().st_size for file in files.values())

    monkeypatch.syspath_prepend(str(project))
    net = importlib.import_module("engine_net")
    loaded, session = tp.load(project / "small.tp", net.build()), tp.open(net.build(), example_inputs=net.inputs())
    session.apply(["0=50%"])
    own = session.model().state_dict()
    assert loaded.state_dict().keys() == own.keys() and loaded[0].out_channels == 8
    assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.state_dict().items())
    assert tp.apply_plan(net.build(), project / "net.yaml")[0].out_channels == 8
    assert not (project / "elsewhere" / "small.tp").exists()


async def test_what_cannot_be_built_or_loaded_again_is_said_in_one_sentence(client: EngineClient, project: Path):
    with pytest.raises(errors.ProgramEnd, match=r"engine_net:ending\(\) raises SystemExit 4"):
        await client.call(Open(path="engine_net:ending", module=ModuleNames("engine_net:ending", "engine_net:inputs")))
    with pytest.raises(errors.RequestError, match="nowhere cannot be imported"):
        await client.call(Open(path="nowhere:build", module=ModuleNames("nowhere:build", "engine_net:inputs")))
    await client.call(Open(path="engine_net:another", module=ModuleNames("engine_net:another", "engine_net:inputs")))
    await client.call(Apply(requests=CUT))
    with pytest.raises(errors.VerificationError, match="does not load into what engine_net:another builds now"):
        await client.call(Write(path=str(project / "other.tp")))
    with pytest.raises(errors.OutputError):
        await client.call(Write(path=str(project / "masked.tp"), mask=True))
