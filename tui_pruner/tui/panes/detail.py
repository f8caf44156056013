"""The detail pane as lines of text: the ratio, the importance, affected layers and why, the shapes, the dry run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from tui_pruner.domain.criteria import criterion_of
from tui_pruner.domain.formatting import count, duration, operations, percent, plural, score
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.conflicts import Trouble, nearest_trouble, troubles
from tui_pruner.tui.drawing import GLYPHS, arrow, curve, cut_column, drop, fit, saving, shape, slider, wrapped
from tui_pruner.tui.outline import Row, Weight
from tui_pruner.tui.panes.comparison import compare_lines, compare_title, widths_lines
from tui_pruner.tui.panes.explanation import explain_lines, explain_title, flow_lines, flow_title
from tui_pruner.tui.panes.map_layout import block_under
from tui_pruner.tui.panes.tree import layers_lines
from tui_pruner.tui.panes.tree_row import heat_colour, inputs, outputs
from tui_pruner.tui.panes.widgets import ENDS, ONE_MORE, Pane, lines_of
from tui_pruner.tui.state import COLOURS, PROOFS, AppState, Store

if TYPE_CHECKING:
    from tui_pruner.engine.messages import Detail, MemberView


LABEL, BLOCK = 9, 12
CURVE_HEIGHT, HIGH_CURVE = 3, 6
ROOMY, HIGH = 24, 36
"""The least lines of the pane for the layer's surroundings, if nothing has to scroll for them, and for a curve of twice the height."""
MOST_NOTES = 3


def title(row: Row | None) -> str:
    """The pane's title."""
    if row is None:
        return "Detail"
    return row.layer.name if row.layer else f"{row.key}  {row.name.split()[-1]}" if row.kind == "block" else row.name


def detail_lines(row: Row | None, state: AppState, width: int, height: int = 0) -> list[Text]:
    """All lines of a row, at most `width` cells wide; a higher pane shows more."""
    if row is None:
        return [Text("nothing matches the filter", colours.MUTED)]
    if row.layer is None:
        lines = [*_summary(row, state, width), *_verdicts(row, state, width)]
        return [*lines, *layers_lines(row, state, width, height - len(lines))]
    detail = state.detail if state.detail and state.detail.layer == row.layer.name else None
    if detail is None:
        return [*_head(row, state, width), *_verdicts(row, state, width), *_missing("detail", state.no_detail, width)]
    parts = [
        [*_head(row, state, width), *_verdicts(row, state, width)],
        [*_importance(detail, width, HIGH_CURVE if height >= HIGH else CURVE_HEIGHT), *_sensitivity(row, state, width)],
        _members(detail, width),
        _shapes(detail, width),
    ]
    lines = [line for part in parts if part for line in [*part, Text()]]
    surroundings = _surroundings(row, state, width) if height >= ROOMY else []
    if not surroundings or len(lines) + len(surroundings) > height:
        return lines[:-1]
    widths = widths_lines(detail, state, width, height - len(lines) - len(surroundings) - 1)
    return [*lines, *surroundings, *([Text(), *widths] if widths else [])]


def _head(row: Row, state: AppState, width: int) -> list[Text]:
    layer = row.layer
    assert layer is not None
    change = state.change(layer)
    first = Text.assemble(
        (layer.type, colours.STRONG),
        (f"   {layer.status}", colours.STATUS_COLOURS[layer.status]),
        (f"   {arrow(change.inputs[0], change.inputs[2])} in  {arrow(change.outputs[0], change.outputs[2])} out", colours.TEXT),
    )
    weight = _weight((layer.parameters, layer.flops), state.weight(layer), state, width)
    # In two lines on a wide screen too: the figures grow while a ratio turns.
    named = [first, weight]
    lines = [*named, *wrapped(layer.reason, width, colours.MUTED)]
    return lines if layer.status == "locked" else [*lines, Text(), _ratio(row, state, width), *_rounding(state)]


