"""The sensitivity scan: metrics of a validation, shared work only where that changes nothing, and results that survive a kill."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.plan import Plan
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.search.sensitivity import survivors, trials_of
from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.job_messages import JobParameters, JobProgress, ValidationParameters
from tui_pruner.engine.search_messages import ScanFound, ScanParameters, ScanResult, ScanTrial
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.frameworks.ultralytics.validation import SharedRun
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.scan import scan as job
from tui_pruner.jobs.validate import prepared, run_validation

MAP = "metrics/mAP50-95(B)"


def ignore(progress: JobProgress) -> None:
    pass


@pytest.fixture
def parameters(demo_checkpoint: Path, demo_data: Path) -> ScanParameters:
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    return ScanParameters(
        checkpoint=str(demo_checkpoint), sha256=sha256, data=str(demo_data), images=8, imgsz=64, device="cpu", ratios=[0.5]
    )


@pytest.fixture(scope="module")
def digits() -> Analysis:
    demo = Path(__file__).parent.parent.parent / "assets" / "demo" / "digits.pt"
    return analyse(open_model(str(demo)), 64)


@pytest.fixture
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sixth trial only."""

    def some(*arguments: Any) -> Any:
        trials, skipped = trials_of(*arguments)
        return trials[::6], skipped

    monkeypatch.setattr("tui_pruner.core.search.sensitivity.trials_of", some)


def without_timings(result: ScanResult) -> dict[str, Any]:
    """A result without what differs between two runs."""
    return result.model_dump(exclude={"cached", "seconds", "remarks"})


def validated(parameters: ScanParameters, plan: Plan | None) -> float:
    subject = parameters.model_dump(include=set(JobParameters.model_fields))
    return run_validation(ValidationParameters(**subject, plan=plan.plain() if plan else None), ignore).metrics[MAP]


def test_metric_of_a_trial_equals_that_of_the_pruned_model(parameters: ScanParameters, digits: Analysis):
    result = job.run_scan(parameters, ignore)
    assert {row.id for row in result.groups} == {group.number for group in digits.coupling.groups if group.prunable}
    assert result.images == 8 and result.failed == [] and result.notes == []
    assert result.baseline == pytest.approx(validated(parameters, None), abs=1e-9)
    trials, _ = trials_of(digits, [0.5], "l2")
    for trial, row in list(zip(trials, result.groups, strict=True))[1::14]:
        step = survivors(digits, [trial], {trial.digest: 0.0}, 0.0, "l2")
        session = PruningSession(digits)
        session.load(session.plan.model_copy(update={"steps": [step]}).plain())
        assert row.metric == pytest.approx(validated(parameters, session.plan), abs=1e-4), row.layer
        assert row.drop == result.baseline - row.metric
        assert (row.parameters, row.flops) == (session.widths.size.parameters, session.widths.size.flops)
    assert max(row.drop for row in result.groups) > 0.1


