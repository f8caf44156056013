"""The report's sections: steps, blocks, groups and layers, accuracy over FLOPs, training curves; and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tui_pruner.domain.formatting import dimensions, large, moved, plural, relative_change, scientific
from tui_pruner.domain.results import main_metric
from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.engine.messages import ProofView, StepView, Totals
from tui_pruner.report.diagrams import ChartDot, Diagram, DotLine
from tui_pruner.report.document import Attachment, Bar, Cell, Code, Document, Folded, Paragraph, Section, Table, Tile, Tiles, html, markdown
from tui_pruner.report.facts import Cost, Facts, Material, ReaderFacts
from tui_pruner.report.measured_sections import label, latency, latency_tile, metric_tiles, metrics, pictures, sensitivity, stages
from tui_pruner.report.privacy import paths_of, without_folders

PRODUCTS = "Products of activations, as in attention, are no layer's and are counted at their original width."
ADDED = "what it added to its input is zero"
MADE = "its forward is left out, as it added nothing to its input"
BARS = "Bars are on the scale of the largest block: in full colour what is left."


def steps(material: Material) -> Section:
    """Every step with its proof."""
    facts = material.facts
    said = (
        "The masked twin is the original with exactly the removed slices set to zero: it has all its shapes, so it cannot be wrong about "
        "them. After each step the pruned model must compute what the twin computes: relative difference at most 1e-4, and at most a "
        "hundredth of the effect, which is how far the cut itself moves the predictions."
    )
    columns = ("step", "cuts", "parameters", "FLOPs", "proof", "difference", "effect")
    totals = [facts.before, *(step.totals for step in facts.steps)]
    rows = tuple(step_row(step, was) for step, was in zip(facts.steps, totals))
    remarks = [Paragraph(f"Step {step.number}: {note}.") for step in facts.steps for note in step.notes]
    return Section("Steps and their proofs", (Paragraph(said), Table(columns, rows, right=columns[2:4] + columns[5:]), *remarks))


def step_row(step: StepView, was: Totals) -> tuple[Cell, ...]:
    """One step, with the sizes before it."""
    cuts = "\n".join(f"{r.layer}={r.amount}  {r.criterion}{f', multiple of {r.round_to}' if r.round_to > 1 else ''}" for r in step.requests)
    return (
        Cell(str(step.number)),
        Cell(cuts, code=True),
        Cell(moved(large(was.parameters), large(step.totals.parameters)), change=relative_change(was.parameters, step.totals.parameters)),
        Cell(moved(large(was.flops), large(step.totals.flops)), change=relative_change(was.flops, step.totals.flops)),
        *proof_cells(step.proof),
    )


def proof_cells(proof: ProofView | None) -> tuple[Cell, ...]:
    """A verdict, the difference and the effect."""
    if proof is None:
        return Cell("not proved", "bad"), Cell(""), Cell("")
    words = f"equal ({proof.precision})" if proof.equal else f"{proof.verdict.upper()}\n{proof.reason}"
    verdict = Cell(words, "good" if proof.equal else "bad")
    return verdict, Cell(scientific(proof.relative_difference)), Cell(scientific(proof.effect))


def blocks(material: Material) -> Section:
    """The model block by block; the columns add up to the totals."""
    facts = material.facts
    section, own = ((), 0) if facts.of_module else (("section",), 1)  # of any module no section is known
    columns = ("block", *section, "output before", "output after", "parameters", "FLOPs")
    most = Cost(
        parameters=max((b.before.parameters for b in facts.blocks), default=0), flops=max((b.before.flops for b in facts.blocks), default=0)
    )
    rows: list[tuple[Cell, ...]] = [
        (
            Cell(f"{b.index} {b.type}"),
            *[Cell(b.section, "quiet")] * own,
            Cell(dimensions(b.shape_before)),
            Cell(dimensions(b.shape_after), "plain" if b.shape_before != b.shape_after else "quiet"),
            *cost_cells(b.before, b.after, most),
        )
        for b in facts.blocks
    ]
    elsewhere = facts.elsewhere_before != Cost(parameters=0, flops=0)
    if elsewhere:
        rows.append((Cell("in no layer"), *[Cell("")] * (2 + own), *cost_cells(facts.elsewhere_before, facts.elsewhere_after, most)))
    total = Cost(parameters=facts.before.parameters, flops=facts.before.flops)
    left = Cost(parameters=facts.after.parameters, flops=facts.after.flops)
    rows.append((Cell("all"), *[Cell("")] * (2 + own), *cost_cells(total, left, None)))
    given = "the example inputs" if facts.of_module else f"one image of {facts.model.imgsz}×{facts.model.imgsz}"
    said = f"Output shapes for {given}.{f' {PRODUCTS}' if elsewhere else ''}"
    table = Table(columns, tuple(rows), right=columns[1 + own :], total=True, legend=BARS)
    smaller = sum(block.before != block.after for block in facts.blocks)
    return Section("Block by block", (Paragraph(said), Folded(f"{plural(len(facts.blocks), 'block')}, {smaller} of them smaller", table)))


def cost_cells(before: Cost, after: Cost, most: Cost | None) -> tuple[Cell, Cell]:
    """Parameters and FLOPs before and after, with bars on the scale of the largest block."""
    return (
        cost_cell(before.parameters, after.parameters, most.parameters if most else 0),
        cost_cell(before.flops, after.flops, most.flops if most else 0),
    )


def cost_cell(before: int, after: int, most: int) -> Cell:
    """One figure before and after with its bar."""
    scale = Bar(before / most, after / most) if most else None
    return Cell(
        moved(large(before), large(after)), "plain" if before != after else "quiet", change=relative_change(before, after), bar=scale
    )


def dropped(material: Material) -> Section | None:
    """The inner blocks that were dropped."""
    facts = material.facts
    if not facts.dropped:
        return None
    rows = tuple(
        (Cell(found.block, code=True), Cell(found.type), Cell(ADDED if found.adds else MADE), Cell(str(found.step)))
        for found in facts.dropped
    )
    said = "A dropped block returns its input: in the file it is a torch.nn.Identity, and all other names stay."
    return Section("Inner blocks that were dropped", (Paragraph(said), Table(("block", "type", "in the masked twin", "step"), rows)))


def groups(material: Material) -> Section | None:
    """The coupled groups that lost channels."""
    facts = material.facts
    if not facts.groups:
        return None
    columns = ("group", "written by", "channels", "read by", "together because", "criterion", "step")
    rows = tuple(
        (
            Cell(str(group.id)),
            Cell("\n".join(group.writers), code=True),
            Cell(
                moved(group.before, group.after),
                change=relative_change(group.before, group.after),
                bar=Bar(1.0, group.after / group.before),
            ),
            Cell("\n".join(map(reading, group.readers))),
            Cell("\n".join(group.because) or "one layer by itself", "plain" if group.because else "quiet"),
            Cell(", ".join(group.criteria)),
            Cell(", ".join(map(str, group.steps))),
        )
        for group in facts.groups
    )
    said = "Channels of one group live and die together: their producers lose outputs, their readers lose inputs."
    return Section(f"The {plural(len(rows), 'coupled group')} that {'was' if len(rows) == 1 else 'were'} cut",
                   (Paragraph(said), Table(columns, rows, right=("channels",))))  # fmt: skip


def reading(reader: ReaderFacts) -> str:
    """A layer that reads a group, and how it reads it unless as a whole: "model.8.cv2 (3 times in a concat)"."""
    how = reader.because.removeprefix("reads it").strip()
    return f"{reader.layer} ({how})" if how else reader.layer


def layers(material: Material) -> Section | None:
    """The layers whose widths changed."""
    facts = material.facts
    if not facts.layers:
        return None
    rows = tuple(
        (
            Cell(name, code=True),
            width_cell(width.in_before, width.in_after),
            width_cell(width.out_before, width.out_after),
            Cell("cut" if width.asked else "also affected", "plain" if width.asked else "quiet"),
        )
        for name, width in facts.layers.items()
    )
    table = Table(("layer", "input channels", "output channels", "why"), rows, right=())
    return Section("Layers whose widths changed", (Folded(plural(len(rows), "layer"), table),))


def width_cell(before: int, after: int) -> Cell:
    """A width before and after; muted where it stays."""
    return Cell(moved(before, after), "quiet" if before == after else "plain", bar=Bar(1.0, after / before))


def tradeoff(material: Material) -> Section | None:
    """Accuracy over FLOPs: the original, every measured step, and the stages."""
    facts = material.facts
    name = main_name(facts)
    if name is None:
        return None
    steps = tuple(step_dots(facts, name))
    stages = tuple(ChartDot(s.flops, s.metrics[name], s.name, s.interval) for s in facts.stages if s.flops and name in s.metrics)
    lines = tuple(DotLine(*found) for found in (("steps of the plan", steps), ("stages", stages)) if len(found[1]) > 1)
    if not lines:
        return None
    said = (
        f"Up is better, left is cheaper. An upright line is a 95 % interval on other {facts.sample}s of the same kind. {label(name)} is "
        f"measured on the same {facts.sample}s for every point."
    )
    across = "GFLOPs of the example inputs" if facts.of_module else "GFLOPs per image"
    return Section("Accuracy over FLOPs", (Paragraph(said), Diagram(across, label(name), lines, "giga")))


def main_name(facts: Facts) -> str | None:
    """The main metric of whichever model was validated."""
    measured = [facts.metrics.before.metrics] if facts.metrics else []
    return next((main[0] for found in (*measured, *(s.metrics for s in facts.stages)) if (main := main_metric(found))), None)


def step_dots(facts: Facts, name: str) -> Iterable[ChartDot]:
    """The original, and each step that was measured."""
    if facts.metrics is None:
        return
    yield dot(facts.before.flops, facts.metrics.before, name, "original")
    measured = dict(zip((step.number for step in facts.steps), facts.metrics.steps))
    if facts.steps:
        measured[facts.steps[-1].number] = facts.metrics.after
    for step in facts.steps:
        found = measured.get(step.number)
        if found is not None and name in found.metrics:
            yield dot(step.totals.flops, found, name, f"step {step.number}")


def dot(flops: int, found: ValidationResult, name: str, words: str) -> ChartDot:
    """A validated model."""
    return ChartDot(flops, found.metrics[name], words, found.interval)


def training(material: Material) -> Section | None:
    """The epochs of every stage with training."""
    parts = [part for stage in material.facts.stages if len(stage.curve) > 1 for part in curves(stage)]
    return Section("Training", tuple(parts)) if parts else None


def curves(stage: StageFigures) -> Iterable[Paragraph | Diagram]:
    """The metric and the losses of each epoch."""
    main = main_metric(stage.curve[0])
    yield Paragraph(f"{stage.name}, {len(stage.curve)} epochs: the metric after each, and the sums of the losses.")
    if main is not None:
        name = main[0]
        yield Diagram("epoch", label(name), (DotLine("validation", tuple(epochs(stage, lambda row: row.get(name)))),))
    losses = (
        DotLine(words, tuple(epochs(stage, summed(prefix)))) for prefix, words in (("train/", "training loss"), ("val/", "validation loss"))
    )
    known = tuple(line for line in losses if line.dots)
    if known:
        yield Diagram("epoch", "loss", known)


def summed(prefix: str) -> Callable[[dict[str, float]], float | None]:
    """The sum of an epoch's losses of one kind; None where it has none."""

    def of(row: dict[str, float]) -> float | None:
        found = [value for name, value in row.items() if name.startswith(prefix) and name.endswith("loss")]
        return sum(found) if found else None

    return of