def _weight(before: Weight, now: Weight, state: AppState, width: int) -> Text:
    """A part's cost in the checkpoint and now, with its present share of the whole; the present one alone where both do not fit."""
    whole = state.after
    text = Text.assemble(
        (f"{arrow(count(before[0]), count(now[0]))} params ", colours.MUTED),
        (percent(now[0] / max(whole.parameters, 1)), colours.BLUE),
        (f"   {_moved(operations(before[1]), operations(now[1]))} ", colours.MUTED),
        (percent(now[1] / max(whole.flops, 1)), colours.PURPLE),
    )
    return text if text.cell_len <= width or before == now else _weight(now, now, state, width)


def _moved(before: str, now: str) -> str:
    """Two figures with one unit if it is the same: 7.37→5.18 MFLOPs."""
    figure, _, unit = before.partition(" ")
    return f"{figure}{GLYPHS.arrow}{now}" if before != now and now.endswith(f" {unit}") else arrow(before, now)


def _row_weights(row: Row, state: AppState) -> tuple[Weight, Weight]:
    """The costs of a row's blocks in the checkpoint, and now."""
    blocks = [block for block in state.opened.blocks if row.key in (block.name, block.section)]
    before, now = [(block.parameters, block.flops) for block in blocks], [state.block_weight(block) for block in blocks]
    return _sum(before), _sum(now)


def _sum(weights: Sequence[Weight]) -> Weight:
    return sum(parameters for parameters, _ in weights), sum(flops for _, flops in weights)


def _ratio(row: Row, state: AppState, width: int) -> Text:
    layer = row.layer
    assert layer is not None
    _, now, after = state.change(layer).outputs
    amount = state.pending.of(layer.name)
    removed = amount.percent_of(now) if amount else round(100 * (1 - after / max(now, 1)))
    style = colours.GOOD if amount else colours.WARNING if after != now else colours.MUTED
    keeps = f"keeps {'?' if amount and state.clash and after == now else after} of {now}"
    track = slider(removed / 100, max(min(width - LABEL - 5 - len(keeps) - 2, 40), 8), style, colours.FAINT)
    return Text.assemble((fit("Removes", LABEL), colours.MUTED), (f"{removed:>2}%  ", f"bold {style}"), track, f"  {keeps}")


def _rounding(state: AppState) -> list[Text]:
    step = state.pending.round_to
    return [Text.assemble((fit("Rounds", LABEL), colours.MUTED), (f"to multiples of {step}", colours.TEXT))] if step > 1 else []


@lines_of(lambda detail, width, height: (detail, width, height))
def _importance(detail: Detail, width: int, height: int) -> list[Text]:
    if not detail.curve:
        return []
    space = max(min(width - 2, 72), 10)
    border = cut_column(detail.cut_at, space)
    criterion = criterion_of(detail.criterion).label
    weakest, strongest = detail.curve[0], detail.curve[-1]
    span = max(strongest - weakest, 1e-9)
    scaled = [(value - weakest) / span for value in detail.curve]
    share = f", from {score(weakest / strongest)}" if strongest > 0 else ""
    lines = [Text.assemble(("Importance", colours.HEADING), (f"  {criterion}, weakest first{share}", colours.MUTED))]
    for row in curve(scaled, space, height):
        divider = (GLYPHS.cut, colours.WARNING) if border else ("", "")
        lines.append(Text.assemble((row[:border], colours.BAD), divider, (row[border:], colours.BLUE)))
    if border:
        held = Text(f"the weakest {percent(detail.cut_at)} carry {percent(lost_importance(detail))} of the importance", colours.BAD)
        inline = lines[0].cell_len + 2 + held.cell_len <= width
        lines = [Text.assemble(lines[0], "  ", held), *lines[1:]] if inline else [*lines, held]
    return lines


def _sensitivity(row: Row, state: AppState, width: int) -> list[Text]:
    if (scan := state.scan) is None or row.layer is None or not (drops := scan.layers.get(row.layer.name)):
        return []
    text = Text.assemble((fit(f"{scan.metric} at" if len(scan.metric) + 4 <= LABEL else fit(scan.metric, LABEL - 1), LABEL), colours.MUTED))
    for share, fall in sorted(drops.items()):
        text.append(f"{GLYPHS.minus}{share:.0%}: ", colours.MUTED).append(f"{drop(fall)}   ", heat_colour(fall, scan.baseline))
    by = [f"by {criterion_of(scan.criterion).label}"] if scan.criterion != state.pending.criterion else []  # not as ranked now
    ground = ", ".join([*by, "alone", *([plural(scan.images, state.checkpoint.sample)] if scan.images else [])])
    fits = text.cell_len + len(ground) <= width
    return [text.append(ground, colours.MUTED)] if fits else [text, *(Text(fit("", LABEL) + one, colours.MUTED) for one in by)]


