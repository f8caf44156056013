"""An analysis, a session and its steps as the messages that the interface shows and scripts read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.checkpoint import Checkpoint, stages_of
from tui_pruner.core.model.copies import tensor_at
from tui_pruner.core.model.layers import Block, ModelLayer, widths_as_built
from tui_pruner.core.pruning.explain import explain, in_words, joined, status_of, why_read
from tui_pruner.core.pruning.masks import mask_of, plan_in_mask
from tui_pruner.core.pruning.preview import Arithmetic, Size, Widths
from tui_pruner.core.pruning.proof import Proof
from tui_pruner.core.pruning.removal import NOTHING
from tui_pruner.core.pruning.resolve import Resolution, match_layers
from tui_pruner.core.pruning.session import AppliedStep, PruningSession
from tui_pruner.core.tracing.coupling_map import ChannelGroup
from tui_pruner.core.tracing.inner_blocks import inside
from tui_pruner.domain.cuts import Request, usual_widths
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import printable
from tui_pruner.engine.messages import (
    BlockShape,
    BlockView,
    Comparison,
    Conflict,
    CutRequest,
    Detail,
    ExplainResult,
    FileStage,
    Hop,
    LayerView,
    MaskInfo,
    MemberView,
    ModelInfo,
    Narrower,
    PreviewResult,
    ProofView,
    RefusedRequest,
    SessionView,
    StepView,
    Totals,
    Touched,
    Width,
)

MOST_SAMPLES = 120


def totals(size: Size) -> Totals:
    """A model's size."""
    return Totals(parameters=size.parameters, flops=size.flops, bytes=size.bytes)


def model_info(analysis: Analysis, arithmetic: Arithmetic) -> ModelInfo:
    """A checkpoint as a message."""
    checkpoint = analysis.checkpoint
    size = arithmetic.widths(NOTHING).size
    return ModelInfo(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        family=checkpoint.family,
        task=checkpoint.task,
        classes=checkpoint.classes,
        stride=checkpoint.stride,
        parameters=size.parameters,
        flops=size.flops,
        imgsz=analysis.imgsz,
        names=[name for _, name in sorted(checkpoint.names.items())],
        stages=file_stages(checkpoint.provenance),
        mask=mask_info(checkpoint),
    )


def mask_info(checkpoint: Checkpoint) -> MaskInfo | None:
    """The state of a masked file; None for any other file."""
    found = mask_of(checkpoint.model, checkpoint.provenance)
    return MaskInfo(words=found.in_words, plan=plan_in_mask(checkpoint, more=True)) if found else None


def file_stages(provenance: Mapping[str, Any] | None) -> list[FileStage]:
    """The stages that a file records; the size is recorded only for the last cut. Entries that cannot be read are left out."""
    found: list[FileStage] = []
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        cut = (provenance or {}).get("source") or {}
        for stage in stages_of(provenance):
            source = stage["source"]
            size = int(cut.get("parameters", 0)) if cut.get("sha256") == source["sha256"] else 0
            found.append(FileStage(kind=stage["kind"], source=printable(source["name"]), sha256=source["sha256"], parameters=size))
    return found


def block_views(analysis: Analysis, arithmetic: Arithmetic) -> list[BlockView]:
    """The tree of blocks and layers."""
    outputs = {-1: analysis.inputs.channels}
    views = []
    for block in analysis.blocks:
        view = block_view(analysis, arithmetic, block, outputs)
        outputs[block.index] = view.out_channels
        views.append(view)
    return views


def block_view(analysis: Analysis, arithmetic: Arithmetic, block: Block, outputs: dict[int, int]) -> BlockView:
    """One block; `outputs` has the output channels of the blocks before it."""
    shape = analysis.measurement.output_shapes.get(block.path, ())
    layers = [layer_view(analysis, arithmetic, layer) for layer in block.layers]
    module = analysis.skeleton.get_submodule(block.path)
    return BlockView(
        index=block.index,
        name=block.path,
        type=block.type,
        **{"from": list(block.sources)},
        section=block.section,
        in_channels=sum(outputs.get(source, 0) for source in block.sources) if block.sources else layers[0].in_channels if layers else 0,
        out_channels=layers[-1].out_channels if layers and not block.sources else shape[0] if shape else 0,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        flops=arithmetic.whole.work_inside(block.path),
        output_shape=list(shape),
        layers=layers,
        droppable=[path for path in analysis.coupling.inner if path.startswith(f"{block.path}.")],
    )


