"""Planning by measured damage as a job: rivals, fronts, the cache, and that no plan does worse than the uniform one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tui_pruner as tp
from tests.gpu.conftest import train_until_detecting
from tests.jobs.conftest import draw_splits
from tests.jobs.narrow import SIDE, narrow, save_whole, short
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.model.latency import Interval
from tui_pruner.core.pruning.plan import parse_plan, removal_of_step
from tui_pruner.core.pruning.preview import Arithmetic
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import by_tensor, cut
from tui_pruner.core.recovery.disagreement import OriginalPredictions
from tui_pruner.core.recovery.reconstruction import reconstruct
from tui_pruner.core.search.rivals import RESPONSE, UNIFORM
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.search_messages import PlanningParameters, PlanningResult
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs import latency
from tui_pruner.jobs.data.dataset import VALIDATION, read_data
from tui_pruner.jobs.data.pictures import image_batches
from tui_pruner.jobs.plan import run_planning


def ignore(progress: object) -> None:
    pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One cache for all tests here, so that the damage of one model is measured once."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def wanted(demo_checkpoint: Path, demo_data: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> PlanningParameters:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    checkpoint = read_checkpoint(demo_checkpoint)
    return PlanningParameters(
        checkpoint=checkpoint.path, sha256=checkpoint.sha256, data=str(demo_data), images=8, imgsz=64, device="cpu", batch=4,
        points=[["flops=60%"]], round_to=32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of five layers that has learnt four of its ten scenes."""
    folder = tmp_path_factory.mktemp("learnt")
    draw_splits(folder, training=10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint = short(folder)
        train_until_detecting(checkpoint.model, folder)
    return save_whole(checkpoint, folder / "learnt.pt")


@pytest.fixture
def short_parameters(wanted: PlanningParameters, trained_detector: Path) -> PlanningParameters:
    """The same of the short detector and its own scenes."""
    subject = {
        "checkpoint": str(trained_detector),
        "sha256": read_checkpoint(trained_detector).sha256,
        "data": str(trained_detector.parent / "data.yaml"),
        "round_to": 4,
    }
    return wanted.model_copy(update=subject)


def test_front_reuses_measurements_and_compares_each_point_with_its_closest_rival(short_parameters: PlanningParameters) -> None:
    found = run_planning(short_parameters.model_copy(update={"points": [["flops=80%"], ["flops=60%", "params=70%"], ["flops=1%"]]}), ignore)
    easy, both, impossible = found.points
    assert (found.images, found.held_out) == (8, 2)
    assert easy.shares["flops"] <= 0.8 and both.shares["flops"] <= 0.6 and both.shares["params"] <= 0.7
    for point in (easy, both):
        assert point.chosen == point.rivals[0].name and {UNIFORM, RESPONSE} <= {rival.name for rival in point.rivals}
        distances = [rival.distance for rival in point.rivals]
        assert distances[1:] == sorted(distances[1:]) and distances[0] <= 1.05 * min(distances)
        assert distances[0] < 0.8 * next(r.distance for r in point.rivals if r.name == UNIFORM)
        assert point.plan is not None and point.plan["steps"][0]["cuts"] and point.amounts
    assert impossible.plan is None and "out of reach" in impossible.stopped
    said: list[JobProgress] = []
    again = run_planning(short_parameters.model_copy(update={"points": [["flops=80%"]]}), said.append)
    phases = list(dict.fromkeys(progress.doing.partition(":")[0] for progress in said))
    assert phases[-2:] == ["choosing the cuts of each plan", "flops=80%"], "no phase is shown while a later one runs"
    assert again.cached and again.points[0].plan == easy.plan


def test_target_that_is_reached_already_is_a_point_without_cuts_and_no_step_of_a_session(short_parameters: PlanningParameters) -> None:
    session = tp.open(short_parameters.checkpoint, imgsz=SIDE)
    session.target("flops=60%")
    (point,) = run_planning(short_parameters.model_copy(update={"points": [["flops=90%"]], "plan": session.plan()}), ignore).points
    assert point.plan is not None and point.amounts == {} and point.shares["flops"] <= 0.6
    with pytest.raises(tp.RequestError, match="the target is reached already"):
        session.target("flops=90%", data=short_parameters.data, images=8)
    assert len(session.steps) == 1
    session.target("flops=50%", data=short_parameters.data, images=8)
    assert len(session.steps) == 2 and session.size.flops <= 0.5 * tp.open(short_parameters.checkpoint, imgsz=SIDE).size.flops


def test_fast_planning_compares_no_rivals(short_parameters: PlanningParameters) -> None:
    found = run_planning(short_parameters.model_copy(update={"fast": True}), ignore)
    (point,) = found.points
    assert point.rivals == [] and point.chosen == "knapsack" and point.shares["flops"] <= 0.6


def test_latency_target_is_reached_by_timing_plans(short_parameters: PlanningParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    def clock_of(analysis: Analysis, *_: object) -> Callable[[Removal], Interval]:
        """A network takes as long as it has operations."""
        arithmetic = Arithmetic(analysis)

        def clock(removal: Removal) -> Interval:
            share = arithmetic.widths(removal).size.flops / arithmetic.whole.size.flops
            return Interval(share, share, share)

        return clock

    monkeypatch.setattr(latency, "clock_of", clock_of)
    (point,) = run_planning(short_parameters.model_copy(update={"points": [["latency=70%"]], "fast": True}), ignore).points
    assert point.plan is not None and 0.6 < point.shares["latency"] <= 0.71
    assert point.shares["latency"] == pytest.approx(point.shares["flops"])
    (far,) = run_planning(short_parameters.model_copy(update={"points": [["latency=1%"]], "fast": True}), ignore).points
    assert far.plan is None and "latency=1% is out of reach" in far.stopped


@pytest.mark.parametrize(
    "name", ["short", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("digits", "yolo11-seg", "yolov8"))]
)
def test_plan_is_never_worse_than_the_uniform_one_on_unseen_images(
    name: str, wanted: PlanningParameters, tmp_path: Path, demo_data: Path
) -> None:
    if name != "digits":
        file = save_whole(short(tmp_path, 10) if name == "short" else narrow(tmp_path, name, 10), tmp_path / "whole.pt")
        wanted = wanted.model_copy(update={"checkpoint": str(file), "sha256": read_checkpoint(file).sha256, "round_to": 4})
    found: PlanningResult = run_planning(wanted, ignore)
    analysis = analyse(read_checkpoint(wanted.checkpoint), SIDE)
    model, coupling = analysis.checkpoint.model, analysis.coupling
    unseen = list(image_batches(model, read_data(demo_data, VALIDATION).subset(12, 0).images, SIDE, "cpu", 4))
    training = list(image_batches(model, read_data(demo_data).subset(8, 1).images, SIDE, "cpu", 4))
    judge = OriginalPredictions(model, unseen)

    def distance(plan: dict) -> float:
        removal = removal_of_step(parse_plan(plan).steps[0], coupling)
        refitted = reconstruct(model, cut(model, coupling, removal), by_tensor(removal.stays(coupling)), training, training).model
        outputs = judge.distance(refitted)
        return sum(outputs.values()) / len(outputs)

    (point,) = found.points
    assert point.plan is not None
    uniform = uniform_plan(analysis, wanted)
    assert distance(point.plan) <= 1.05 * distance(uniform)


def uniform_plan(analysis, wanted: PlanningParameters) -> dict:
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.search.ladders import Rules
    from tui_pruner.core.search.planner import Planner
    from tui_pruner.core.search.rivals import uniform_search
    from tui_pruner.core.search.targets import parse_target
    from tui_pruner.jobs.calibrate import rank_by

    rank_by(analysis, "obs", wanted, wanted.images, ignore)
    step = Planner(analysis, rules=Rules(round_to=wanted.round_to)).plan([parse_target("flops=60%")], "obs", search=uniform_search).step
    assert step is not None
    return PruningSession(analysis).plan.model_copy(update={"steps": [step]}).plain()