def lost_importance(detail: Detail) -> float:
    """The share of the channels' summed importance that the cut removes, from the curve's samples."""
    taken = round(detail.cut_at * len(detail.curve))
    return sum(detail.curve[:taken]) / max(sum(detail.curve), 1e-9)


@lines_of(lambda detail, width: (detail, width))
def _members(detail: Detail, width: int) -> list[Text]:
    if not detail.members:
        return []
    names = min(max(max(len(member.layer) for member in detail.members), 12), max(width // 3, 12))
    places = min(max(max(len(_place(member)) for member in detail.members), 8), 18)
    sizes = max(max(len(arrow(member.before, member.after)) for member in detail.members), 8)
    rest = width - names - places - sizes - 6
    inline = all(len(member.because) <= rest for member in detail.members)
    titles = f"{fit('axis', places)}  {fit('channels', sizes)}  {'because' if inline else ''}"
    lines = [Text.assemble((fit("Also affected", names + 2), colours.HEADING), (titles, colours.MUTED))]
    return lines + [line for member in detail.members for line in _member(member, names, places, sizes, rest, width)]


def _member(member: MemberView, names: int, places: int, sizes: int, rest: int, width: int) -> list[Text]:
    changed = member.before != member.after
    line = Text.assemble(
        (fit(member.layer, names) + "  ", colours.WARNING if changed else colours.TEXT),
        (fit(_place(member), places) + "  ", colours.MUTED),
        (fit(arrow(member.before, member.after), sizes) + "  ", colours.GOOD if changed else colours.TEXT),
    )
    if len(member.because) <= rest:
        return [line.append(member.because, colours.MUTED)]
    return [line, *(Text.assemble("    ", more) for more in wrapped(member.because, width - 4, colours.MUTED))]


def _place(member: MemberView) -> str:
    whole = member.channels.startswith("all")
    return member.role if whole else f"{member.role} {member.channels}"


@lines_of(lambda detail, width: (detail, width))
def _shapes(detail: Detail, width: int) -> list[Text]:
    if not detail.shapes:
        same = "no block's output changes" if detail.after != detail.current else ""
        return [Text.assemble((fit("Shapes", 12), colours.HEADING), (same, colours.MUTED))] if same else []
    names = max(max(len(block.name) for block in detail.shapes), 10)
    lines = [Text.assemble((fit("Shapes", names + 2), colours.HEADING), (f"{fit('before', 14)}after", colours.MUTED))]
    for block in detail.shapes:
        changed = list(block.before) != list(block.after)
        after = (shape(block.after), colours.GOOD) if changed else ("unchanged", colours.MUTED)
        lines.append(Text.assemble((fit(block.name, names + 2), colours.TEXT), (fit(shape(block.before), 14), colours.MUTED), after))
    return lines


@lines_of(lambda row, state, width: (row, state.opened, state.session, state.planned, state.latency, width))
def _surroundings(row: Row, state: AppState, width: int) -> list[Text]:
    """The layer's block, the blocks around it in the data flow, its milliseconds; the layer's rank by FLOPs; the steps that cut it."""
    layer, blocks = row.layer, state.opened.blocks
    assert layer is not None
    block = next(block for block in blocks if any(one.name == layer.name for one in block.layers))
    readers = [other.index for other in blocks if block.index in other.from_]
    told = [("Block", _named(block.index, state))]
    told += [("" if number else "reads", _named(index, state)) for number, index in enumerate(block.from_)]
    told += [("" if number else "read by", _named(index, state)) for number, index in enumerate(readers)]
    if not readers and any(other.from_ for other in blocks):  # of a module, what its blocks read is not known
        told.append(("read by", "nothing: it is an output"))
    told += [("" if number else "takes", line.plain) for number, line in enumerate(_times(state, block.name, width - LABEL - 3))]
    costs = sorted((state.weight(other)[1] for other in state.layers.values()), reverse=True)
    told.append(("FLOPs", f"rank {costs.index(state.weight(layer)[1]) + 1} of {plural(len(costs), 'layer')}"))
    asked = [(step.number, cut.amount) for step in state.session.steps for cut in step.requests if cut.layer == layer.name]
    told += [("cut by", ", ".join(f"step {number}: {amount}" for number, amount in asked))] if asked else []
    return [
        Text.assemble((fit(label, LABEL + 3), colours.MUTED if number else colours.HEADING), (fit(words, width - LABEL - 3), colours.TEXT))
        for number, (label, words) in enumerate(told)
    ]


def _named(index: int, state: AppState) -> str:
    """A block with its output shape before and after: "2 C2f   32×40×40→28×40×40"."""
    if index < 0:
        return "the image"
    block = state.opened.blocks[index]
    after = next((list(now.after) for now in state.shapes if now.name == block.name), block.output_shape)
    return f"{fit(f'{block.index} {block.type}', BLOCK)} {arrow(shape(block.output_shape), shape(after))}"


def _missing(what: str, reason: str, width: int) -> list[Text]:
    """A figure that the engine could not compute, and why."""
    return wrapped(f"{GLYPHS.bad} no {what}: {reason}", width, colours.BAD) if reason else []


def _verdicts(row: Row, state: AppState, width: int) -> list[Text]:
    preview = state.preview
    if not state.pending:
        return []
    if preview is None:
        return _missing("preview", state.no_preview, width)
    if state.clash:  # nothing is saved by amounts that contradict each other
        return [*_trouble(row, state, width), *_notes(row, preview.notes, width)]
    now = state.session.current
    lines = [
        Text.assemble(
            (fit("Saves", LABEL), colours.MUTED),
            (f"{saving(now.parameters, preview.after.parameters, count)} params", colours.GOOD),
            (f"   {saving(now.flops, preview.after.flops, operations)}", colours.GOOD),
            ("   in all", colours.MUTED),
        ),
        *(_missing("dry run", state.no_dry_run, width) or [_dry_run(state)]),
    ]
    return [*lines, *_notes(row, preview.notes, width)]


def _notes(row: Row, notes: Sequence[str], width: int) -> list[Text]:
    """The adjustments in this row's layers, and their number elsewhere."""
    names = {layer.name for layer in row.layers}
    own = [note for note in notes if note.partition(":")[0] in names]
    lines = [line for note in own[:MOST_NOTES] for line in wrapped(note, width, colours.MUTED)]
    rest = len(notes) - len(own[:MOST_NOTES])
    return [*lines, *([Text(f"{'and ' if own else ''}{plural(rest, 'adjusted width')} elsewhere", colours.MUTED)] if rest else [])]


def _trouble(row: Row, state: AppState, width: int) -> list[Text]:
    """The conflicts that prevent applying, this row's own first, with the resolutions that the key offers."""
    found = troubles(state.preview, state.pending)
    trouble = nearest_trouble(found, row.layer.name if row.layer else "")
    if trouble is None:
        return []
    more = [Text(f"{plural(len(found) - 1, 'more conflict')} after this one", colours.MUTED)] if len(found) > 1 else []
    return [*wrapped(f"{GLYPHS.bad} {trouble.title}: {trouble.message}", width, colours.BAD), *_ways(trouble, width), *more]


def _ways(trouble: Trouble, width: int) -> list[Text]:
    lines = []
    for number, way in enumerate(trouble.ways, start=1):
        first, *rest = wrapped(way.words, width - LABEL, colours.TEXT)
        key = (fit(f"  {key_of('settle')} {number}", LABEL), f"bold {colours.WARNING}")
        lines += [Text.assemble(key, first), *(Text.assemble(" " * LABEL, line) for line in rest)]
    return lines


def _dry_run(state: AppState) -> Text:
    result = state.dry_run
    label = (fit("Dry run", LABEL), colours.MUTED)
    if result is None:
        return Text.assemble(label, (GLYPHS.dot, colours.MUTED))
    if not result.ok:
        return Text.assemble(label, (f"{GLYPHS.bad} {result.error}", colours.BAD))
    side = state.opened.model.imgsz
    size = f" at {side}{GLYPHS.times}{side}" if side else ""
    return Text.assemble(label, (GLYPHS.good, colours.GOOD), (f" the shapes fit{size}, {duration(result.seconds)}", colours.MUTED))


def _summary(row: Row, state: AppState, width: int) -> list[Text]:
    states = [layer.status for layer in row.layers]
    counted = [(status, states.count(status)) for status in ("free", "coupled", "linked", "locked") if status in states]
    after = next((list(block.after) for block in state.shapes if block.name == row.key), list(row.output_shape))
    lines = [
        Text.assemble(
            (f"{arrow(*inputs(row, state))} in, {arrow(*outputs(row, state))} out", colours.STRONG),
            (f"   {arrow(shape(row.output_shape), shape(after))}" if row.output_shape else "", colours.MUTED),
        ),
        _weight(*_row_weights(row, state), state, width) if row.parameters else Text("no weights of its own", colours.MUTED),
        *_times(state, row.key, width),
        *([Text(f"reads {_sources(row.sources)}", colours.MUTED)] if row.sources else []),
        Text(),
    ]
    if counted:
        lines.append(Text(plural(len(states), "layer"), colours.HEADING))
        lines += [
            Text.assemble((fit(status, 10), colours.STATUS_COLOURS[status]), f"{number:>4}  ", (_MEANING[status], colours.MUTED))
            for status, number in counted
        ]
        lines += [Text(), *wrapped("Space marks all of them that can be cut; the ratio keys change them together.", width, colours.MUTED)]
    else:
        lines += wrapped("Nothing to cut here: its channels follow from what it reads.", width, colours.MUTED)
    return [*lines, Text()]


def _times(state: AppState, block: str, width: int) -> list[Text]:
    """A block's milliseconds, with the range of eight in ten runs."""
    timed = state.latency
    if timed is None or block not in timed.ranges:
        return []
    (low, high), (now_low, now_high) = timed.ranges[block]
    before = f"{timed.before[block]:.2f} ({low:.2f} to {high:.2f})"
    if block not in timed.after:
        return [Text(f"{before} ms", colours.MUTED)]
    noise = "" if timed.told_apart(block) else ", within noise"
    return wrapped(f"{before} {GLYPHS.arrow} {timed.after[block]:.2f} ({now_low:.2f} to {now_high:.2f}) ms{noise}", width, colours.MUTED)


_MEANING = {
    "free": "cut alone",
    "coupled": "cut together with others",
    "linked": "as many as its other part",
    "locked": "cannot be cut",
}


def _sources(sources: Sequence[int]) -> str:
    *others, last = [str(source) for source in sources if source >= 0] or [""]
    blocks = f"blocks {', '.join(others)} and {last}" if others else f"block {last}" if last else ""
    return " and ".join(filter(None, ("the image" if min(sources) < 0 else "", blocks)))


class DetailPane(Pane, inherit_bindings=False):
    """Details of the row under the cursor, an explanation, the channel flow, or two states side by side.

    The screen handles up and down: they scroll, or move from hop to hop of an explanation and from block to block of the flow.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "screen.run('look', -1)", "Up", show=False),
        Binding("down,j", "screen.run('look', 1)", "Down", show=False),
        *ENDS,
    ]

    def follow(self, store: Store) -> None:
        """Observe the detail of a session."""
        names = (
            "opened", "session", "pending", "preview", "detail", "no_detail", "dry_run", "scan", "metrics", "tree", "explanation",
            "comparison", "flow", "focus", PROOFS, COLOURS,
        )  # fmt: skip
        store.observe(names, lambda: self.show(store))

    def show(self, store: Store) -> None:
        """Draw the pane's present content."""
        state, view = store.state, store.view
        row, compared, explanation, flow = view.tree.row, view.comparison, view.explanation, view.flow
        if compared is not None:
            self.draw(lambda width, _: compare_lines(compared, width), compare_title(compared))
        elif explanation is not None:
            cut = bool(state.session.steps)
            self.draw_at(lambda width: (*explain_lines(explanation, width), ONE_MORE), explain_title(explanation, cut))
        elif flow is not None:
            at = block_under(state.opened.blocks, row)
            self.draw_at(lambda width: flow_lines(flow, at, width), flow_title(flow))
        else:
            self.draw(lambda width, height: detail_lines(row, state, width, height), title(row))