def epochs(stage: StageFigures, figure: Callable[[dict[str, float]], float | None]) -> Iterable[ChartDot]:
    """A figure by epoch."""
    for number, row in enumerate(stage.curve, start=1):
        value = figure(row)
        if value is not None:
            yield ChartDot(row.get("epoch", number), value)


def summary(material: Material) -> Section:
    """The key figures."""
    facts = material.facts
    before, after = facts.before, facts.after
    tiles = [
        size_tile("Parameters", exact(before.parameters, after.parameters), before.parameters, after.parameters),
        size_tile(*work(facts), before.flops, after.flops),
        size_tile("Weights in float16", exact(before.bytes, after.bytes), before.bytes, after.bytes, "B"),
    ]
    tiles += metric_tiles(facts)
    timed = latency_tile(facts)
    if timed is not None:
        tiles.append(timed)
    kept = (
        f"Of {facts.model.classes} classes {len(facts.classes)} stay, in this order: {', '.join(facts.classes)}. "
        "Accuracy is measured on their labels alone, before and after."
    )
    return Section("In short", (Tiles(tuple(tiles)), *([Paragraph(kept)] if facts.classes else [])))


def work(facts: Facts) -> tuple[str, str]:
    """What the FLOPs are of, as a title with a detail."""
    if facts.of_module:
        return "FLOPs", "of the example inputs, 2 per multiply-add"
    return "FLOPs per image", f"at {facts.model.imgsz}×{facts.model.imgsz}, 2 per multiply-add"