def layer_view(analysis: Analysis, arithmetic: Arithmetic, layer: ModelLayer) -> LayerView:
    """One layer with its status."""
    found = status_of(analysis.coupling, layer, analysis.short_names)
    widths = arithmetic.widths(NOTHING)
    inputs, outputs = layer_widths(analysis, widths, layer)
    return LayerView(
        name=layer.name,
        type=layer.type,
        in_channels=inputs,
        out_channels=outputs,
        status=found.status,
        reason=found.reason,
        parameters=arithmetic.whole.parameters_of_layers.get(layer.name, 0),
        flops=arithmetic.whole.flops_of_paths.get(layer.path, 0),
        widest_group=max((group.channels for group in analysis.coupling.output_groups(layer.path) if group.prunable), default=0),
        drops_with=max((path for path in analysis.coupling.inner if inside(layer.path, [path])), key=len, default=""),
    )


def layer_widths(analysis: Analysis, widths: Widths, layer: ModelLayer) -> tuple[int, int]:
    """A layer's input and output channels; none in a dropped block. Axes that the trace does not know are never cut."""
    if inside(layer.path, widths.dropped):
        return 0, 0
    coupling = analysis.coupling
    output = coupling.output_axes.get(layer.path)
    reads = coupling.input_axes.get(layer.path)
    built = widths_as_built(analysis.skeleton.get_submodule(layer.path)) if reads is None or output is None else (0, 0)
    if reads is None and output is not None and coupling.roles[output] == "depthwise":
        size = tensor_at(analysis.skeleton, output.parameter).shape[output.dim]
        return widths.axis(output) * (built[0] or size) // size, widths.axis(output) * (built[1] or size) // size
    return widths.axis(reads) if reads else built[0], widths.axis(output) if output else built[1]


def changed_layers(analysis: Analysis, before: Widths, after: Widths, asked: Sequence[str]) -> dict[str, Width]:
    """The layers whose widths differ."""
    changed = {}
    for name, layer in analysis.layers.items():
        (in_before, out_before), (in_after, out_after) = layer_widths(analysis, before, layer), layer_widths(analysis, after, layer)
        if (in_before, out_before) != (in_after, out_after):
            changed[name] = Width(
                out_before=out_before,
                out_after=out_after,
                in_before=in_before,
                in_after=in_after,
                parameters_after=after.parameters_of_layers.get(name, 0),
                flops_after=after.flops_of_paths.get(layer.path, 0),
                asked=name in asked,
            )
    return changed


def block_shapes(analysis: Analysis, before: Widths, after: Widths) -> list[BlockShape]:
    """Every block's output shape before and after."""
    return [
        BlockShape(
            index=b.index,
            name=b.path,
            before=list(before.block_shape(b.path)),
            after=list(after.block_shape(b.path)),
            parameters_after=after.parameters_inside(b.path),
            flops_after=after.work_inside(b.path),
        )
        for b in analysis.blocks
    ]


def as_requests(requests: Sequence[CutRequest]) -> list[Request]:
    """Requests in the core's own class."""
    return [Request(r.layer, r.amount, r.criterion, r.round_to) for r in requests]


def preview_view(session: PruningSession, requests: Sequence[Request], against_checkpoint: bool = False) -> PreviewResult:
    """What a session plus requests would be. `before` is the size now or the checkpoint's; layers and blocks start from the latter."""
    started = time.perf_counter()
    found = session.preview(requests)
    original = session.arithmetic.widths(NOTHING)
    after = session.arithmetic.widths(session.removal.together(found.removal))
    return PreviewResult(
        before=totals((original if against_checkpoint else session.widths).size),
        after=totals(after.size),
        layers=changed_layers(session.analysis, original, after, found.asked),
        blocks=block_shapes(session.analysis, original, after),
        groups=sorted(found.removal.places),
        conflicts=conflicts(found),
        refused=[RefusedRequest(layer=refusal.request.layer, message=refusal.message) for refusal in found.refusals],
        notes=list(found.notes),
        seconds=time.perf_counter() - started,
    )


