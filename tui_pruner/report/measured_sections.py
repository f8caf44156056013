"""The sections with measurements: accuracy, stages, pictures, latency, sensitivity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tui_pruner.domain.formatting import counted, moved, plural, signed_number
from tui_pruner.domain.results import main_metric
from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.engine.messages import Totals
from tui_pruner.engine.search_messages import BenchedModel
from tui_pruner.report.document import Bar, Cell, Gallery, Mood, Pair, Paragraph, Section, Table, Tile
from tui_pruner.report.facts import Facts, Material, SensitivityFacts

PARTS = {"(B)": " (box)", "(M)": " (mask)", "(P)": " (pose)"}


def label(metric: str) -> str:
    """A metric of Ultralytics in words: "mAP50-95 (box)"."""
    name = metric.removeprefix("metrics/")
    return name[:-3] + PARTS[name[-3:]] if name[-3:] in PARTS else name


def reach_of(result: ValidationResult) -> float:
    """The upper half of the main metric's 95 % interval: a loss up to that may be chance; 0 where it is not known."""
    main = main_metric(result.metrics)
    return max(0.0, result.interval[1] - main[1]) if result.interval and main else 0.0


def mood_of(change: float, reach: float) -> Mood:
    """The mood of a change: loss, gain, or neither where it may be chance."""
    if abs(change) <= reach or signed_number(change, 4) == signed_number(0.0, 4):
        return "quiet"
    return "bad" if change < 0 else "good"


def changed(was: float, now: float, reach: float) -> Cell:
    """The change of a metric."""
    return Cell(signed_number(now - was, 4), mood_of(now - was, reach))


@dataclass(frozen=True)
class RecoveredFigures:
    """The stage of the cut and the last stage of recovery."""

    cut: StageFigures
    last: StageFigures


RECOVERING = ("refit", "recalibrat", "recover", "fine-tune")


def recovered_figures(facts: Facts) -> RecoveredFigures | None:
    """The last measured stage that recovers, and the cut before it; None where there is none."""
    measured = [stage for stage in facts.stages if stage.metrics]
    last = next((number for number in reversed(range(len(measured))) if measured[number].name.startswith(RECOVERING)), None)
    if last is None:
        return None
    cut = next((stage for stage in reversed(measured[:last]) if not stage.name.startswith(RECOVERING)), measured[last])
    return RecoveredFigures(cut, measured[last])


def metric_tiles(facts: Facts) -> Iterable[Tile]:
    """The main metric, as cut and as recovered."""
    if facts.metrics is None or (main := main_metric(facts.metrics.before.metrics)) is None:
        return
    name, was = main
    after = facts.metrics.after
    sure = f"95 % interval {after.interval[0]:.4f} to {after.interval[1]:.4f}; " if after.interval else ""
    detail = f"{sure}{measured_by(facts, after)}, not fine-tuned"
    yield metric_tile(label(name), was, after.metrics[name], reach_of(after), detail)
    recovered = recovered_figures(facts)
    if recovered is not None and name in recovered.last.metrics:
        last = recovered.last
        now, low_high = last.metrics[name], last.interval
        sure = f"95 % interval {low_high[0]:.4f} to {low_high[1]:.4f}; " if low_high else ""
        reach = max(0.0, low_high[1] - now) if low_high else reach_of(after)
        yield metric_tile(f"{label(name)} recovered", was, now, reach, f"{sure}{stage_words(last.name)}")


def measured_by(facts: Facts, found: ValidationResult) -> str:
    """How a model was measured, in a few words."""
    if facts.metrics is not None and facts.of_module:
        counted = f" on {plural(found.images, 'sample')}" if found.images else ""
        return f"by {facts.metrics.data}{counted}"
    return f"quick validation on {plural(found.images, 'image')}"


STAGE_WORDS = {"recovered": "recovery", "refitted": "a refit", "recalibrated": "recalibration", "fine-tuned": "fine-tuning"}


def stage_words(name: str) -> str:
    """The stage of a recovered model: "after refit 60"."""
    return f"after {STAGE_WORDS.get(name, name)}"


def metric_tile(name: str, was: float, now: float, reach: float, detail: str) -> Tile:
    """A metric before and after."""
    mood = mood_of(now - was, reach)
    return Tile(
        name, moved(f"{was:.4f}", f"{now:.4f}"), detail, signed_number(now - was, 4), Bar(1.0, now / was, mood) if was else None, mood
    )


