"""What decides on any module: the gate by the user's function, the whole compression, and the report."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.small_module import NET, fields, names, project
from tui_pruner.api.data import requests_of
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.search_messages import GateParameters, GateResult
from tui_pruner.frameworks.plain.named_module import NamedModule
from tui_pruner.jobs.any_module import figures
from tui_pruner.jobs.gate import advice, junit, markdown


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
