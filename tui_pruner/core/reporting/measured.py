"""What was measured beyond accuracy: how long both models take, and what a scan says of every layer, cut or not."""

from __future__ import annotations

from collections.abc import Iterable

from tui_pruner.core.reporting.document import Bar, Cell, Paragraph, Section, Table
from tui_pruner.core.reporting.facts import Material, Sensitivity
from tui_pruner.core.reporting.figures import several, signed
from tui_pruner.engine.latency_messages import BenchedModel
from tui_pruner.metrics import main_metric

MOST = 40
"""Rows: the groups that matter most."""


def stages(material: Material) -> Section | None:
    """What the model was after each stage of a compression."""
    found = material.facts.stages
    if not found:
        return None
    name = next((key for stage in found for key, _ in [main_metric(stage.metrics) or ("", 0.0)] if key), "")
    columns = ("stage", "FLOPs", "parameters", name.removeprefix("metrics/") or "metric", "")
    rows = tuple(
        (
            Cell(stage.name),
            Cell(f"{stage.flops:,}" if stage.flops else ""),
            Cell(f"{stage.parameters:,}" if stage.parameters else ""),
            Cell(f"{stage.metrics[name]:.4f}" if name in stage.metrics else ""),
            Cell("; ".join(stage.details)),
        )
        for stage in found
    )
    said = "Every stage from the original to the result, validated on the same images."
    return Section("Stages", (Paragraph(said), Table(columns, rows, columns[1:4])))


def latency(material: Material) -> Section | None:
    """Both models in turns, as a whole and block by block."""
    found = material.facts.latency
    if found is None:
        return None
    before, after = found.models
    said = (
        f"Timed in turns, {several(before.runs, 'run')} each, {several(before.batch, 'image')} of {before.imgsz} px on {before.device} with"
        f" {several(before.threads, 'thread')}, fused as deployed, without NMS. The pruned model takes {after.ratio:.3f} of the original's"
        f" time ({after.ratio_low:.3f} to {after.ratio_high:.3f} with 95 % certainty): {after.verdict}."
    )
    whole = (Cell("whole network"), *times(before.median_ms, after.median_ms, before.median_ms))
    legend = "Each bar is the original's time, the darker part what the pruned model takes of it."
    columns = ("block", "ms before", "ms after")
    return Section("Latency", (Paragraph(said), Table(columns, (*block_rows(before, after), whole), columns[1:], True, legend)))


def block_rows(before: BenchedModel, after: BenchedModel) -> Iterable[tuple[Cell, ...]]:
    """Each block that both models have."""
    pruned = {block.name: block.median_ms for block in after.blocks}
    longest = max((block.median_ms for block in before.blocks), default=0.0)
    for block in before.blocks:
        if block.name in pruned:
            yield Cell(f"{block.name} {block.type}", code=True), *times(block.median_ms, pruned[block.name], longest)


def times(before: float, after: float, longest: float) -> tuple[Cell, Cell]:
    """Milliseconds before and after, with their bar."""
    lengths = Bar(before / longest, after / longest) if longest else None
    return Cell(f"{before:.3f}"), Cell(f"{after:.3f}", mood="bad" if after > 1.05 * before else "plain", bar=lengths)


def sensitivity(material: Material) -> Section | None:
    """What each group costs alone, the most sensitive first."""
    found = sorted(material.facts.sensitivity, key=lambda one: -worst(one))[:MOST]
    if not found:
        return None
    shares = sorted({share for one in found for share in one.drops})
    highest = max(worst(one) for one in found)
    columns = ("layer", *(f"{share:.0%} gone" for share in shares), "cut here")
    rows = tuple((Cell(one.layer, code=True), *drops(one, shares, highest), Cell(f"{one.taken:.0%}" if one.taken else "")) for one in found)
    said = "How far the metric fell in a scan with the weakest channels of one group gone and nothing else; the first layer stands for all."
    table = Table(columns, rows, columns[1:], legend="Each bar is the drop beside the largest one.")
    return Section("Sensitivity", (Paragraph(said), table))


def worst(one: Sensitivity) -> float:
    """The largest drop that was measured."""
    return max(one.drops.values(), default=0.0)


def drops(one: Sensitivity, shares: Iterable[float], highest: float) -> Iterable[Cell]:
    """A drop for each share; empty where it was not measured."""
    for share in shares:
        drop = one.drops.get(share)
        length = Bar(0.0, max(0.0, drop) / highest) if drop is not None and highest > 0 else None
        yield Cell("" if drop is None else signed(-drop, 4), bar=length)
