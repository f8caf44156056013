"""What travels between the program and the jobs that time networks: a measurement, and the search for a plan that is fast enough."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.engine.protocol import Message, ScanDrops, TargetPlan


class BenchSubject(Message):
    """A model to time: a checkpoint or an architecture, under a plan or as it is."""

    checkpoint: str
    classes: int | None = None
    plan: dict[str, Any] | None = None


class BenchParameters(Message):
    """What a latency job is: models to time in turns, the first one the reference, and how often; no size: the first one's own."""

    subjects: list[BenchSubject]
    imgsz: int | None = None
    batch: int = 1
    runs: int = 50
    blocks: bool = False
    suggest: bool = False
    device: str = ""


class BlockLatency(Message):
    """The milliseconds that a block takes within a forward."""

    name: str
    type: str
    median_ms: float


class WidthSuggestion(Message):
    """A cut layer that, timed alone, is faster at another width, and the ratio of the two with its upper 95 % bound."""

    layer: str
    width: int
    median_ms: float
    faster: int
    faster_median_ms: float
    ratio: float
    ratio_high: float


class BenchedModel(Message):
    """A model's latency in milliseconds for a batch, and as a share of the reference's with its 95 % interval.

    `verdict`: reference, faster, slower or no difference.
    """

    model: str
    parameters: int
    median_ms: float
    p90_ms: float
    runs: int
    device: str
    threads: int
    imgsz: int
    batch: int
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: str
    blocks: list[BlockLatency] = []
    suggestions: list[WidthSuggestion] = []


class BenchResult(Message):
    """The timed models in the order of the parameters."""

    models: list[BenchedModel]
    notes: list[str] = []


class QuickenParameters(JobParameters):
    """What a search for a latency is: the checkpoint, the plan so far, what shall be left, and by what cuts are chosen; no `data`.

    `targets`: as they are written, one of them a latency; `scan`: prices the cuts; `scores`: the file of a calibration, for criteria
    that need one; `runs`: samples of the checkpoint and of each plan that is tried, in turns.
    """

    data: str = ""
    plan: dict[str, Any] | None = None
    targets: list[str]
    criterion: str = "l2"
    round_to: int = 1
    scan: ScanDrops | None = None
    scores: str | None = None
    runs: int = 50


class LatencyShare(Message):
    """How long a model takes as a share of the checkpoint: the median, and the range that holds the true one in 95 % of cases."""

    median: float
    low: float
    high: float


class QuickenResult(Message):
    """The amounts that reach a latency, how long that model was measured to take, and how long the smallest one takes."""

    plan: TargetPlan
    latency: LatencyShare
    least: LatencyShare
    tries: int
    device: str
    threads: int
