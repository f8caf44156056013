"""What decides on any module: the gate by the user's function, the whole compression, and the report."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.jobs.test_compress_job import InProcess, Killed
from tests.small_module import NET, SOURCE, fields, names, project
from tui_pruner.api.data import requests_of
from tui_pruner.core.model.flops import parameter_count
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.errors import PrunerError, RequestError
from tui_pruner.engine.recovery_messages import CompressParameters, CompressResult
from tui_pruner.engine.search_messages import GateParameters, GateResult
from tui_pruner.frameworks.plain.module_file import WEIGHTS
from tui_pruner.frameworks.plain.named_module import NamedModule
from tui_pruner.jobs import compress
from tui_pruner.jobs.any_module import figures
from tui_pruner.jobs.compressible import code_files
from tui_pruner.jobs.gate import advice, junit, markdown
from tui_pruner.storage.model_file import ModuleNames


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The user's code, in the folder that the jobs run in."""
    return project(tmp_path, monkeypatch)


def cut(*cuts: str, folder: str = "cut.tp") -> str:
    """Write a folder with the module under cuts, proved; return its name."""
    source = NamedModule(names())
    session = PruningSession(source.analysis())
    session.apply(requests_of(cuts, "l2", 1))
    session.prove(session.steps[-1])
    source.save(session, session.steps, folder, False)
    return folder


def gate(evaluate: str, folder: str, strict: bool = False, max_drop: float = 0.01, **more: object) -> GateResult:
    """The verdict on a folder by one of the user's functions."""
    asked = GateParameters(
        **fields(names(evaluate=evaluate), folder), against=f"{NET}:build", max_drop=max_drop, strict=strict, **more
    )  # fmt: skip
    return figures.run_gate(asked, lambda progress: None)


def test_gate_passes_noise_and_refuses_a_planted_regression_for_every_seed(net, monkeypatch):
    folder = cut("0=50%")
    for seed in range(8):
        monkeypatch.setattr(net, "SEED", seed)
        monkeypatch.setattr(net, "LOSS", 0.0)
        assert gate("noisy", folder).verdict == "yes"
        monkeypatch.setattr(net, "LOSS", 0.05)
        found = gate("noisy", folder)
        assert (found.verdict, found.certain) == ("no", True) and found.interval[0] > 0.01
    assert found.images == 60 and found.sample == "sample"
    assert (found.original, found.pruned) == (f"{NET}:build", "cut.tp")
    assert found.pruned_parameters < found.original_parameters


def test_uncertain_gate_says_how_many_samples_would_settle_it(net, monkeypatch):
    monkeypatch.setattr(net, "NOISE", 0.2)
    found = gate("noisy", cut("0=50%"))
    assert (found.verdict, found.certain) == ("yes", False) and found.images_needed > 60
    assert advice(found) == f"About {found.images_needed:,} samples would settle it in place of 60."
    strict = gate("noisy", "cut.tp", strict=True)
    assert (strict.verdict, strict.certain) == ("no", False)


@pytest.mark.parametrize(("loss", "strict", "verdict"), [(0.0, False, "yes"), (0.0, True, "no"), (0.05, False, "no"), (0.05, True, "no")])
def test_one_figure_for_all_samples_is_judged_without_an_interval(net, monkeypatch, loss, strict, verdict):
    monkeypatch.setattr(net, "NOISE", 0.0)
    monkeypatch.setattr(net, "LOSS", loss)
    found = gate("one_figure", cut("0=50%"), strict=strict)
    (metric,) = found.metrics
    assert (found.verdict, found.certain, metric.certain, metric.has_interval) == (verdict, False, False, False)
    assert found.interval == pytest.approx((loss, loss)) and found.images == 0 and found.images_needed is None
    assert "no interval" in found.reasons[0] and found.rule == figures.BY_FIGURES
    (case,) = ElementTree.fromstring(junit(found)).iter("testcase")
    assert (case.find("failure") is not None) == (verdict == "no")
    assert f"| {-loss + 0.0:+.4f} | - | -0.0100 |" in markdown(found)


def test_gate_refuses_a_loss_from_exactly_zero(net):
    found = gate("minus_distance", cut("0=75%", "2=75%"), max_drop=1e-9)
    assert found.metrics[0].original == 0 > found.metrics[0].pruned
    assert (found.verdict, found.certain) == ("no", True)
    assert "if it cannot be negative" in found.notes[0]