def latency_tile(facts: Facts) -> Tile | None:
    """Both latencies, and the ratio with its interval."""
    if facts.latency is None:
        return None
    before, after = facts.latency.models
    mood: Mood = "bad" if after.ratio_low > 1 else "plain" if after.ratio_high < 1 else "quiet"
    detail = f"{after.ratio:.3f} of the original's time, 95 % interval {after.ratio_low:.3f} to {after.ratio_high:.3f}, on {after.device}"
    times = moved(f"{before.median_ms:.2f} ms", f"{after.median_ms:.2f} ms")
    change = f"{signed_number(100 * (after.ratio - 1), 1)} %"
    return Tile("Latency", times, detail, change, Bar(1.0, min(1.0, after.ratio), mood), mood)


def metrics(material: Material) -> Section | None:
    """Both validations side by side, and the recovered model's where there is one."""
    facts = material.facts
    if facts.metrics is None:
        return None
    before, after = facts.metrics.before, facts.metrics.after
    reach, found = reach_of(after), recovered_figures(facts)
    recovered = found.last.metrics if found else {}
    rows = []
    for name, was in before.metrics.items():
        if not name.startswith("metrics/"):
            continue
        row = [Cell(label(name)), Cell(f"{was:.4f}"), Cell(f"{after.metrics[name]:.4f}"), changed(was, after.metrics[name], reach)]
        if recovered:
            known = name in recovered
            row += [Cell(f"{recovered[name]:.4f}"), changed(was, recovered[name], reach)] if known else [Cell(""), Cell("")]
        rows.append(tuple(row))
    data = f"{plural(after.images, 'image')} of {Path(facts.metrics.data).name}, chosen by a seed, at {facts.metrics.imgsz} px"
    said = f"Both {measured_by(facts, after)}." if facts.of_module else f"Ultralytics' own validator on the same {data}."
    said += " The pruned model has not been fine-tuned."
    if found:
        said += f" Recovered is the model {stage_words(found.last.name)}."
    if after.interval and (main := main_metric(after.metrics)):
        low, high = after.interval
        said += (
            f" {label(main[0])} after the cut: {low:.4f} to {high:.4f} with 95 % certainty. Changes up to {reach:.4f}, as far as that "
            "reaches above it, are grey."
        )
    notes = [Paragraph(note) for note in dict.fromkeys((*before.notes, *after.notes))]
    columns = ("metric", "before", "after", "change", *(("recovered", "change from before") if recovered else ()))
    return Section("Accuracy", (Paragraph(said), *notes, Table(columns, tuple(rows), right=columns[1:])))


def pictures(material: Material) -> Section | None:
    """The same images with each model's detections."""
    facts = material.facts
    if not facts.pictures:
        return None
    drawn = zip(facts.pictures, material.images, strict=True)
    pairs = tuple(Pair(found.image, *files, counted(found.before), counted(found.after)) for found, files in drawn)
    after = f"after ({facts.pictured_stage})" if facts.pictured_stage else "after"
    said = f"Predicted and drawn by Ultralytics, from confidence {facts.confidence:g} up; before on the left, {after} on the right."
    return Section("The same images before and after", (Paragraph(said), Gallery(pairs)))


MOST = 40
"""Rows: the most important groups."""


def lineage_of(facts: Facts) -> list[StageFigures]:
    """The stages from the original to the result: those of a compression, else the original, every step, and what came after the cut."""
    if any(stage.name.startswith(("plan", "cut ")) for stage in facts.stages):
        return facts.stages
    known = facts.metrics
    measured = dict(zip((step.number for step in facts.steps), known.steps if known else []))
    ratio = facts.latency.models[1].ratio if facts.latency else None
    found = [stage_of("original", facts.before, known.before if known else None, 1.0 if facts.latency else None)]
    for step in facts.steps:
        last = step is facts.steps[-1]
        result = known.after if known and last else measured.get(step.number)
        proof = "proved" if step.proof and step.proof.equal else f"not proved: {step.proof.reason}" if step.proof else "not proved"
        number = f"step {step.number}"
        name = number if step.title == number else f"{number}: {step.title}"
        found.append(stage_of(name, step.totals, result, ratio if last else None, [proof]))
    return [*found, *(stage for stage in facts.stages if stage.name not in ("original", "cut"))]


def stage_of(
    name: str, size: Totals, result: ValidationResult | None, latency: float | None, details: list[str] | None = None
) -> StageFigures:
    """A stage by its validation, where it was measured."""
    return StageFigures(
        name=name, metrics=result.metrics if result else {}, interval=result.interval if result else None, flops=size.flops,
        parameters=size.parameters, latency=latency, details=details or [],
    )  # fmt: skip