@pytest.mark.usefixtures("few_trials")
def test_scan_killed_repeatedly_gives_the_same_file(parameters: ScanParameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = without_timings(job.run_scan(parameters, ignore))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    seen: list[int] = []

    def die(progress: JobProgress) -> None:
        if progress.done and progress.done >= (seen[-1] if seen else 0) + 3:
            seen.append(progress.done)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            job.run_scan(parameters, die)
    assert len(list((tmp_path / "other").rglob("scan/*/*.json"))) == 1 + seen[-1]
    resumed = job.run_scan(parameters, ignore)
    assert without_timings(resumed) == whole
    assert resumed.cached == seen[-1]


@pytest.mark.usefixtures("few_trials")
def test_stored_trials_are_reused_and_a_damaged_one_is_measured_again(parameters: ScanParameters, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    first = job.run_scan(parameters, ignore)
    files = sorted(file for file in (tmp_path / "own").rglob("scan/*/*.json") if file.stem != "baseline")
    files[0].write_bytes(b'{"metrics/mAP')
    again = job.run_scan(parameters, ignore)
    assert (first.cached, again.cached) == (0, len(files) - 1)
    assert without_timings(again) == without_timings(first)


@pytest.mark.usefixtures("few_trials")
def test_failed_trial_is_reported_and_skipped(parameters: ScanParameters, digits: Analysis, monkeypatch: pytest.MonkeyPatch):
    from tui_pruner.core.pruning import twin

    trials = trials_of(digits, [0.5], "l2")[0][::6]
    bad = trials[3]
    real = twin.masked_twin

    def failing(model, coupling, removal, owners=None):
        if bad.group in removal.places:
            raise RuntimeError("expected 64 channels\nand more")
        return real(model, coupling, removal, owners)

    monkeypatch.setattr(twin, "masked_twin", failing)
    result = job.run_scan(parameters, ignore)
    assert [(failure.layer, failure.ratio, failure.error) for failure in result.failed] == [(bad.layer, 0.5, "expected 64 channels")]
    assert len(result.groups) == len(trials) - 1 and bad.layer not in {row.layer for row in result.groups}


@pytest.mark.usefixtures("few_trials")
def test_unshared_run_gives_the_same_numbers_and_reports_it(parameters: ScanParameters, tmp_path: Path, monkeypatch):
    shared = job.run_scan(parameters, ignore)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(SharedRun, "_is_exact", lambda self: False)
    alone = job.run_scan(parameters, ignore)
    assert "every trial ran the whole DetectionModel" in alone.notes[0]
    assert [row.metric for row in alone.groups] == pytest.approx([row.metric for row in shared.groups], abs=1e-6)


def test_network_with_in_place_operations_is_not_shared(parameters: ScanParameters, digits: Analysis):
    from tui_pruner.core.model.copies import sharing_weights

    network = sharing_weights(digits.checkpoint.model)
    block = network.model[4]
    forward = type(block).forward
    block.__dict__["forward"] = lambda x: forward(block, x.add_(0.25))
    data = read_data(parameters.data).subset(4, 0)
    for model, shares in ((digits.checkpoint.model, True), (network, False)):
        with prepared(model, data, 64, "cpu") as (validator, _):
            assert SharedRun(validator, model).shares is shares


def test_survivors_are_the_largest_shares_below_the_limit_as_one_valid_plan(digits: Analysis):
    trials, skipped = trials_of(digits, [0.1, 0.3, 0.5], "l2")
    assert skipped == []
    drops = {trial.digest: trial.ratio / 10 for trial in trials}
    step = survivors(digits, trials, drops, 0.03, "l2")
    assert {cut.amount for cut in step.cuts} == {"30.0000%"}
    session = PruningSession(digits)
    session.load(session.plan.model_copy(update={"steps": [step]}).plain())
    assert session.widths.size.flops < 0.6 * session.arithmetic.whole.size.flops
    with pytest.raises(RequestError, match="no trial drops by 0"):
        survivors(digits, trials, drops, 0.0, "l2")


@pytest.mark.usefixtures("few_trials")
def test_progress_counts_trials_with_their_metric(parameters: ScanParameters):
    seen: list[JobProgress] = []
    result = job.run_scan(parameters, seen.append)
    distinct = len({(row.id, *row.along) if not row.along else tuple(sorted((row.id, *row.along))) for row in result.groups})
    counted = [progress for progress in seen if progress.metrics]
    assert [progress.done for progress in counted] == list(range(1, distinct + 1))
    assert {progress.total for progress in counted} == {distinct} and MAP in counted[0].metrics


@pytest.mark.usefixtures("few_trials")
def test_results_are_reported_at_once_with_the_costliest_groups_first(parameters: ScanParameters, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    seen: list[JobProgress] = []
    result = job.run_scan(parameters, seen.append)
    told = [ScanFound.model_validate(progress.found) for progress in seen if progress.found]
    landed: list[ScanTrial] = [row for found in told for row in found.trials]
    assert told[0].baseline == result.baseline and told[0].wanted == len(result.distinct)
    assert set(told[0].layers) == {row.id for row in result.groups} and not any(found.layers for found in told[1:])
    assert sorted(landed, key=lambda row: row.id) == result.groups
    assert [row.flops for row in landed] == sorted(row.flops for row in landed)
    assert landed[0] in told[1].trials and len(told) > len(result.distinct)


@pytest.mark.usefixtures("few_trials")
def test_stopped_scan_returns_its_results_and_the_next_one_continues(parameters: ScanParameters, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr("tui_pruner.jobs.scan.executors.SIDE_BY_SIDE", 2)
    before = signal.getsignal(signal.SIGTERM)

    def stop(progress: JobProgress) -> None:
        if progress.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = job.run_scan(parameters.model_copy(update={"stops_early": True}), stop)
    assert len(stopped.distinct) == 3 and stopped.wanted > 3 and signal.getsignal(signal.SIGTERM) is before
    whole = job.run_scan(parameters, ignore)
    assert (whole.cached, whole.wanted) == (3, 0) and len(whole.distinct) == stopped.wanted
    assert [row for row in whole.groups if row in stopped.groups] == stopped.groups