def conflicts(found: Resolution) -> list[Conflict]:
    """The contradictions of a resolution."""
    return [Conflict(group=c.group, layers=list(c.layers), amounts=list(c.amounts), message=c.message) for c in found.contradictions]


def detail_view(session: PruningSession, name: str, requests: Sequence[Request], criterion: str) -> Detail:
    """Everything about one layer under requests."""
    analysis = session.analysis
    layer = analysis.layers[name]
    found = session.preview(requests)
    now, after = session.widths, session.arithmetic.widths(session.removal.together(found.removal))
    left = analysis.after(session.removal.dropped).coupling
    state = status_of(left, layer, analysis.short_names)
    groups = left.output_groups(layer.path)
    curve, cut_at = importance_curve(session, groups, found, criterion)
    shapes = [shape for shape in block_shapes(analysis, now, after) if shape.before != shape.after]
    return Detail(
        layer=name,
        type=layer.type,
        status=state.status,
        reason=state.reason,
        before=layer_widths(analysis, session.arithmetic.widths(NOTHING), layer)[1],
        current=layer_widths(analysis, now, layer)[1],
        after=layer_widths(analysis, after, layer)[1],
        criterion=criterion,
        curve=curve,
        cut_at=cut_at,
        members=members(session, layer, groups, now, after),
        shapes=shapes,
        widths=narrower(session, layer) if state.status != "locked" else [],
    )


def narrower(session: PruningSession, layer: ModelLayer) -> list[Narrower]:
    """A layer's usual smaller widths as the cuts reach them, widest first, with their savings; those that cannot be cut are left out."""
    now, found = session.widths, {}
    for keep in usual_widths(layer_widths(session.analysis, now, layer)[1])[1]:
        after = session.alone(Request(layer.name, f"keep:{keep}"))
        if after is not None and after.size != now.size:
            keeps, saved = layer_widths(session.analysis, after, layer)[1], now.size.parameters - after.size.parameters
            found[keeps] = Narrower(keeps=keeps, parameters=saved, flops=now.size.flops - after.size.flops)
    return list(found.values())


def importance_curve(
    session: PruningSession, groups: Sequence[ChannelGroup], found: Resolution, criterion: str
) -> tuple[list[float], float]:
    """The remaining channels' importance, weakest first, the strongest being 1; and the share that requests would remove."""
    free = [group for group in groups if group.prunable]
    if not free:
        return [], 0.0
    base, ranking = session.removal, session.analysis.ranked(session.removal)
    scores = np.sort(np.concatenate([ranking.scores(group, criterion)[base.remaining(group)] for group in free]))
    samples = scores[np.linspace(0, len(scores) - 1, min(len(scores), MOST_SAMPLES)).round().astype(int)]
    top = float(samples.max()) or 1.0
    return [round(float(score) / top, 4) for score in samples], sum(len(found.removal.of(group)) for group in free) / len(scores)


def members(session: PruningSession, layer: ModelLayer, groups: Sequence[ChannelGroup], now: Widths, after: Widths) -> list[MemberView]:
    """Every layer that is affected with a layer's output channels, and why."""
    coupling, names = session.analysis.coupling, session.analysis.short_names
    own = {group.number for group in groups}
    linked = {g.number: g for group in groups for g in coupling.linked_groups(group) if g.number not in own}
    views = []
    for group in (*groups, *linked.values()):
        for member in group.members:
            if not member.axis.is_weight or member.role not in ("out", "in", "depthwise") or inside(member.axis.module, now.dropped):
                continue
            if member.axis.module == layer.path and member.produces and group.number not in linked and len(groups) == 1:
                continue
            views.append(
                MemberView(
                    layer=names.get(member.axis.module, member.axis.module),
                    role="linked" if group.number in linked and member.produces else "out" if member.produces else "in",
                    channels=in_words(member.indices, coupling.sizes[member.axis]),
                    before=now.axis(member.axis),
                    after=after.axis(member.axis),
                    because=because(session, layer, group, member.produces, member.axis.module, group.number in linked)
                    if member.produces
                    else why_read(member, coupling.sizes[member.axis]),
                )
            )
    return views


