"""Every job on any module but the gate and the compression: figures, scans, timings, stages and exports by the user's functions."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from tests.small_module import NET, fields, names, project
from tui_pruner.domain.errors import CheckpointError, DataError, JobError, PlanError, ProgramEnd, RequestError
from tui_pruner.engine.job_messages import CalibrationParameters, ExportParameters, JobProgress, ValidationParameters, ValidationResult
from tui_pruner.engine.recovery_messages import FinetuneParameters, PruneParameters, ReconstructionParameters
from tui_pruner.engine.search_messages import BenchParameters, ModelToTime, PlanningParameters, ScanParameters
from tui_pruner.frameworks.plain.named_module import NamedModule
from tui_pruner.jobs.any_module import export, figures, stages
from tui_pruner.storage.model_file import ModuleNames

MEASURED = names(batches="batches", evaluate="minus_distance", loss="loss", train="train")


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The user's code, in the folder that the jobs run in."""
    code = project(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(code, "loss", lambda net, batch: net(batch).square().mean(), raising=False)
    return code


def quiet(progress: JobProgress) -> None:
    """Tell nobody."""


def plan_for(target: str = "flops=60%", module: ModuleNames = MEASURED, **more: Any) -> dict[str, Any]:
    """The plan that a planning job finds for a target."""
    found = stages.run_planning(PlanningParameters(**fields(module), points=[[target]], **more), quiet)
    assert found.points[0].plan is not None, found.points[0].stopped
    return found.points[0].plan


def pruned(folder: str = "cut.tp", module: ModuleNames = MEASURED, **more: Any) -> str:
    """A folder that a pruning job wrote; its name."""
    plan = plan_for(module=module, criterion="l2", **more) if not module.batches else plan_for(module=module, **more)
    stages.run_pruning(PruneParameters(**fields(module), plan=plan, output=folder), quiet)
    return folder


def validated(module: ModuleNames = MEASURED, checkpoint: str = f"{NET}:build", **more: Any) -> ValidationResult:
    """The figures of a module or folder by the user's function."""
    return figures.run_validation(ValidationParameters(**fields(module, checkpoint), **more), quiet)


def test_figure_for_each_sample_has_an_interval_and_one_figure_has_none():
    found = validated(names(evaluate="noisy"))
    assert found.images == 60 and found.interval[0] < found.metrics["metrics/noisy"] < found.interval[1] and len(found.resamples) > 100
    one = validated(names(evaluate="one_figure"))
    assert one.images == 0 and one.interval is None and one.resamples == []
    assert one.metrics["metrics/one_figure"] == pytest.approx(found.metrics["metrics/noisy"])


def test_masked_module_measures_as_the_cut_one_does():
    plan = plan_for()
    cut, masked, whole = validated(plan=plan), validated(plan=plan, masked=True), validated()
    assert cut.metrics["metrics/minus_distance"] == pytest.approx(masked.metrics["metrics/minus_distance"], rel=1e-4)
    assert whole.metrics["metrics/minus_distance"] == 0 > cut.metrics["metrics/minus_distance"]


def test_figures_by_name_keep_their_order(net, monkeypatch):
    monkeypatch.setattr(net, "named", lambda net: {"second": torch.tensor(2.0), "metrics/first": 1}, raising=False)
    assert list(validated(names(evaluate="named")).metrics.items()) == [("metrics/second", 2.0), ("metrics/first", 1.0)]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("good", "gives a str: have it return a number"),
        (None, "gives a NoneType"),
        ([], "gives a list"),
        ({}, "gives a dict"),
        ({"top": "high"}, "gives a dict"),
        ([[0.5, 0.7]], "gives a list"),
        (float("nan"), "gives nan as evaluated: have it return a finite number"),
        ([1.0, float("inf")], "gives inf"),
        ({"top": 1.0, "low": float("nan")}, "gives nan as low"),
        (torch.ones(2, 2), "gives a Tensor"),
        (ZeroDivisionError("no sample"), "evaluated() raises ZeroDivisionError: no sample"),
    ],
    ids=repr,
)
def test_what_is_no_figure_is_refused_in_one_sentence(net, monkeypatch, result, said):
    def evaluated(module: nn.Module) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(net, "evaluated", evaluated, raising=False)
    with pytest.raises(RequestError) as error:
        validated(names(evaluate="evaluated"))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_function_that_would_end_the_program_is_named(net, monkeypatch):
    monkeypatch.setattr(net, "ending", lambda *given: sys.exit(3), raising=False)
    for module in (names(evaluate="ending"), names(batches="ending"), names(train="ending")):
        option = next(option for option in ("evaluate", "batches", "train") if getattr(module, option))
        with pytest.raises(ProgramEnd, match="ending\\(\\) raises SystemExit 3, which would end this program"):
            if option == "evaluate":
                validated(module)
            elif option == "batches":
                plan_for(module=module)
            else:
                asked = FinetuneParameters(**fields(module, pruned(module=names())), epochs=1, output="trained.tp")
                stages.run_finetuning(asked, quiet)


