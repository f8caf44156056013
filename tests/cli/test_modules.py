"""Any module on the command line: its builder is found in the working folder, and saved modules are loaded and proved again."""

from __future__ import annotations

import json
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

def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(4, 3, 12, 16, generator=generator) for _ in range(4)]

@torch.no_grad()
def closeness(net):
    whole = build()
    return torch.cat([-(net(x) - whole(x)).abs().mean((1, 2, 3)) for x in batches()])

def by_name(net):
    return {"closeness": float(closeness(net).mean()), "worst": float(closeness(net).min())}

def loss(net, batch):
    return (net(batch) - 1).square().mean()

def train(net, original):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    for x in 30 * batches():
        optimizer.zero_grad()
        (net(x) - original(x).detach()).square().mean().backward()
        optimizer.step()

def worsen(net):
    with torch.no_grad():
        net[4].bias += 10

def overflow(net):
    with torch.no_grad():
        net[4].bias += float("inf")

def widen(net):
    net[4] = nn.Conv2d(net[4].in_channels, 5, 1)

def endless():
    while True:
        yield image

def consumed():
    return iter(())

def unreadable():
    yield image
    raise OSError("no such shard")

once = iter(batches())

def tall():
    return [torch.rand(4, 5, 12, 16)]
"""
MODULE = ("--model", "own_net:build", "--inputs", "own_net:inputs")
TAYLOR = "prune --cut 0=50% --criterion taylor --batches own_net:batches -o out.tp"


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
    for command, said in ((("preview",), "prune takes"), (("prune", "-o", "small.tp"), "give")):
        answer = call(*command, *MODULE, "--cut", "0=50%", "--criterion", "taylor")
        assert answer.status == 2 and f"{said} --batches package.module:batches and --loss" in answer.remarks[-1]
        assert "--data" not in answer.err


@pytest.mark.parametrize("command", ["flow", "recalibrate", "contents", "coverage", "steps"])
def test_other_commands_say_that_they_take_no_module(call: Call, command: str):
    answer = call(command, *MODULE)
    assert answer.status == 2 and f"{command} is for files of Ultralytics: for any module there are inspect" in answer.err
    assert all(name in answer.err for name in ("validate", "scan", "bench", "plan", "reconstruct", "finetune", "gate", "compress"))
    assert len(answer.remarks) == 1


@pytest.fixture
def cut(call: Call, project: Path) -> Path:
    """The module with half of its first layer, in a folder."""
    answer = call("prune", *MODULE, "--cut", "0=50%", "-o", "small.tp")
    assert answer.status == 0, answer.err
    return project / "small.tp"


def test_folder_is_measured_beside_the_module(call: Call, cut: Path):
    measured = ("validate", *MODULE, "--evaluate", "own_net:closeness", "--json")
    answer = call(*measured, cut.name)
    assert answer.status == 0, answer.err
    document, (name,) = answer.document, answer.document["metrics"]
    assert name == "metrics/closeness" and document["baseline"][name] == 0 > document["metrics"][name]
    assert document["images"] == 16 and document["interval"][0] <= document["metrics"][name] <= document["interval"][1]
    for options in ((), ("--mask",)):
        planned = call(*measured, "--plan", "small.tp/plan.yaml", *options).document
        assert planned["metrics"][name] == pytest.approx(document["metrics"][name], rel=1e-4)
    assert call(*measured).document["baseline"] is None
    by_name = call("validate", *MODULE, "--evaluate", "own_net:by_name", "small.tp")
    assert [line.split()[0] for line in by_name.out.splitlines()[1:3]] == ["metrics/closeness", "metrics/worst"]
    both = call(*measured, "small.tp", "--plan", "small.tp/plan.yaml")
    assert both.status == 2 and "a folder has a plan of its own" in both.err


def test_scan_measures_every_group(call: Call, project: Path):
    answer = call("scan", *MODULE, "--evaluate", "own_net:closeness", "--ratios", "25%,50%", "-o", "scan.csv", "--json")
    assert answer.status == 0, answer.err
    rows = answer.document["groups"]
    assert {"id", "layer", "ratio", "metric", "drop", "parameters", "flops"} <= rows[0].keys()
    assert sorted((row["layer"], row["ratio"]) for row in rows) == [("0", 0.25), ("0", 0.5), ("2", 0.25), ("2", 0.5)]
    assert all(row["drop"] > 0 for row in rows) and len((project / "scan.csv").read_text().splitlines()) == 5
    assert "16 samples" in call("scan", *MODULE, "--evaluate", "own_net:closeness").out
    assert call("scan", *MODULE, "--evaluate", "own_net:closeness", "-o", "scan.csv").status == 2


def test_scan_ranks_channels_on_batches(call: Call):
    scan = ("scan", *MODULE, "--evaluate", "own_net:closeness", "--ratios", "50%", "--json", "--criterion", "obs")
    assert len(call(*scan, "--batches", "own_net:batches").document["groups"]) == 2
    answer = call(*scan)
    assert answer.status == 2 and "--batches package.module:batches" in answer.remarks[-1]


def test_folder_is_timed_beside_the_module(call: Call, cut: Path):
    answer = call("bench", *MODULE, cut.name, "--runs", "5", "--json")
    assert answer.status == 0, answer.err
    models = answer.document["models"]
    assert [one["model"] for one in models] == ["own_net:build", "small.tp"]
    assert all(one["runs"] == 5 and 0 < one["median_ms"] <= one["p90_ms"] and one["device"] for one in models)
    assert models[1]["parameters"] < models[0]["parameters"]


def test_plan_reaches_a_target_that_prune_then_cuts_to(call: Call, project: Path):
    known = call("plan", *MODULE, "--json")
    assert known.status == 0 and known.document["range"]["flops"]["least"] < 0.5
    answer = call("plan", *MODULE, "--target", "flops=50%", "-o", "plan.yaml", "--json")
    assert answer.status == 0, answer.err
    assert answer.document["reached"]["flops"] <= 0.5 and "kept:" in (project / "plan.yaml").read_text()
    cut = call("prune", *MODULE, "--plan", "plan.yaml", "-o", "small.tp", "--json").document
    assert cut["after"]["flops"] <= 0.5 * cut["before"]["flops"] and cut["proof"]["equal"]
    for batches in ((), ("--batches", "own_net:batches")):
        far = call("plan", *MODULE, "--target", "flops=1%", *batches, "-o", "far.yaml")
        assert far.status == 1 and "out of reach" in far.remarks[-1] and not (project / "far.yaml").exists()
        far = call("prune", *MODULE, "--target", "flops=1%", *batches, "-o", "far.tp")
        assert far.status == 1 and "out of reach" in far.remarks[-1] and not (project / "far.tp").exists()
    by_loss = ("--criterion", "taylor", "--batches", "own_net:batches", "--loss", "own_net:loss")
    assert call("plan", *MODULE, "--target", "flops=50%", *by_loss, "--json").document["reached"]["flops"] <= 0.5


def test_front_is_measured_on_batches(call: Call, project: Path):
    options = ("--batches", "own_net:batches", "--evaluate", "own_net:closeness", "--front", "flops=80%,50%", "-o", "front", "--json")
    answer = call("plan", *MODULE, *options)
    assert answer.status == 0, answer.err
    front = answer.document["front"]
    assert [one["target"] for one in front] == ["flops=80%", "flops=50%"] and all(Path(one["plan"]).is_file() for one in front)
    assert all(-1 < one["measured"]["metrics/closeness"] <= 0 for one in front)
    assert call("prune", *MODULE, "--plan", front[1]["plan"], "-o", "small.tp").status == 0


@pytest.mark.parametrize("criterion", ["obs", "taylor", "hessian"])
def test_channels_are_ranked_on_batches(call: Call, criterion: str):
    ranked = ("--batches", "own_net:batches", "--loss", "own_net:loss", "--criterion", criterion, "--cut", "0=50%")
    answer = call("prune", *MODULE, *ranked, "-o", "small.tp", "--json")
    assert answer.status == 0 and answer.document["proof"]["equal"], answer.err
    assert call("prove", *MODULE, "small.tp").status == 0


def test_target_with_batches_does_less_damage_than_by_importance(call: Call):
    cut = ("prune", *MODULE, "--target", "flops=50%", "--evaluate", "own_net:closeness", "--json")
    measured = call(*cut, "--batches", "own_net:batches", "-o", "measured.tp").document
    ranked = call(*cut, "-o", "ranked.tp").document
    assert all(one["after"]["flops"] <= 0.5 * one["before"]["flops"] for one in (measured, ranked))
    assert measured["evaluate"]["after"] > ranked["evaluate"]["after"]


def test_cut_is_refitted_and_trained_towards_the_original(call: Call, cut: Path, project: Path):
    answer = call("reconstruct", *MODULE, cut.name, "--batches", "own_net:batches", "-o", "fitted.tp", "--json")
    assert answer.status == 0, answer.err
    document = answer.document
    assert document["kept"] == "refitted" and document["distance"]["refitted"] < document["distance"]["cut"]
    assert document["images"] == 12 and {"layer", "error_before", "error_after"} <= document["layers"][0].keys()
    functions = ("--train", "own_net:train", "--evaluate", "own_net:closeness")
    trained = call("finetune", *MODULE, "small.tp", *functions, "-o", "trained.tp", "--json")
    assert trained.status == 0, trained.err
    before, after = (trained.document[key]["metrics/closeness"] for key in ("metrics_before", "metrics"))
    assert before < after <= 0 and trained.document["output"] == "trained.tp"
    assert "give --force" in call("finetune", *MODULE, "small.tp", *functions, "-o", "trained.tp").err
    figures = {}
    for folder in ("small.tp", "fitted.tp", "trained.tp"):
        figures[folder] = call("validate", *MODULE, folder, "--evaluate", "own_net:closeness", "--json").document["metrics"][
            "metrics/closeness"
        ]
    assert figures["small.tp"] < figures["fitted.tp"] and figures["trained.tp"] == pytest.approx(after)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_folder_is_exported_and_compared(call: Call, cut: Path, project: Path, format: str):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    answer = call("export", *MODULE, cut.name, "--format", format, "-o", f"small.{format}", "--json")
    assert answer.status == 0, answer.err
    document = answer.document
    assert document["equal"] and document["max_abs_difference"] < 1e-4 and document["images"] == 2
    assert (project / f"small.{format}").stat().st_size == document["bytes"]
    again = call("export", *MODULE, cut.name, "--format", format, "-o", f"small.{format}")
    assert again.status == 2 and "give --force" in again.remarks[-1]


def test_training_that_does_harm_is_not_kept(call: Call, cut: Path, project: Path):
    functions = ("--train", "own_net:worsen", "--evaluate", "own_net:closeness")
    answer = call("finetune", *MODULE, cut.name, *functions, "-o", "same.tp")
    assert answer.status == 0 and "training made it no better by the user's evaluate" in answer.err
    assert (project / "same.tp" / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("train", "status", "said"),
    [
        ("overflow", 3, "own_net:overflow left NaN or infinity in 4.bias"),
        ("widen", 2, "own_net:widen changed the shapes or types of parameters"),
        ("failing", 2, "own_net:failing() raises TypeError"),
        ("ending", 2, "own_net:ending() raises SystemExit 4, which would end this program"),
        ("image", 2, "own_net:image is a Tensor: name a function that is called as train(module)"),
    ],
)
def test_training_that_fails_is_reported_and_nothing_is_written(call: Call, cut: Path, project: Path, train: str, status: int, said: str):
    answer = call("finetune", *MODULE, cut.name, "--train", f"own_net:{train}", "-o", "trained.tp")
    assert answer.status == status and said in answer.remarks[-1] and not (project / "trained.tp").exists()


def test_next_stage_starts_from_a_folder(call: Call, cut: Path):
    first = (*MODULE, "--weights", "small.tp")
    assert call("inspect", *first, "--json").document["blocks"][0]["layers"][0]["out_channels"] == 8
    second = call("prune", *first, "--cut", "2=50%", "-o", "second.tp", "--json")
    assert second.status == 0, second.err
    assert second.document["loads"] and second.document["proof"]["equal"] and call("prove", *first, "second.tp").status == 0
    assert "second.tp was cut from what small.tp has: start from that (--weights small.tp)" in call("prove", *MODULE, "second.tp").err
    figure = ("--evaluate", "own_net:closeness", "--json")
    chained = call("validate", *MODULE, "second.tp", *figure).document
    beside = call("validate", *first, "second.tp", *figure).document
    assert chained["metrics"] == beside["metrics"] and beside["baseline"] != chained["baseline"]
    assert "--weights nowhere.tp: no such file or folder" in call("inspect", *MODULE, "--weights", "nowhere.tp").remarks[-1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("validate", "give --evaluate package.module:evaluate"),
        ("scan", "give --evaluate package.module:evaluate"),
        ("scan --evaluate own_net:closeness --ratios 0%", "0%"),
        ("scan --evaluate own_net:closeness --criterion nonsense", "nonsense"),
        ("finetune small.tp -o out.tp", "give --train package.module:train"),
        ("reconstruct small.tp -o out.tp", "give --batches package.module:batches"),
        ("validate --evaluate own_net:words small.tp", "own_net:words gives a NoneType: have it return a number, a number for each sample"),
        ("validate --evaluate own_net:closeness nowhere.tp", "nowhere.tp is not a folder"),
        ("validate --evaluate own_net:closeness --plan nowhere.yaml", "nowhere.yaml"),
        ("validate --evaluate own_net:ending", "own_net:ending() raises SystemExit 4, which would end this program"),
        ("bench nowhere.tp", "nowhere.tp is not a folder"),
        ("export nowhere.tp --format pt2", "nowhere.tp is not a folder"),
        ("export --format tflite", "no format 'tflite': a module is exported to onnx or pt2"),
        ("export small.tp --format pt2 -o small.tp --force", "small.tp is a folder of other files"),
        ("export --format pt2 -o nowhere/small.pt2", "no folder"),
        ("plan --target flops=nonsense", "nonsense"),
        ("plan --front flops=90%,50%", "-o"),
        ("plan --target flops=50% --criterion nonsense", "nonsense"),
        ("plan --target flops=50% --batches own_net:nothing", "own_net has no nothing"),
        ("plan --target flops=50% --batches own_net:image.shape", "a batch is a int"),
        ("reconstruct small.tp --batches own_net:endless -o out.tp", "the batches do not end within"),
        ("reconstruct small.tp --batches own_net:consumed -o out.tp", "no batch: give tensors"),
        ("reconstruct small.tp --batches own_net:tall -o out.tp", "the model does not run on these batches"),
        ("reconstruct small.tp --batches own_net:ending -o out.tp", "own_net:ending() raises SystemExit 4"),
        ("reconstruct own_net.py --batches own_net:batches -o out.tp", "own_net.py is not a folder"),
        ("prune --target flops=50% --batches own_net:consumed -o out.tp", "no batch: give tensors"),
        (f"{TAYLOR} --loss own_net:evaluate", "own_net:evaluate() raises TypeError"),
        (f"{TAYLOR} --loss own_net:words", "the loss on batch 1 is not finite"),
        (f"{TAYLOR} --loss own_net:ending", "own_net:ending() raises SystemExit 4"),
        (TAYLOR, "give --loss package.module:loss"),
        (f"{TAYLOR} --loss own_net:loss".replace(":batches", ":endless"), "the batches do not end within"),
        ("prune --target flops=50% --batches own_net:endless -o out.tp", "the batches do not end within"),
        ("prune --target flops=50% --batches own_net:unreadable -o out.tp", "own_net:unreadable raises OSError: no such shard"),
        ("reconstruct small.tp --batches own_net:unreadable -o out.tp", "own_net:unreadable raises OSError: no such shard"),
        ("reconstruct small.tp --batches own_net:once -o out.tp", "is a list_iterator, which gives its batches once"),
        ("reconstruct small.tp --batches own_net -o out.tp", "--batches 'own_net' is not a name: write package.module:function"),
        ("reconstruct small.tp --batches own_net:batches -o small.tp --force", "choose another name, the original stays as it is"),
        ("prune --weights small.tp --cut 2=50% -o small.tp --force", "choose another name, the original stays as it is"),
        ("scan --evaluate own_net:closeness --criterion obs", "give --batches package.module:batches"),
        ("plan --target flops=50% --criterion obs", "give --batches package.module:batches"),
        ("plan --target flops=50% --criterion taylor --batches own_net:batches", "give --loss package.module:loss"),
        ("plan --target flops=50% --batches own_net:tall", "the model does not run on these batches"),
        ("prune --cut 0 -o out.tp", "0"),
        ("prune -o out.tp", "nothing to cut"),
    ],
)  # fmt: skip
def test_what_a_job_cannot_use_is_reported_in_one_sentence(call: Call, cut: Path, project: Path, line: str, said: str):
    command, *options = line.split()
    answer = call(command, *MODULE, *options)
    assert answer.status == 2 and said in answer.remarks[-1] and answer.out == "", answer.err
    assert "Traceback" not in answer.err and not (project / "out.tp").exists()


def test_folder_of_another_module_is_refused(call: Call, cut: Path, project: Path):
    (project / "own_other.py").write_text(
        "from own_net import *\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1))\n"
    )
    other = ("--model", "own_other:build", "--inputs", "own_net:inputs")
    for line in (
        "validate small.tp --evaluate own_net:evaluate",
        "bench small.tp",
        "reconstruct small.tp --batches own_net:batches -o out.tp",
    ):
        command, *options = line.split()
        answer = call(command, *other, *options)
        assert answer.status == 2 and "the plan was made for" in answer.remarks[-1], answer.err
    assert call("inspect", *other, "--weights", "small.tp").status == 2


def test_progress_of_jobs_is_told_as_events(call: Call, cut: Path):
    for line in ("validate small.tp --evaluate own_net:closeness", "plan --target flops=50% --batches own_net:batches"):
        command, *options = line.split()
        answer = call(command, *MODULE, *options, "--progress", "json", "--json")
        events = [json.loads(told) for told in answer.remarks]
        assert answer.status == 0 and {event["event"] for event in events} == {"remark", "progress"} and answer.document


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
