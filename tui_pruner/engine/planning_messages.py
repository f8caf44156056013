"""What travels between the program and the job that plans by measured damage."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.engine.protocol import Message, ScanDrops


class PlanningParameters(JobParameters):
    """What a search for plans is: the checkpoint, the plan so far, and the targets of each point of the front.

    Damage is measured, and plans are refitted, on `images` of the training split without labels; others of it judge. `fast`: the plan by
    measured damage is taken without a trial. `validated`: the plan that is taken is validated too, refitted, on so many images of the
    validation split; 0: not at all. A scan competes too: `scan`, or one that is known of `scanned` validation images.
    """

    images: int | None = 64
    plan: dict[str, Any] | None = None
    points: list[list[str]]
    criterion: str = "obs"
    round_to: int = 1
    floor: float = 0.25
    protect: list[str] = []
    scan: ScanDrops | None = None
    scanned: int | None = 64
    fast: bool = False
    validated: int | None = 0
    batch: int = 16


class RivalResult(Message):
    """One whole plan: how it was found, and the distance of the predictions from the original's on held-out images, cut and refitted."""

    name: str
    shares: dict[str, float]
    distance_cut: float
    distance: float
    outputs: dict[str, float]


class PlanPoint(Message):
    """What one point's targets come to: the plan that was taken (None: out of reach, and `stopped` says why) and its rivals.

    `amounts` has its last step by layer; `measured` the metrics of the refitted model, where it was validated.
    """

    targets: list[str]
    plan: dict[str, Any] | None
    amounts: dict[str, str] = {}
    shares: dict[str, float] = {}
    parameters: int = 0
    flops: int = 0
    bytes: int = 0
    chosen: str = ""
    rivals: list[RivalResult] = []
    measured: dict[str, float] | None = None
    stopped: str = ""


class PlanningResult(Message):
    """All points, the file with the scores that channels were ranked by, where the criterion needs one, and how it was done."""

    points: list[PlanPoint]
    scores: str
    original: dict[str, float] | None
    images: int
    held_out: int
    trials: int
    cached: bool
    seconds: float
    notes: list[str] = []