def test_function_that_is_missing_is_asked_for():
    for call, said in (
        (lambda: validated(names()), "--evaluate package.module:evaluate"),
        (lambda: plan_for(module=names(), criterion="obs"), "--batches package.module:batches"),
        (lambda: plan_for(module=names(batches="batches"), criterion="taylor"), "--loss package.module:loss"),
        (lambda: stages.run_finetuning(FinetuneParameters(**fields(names(), pruned()), epochs=1, output="t.tp"), quiet), "--train"),
    ):
        with pytest.raises(RequestError, match=said):
            call()


def test_scan_reports_what_each_group_costs_and_goes_on_after_a_failed_trial(net, monkeypatch):
    found = figures.run_scan(ScanParameters(**fields(MEASURED), ratios=[0.25, 0.5]), quiet)
    assert (found.name, found.baseline) == ("metrics/minus_distance", 0) and found.images == 16 and not found.failed
    assert {(group.layer, group.ratio) for group in found.groups} == {("0", 0.25), ("0", 0.5), ("2", 0.25), ("2", 0.5)}
    first = next(group for group in found.groups if (group.layer, group.ratio) == ("0", 0.5))
    assert first.drop > 0 and first.drop == pytest.approx(-first.metric)

    def picky(module: nn.Module) -> float:
        if module[2].out_channels == 4:
            raise ValueError("four channels")
        return 1.0

    monkeypatch.setattr(net, "picky", picky, raising=False)
    again = figures.run_scan(ScanParameters(**fields(names(evaluate="picky")), ratios=[0.25, 0.5]), quiet)
    assert [(one.layer, one.ratio) for one in again.failed] == [("2", 0.5)] and "four channels" in again.failed[0].error
    assert len(again.groups) == 3


def test_bench_times_the_module_a_plan_and_a_folder():
    plan, folder = plan_for(), pruned()
    models = [ModelToTime(checkpoint=f"{NET}:build"), ModelToTime(checkpoint=f"{NET}:build", plan=plan), ModelToTime(checkpoint=folder)]
    found = figures.run_bench(BenchParameters(models=models, runs=5, blocks=True, module=MEASURED), quiet)
    whole, planned, written = found.models
    assert whole.ratio == 1 and whole.parameters > planned.parameters == written.parameters
    assert all(one.runs == 5 and one.batch == 2 and 0 < one.median_ms <= one.p90_ms for one in found.models)
    assert {block.name for block in whole.blocks} >= {"0", "2", "6"}


def test_planned_front_is_compared_refitted_and_measured():
    asked = PlanningParameters(**fields(MEASURED), points=[["flops=80%"], ["flops=50%"], ["flops=0.01%"]], validated=None)
    found = stages.run_planning(asked, quiet)
    first, second, far = found.points
    assert first.shares["flops"] <= 0.8 and second.shares["flops"] <= 0.5 and {rival.name for rival in second.rivals} >= {"uniform"}
    assert first.measured["metrics/minus_distance"] <= 0 and found.original == {"metrics/minus_distance": 0.0}
    assert found.images + found.held_out == 24 and found.trials > 0 and Path(found.scores).is_file()
    assert far.plan is None and "out of reach" in far.stopped


