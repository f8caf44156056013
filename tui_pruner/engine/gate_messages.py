"""What travels between the program and the job that decides whether a pruned model may be merged."""

from __future__ import annotations

from typing import Literal

from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.engine.protocol import Message


class GateParameters(JobParameters):
    """What a gate is: a pruned checkpoint, the one to hold it `against`, how much may be lost, and how much of the time it may take.

    `max_drop` is in the metric's own unit; `max_latency` a share of the original's. `strict`: what is not certain does not pass.
    """

    images: int | None = None
    against: str
    max_drop: float = 0.01
    max_latency: float | None = None
    strict: bool = False
    runs: int = 50


class GateMetric(Message):
    """One metric of both models on the same images: its drop with the 95 % interval, and what that comes to against `allowed`.

    `certain`: the whole interval lies on one side of what is allowed.
    """

    name: str
    original: float
    pruned: float
    drop: float
    low: float
    high: float
    allowed: float
    ok: bool
    certain: bool


class GateLatency(Message):
    """The pruned model's latency as a share of the original's, with its 95 % interval, and the medians in milliseconds."""

    ratio: float
    low: float
    high: float
    allowed: float
    ok: bool
    certain: bool
    original_ms: float
    pruned_ms: float
    runs: int
    device: str


class GateResult(Message):
    """The verdict, and everything that it rests on: `drop` and `interval` are those of the metric that fell most.

    `reasons` has a sentence for each judgement; `images_needed`: how many might settle what is not certain, where it is known.
    """

    verdict: Literal["yes", "no"]
    certain: bool
    drop: float
    interval: tuple[float, float]
    latency: GateLatency | None
    metrics: list[GateMetric]
    reasons: list[str]
    rule: str
    images: int
    images_needed: int | None
    original: str
    pruned: str
    original_parameters: int
    pruned_parameters: int
    seconds: float
    notes: list[str] = []