def stages(material: Material) -> Section | None:
    """The model at each stage, from the original on; sizes alone are shown with the steps."""
    facts = material.facts
    if not (facts.stages or facts.metrics or facts.latency):
        return None
    found = lineage_of(facts)
    name = next((main[0] for stage in found if (main := main_metric(stage.metrics))), "")
    original = next((stage.metrics[name] for stage in found if name in stage.metrics), 0.0)
    reach = reach_of(facts.metrics.after) if facts.metrics else 0.0
    spread, timed = any(stage.interval for stage in found), any(stage.latency is not None for stage in found)
    columns = (
        "stage", "FLOPs", "parameters", *((label(name), "change") if name else ()), *(("95 % interval",) if spread else ()),
        *(("latency",) if timed else ()),
    )  # fmt: skip
    rows = tuple((*stage_cells(stage, name, original, reach, found[0], spread, timed), Cell("; ".join(stage.details))) for stage in found)
    said = "Every stage from the original to the result"
    said += f", measured on the same {facts.sample}s. The change is the one from the first measured stage." if name else "."
    said += " The latency is a share of the original's." if timed else ""
    return Section("Stages", (Paragraph(said), Table((*columns, ""), rows, columns[1:])))


def stage_cells(
    stage: StageFigures, name: str, original: float, reach: float, first: StageFigures, spread: bool, timed: bool
) -> Iterable[Cell]:
    """A row of the stages."""
    known, interval = name in stage.metrics, stage.interval
    yield Cell(stage.name)
    yield Cell(f"{stage.flops:,}" if stage.flops else "")
    yield Cell(f"{stage.parameters:,}" if stage.parameters else "")
    if name:
        own = max(0.0, interval[1] - stage.metrics[name]) if interval and known else reach
        yield Cell(f"{stage.metrics[name]:.4f}" if known else "")
        yield changed(original, stage.metrics[name], own) if known and stage is not first else Cell("")
    if spread:
        yield Cell(f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else "")
    if timed:
        yield Cell("" if stage.latency is None else f"{stage.latency:.3f}")


def latency(material: Material) -> Section | None:
    """The latencies of both models, whole and block by block."""
    found = material.facts.latency
    if found is None:
        return None
    before, after = found.models
    of_images = bool(before.imgsz)
    given = (
        f"{plural(before.batch, 'image')} of {before.imgsz} px" if of_images else f"the example inputs ({plural(before.batch, 'sample')})"
    )
    how = "fused as deployed, without NMS" if of_images else "as it is called"
    said = (
        f"Timed in turns, {plural(before.runs, 'run')} each, {given} on {before.device} with"
        f" {plural(before.threads, 'thread')}, {how}. The pruned model takes {after.ratio:.3f} of the original's"
        f" time ({after.ratio_low:.3f} to {after.ratio_high:.3f} with 95 % certainty): {after.verdict}."
    )
    slower = after.ratio_low > 1
    whole = (Cell("whole network"), *times(before.median_ms, after.median_ms, before.median_ms, slower))
    legend = (
        "Each bar is the original's time, the darker part what the pruned model takes of it. Blocks that the plan leaves alone are grey."
    )
    columns = ("block", "ms before", "ms after")
    cut = {block.name for block in material.facts.blocks if block.before != block.after}
    return Section("Latency", (Paragraph(said), Table(columns, (*block_rows(before, after, cut), whole), columns[1:], True, legend)))


def block_rows(before: BenchedModel, after: BenchedModel, cut: set[str]) -> Iterable[tuple[Cell, ...]]:
    """Each block that both models have; the time of one that was not cut differs by chance."""
    pruned = {block.name: block.median_ms for block in after.blocks}
    longest = max((block.median_ms for block in before.blocks), default=0.0)
    for block in before.blocks:
        if block.name in pruned:
            now = pruned[block.name]
            slower = now > 1.05 * block.median_ms if block.name in cut else None
            yield Cell(f"{block.name} {block.type}", code=True), *times(block.median_ms, now, longest, slower)


def times(before: float, after: float, longest: float, slower: bool | None) -> tuple[Cell, Cell]:
    """Milliseconds before and after, with their bar; grey where `slower` is not known."""
    lengths = Bar(before / longest, after / longest) if longest else None
    mood: Mood = "quiet" if slower is None else "bad" if slower else "plain"
    return Cell(f"{before:.3f}"), Cell(f"{after:.3f}", mood=mood, bar=lengths)


def sensitivity(material: Material) -> Section | None:
    """What each group costs alone, most sensitive first."""
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


def worst(one: SensitivityFacts) -> float:
    """The largest measured drop."""
    return max(one.drops.values(), default=0.0)


def drops(one: SensitivityFacts, shares: Iterable[float], highest: float) -> Iterable[Cell]:
    """A drop for each share; empty where it was not measured."""
    for share in shares:
        drop = one.drops.get(share)
        length = Bar(0.0, max(0.0, drop) / highest, "bad") if drop is not None and highest > 0 else None
        yield Cell("" if drop is None else signed_number(-drop, 4), bar=length)