@pytest.mark.parametrize("criterion", ["taylor", "hessian", "obs"])
def test_channels_are_scored_on_batches(criterion: str):
    found = stages.run_calibration(CalibrationParameters(**fields(MEASURED), criteria=[criterion]), quiet)
    assert Path(found.scores).is_file() and found.images > 0
    assert plan_for(criterion=criterion)["steps"][0]["cuts"]


@pytest.mark.parametrize("loss", [lambda net, batch: torch.tensor(float("nan")), lambda net, batch: 1.0, lambda net, batch: net(batch)])
def test_loss_that_is_no_number_with_a_gradient_is_refused(net, monkeypatch, loss):
    monkeypatch.setattr(net, "loss", loss)
    with pytest.raises(DataError, match="the loss on batch 1 is not finite or has no gradient"):
        stages.run_calibration(CalibrationParameters(**fields(MEASURED), criteria=["taylor"]), quiet)


def test_stages_follow_each_other_and_each_loads_into_a_freshly_built_module(net):
    folder = pruned()
    refit = stages.run_reconstruction(ReconstructionParameters(**fields(MEASURED, folder), output="refit.tp"), quiet)
    assert refit.kept == "refitted" and refit.distance["refitted"] < refit.distance["cut"] and refit.layers
    trained = stages.run_finetuning(FinetuneParameters(**fields(MEASURED, "refit.tp"), epochs=1, output="trained.tp"), quiet)
    assert trained.metrics["metrics/minus_distance"] >= trained.metrics_before["metrics/minus_distance"]
    distances = [validated(checkpoint=one).metrics["metrics/minus_distance"] for one in (folder, "refit.tp", "trained.tp")]
    assert distances[0] < distances[1] <= distances[2]

    second = ModuleNames(MEASURED.build, MEASURED.inputs, batches=MEASURED.batches, evaluate=MEASURED.evaluate, folder="trained.tp")
    parts = {**fields(second), "plan": plan_for("flops=70%", second)}
    stages.run_pruning(PruneParameters(**parts, output="second.tp"), quiet)
    loaded = NamedModule(MEASURED).stored_in("second.tp")  # by the folder that it came from, which lies beside it
    assert loaded[2].out_channels < NamedModule(second).built()[2].out_channels < net.build()[2].out_channels or (
        loaded[0].out_channels < NamedModule(second).built()[0].out_channels
    )
    assert validated(second, "second.tp").metrics == validated(MEASURED, "second.tp").metrics


def test_what_a_stage_cannot_start_from_is_said(net):
    for folder, start in (("first.tp", None), ("second.tp", "first.tp")):
        module = ModuleNames(MEASURED.build, MEASURED.inputs, batches=MEASURED.batches, train=MEASURED.train, folder=start)
        pruned(folder, module)
    jobs = {
        "refit.tp": lambda folder: stages.run_reconstruction(
            ReconstructionParameters(**fields(MEASURED, folder), output="refit.tp"), quiet
        ),
        "fit.tp": lambda folder: stages.run_finetuning(FinetuneParameters(**fields(MEASURED, folder), epochs=1, output="fit.tp"), quiet),
    }
    for output, run in jobs.items():
        with pytest.raises(PlanError, match=re.escape("second.tp was cut from what first.tp has: start from that (--weights first.tp)")):
            run("second.tp")
        assert not Path(output).exists()
    jobs["fit.tp"]("first.tp")
    with pytest.raises(RequestError, match="was trained, and a refit starts from the cut: refit first, then train"):
        jobs["refit.tp"]("fit.tp")