def because(session: PruningSession, layer: ModelLayer, group: ChannelGroup, produces: bool, module: str, linked: bool) -> str:
    """Why another layer's output is also affected."""
    if linked or module == layer.path:
        links = session.analysis.coupling.links_of(group)
        return f"keeps as many as the other part ({links[0].operation} in {links[0].module})" if links else "is this layer"
    return joined(group, module)


def explain_view(analysis: Analysis, first: str, second: str) -> ExplainResult:
    """Why cutting one layer or block changes another; all that it changes where `second` is empty."""
    found = explain(analysis, first, second or None)
    return ExplainResult(
        first=first,
        second=second,
        coupled=found.coupled,
        summary=found.summary,
        path=[Hop(at=step.at, operation=step.operation, detail=step.detail) for step in found.path],
        touches=[Touched(layer=t.layer, role=t.role, channels=t.channels, because=t.because) for t in found.touches],
    )


def session_view(session: PruningSession) -> SessionView:
    """The state of a session as a message."""
    original, now = session.arithmetic.widths(NOTHING), session.widths
    views = [step_view(session, number, applied) for number, applied in enumerate(session.timeline, start=1)]
    done = len(session.steps)
    return SessionView(
        steps=views[:done],
        ahead=views[done:],
        original=totals(original.size),
        current=totals(now.size),
        layers=changed_layers(session.analysis, original, now, ()),
        blocks=block_shapes(session.analysis, original, now),
        unsaved=session.unsaved,
        plan=session.plan.plain(),
        later=[applied.step.model_dump(mode="json") for applied in reversed(session.undone)],
    )


def step_view(session: PruningSession, number: int, applied: AppliedStep) -> StepView:
    """One step of the timeline."""
    requests = [CutRequest(**cut.model_dump(exclude={"removes", "drops"})) for cut in applied.step.cuts]
    return StepView(
        number=number,
        id=applied.id,
        title=applied.step.name or title(requests, cut_layers(session, number, requests)),
        name=applied.step.name,
        requests=requests,
        totals=totals(session.arithmetic.widths(applied.removal).size),
        notes=list(applied.notes),
        proof=proof_view(applied.proof) if applied.proof else None,
    )


def comparison_view(session: PruningSession, first: int, second: int) -> Comparison:
    """Two states of the timeline compared, each after this many steps.

    Raises:
        RequestError: there are fewer steps.
    """
    before, after = (session.arithmetic.widths(session.removal_at(number)) for number in (first, second))
    return Comparison(
        first=first,
        second=second,
        before=totals(before.size),
        after=totals(after.size),
        layers=changed_layers(session.analysis, before, after, ()),
        blocks=[shape for shape in block_shapes(session.analysis, before, after) if shape.before != shape.after],
    )


def proof_view(proof: Proof) -> ProofView:
    """A proof as a message."""
    return ProofView(**proof.plain())


def cut_layers(session: PruningSession, number: int, requests: Sequence[CutRequest]) -> int:
    """How many of the layers that a step names became narrower."""
    analysis = session.analysis
    before, after = (session.arithmetic.widths(session.removal_at(count)) for count in (number - 1, number))
    named: set[str] = set()
    for request in requests:
        with contextlib.suppress(RequestError):  # a dropped block or a choice of classes names no layer
            named |= {layer.name for layer in match_layers(request.layer, analysis.layers, analysis.sections).layers}
    layers = [analysis.layers[name] for name in named]
    return sum(layer_widths(analysis, after, layer)[1] < layer_widths(analysis, before, layer)[1] for layer in layers)


def title(requests: Sequence[CutRequest], layers: int = 0) -> str:
    """A step in a few words: "model.5 -30%", "3 layers -30%", "2 layers"; `layers`: how many of the named layers were cut."""
    amounts = list(dict.fromkeys(request.amount for request in requests))
    what = requests[0].layer if len(requests) == 1 else f"{layers or len(requests)} layers"
    if len(amounts) > 1:
        return what
    return f"{what} {amounts[0] if amounts[0].startswith(('keep', 'drop')) else '-' + amounts[0]}"
