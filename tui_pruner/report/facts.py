"""The content of a report, a plan and its checkpoint with measurements, and how it is collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.pruning.classes import kept_classes
from tui_pruner.core.pruning.explain import JOINS, why_read
from tui_pruner.core.pruning.plan import removal_of_cut
from tui_pruner.core.pruning.preview import Widths
from tui_pruner.core.pruning.removal import NOTHING
from tui_pruner.core.pruning.resolve import class_layers, match_layers
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.domain.cuts import CLASSES
from tui_pruner.domain.results import Section
from tui_pruner.engine.job_messages import JobProgress, StageFigures, ValidationResult
from tui_pruner.engine.messages import Message, ModelInfo, StepView, Totals, Width
from tui_pruner.engine.search_messages import BenchResult
from tui_pruner.engine.views import changed_layers, model_info, session_view


class Cost(Message):
    """The cost of a part of the network: parameters, and FLOPs of one image."""

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


class ReaderFacts(Message):
    """A layer whose inputs are cut with a group, and how it reads them."""

    layer: str
    because: str


class GroupFacts(Message):
    """A group that was cut: the layers that produce its channels, those that read them, and what ties them (`because`)."""

    id: int
    before: int
    after: int
    writers: list[str]
    readers: list[ReaderFacts]
    because: list[str]
    criteria: list[str]
    steps: list[int]


class DroppedFacts(Message):
    """An inner block that was dropped, and the step of the drop; `adds`: whether it added to its input, or replaced it."""

    block: str
    type: str
    adds: bool
    step: int


class Metrics(Message):
    """Quick validations of both models on the same images of a data set, at one image size.

    `steps`: those of the model after each step; None where that was not measured.
    """

    data: str
    imgsz: int
    before: ValidationResult
    after: ValidationResult
    steps: list[ValidationResult | None] = []


class PictureFacts(Message):
    """An image with each model's detections, counted by class name."""

    image: str
    before: dict[str, int]
    after: dict[str, int]


class SensitivityFacts(Message):
    """A scan's results for a group: the drop of the metric by the share of its channels; and the share that the plan removes."""

    layer: str
    drops: dict[float, float]
    taken: float


class Facts(Message):
    """A plan and its checkpoint, with measurements. `elsewhere` is the cost outside all blocks; `layers` has those whose widths changed.

    `classes`: the names of those that stay, where others were cut; `pictured_stage`: the stage whose model the pictures show, if it is not
    the cut.
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
    pictured_stage: str = ""
    latency: BenchResult | None = None
    sensitivity: list[SensitivityFacts] = []
    stages: list[StageFigures] = []
    confidence: float = 0.0
    classes: list[str] = []
    notes: list[str] = []
    commands: list[str] = []
    versions: dict[str, str] = {}
    created: str = ""

    @property
    def of_module(self) -> bool:
        """Whether the model is any module, of whose inputs nothing is known."""
        return self.model.task == "module"

    @property
    def sample(self) -> str:
        """What one of its inputs is called."""
        return "sample" if self.of_module else "image"

    @property
    def proved(self) -> bool:
        """Whether every step is proved."""
        return all(step.proof is not None and step.proof.equal for step in self.steps)


@dataclass(frozen=True)
class Material:
    """The input of a document: the facts, the plan's text, and the JPEG files of the pictures."""

    facts: Facts
    plan: str
    images: tuple[tuple[bytes, bytes], ...] = ()


OnProgress = Callable[[JobProgress], None]


def facts_of(session: PruningSession, plan: str, on_progress: OnProgress) -> Facts:
    """The facts of a session's plan that need no data; every step is proved now."""
    analysis, before, after = session.analysis, session.arithmetic.widths(NOTHING), session.widths
    prove_steps(session, on_progress)
    view = session_view(session)
    blocks = list(block_facts(session, before, after))
    return Facts(
        plan=plan,
        model=model_info(analysis, session.arithmetic),
        before=view.original,
        after=view.current,
        blocks=blocks,
        elsewhere_before=rest(before, (block.before for block in blocks)),
        elsewhere_after=rest(after, (block.after for block in blocks)),
        layers=changed_layers(analysis, before, after, asked(session)),
        groups=list(group_facts(session)),
        dropped=list(dropped_facts(session)),
        steps=view.steps,
        classes=classes_left(session),
        notes=[*analysis.checkpoint.warnings, *analysis.notes],
    )


def classes_left(session: PruningSession) -> list[str]:
    """The names of the classes that stay, in their new order; empty where all do."""
    names = session.analysis.checkpoint.names
    return [names.get(number, str(number)) for number in kept_classes(session.analysis.coupling, session.removal) or ()]