def test_training_that_fails_or_harms_leaves_no_such_module(net, monkeypatch):
    folder = pruned()

    def spoilt(value: float) -> Any:
        def train(module: nn.Module) -> None:
            with torch.no_grad():
                module[6].bias += value

        return train

    def grown(module: nn.Module) -> nn.Module:
        module[6] = nn.Linear(module[6].in_features, 5)
        return module

    def run() -> Any:
        return stages.run_finetuning(FinetuneParameters(**fields(MEASURED, folder), epochs=1, output="trained.tp"), quiet)

    for function, kind, said in (
        (spoilt(float("nan")), JobError, "left NaN or infinity in 6.bias"),
        (grown, RequestError, "changed the shapes or types of parameters"),
        (lambda module: 1 / 0, RequestError, "train\\(\\) raises ZeroDivisionError"),
        (7, RequestError, "is a int: name a function"),
    ):
        monkeypatch.setattr(net, "train", function)
        with pytest.raises(kind, match=said):
            run()
        assert not Path("trained.tp").exists()
    monkeypatch.setattr(net, "train", spoilt(5.0))
    harmed = run()
    assert harmed.notes == [stages.NO_BETTER] and harmed.metrics == harmed.metrics_before
    assert Path("trained.tp/model.safetensors").read_bytes() == Path(folder, "model.safetensors").read_bytes()


def test_function_that_changes_the_module_changes_no_stage(net, monkeypatch):
    folder = pruned()

    def emptied(module: nn.Module) -> float:
        with torch.no_grad():
            module[6].weight.zero_()
        return 1.0

    monkeypatch.setattr(net, "minus_distance", emptied)
    monkeypatch.setattr(net, "train", lambda module: None)
    stages.run_finetuning(FinetuneParameters(**fields(MEASURED, folder), epochs=1, output="trained.tp"), quiet)
    assert Path("trained.tp/model.safetensors").read_bytes() == Path(folder, "model.safetensors").read_bytes()


def test_batches_in_half_precision_are_read_by_the_loss_as_the_module_is_scored(net, monkeypatch):
    build = net.build
    monkeypatch.setattr(net, "build", lambda: build().half())
    monkeypatch.setattr(net, "batches", lambda: [net.images(4, 1).half()])
    found = stages.run_calibration(CalibrationParameters(**fields(MEASURED), criteria=["taylor"]), quiet)
    assert found.images == 1


