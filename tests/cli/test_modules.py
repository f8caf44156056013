"""Any module on the command line: its builder is found in the working folder, and saved modules are loaded and proved again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import nn

import tui_pruner as tp
from tests.cli.conftest import Call, spawn
from tests.terminal import Terminal

SOURCE = """
import torch
from torch import nn

calls = []

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))

def another():
    calls.append(1)
    return nn.Sequential(nn.Conv2d(3, 16 + len(calls), 3), nn.Conv2d(16 + len(calls), 4, 1))

def failing():
    raise ValueError("no weights")

def ending(*args):
    raise SystemExit(4)

def interrupting():
    raise KeyboardInterrupt

image = torch.rand(2, 3, 12, 16)

def inputs():
    return (image,)

def trunk(net, x):
    return net[:3](x)

class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Linear(6, 24), nn.Sequential(nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        query, key, value = self.stem(x).chunk(3, -1)
        return self.body(torch.softmax(query @ key.mT, -1) @ value)

def nested():
    return Nested()

def tokens():
    return torch.rand(2, 5, 6)

def moving():
    import os
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")
    return build()

def loud():
    import atexit
    atexit.register(print, "gone")
    print("built")
    return build()

def of_sixteen(net):
    assert net[0].out_channels == 16
    return 1.0

def words(*args):
    return None

@torch.no_grad()
def evaluate(net):
    return float(net(image).mean())
"""
MODULE = ("--model", "own_net:build", "--inputs", "own_net:inputs")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_net", raising=False)
    return tmp_path


def test_inspect_names_the_code_that_runs(call: Call):
    answer = call("inspect", *MODULE, "--json")
    assert answer.status == 0 and "running the code of own_net:build" in answer.err
    layers = [layer for block in answer.document["blocks"] for layer in block["layers"]]
    assert [(layer["name"], layer["status"]) for layer in layers] == [("0", "free"), ("2", "free"), ("4", "locked")]
    assert "Conv 3x3" in call("inspect", *MODULE).out
    nested = ("--model", "own_net:nested", "--inputs", "own_net:tokens")
    rows = [line.split() for line in call("inspect", *nested).out.splitlines()]
    assert ["0", "Linear", "(stem)", "6", "->", "24", "5x24"] in [row[:7] for row in rows]
    assert ["2", "Linear", "(body.1)"] in [row[:3] for row in rows]
    assert ["linked:", "split", "into", "3", "equal", "parts"] in [row[-6:] for row in rows]
    assert call("groups", *MODULE, "--json").document["convolutions"]["locked"] == 1
    assert call("explain", *MODULE, "0", "2", "--json").document["coupled"]
    assert call("explain", *MODULE, "0", "4").status == 1
    preview = call("preview", *MODULE, "--cut", "0=50%", "--json").document
    assert preview["layers"]["0"]["out_after"] == 8 and preview["dry_run"]["ok"]


def test_pruned_module_is_loaded_again_and_proved(call: Call, project: Path):
    answer = call("prune", *MODULE, "--cut", "0=50%", "--target", "flops=40%", "--evaluate", "own_net:evaluate", "-o", "small.tp", "--json")
    assert answer.status == 0, answer.err
    document = answer.document
    assert document["loads"] and document["proof"]["equal"] and document["after"]["flops"] <= 0.4 * document["before"]["flops"]
    assert document["evaluate"].keys() == {"before", "after"} and len(document["kept"]["0.weight"]["0"]) <= 8
    assert call("prove", *MODULE, "small.tp", "--json").document["equal"]
    assert "give --force" in call("prune", *MODULE, "--cut", "0=50%", "-o", "small.tp").err


@pytest.mark.parametrize("plan", ["small.tp/plan.yaml", "small.tp"])
def test_plan_is_cut_again_with_the_same_figures(call: Call, project: Path, plan: str):
    cut = call("prune", *MODULE, "--cut", "0=50%", "--evaluate", "own_net:evaluate", "-o", "small.tp", "--json").document
    again = call("prune", *MODULE, "--plan", plan, "--evaluate", "own_net:evaluate", "-o", "again.tp", "--json").document
    assert cut["before"]["parameters"] > cut["after"]["parameters"] and cut["evaluate"]["before"] != cut["evaluate"]["after"]
    assert all(cut[key] == again[key] for key in ("before", "after", "evaluate", "kept"))


def test_refitted_folder_is_not_called_unequal(call: Call, project: Path):
    import own_net

    session = tp.open(own_net.build(), example_inputs=own_net.inputs())
    session.apply(["0=50%"])
    session.reconstruct([own_net.image])
    session.save("fitted.tp")
    answer = call("prove", *MODULE, "fitted.tp")
    assert answer.status == 2 and "fitted.tp was refitted after the cut" in answer.remarks[-1]
    assert "no.tp is not a folder: give the folder" in call("prove", *MODULE, "no.tp").remarks[-1]
    assert "give it as --model own_net:build, with --inputs" in call("inspect", "own_net:build").remarks[-1]
    assert "fitted.tp is a saved module, not a checkpoint" in call("inspect", "fitted.tp").remarks[-1]
    report = call("report", "fitted.tp/plan.yaml", "-o", "report.html")
    assert report.status == 2 and "is for the module torch.nn.modules.container.Sequential" in report.remarks[-1]


def test_module_is_written_where_it_was_asked_for(call: Call, project: Path):
    answer = call("prune", "--model", "own_net:moving", "--inputs", "own_net:inputs", "--cut", "0=50%", "-o", "small.tp", "--json")
    assert answer.status == 0 and answer.document["output"] == "small.tp" and (project / "small.tp").is_dir()


def test_results_are_alone_on_stdout_whatever_the_module_prints(project: Path):
    answer = spawn("inspect", "--model", "own_net:loud", "--inputs", "own_net:inputs", "--json", cwd=project)
    assert answer.document["model"]["task"] == "module" and {"built", "gone"} <= set(answer.remarks)


def test_another_function_replaces_the_forward(call: Call, project: Path):
    trunk = (*MODULE, "--forward", "own_net:trunk")
    answer = call("inspect", *trunk, "--json")
    assert "own_net:inputs and own_net:trunk" in answer.err
    status = {layer["name"]: layer["status"] for block in answer.document["blocks"] for layer in block["layers"]}
    assert status["0"] == "free" and status["2"] == "locked"  # whose outputs the function returns
    written = call("prune", *trunk, "--cut", "0=50%", "-o", "trunk.tp", "--json")
    assert written.status == 0 and written.document["proof"]["equal"] and written.document["loads"]
    assert call("prove", *trunk, "trunk.tp").status == 0
    assert "name a function" in call("inspect", *MODULE, "--forward", "own_net:image").err


def test_normalised_channels_are_cut_only_on_request(call: Call, project: Path):
    (project / "own_norm.py").write_text(
        "from own_net import *\ndef build():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(2, 16),"
        " nn.Conv2d(16, 4, 1))\n"
    )
    module = ("--model", "own_norm:build", "--inputs", "own_net:inputs")
    assert "normalises across channels" in call("prune", *module, "--cut", "0=50%", "-o", "small.tp").err
    written = call("prune", *module, "--approximate", "--cut", "0=50%", "-o", "small.tp")
    assert written.status == 0 and "APPROXIMATE: 1 layer with a normalisation over what is left" in written.out
    answer = call("prove", *module, "--approximate", "small.tp", "--json")
    assert answer.status == 0
    assert answer.document["verdict"] == "approximate" and not answer.document["equal"] and answer.document["approximate"] == ["1"]


def test_weights_are_read_only_from_safetensors(call: Call, project: Path):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    save_file(net.state_dict(), project / "w.safetensors")
    answer = call("prune", *MODULE, "--weights", "w.safetensors", "--cut", "0=50%", "-o", "small.tp")
    assert answer.status == 0, answer.err
    other = call("prove", *MODULE, "small.tp")
    assert other.status == 1 and "own_net:build has other weights than the module that was cut" in other.err
    assert call("prove", *MODULE, "--weights", "w.safetensors", "small.tp").status == 0
    (project / "w.pt").write_bytes(b"")
    assert "save the state as safetensors" in call("inspect", *MODULE, "--weights", "w.pt").err


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("own_net:nothing", "own_net:inputs", "own_net has no nothing"),
        ("own_net", "own_net:inputs", "write package.module:function"),
        ("nowhere:build", "own_net:inputs", "nowhere cannot be imported"),
        ("own_net:failing", "own_net:inputs", "own_net:failing() raises ValueError: no weights"),
        ("own_net:inputs", "own_net:inputs", "gives a tuple"),
        ("own_net:another", "own_net:inputs", "gives another module each time"),
        ("own_net:build", "own_net:failing", "own_net:failing() raises"),
        ("own_net:build", "own_net:words", "own_net:words gives a NoneType: give a tensor, a tuple of arguments"),
        ("own_net:ending", "own_net:inputs", "own_net:ending() raises SystemExit 4, which would end this program"),
        ("own_net:build", "own_net:interrupting", "own_net:interrupting() raises KeyboardInterrupt, which would end"),
        ("quits:build", "own_net:inputs", "quits cannot be imported from . or the installed packages (ProgramEnd: it raises SystemExit 1"),
    ],
)
def test_module_that_cannot_be_built_is_reported_in_one_line(call: Call, project: Path, model, inputs, said):
    (project / "quits.py").write_text("import sys; sys.exit(1)")
    answer = call("prune", "--model", model, "--inputs", inputs, "--cut", "0=50%", "-o", "small.tp")
    assert answer.status == 2 and said in answer.remarks[-1]


def test_measure_that_is_no_number_is_reported_in_one_line(call: Call, project: Path):
    answer = call("prune", *MODULE, "--evaluate", "own_net:words", "--cut", "0=50%", "-o", "small.tp")
    assert answer.status == 2 and "evaluate gives a NoneType: have it return a number" in answer.remarks[-1]
    assert not (project / "small.tp").exists()


def test_measure_or_forward_that_exits_is_reported_in_one_line(call: Call):
    cut = ("--cut", "0=50%", "-o", "small.tp")
    for option in ("--evaluate", "--forward"):
        answer = call("prune", *MODULE, option, "own_net:ending", *cut)
        assert answer.status == 2 and "raises SystemExit 4, which would end this program" in answer.remarks[-1]
    answer = call("prune", *MODULE, "--evaluate", "own_net:failing", *cut)
    assert answer.status == 2 and "own_net:failing() raises TypeError" in answer.remarks[-1]
    answer = call("prune", *MODULE, "--evaluate", "own_net:image", *cut)
    assert answer.status == 2 and "own_net:image is a Tensor: name a function" in answer.remarks[-1]


def test_nothing_is_written_where_the_measure_fails_on_the_cut_module(call: Call, project: Path):
    answer = call("prune", *MODULE, "--evaluate", "own_net:of_sixteen", "--cut", "0=50%", "-o", "small.tp")
    assert answer.status == 2 and "raises AssertionError" in answer.remarks[-1] and not (project / "small.tp").exists()


def test_what_a_command_cannot_do_is_said_in_its_own_terms(call: Call):
    assert call("explain", *MODULE, "nowhere").remarks[-1].endswith("see inspect")
    for command in (("preview",), ("prune", "-o", "small.tp")):
        answer = call(*command, *MODULE, "--cut", "0=50%", "--criterion", "taylor")
        assert answer.status == 2 and "ranks by batches: in Python" in answer.remarks[-1] and "--data" not in answer.err


@pytest.mark.parametrize("command", ["bench", "validate", "scan", "compress", "gate", "report", "plan", "export"])
def test_other_commands_say_that_they_take_no_module(call: Call, command: str):
    answer = call(command, *MODULE)
    assert answer.status == 2 and f"{command} is for files of Ultralytics: for any module there are inspect" in answer.err
    assert len(answer.remarks) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (MODULE[:2], "Missing option '--inputs'"),
        (MODULE[2:], "Missing option '--model'"),
        ((*MODULE, "--plan", "no.yaml"), "no.yaml"),
        (MODULE, "the app needs a terminal"),
    ],
)
def test_app_on_a_module_asks_for_what_is_missing(call: Call, options, said: str):
    answer = call(*options)
    assert answer.status == 2 and said in answer.err and len(answer.remarks) == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("own_net:build", ""),
        ("own_net:nothing", "tui-pruner: --model own_net:nothing: own_net has no nothing"),
        ("own_net:failing", "tui-pruner: own_net:failing[(][)] raises ValueError: no weights"),
    ],
)
def test_app_opens_on_a_module_or_ends_with_one_sentence(project: Path, model: str, said: str):
    command = [sys.executable, "-m", "tui_pruner", "--model", model, *MODULE[2:]]
    with Terminal(command, 120, 36, cwd=project) as terminal:
        if said:
            assert terminal.wait_for_end() == 2
            terminal.wait_for(said)
        else:
            terminal.wait_for("Sequential module")
            terminal.press("q")
            assert terminal.wait_for_end() == 0