def size_tile(name: str, detail: str, before: int, after: int, unit: str = "") -> Tile:
    """A size before and after."""
    return Tile(
        name,
        moved(large(before, unit), large(after, unit)),
        detail,
        relative_change(before, after),
        Bar(1.0, after / before if before else 0),
    )


def exact(before: int, after: int) -> str:
    """Both numbers in full."""
    return moved(f"{before:,}", f"{after:,}")


def notes(material: Material) -> Section | None:
    """What was adjusted, and remarks on the checkpoint."""
    facts = material.facts
    return Section("Notes", tuple(Paragraph(note) for note in facts.notes)) if facts.notes else None


def reproduce(material: Material) -> Section:
    """The exact commands, the plan itself and the versions."""
    facts = material.facts
    known = {
        "module" if facts.of_module else "checkpoint": f"{facts.model.path}, "
        f"{'structure' if facts.of_module else 'sha256'} {facts.model.sha256}",
        "plan": f"{facts.plan}, {plural(len(facts.steps), 'step')}",
        **facts.versions,
    }
    table = Table(("what", "which"), tuple((Cell(name), Cell(value, code=True)) for name, value in known.items()))
    return Section("How to reproduce", (Code(tuple(facts.commands)), Attachment(Path(facts.plan).name, material.plan), table))


SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    summary, tradeoff, stages, metrics, training, pictures, latency, steps, blocks, dropped, groups, layers, sensitivity, notes, reproduce,
)  # fmt: skip
MEASURED = "Every figure was measured or counted for this report."


def document(material: Material) -> Document:
    """The whole report, without folders of this machine."""
    facts = material.facts
    model = facts.model
    classes = "1 class" if model.classes == 1 else f"{model.classes} classes"
    whole = Document(
        title=f"{Path(model.path).name} pruned",
        subtitle=" · ".join([model.family, model.task, *([] if facts.of_module else [classes, f"{model.imgsz} px"])]),
        verdict=verdict(facts),
        mood="good" if facts.proved else "bad",
        sections=tuple(section for section in (make(material) for make in SECTIONS) if section is not None),
        footer=f"Written by tui-pruner {facts.versions['tui-pruner']} on {facts.created}. {MEASURED}",
    )
    return without_folders(whole, paths_of(facts))


def verdict(facts: Facts) -> str:
    """The verdict of the proofs on the plan."""
    if facts.proved:
        return f"{plural(len(facts.steps), 'step')} proved equal to the masked twin"
    failed = [step for step in facts.steps if step.proof is None or not step.proof.equal]
    verdicts = {step.proof.verdict if step.proof else "not proved" for step in failed}
    words = "NOT EQUAL to the masked twin" if verdicts == {"not equal"} else "NOT PROVED equal to the masked twin"
    return f"{words} after step {', '.join(str(step.number) for step in failed)}"


FORMATS: dict[str, Callable[[Document], str]] = {".html": html, ".htm": html, ".md": markdown, ".markdown": markdown}


def written_as(suffix: str, material: Material) -> str:
    """The report's text in the format of a suffix."""
    return FORMATS[suffix.lower()](document(material))