def endless():
    while True:
        yield torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (endless, "the batches do not end within"),
        ([], "no batch: give tensors"),
        (lambda: [torch.zeros(0, 3, 8, 8)], "a batch is empty"),
        (lambda: ["a.jpg"], "a batch is a str"),
        (lambda: 5, "batches cannot be gone through"),
        (iter([torch.rand(4, 3, 8, 8)]), "which gives its batches once: name a function that makes it"),
        (lambda: [torch.rand(4, 5, 8, 8)], "the model does not run on these batches"),
        (lambda: (torch.rand(4, 3, 8, 8) for _ in range(1 // 0)), "raises ZeroDivisionError"),
        (lambda: (torch.rand(4, 3, 8 // size, 8) for size in (1, 0)), "raises ZeroDivisionError"),
    ],
    ids=["endless", "none", "empty", "words", "a number", "an iterator", "other channels", "raises", "raises at the second"],
)
def test_batches_that_cannot_be_used_are_refused_in_one_sentence(net, monkeypatch, batches, said):
    folder = pruned(module=names())
    monkeypatch.setattr(net, "given", batches, raising=False)
    module = names(batches="given")
    for call in (
        lambda: stages.run_reconstruction(ReconstructionParameters(**fields(module, folder), output="refit.tp"), quiet),
        lambda: plan_for(module=module, criterion="obs"),
    ):
        with pytest.raises(RequestError, match=said):
            call()
    assert not Path("refit.tp").exists()


def test_batches_may_have_labels_or_be_a_loader(net, monkeypatch):
    images = [net.images(4, seed) for seed in range(2, 6)]
    labelled = [(one, torch.zeros(4, dtype=torch.int64)) for one in images]
    loader = torch.utils.data.DataLoader(torch.cat(images), batch_size=4)
    distances = []
    for batches in (images, labelled, loader, lambda: iter(images)):
        monkeypatch.setattr(net, "given", batches, raising=False)
        module, folder = names(batches="given"), pruned(f"cut{len(distances)}.tp", names())
        asked = ReconstructionParameters(**fields(module, folder), output=f"refit{len(distances)}.tp")
        distances.append(stages.run_reconstruction(asked, quiet).distance)
    assert all(one == distances[0] for one in distances)


def test_folder_of_another_module_is_refused(net, monkeypatch):
    folder = pruned()
    monkeypatch.setattr(net, "build", lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)))
    calls = [
        lambda: validated(checkpoint=folder),
        lambda: stages.run_reconstruction(ReconstructionParameters(**fields(MEASURED, folder), output="refit.tp"), quiet),
        lambda: stages.run_finetuning(FinetuneParameters(**fields(MEASURED, folder), epochs=1, output="trained.tp"), quiet),
        lambda: export.run_export(ExportParameters(**fields(MEASURED, folder), output="cut.pt2", format="pt2"), quiet),
    ]
    for call in calls:
        with pytest.raises(PlanError, match="the plan was made for"):
            call()
    for missing in (lambda: validated(checkpoint="nowhere.tp"), lambda: validated(checkpoint=f"{NET}.py")):
        with pytest.raises(CheckpointError, match="is not a folder"):
            missing()


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_export_computes_as_the_folder_does(net, format: str):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    asked = ExportParameters(**{**fields(MEASURED, pruned()), "images": None}, output=f"cut.{format}", format=format)
    found = export.run_export(asked, quiet)
    assert found.equal and found.max_abs_difference < 1e-5 and found.images == 2 and Path(found.output).stat().st_size == found.bytes
    if format == "pt2":
        again = torch.export.load(found.output).module()(net.inputs())
        assert torch.allclose(again, NamedModule(MEASURED).stored_in("cut.tp").eval()(net.inputs()))


ODD = """
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, words, *, scale=1.0, more=None):
        hidden = torch.relu(self.first(self.table(words) * scale + more["shift"]))
        return {"scores": self.last(hidden), "sizes": (hidden.mean(),)}


def build():
    torch.manual_seed(0)
    return Odd().double()


def inputs():
    return {"words": torch.arange(6).reshape(2, 3), "scale": 2.0, "more": {"shift": torch.rand(2, 3, 6).double()}}


def sums(net, **given):
    return net(**given)["scores"].sum(-1)


class Drawn(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.first(x)) + torch.rand(1)


def drawn():
    return Drawn()


def rows():
    return torch.rand(2, 6)

"""


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, net: ModuleType) -> ModuleType:
    """A module of integers, arguments by name, float64 and outputs in a dict; and some that no export equals."""
    Path("odd_net.py").write_text(ODD)
    monkeypatch.delitem(sys.modules, "odd_net", raising=False)
    return importlib.import_module("odd_net")


@pytest.mark.parametrize("format", ["onnx", "pt2"])
@pytest.mark.parametrize("forward", ["", "odd_net:sums"])
def test_export_takes_arguments_by_name_and_outputs_in_a_dict(odd, format: str, forward: str):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    module = ModuleNames("odd_net:build", "odd_net:inputs", forward=forward)
    asked = {**fields(module, "odd_net:build"), "format": format, "output": f"odd.{format}"}
    found = export.run_export(ExportParameters(**asked), quiet)
    assert found.equal and Path(f"odd.{format}").is_file()
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession("odd.onnx", providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_inputs()] == ["words", "more"]


def test_export_that_computes_something_else_is_not_kept(odd):
    module = ModuleNames("odd_net:drawn", "odd_net:rows")
    found = export.run_export(ExportParameters(**fields(module, "odd_net:drawn"), output="drawn.pt2", format="pt2"), quiet)
    assert found.equal is False and found.output is None and not Path("drawn.pt2").exists()


def test_export_without_its_packages_or_to_another_format_is_refused(monkeypatch):
    asked = {**fields(MEASURED), "output": "cut.onnx"}
    with pytest.raises(RequestError, match="no format 'tflite': a module is exported to onnx or pt2"):
        export.run_export(ExportParameters(**asked, format="tflite"), quiet)
    monkeypatch.setattr(export, "FORMATS", {"onnx": ("onnx", "no_such_runtime")})
    with pytest.raises(JobError, match="export to onnx needs no_such_runtime: pip install no_such_runtime"):
        export.run_export(ExportParameters(**asked, format="onnx"), quiet)
    assert not Path("cut.onnx").exists()
