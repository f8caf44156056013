"""`gate` on the digits: a perturbation that is not a loss passes, a planted regression does not, and the reports say the same."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tests.cli.conftest import Call, Pruned
from tui_pruner.jobs import gate

MAP = "metrics/mAP50-95(B)"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the usual number: what is told apart here is told apart by any."""
    monkeypatch.setattr(gate, "MOST_RESAMPLES", gate.FEWEST_RESAMPLES)


def perturbed_checkpoint(source: Path, output: Path, share: float) -> Path:
    """A checkpoint whose convolutions are off by chance, by so much of their own size."""
    content = torch.load(source, map_location="cpu", weights_only=False)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in content["model"].named_parameters():
            if parameter.ndim == 4 and ".dfl" not in name:
                noise = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
                parameter += share * parameter.std() * noise
    torch.save(content, output)
    return output


def test_gate_passes_noise_and_refuses_a_planted_regression(call: Call, demo_checkpoint: Path, demo_data: Path, tmp_path: Path):
    options = ["--against", demo_checkpoint, "--data", demo_data, "--images", 48, "--imgsz", 96, "--max-drop", 0.01, "--json"]
    reports = ["--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md"]
    quiet = call("gate", perturbed_checkpoint(demo_checkpoint, tmp_path / "quiet.pt", 0.002), *options)
    assert quiet.status == 0, quiet.err
    found = quiet.document
    assert (found["verdict"], found["latency"], found["images"]) == ("yes", None, 48)
    assert found["interval"][0] < found["drop"] < found["interval"][1] and abs(found["drop"]) < 0.01
    loud = call("gate", perturbed_checkpoint(demo_checkpoint, tmp_path / "loud.pt", 0.3), *options, *reports)
    assert loud.status == 1, loud.err
    found = loud.document
    assert (found["verdict"], found["certain"]) == ("no", True)
    assert 0.01 < found["interval"][0] < found["drop"] == found["metrics"][0]["drop"]
    assert found["drop"] == pytest.approx(found["metrics"][0]["original"] - found["metrics"][0]["pruned"])
    suites = ElementTree.fromstring((tmp_path / "gate.xml").read_bytes())
    assert (suites.get("tests"), suites.get("failures")) == ("1", "1")
    text = (tmp_path / "gate.md").read_text()
    assert text.startswith("## Pruning gate failed\n") and "`loud.pt` against `digits.pt`" in text and str(tmp_path) not in text


def test_gate_has_the_metrics_of_validate_and_prints_the_verdict_last(call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path):
    options = ["--against", demo_checkpoint, "--data", demo_data, "--images", 16, "--imgsz", 64]
    validated = call("validate", pruned.file, *options, "--json").document
    answer = call("gate", pruned.file, *options, "--max-drop", 0.5, "--max-latency", 5, "--runs", 5)
    assert answer.status == 0, answer.err
    header, metric, latency, images, *reasons, verdict = answer.out.splitlines()
    assert header.split() == ["original", "pruned", "change", "95", "%", "interval", "allowed"]
    assert metric.split()[:3] == [MAP.removeprefix("metrics/"), f"{validated['baseline'][MAP]:.4f}", f"{validated['metrics'][MAP]:.4f}"]
    assert latency.startswith("latency, ms") and images.startswith("16 images, the same for both models")
    assert len(reasons) == 2 and verdict == "yes: it may be merged"


def test_model_with_fewer_classes_is_compared_on_the_same_classes_of_the_original(
    call: Call, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    assert call("prune", demo_checkpoint, "--keep-classes", "zero,one", "-o", tmp_path / "two.pt").status == 0
    answer = call("gate", tmp_path / "two.pt", "--against", demo_checkpoint, "--data", demo_data, "--images", 24, "--imgsz", 96, "--json")
    assert answer.status == 0, answer.err
    assert answer.document["drop"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--images", 1], "one image says nothing of others"),
        (["--max-drop", "-1"], "--max-drop"),
        (["--max-latency", "0"], "--max-latency"),
        (["--junit", "missing/gate.xml"], "no folder missing"),
        (["--against", "nope.pt"], "nope.pt"),
        (["--data", "nope.yaml"], "nope.yaml"),
    ],
)
def test_invalid_input_is_refused_in_one_line_and_nothing_is_written(
    options: list[object], expected: str, demo_checkpoint: Path, demo_data: Path, call: Call
):
    usual = {"--against": demo_checkpoint, "--data": demo_data}
    given = [part for name, value in usual.items() if name not in options for part in (name, value)]
    answer = call("gate", demo_checkpoint, *given, *options)
    assert (answer.status, answer.out) == (2, "")
    assert expected in answer.remarks[-1] and answer.remarks[-1].startswith("tui-pruner: ")