def test_function_that_draws_its_samples_measures_both_modules_on_the_same_ones():
    folder = cut("0=12.5%", folder="less.tp")
    first, again = gate("drawn_samples", folder), gate("drawn_samples", folder)
    assert first.metrics == again.metrics and abs(first.drop) < 0.1, "two draws alone differ by a third on average"


def test_figures_of_other_samples_are_not_compared():
    with pytest.raises(RequestError, match="measure both on the same samples"):
        gate("fewer_samples", cut("0=50%"))


def test_gate_on_latency_times_both_modules():
    found = gate("noisy", cut("0=50%"), max_latency=100.0, runs=5)
    assert found.latency is not None and found.latency.ok and found.latency.runs == 5
    assert "latency" in markdown(found) and len(ElementTree.fromstring(junit(found)).findall(".//testcase")) == 2


HOOKS = {"batches": "batches", "evaluate": "minus_distance", "train": "train"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the jobs that a compression starts, in this process."""
    kinds: list[str] = []
    monkeypatch.setattr(InProcess, "before", staticmethod(kinds.append))
    monkeypatch.setattr(compress, "Job", InProcess)
    return kinds


def compressed(folder: str = "out", module: ModuleNames | None = None, **more: Any) -> CompressResult:
    """Compress the module, by all of its functions or by those that are named."""
    asked = {"targets": ["flops=60%"], "epochs": 1, "format": "", "bench": 5, "folder": folder, **more}
    return compress.run_compression(CompressParameters(**{**fields(module or names(**HOOKS)), **asked}), lambda progress: None)


def weights_of(folder: str | None) -> dict[str, Tensor]:
    """The numbers of a written module."""
    assert folder is not None
    return load_file(Path(folder) / WEIGHTS)


def test_module_is_compressed_by_its_own_functions(started):
    found = compressed(max_drop=1.0, step=50, format="pt2")
    stages = [stage.name.split()[0] for stage in found.stages]
    assert stages == ["original", "plan", "cut", "refit", "fine-tune", "bench", "export", "report"]
    assert set(started) == {"validate", "plan", "prune", "reconstruct", "finetune", "bench", "export", "report"}
    assert found.exported == str(Path("out/compressed.pt2").resolve()) and Path(found.exported).is_file()
    original, _, cut_stage, refit, *_ = found.stages
    assert original.metrics == {"metrics/minus_distance": 0.0} and original.details == ["16 samples"]
    assert cut_stage.metrics["metrics/minus_distance"] < refit.metrics["metrics/minus_distance"] < 0, "the refit is closer to the original"
    assert found.metrics["metrics/minus_distance"] >= refit.metrics["metrics/minus_distance"]
    assert found.output == str(Path("out/compressed.tp").resolve()) and found.flops["after"] <= 0.6 * found.flops["before"]
    loaded = NamedModule(names()).stored_in("out/compressed.tp")
    assert parameter_count(loaded) == found.parameters["after"] < parameter_count(NamedModule(names()).built())
    assert Path(found.report).read_text().count("<td>fine-tune flops-60</td>") == 1


def test_module_without_functions_is_compressed_by_importance_and_not_measured(started):
    found = compressed(module=names(), epochs=0, bench=0)
    assert [stage.name.split()[0] for stage in found.stages] == ["original", "plan", "cut", "report"]
    assert found.metrics == found.original == {} and "validate" not in started
    assert found.stages[1].details == ["taken: importance"] and found.flops["after"] <= 0.6 * found.flops["before"]


def test_compression_killed_before_every_job_ends_with_the_same_weights(started, monkeypatch):
    whole = compressed("whole")
    done: set[str] = set()

    def kill(kind: str) -> None:
        if kind not in done:
            done.add(kind)
            raise Killed

    monkeypatch.setattr(InProcess, "before", staticmethod(kill))
    found = None
    while found is None:
        with suppress(Killed):
            found = compressed()
    assert done == {"validate", "plan", "prune", "reconstruct", "finetune", "bench", "report"}
    assert [stage.kept for stage in found.stages if stage.name != "report"] == [True] * 6
    expected, written = weights_of(whole.output), weights_of(found.output)
    assert expected.keys() == written.keys() and all(torch.equal(tensor, written[name]) for name, tensor in expected.items())


def edit_code(folder: Path) -> None:
    """Append to the code that the functions are in."""
    (folder / f"{NET}.py").write_text(SOURCE + "# edited\n")


def edit_imported_code(folder: Path) -> None:
    """Append to code that it imports."""
    (folder / "parts" / "layers.py").write_text("width = 9\n")


def edit_result(folder: Path) -> None:
    """Damage what a stage wrote."""
    (folder / "out" / "flops-60-cut.tp" / WEIGHTS).write_bytes(b"")


def edit_other_code(folder: Path) -> None:
    """Write code that nothing imports."""
    (folder / "other.py").write_text("width = 9\n")


@pytest.mark.parametrize(
    ("edit", "repeated"),
    [
        (edit_code, {"validate", "plan", "prune", "reconstruct", "report"}),
        (edit_imported_code, {"validate", "plan", "prune", "reconstruct", "report"}),
        (edit_result, {"prune", "report"}),
        (edit_other_code, {"report"}),
    ],
)
def test_stages_are_repeated_if_what_they_depend_on_changed(tmp_path, started, edit, repeated):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "layers.py").write_text("width = 8\n")
    (tmp_path / f"{NET}.py").write_text(f"from parts import layers\n{SOURCE}")
    compressed(epochs=0, bench=0)
    started.clear()
    edit(tmp_path)
    compressed(epochs=0, bench=0)
    assert set(started) == repeated


def test_stages_are_repeated_if_the_factory_loads_other_weights(net, started, monkeypatch):
    compressed(epochs=0, bench=0)
    started.clear()
    built = net.build

    def trained() -> torch.nn.Module:
        module = built()
        torch.nn.init.zeros_(module[6].bias)
        return module

    monkeypatch.setattr(net, "build", trained)
    compressed(epochs=0, bench=0)
    assert {"plan", "prune", "validate"} < set(started)


@pytest.mark.parametrize(
    ("module", "more", "said"),
    [
        ({}, {"epochs": 1}, "has no function to train it by"),
        (HOOKS, {"format": "engine"}, "engine"),
        ({}, {"epochs": 0, "max_drop": 0.1}, "has no function to measure it by"),
        ({}, {"epochs": 0, "scanned": 1}, "has no function to measure it by"),
        ({"build": "nothing"}, {"epochs": 0}, "nothing"),
    ],
)
def test_what_a_compression_of_a_module_cannot_do_is_refused_before_anything_is_written(tmp_path, started, module, more, said):
    with pytest.raises(PrunerError, match=said):
        compressed(module=replace(names(), **{option: f"{NET}:{function}" for option, function in module.items()}), **more)
    assert started == [] and not (tmp_path / "out").exists()


def test_compression_starts_from_a_written_folder(started):
    cut("0=50%", folder="first.tp")
    start = replace(names(batches="batches"), folder="first.tp")
    found = compressed(module=start, epochs=0, bench=0, targets=["params=80%"])
    whole = NamedModule(start)
    assert found.parameters["before"] == parameter_count(whole.built()) < parameter_count(NamedModule(names()).built())
    assert parameter_count(whole.stored_in("out/compressed.tp")) == found.parameters["after"]


def test_files_of_code_are_found_without_running_it(tmp_path):
    package = tmp_path / "own_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit(4)\n")
    (package / "net.py").write_text("import torch\nfrom . import layers\nfrom .inner import *\nfrom missing import one\n")
    (package / "layers.py").write_text("from .inner.deep import width\nimport unreadable_code\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "deep.py").write_text("from ..net import build\n")
    (package / "unused.py").write_text("")
    (tmp_path / "unreadable_code.py").write_text("def (:\n")
    found = [file for file in code_files(["own_package.net"]) if file.is_relative_to(tmp_path)]
    names_found = [str(file.relative_to(tmp_path)) for file in found]
    inside = ["__init__.py", "inner/__init__.py", "inner/deep.py", "layers.py", "net.py"]
    assert names_found == [*(f"own_package/{name}" for name in inside), "unreadable_code.py"]
    assert code_files(["missing", ""]) == []
