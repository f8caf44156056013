"""What a large scan costs on 1, 8 and 64 GPUs: shares that are measured here, the speed and price of a GPU as they are given.

    python -m benchmarks.scale [--gpu-images-per-second 200] [--price 2] [--groups 200 --ratios 5 --images 5000]

Prints the measured figures and the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.search.sensitivity import Trial, trials_of
from tui_pruner.engine.search_messages import ScanParameters
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.frameworks.ultralytics import validation as sensitivity_run
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.scan.executors import SIDE_BY_SIDE, ScanContext, TrialRunner, trial_runner
from tui_pruner.jobs.scan.workers import done, order_of, tasks_of
from tui_pruner.jobs.validate import prepared
from tui_pruner.storage.paths import demo_folder

FLEETS = (1, 8, 64, 128, 256, 1000)
START = "from tui_pruner.core.model.analysis import analyse; from tui_pruner.frameworks.ultralytics import open_model; import sys; "
START += "import ultralytics.models.yolo.detect; analyse(open_model(sys.argv[1]), int(sys.argv[2]))"


@dataclass(frozen=True)
class Measured:
    """Seconds of one core of this machine: a worker's start, and for each image a validation, what a wave shares, and each of its trials.

    `shared`: reading the images and what the original makes of them, which is done once for many waves only where memory holds it.
    """

    start: float
    validation: float
    shared: float
    trial: float
    checkpoint_bytes: int
    task_bytes: int
    result_bytes: int
    round_trip: float | None


@dataclass(frozen=True)
class Work:
    """A scan: how many trials on how many images."""

    trials: int
    images: int


def seconds(measured: Measured, work: Work, workers: int) -> float:
    """How long this many workers take: start, the baseline, and as many rounds of waves as the fullest of them gets."""
    side = max(1, min(SIDE_BY_SIDE, math.ceil(work.trials / workers)))
    rounds = math.ceil(math.ceil(work.trials / side) / workers)
    wave = work.images * (measured.shared + side * measured.trial)
    return measured.start + work.images * measured.validation + rounds * wave


def scaled(measured: Measured, images_per_second: float) -> Measured:
    """The same shares of a validation on a device that validates this many images a second; starting takes as long as here."""
    factor = 1.0 / images_per_second / measured.validation
    per_image = {name: getattr(measured, name) * factor for name in ("validation", "shared", "trial")}
    return Measured(**{**vars(measured), **per_image})


def table(measured: Measured, work: Work, price: float) -> Iterator[str]:
    """Lines of Markdown: minutes, the hours of all devices, their price, and which share of them is not lost to more devices."""
    yield "| devices | minutes | device hours | price | efficiency |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    alone = seconds(measured, work, 1)
    for count in FLEETS:
        took = seconds(measured, work, count)
        hours = count * took / 3600
        yield f"| {count} | {took / 60:.1f} | {hours:.1f} | {f'{price * hours:.0f}' if price else '-'} | {alone / took / count:.0%} |"


def measure(model: Path, data: Path, imgsz: int, images: int) -> Measured:
    """Everything that this machine can tell."""
    parameters = ScanParameters(
        checkpoint=str(model),
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        data=str(data),
        images=images,
        imgsz=imgsz,
        ratios=[0.3],
    )
    context = ScanContext(analyse(open_model(str(model)), imgsz), parameters, read_data(data).subset(images, 0))
    trials, _ = trials_of(context.analysis, parameters.ratios, parameters.criterion)
    distinct = list({trial.digest: trial for trial in trials}.values())
    wave = distinct[len(distinct) // SIDE_BY_SIDE // 2 :: len(distinct) // SIDE_BY_SIDE][:SIDE_BY_SIDE]  # early layers and late ones
    validation = validating(context)
    whole, result_bytes = waving(context, wave, 0)
    kept, _ = waving(context, wave, sys.maxsize)
    task = tasks_of(context, wave, 1)[0]
    return Measured(
        start=starting(model, imgsz),
        validation=validation / images,
        shared=(whole - kept) / images,
        trial=kept / SIDE_BY_SIDE / images,
        checkpoint_bytes=model.stat().st_size,
        task_bytes=len(task.model_dump_json()) + len(order_of(context, "cpu").model_dump_json()),
        result_bytes=result_bytes,
        round_trip=round_trip(),
    )


def starting(model: Path, imgsz: int) -> float:
    """Seconds of a core until a fresh process has loaded its libraries, the checkpoint and its coupling map."""
    before = os.times()
    subprocess.run([sys.executable, "-c", START, str(model), str(imgsz)], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def validating(context: ScanContext) -> float:
    """Seconds of a validation of the whole network, the second time."""
    analysis: Analysis = context.analysis
    with prepared(analysis.checkpoint.model, context.data, context.parameters.imgsz, "cpu") as (validator, _):
        validator(model=copy.deepcopy(analysis.checkpoint.model))
        return fastest(lambda: validator(model=copy.deepcopy(analysis.checkpoint.model)))


def waving(context: ScanContext, trials: Sequence[Trial], memory_limit: int) -> tuple[float, int]:
    """Seconds of a full wave with this many bytes for what can be kept between waves, and the bytes of its result."""
    before, sensitivity_run.KEPT_BYTES = sensitivity_run.KEPT_BYTES, memory_limit
    try:
        with trial_runner(context.analysis, context.data, context.parameters) as found:
            run(found, trials)
            took = fastest(lambda: run(found, trials))
            return took, len(done(found, tasks_of(context, trials, 1)[0], "node").model_dump_json())
    finally:
        sensitivity_run.KEPT_BYTES = before


def run(found: TrialRunner, trials: Sequence[Trial]) -> None:
    """Measure trials."""
    for _ in found.outcomes(trials):
        pass


def fastest(work: Callable[[], object], clock: Callable[[], float] = time.process_time, times: int = 3) -> float:
    """Seconds of the fastest of some runs; by default those of the core alone, no matter what else the machine does."""
    took = []
    for _ in range(times):
        started = clock()
        work()
        took.append(clock() - started)
    return min(took)


def round_trip() -> float | None:
    """Seconds that Ray takes for a task that does nothing, on this machine; None without Ray."""
    try:
        import ray
    except ImportError:
        return None
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    nothing = ray.remote(lambda: None)
    ray.get(nothing.remote())
    took = fastest(lambda: [ray.get(nothing.remote()) for _ in range(50)], time.perf_counter) / 50
    ray.shutdown()
    return took


def report(measured: Measured, work: Work, images_per_second: float, price: float) -> Iterator[str]:
    """The measured figures, then a table for this machine and one for the assumed GPU."""
    for name, value in vars(measured).items():
        yield f"- {name}: {value if isinstance(value, int) or value is None else f'{value:.5f} s'}"
    share = f"shared {measured.shared / measured.validation:.2f}, trial {measured.trial / measured.validation:.2f}"
    yield f"- as shares of a validation: {share}"
    here = f"one core of this machine ({1 / measured.validation:.0f} images a second)"
    yield f"\n{work.trials} trials on {work.images} images, devices like {here}:\n"
    yield from table(measured, work, 0.0)
    yield f"\nThe same on GPUs that validate {images_per_second:g} images a second (assumed) at {price:g} an hour (assumed):\n"
    yield from table(scaled(measured, images_per_second), work, price)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=demo_folder() / "digits.pt")
    parser.add_argument("--data", type=Path, default=demo_folder() / "digits.yaml")
    for name, default in (("imgsz", 160), ("sample", 24), ("groups", 200), ("ratios", 5), ("images", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--gpu-images-per-second", type=float, default=200.0)
    parser.add_argument("--price", type=float, default=2.0)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # a wave would take more cores than a validation
    torch.set_num_threads(1)
    measured = measure(given.model, given.data, given.imgsz, given.sample)
    work = Work(given.groups * given.ratios, given.images)
    print("\n".join(report(measured, work, given.gpu_images_per_second, given.price)))


if __name__ == "__main__":
    main()
