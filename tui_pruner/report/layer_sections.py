"""What the plan does inside the model: steps and proofs, blocks, coupled groups, layers."""

from __future__ import annotations

from tui_pruner.domain.formatting import dimensions, large, moved, plural, relative_change, scientific
from tui_pruner.engine.messages import ProofView, StepView, Totals
from tui_pruner.report.document import Bar, Cell, Folded, Paragraph, Section, Table
from tui_pruner.report.facts import Cost, Material, ReaderFacts

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
    """One step; sizes beside those before it."""
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
    approximate = f"\napproximate: {', '.join(proof.approximate)}" if proof.approximate else ""
    words = f"equal ({proof.precision}){approximate}" if proof.equal else f"{proof.verdict.upper()}\n{proof.reason}"
    verdict = Cell(words, "good" if proof.equal else "bad")
    return verdict, Cell(scientific(proof.relative_difference)), Cell(scientific(proof.effect))


def blocks(material: Material) -> Section:
    """The model block by block; the columns add up to the totals."""
    facts = material.facts
    columns = ("block", "section", "output before", "output after", "parameters", "FLOPs")
    most = Cost(
        parameters=max((b.before.parameters for b in facts.blocks), default=0), flops=max((b.before.flops for b in facts.blocks), default=0)
    )
    rows: list[tuple[Cell, ...]] = [
        (
            Cell(f"{b.index} {b.type}"),
            Cell(b.section, "quiet"),
            Cell(dimensions(b.shape_before)),
            Cell(dimensions(b.shape_after), "plain" if b.shape_before != b.shape_after else "quiet"),
            *cost_cells(b.before, b.after, most),
        )
        for b in facts.blocks
    ]
    elsewhere = facts.elsewhere_before != Cost(parameters=0, flops=0)
    if elsewhere:
        rows.append((Cell("in no layer"), *[Cell("")] * 3, *cost_cells(facts.elsewhere_before, facts.elsewhere_after, most)))
    total = Cost(parameters=facts.before.parameters, flops=facts.before.flops)
    left = Cost(parameters=facts.after.parameters, flops=facts.after.flops)
    rows.append((Cell("all"), *[Cell("")] * 3, *cost_cells(total, left, None)))
    said = f"Output shapes for one image of {facts.model.imgsz}×{facts.model.imgsz}.{f' {PRODUCTS}' if elsewhere else ''}"
    table = Table(columns, tuple(rows), right=columns[2:], total=True, legend=BARS)
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
    said = "A dropped block hands out what it reads: in the file torch.nn.Identity stands in its place, and all other names stay."
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
    """A layer that reads a group, and how where that is not as a whole: "model.8.cv2 (3 times in a concat)"."""
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
    """A width before and after; quiet where it stays."""
    return Cell(moved(before, after), "quiet" if before == after else "plain", bar=Bar(1.0, after / before))
