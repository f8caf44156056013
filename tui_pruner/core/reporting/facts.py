"""Everything that a report says, as plain data: what `--json` prints and what the document is made of."""

from __future__ import annotations

from dataclasses import dataclass

from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.engine.latency_messages import BenchResult
from tui_pruner.engine.protocol import Message, ModelInfo, Section, StepView, Totals, Width


class Cost(Message):
    """What a part of the network costs: parameters, and floating-point operations of one image."""

    parameters: int
    flops: int


class BlockFacts(Message):
    """A block before and after: its output shape as [channels, height, width], and its cost."""

    index: int
    name: str
    type: str
    section: Section
    shape_before: list[int]
    shape_after: list[int]
    before: Cost
    after: Cost


class Reader(Message):
    """A layer whose inputs go along with a group, and how it reads them."""

    layer: str
    because: str


class GroupFacts(Message):
    """A coupled group that was cut: who writes its channels, who reads them, and what holds it together (`because`)."""

    id: int
    before: int
    after: int
    writers: list[str]
    readers: list[Reader]
    because: list[str]
    criteria: list[str]
    steps: list[int]


class DroppedFacts(Message):
    """An inner block that was dropped, and the step that did it; `adds`: whether it added to its input, or made something else of it."""

    block: str
    type: str
    adds: bool
    step: int


class Metrics(Message):
    """Quick validations of both models on the same images of a data set, at one image size."""

    data: str
    imgsz: int
    before: ValidationResult
    after: ValidationResult


class PictureFacts(Message):
    """An image with what each model finds on it, counted by class name."""

    image: str
    before: dict[str, int]
    after: dict[str, int]


class Sensitivity(Message):
    """What a scan found of a group: how far the metric fell by the share of its channels that was gone; and what share the plan takes."""

    layer: str
    drops: dict[float, float]
    taken: float


class Facts(Message):
    """A plan and its checkpoint, measured. `elsewhere` is the cost that belongs to no block; `layers` holds those whose widths changed.

    `classes`: the names of those that stay, where others were cut.
    """

    plan: str
    model: ModelInfo
    before: Totals
    after: Totals
    blocks: list[BlockFacts]
    elsewhere_before: Cost
    elsewhere_after: Cost
    layers: dict[str, Width]
    groups: list[GroupFacts]
    dropped: list[DroppedFacts] = []
    steps: list[StepView]
    metrics: Metrics | None = None
    pictures: list[PictureFacts] = []
    latency: BenchResult | None = None
    sensitivity: list[Sensitivity] = []
    stages: list[StageFigures] = []
    confidence: float = 0.0
    classes: list[str] = []
    notes: list[str] = []
    commands: list[str] = []
    versions: dict[str, str] = {}
    created: str = ""

    @property
    def proved(self) -> bool:
        """Whether every step agrees with its masked twin."""
        return all(step.proof is not None and step.proof.equal for step in self.steps)


@dataclass(frozen=True)
class Material:
    """What a document is made of: the facts, the plan's text, and the drawn JPEG files of each of the facts' pictures."""

    facts: Facts
    plan: str
    images: tuple[tuple[bytes, bytes], ...] = ()