def prove_steps(session: PruningSession, on_progress: OnProgress) -> None:
    """Prove the state after each step."""
    original = session.original()
    for number, applied in enumerate(session.steps, start=1):
        on_progress(JobProgress(done=number, total=len(session.steps), doing="prove"))
        session.prove(applied, original)


def asked(session: PruningSession) -> list[str]:
    """The layers that the plan's cuts name, without the locked ones that a glob skips."""
    analysis = session.analysis
    cuts = [planned for applied in session.steps for planned in applied.step.cuts]
    named = [match_layers(cut.layer, analysis.layers, analysis.sections).layers for cut in cuts if cut.layer != CLASSES]
    free = {layer.path for layers in named for layer in layers if any(g.prunable for g in analysis.coupling.output_groups(layer.path))}
    if any(cut.layer == CLASSES for cut in cuts):
        free |= {layer.path for layer in class_layers(analysis)}
    return [layer.name for layer in analysis.layers.values() if layer.path in free]


def block_facts(session: PruningSession, before: Widths, after: Widths) -> Iterable[BlockFacts]:
    """Every block before and after."""
    for block in session.analysis.blocks:
        yield BlockFacts(
            index=block.index,
            name=block.path,
            type=block.type,
            section=block.section,
            shape_before=list(before.block_shape(block.path)),
            shape_after=list(after.block_shape(block.path)),
            before=cost(before, block.path),
            after=cost(after, block.path),
        )


def cost(widths: Widths, path: str) -> Cost:
    """The cost of the tensors and layers below a module path."""
    arithmetic, inside = widths.arithmetic, f"{path}."
    own = [name.startswith(inside) for name, _ in named_tensors(arithmetic.analysis.skeleton)]
    return Cost(
        parameters=int(
            (arithmetic.elements(widths.of_axis) * (arithmetic.trainable & own & arithmetic.tensors_left(widths.dropped))).sum()
        ),
        flops=widths.work_inside(path),
    )


def rest(widths: Widths, parts: Iterable[Cost]) -> Cost:
    """The cost of the whole network beyond some parts of it."""
    costs, size = list(parts), widths.size
    return Cost(parameters=size.parameters - sum(c.parameters for c in costs), flops=size.flops - sum(c.flops for c in costs))


def group_facts(session: PruningSession) -> Iterable[GroupFacts]:
    """Every group that lost channels, with the cuts that removed them."""
    coupling, names, removal = session.analysis.coupling, session.analysis.short_names, session.removal
    causes = cuts_by_group(session)
    for number in sorted(removal.places):
        group = coupling.groups[number]
        steps, criteria = zip(*causes[number], strict=True)
        yield GroupFacts(
            id=number,
            before=group.channels,
            after=removal.left(group),
            writers=list(dict.fromkeys(names.get(member.axis.module, member.axis.module) for member in group.producers)),
            readers=readers(coupling, group, names),
            because=reasons(coupling, group),
            criteria=list(dict.fromkeys(criteria)),
            steps=sorted(set(steps)),
        )


def dropped_facts(session: PruningSession) -> Iterable[DroppedFacts]:
    """Every dropped block with its step."""
    inner = session.analysis.coupling.inner
    before = NOTHING.dropped
    for step, applied in enumerate(session.steps, start=1):
        for path in sorted(applied.removal.dropped - before):
            yield DroppedFacts(block=path, type=inner[path].type, adds=bool(inner[path].silenced), step=step)
        before = applied.removal.dropped


def cuts_by_group(session: PruningSession) -> dict[int, list[tuple[int, str]]]:
    """By group: the step and the criterion of each cut that removes channels of it."""
    found: dict[int, list[tuple[int, str]]] = {}
    for step, applied in enumerate(session.steps, start=1):
        for planned in applied.step.cuts:
            for number in removal_of_cut(planned, session.analysis.coupling).places:
                found.setdefault(number, []).append((step, planned.criterion))
    return found


def readers(coupling: CouplingMap, group: ChannelGroup, names: dict[str, str]) -> list[ReaderFacts]:
    """The layers that read these channels."""
    members = [member for member in group.members if member.role == "in" and member.axis.is_weight]
    return [
        ReaderFacts(layer=names.get(member.axis.module, member.axis.module), because=why_read(member, coupling.sizes[member.axis]))
        for member in members
    ]


def reasons(coupling: CouplingMap, group: ChannelGroup) -> list[str]:
    """What ties the channels of several layers, and which parts must stay equally wide; empty for a single layer."""
    joined = [f"{JOINS.get(operation.name, operation.name)} in {operation.module}" for operation in group.joined_by]
    links: dict[str, list[str]] = {}
    for link in coupling.links_of(group):
        links.setdefault(link.module, []).append(link.operation)
    parts = [f"as wide as the other parts in {module} ({', '.join(dict.fromkeys(names))})" for module, names in links.items()]
    return [*dict.fromkeys(joined), *parts]
