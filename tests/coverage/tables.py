"""What was measured, as the tables of the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.coverage.catalogue import Architecture
from tests.coverage.measuring import Found

MIB = 1 << 20
NOT_MEASURED = "not measured"
Row = tuple[Architecture, Found | None, Found | None]


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> str:
    """A Markdown table; the first `words` columns to the left, the others to the right."""
    borders = ["---" if number < words else "---:" for number in range(len(headings))]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in [headings, borders, *rows])


def is_covered(found: Found | None) -> bool:
    """Whether a model could be built and every trial was made."""
    return found is not None and "equal" in found


OUR_HEADINGS = ["model", "groups", "equal", "approximate", "failed", "locked", "plans", "operations", "trace", "trace MB", "peak MB",
                "their groups", "right", "wrong", "broken", "their trace", "their MB"]  # fmt: skip


def main_table(rows: Iterable[Row]) -> str:
    """Every architecture's smallest scale: ours, and beside it torch-pruning's own tracer."""
    return table(OUR_HEADINGS, [[row[0].smallest, *our_cells(row[1]), *their_cells(row[2])] for row in rows if is_covered(row[1])])


def our_cells(found: Found | None) -> list[object]:
    """Our figures of one model."""
    assert found is not None
    proved = sum(plan["equal"] for plan in found["plans"])
    return [
        *(found[key] for key in ("groups", "equal", "approximate", "failed")),
        sum(found["locked"].values()),
        f"{proved} of {len(found['plans'])}",
        found["operations"],
        f"{found['warm_seconds']:.3f} s",
        *megabytes(found["trace_bytes"], found["peak_bytes"]),
    ]


def their_cells(found: Found | None) -> list[object]:
    """What torch-pruning makes of the same model: its groups and what became of them, or why there are none."""
    if found is None:
        return [NOT_MEASURED, "", "", "", "", ""]
    if "groups" not in found:
        return [found["how"], "", "", "", "", ""]
    outcomes = found.get("outcomes")
    cells = [outcomes.get(name, 0) for name in ("right", "wrong", "broken")] if outcomes is not None else [found["how"], "", ""]
    return [found["groups"], *cells, f"{found['seconds']:.3f} s", *megabytes(found["peak_bytes"])]


def megabytes(*sizes: int) -> list[object]:
    """Sizes in MB without a fraction."""
    return [round(size / MIB) for size in sizes]


def locks_table(rows: Iterable[Row]) -> str:
    """Each reason for a lock, how many groups have it, and in which models."""
    models: dict[str, dict[str, int]] = {}
    for architecture, ours, _ in rows:
        for reason, number in (ours or {}).get("locked", {}).items():
            models.setdefault(reason.partition(" (")[0], {}).setdefault(architecture.smallest, 0)
            models[reason.partition(" (")[0]][architecture.smallest] += number
    lines = [
        [
            reason,
            sum(found.values()),
            ", ".join(f"{name} {number}" for name, number in found.items()) if len(found) < 12 else f"{len(found)} models",
        ]
        for reason, found in sorted(models.items(), key=lambda item: -sum(item[1].values()))
    ]
    return table(["reason", "groups", "where"], lines, 3)


def failures(rows: Iterable[Row]) -> list[str]:
    """What went wrong, a line each: failed groups and plans, operations without a rule, models that could not be built."""
    lines = []
    for architecture, ours, _ in rows:
        if ours is None:
            continue
        if not is_covered(ours):
            lines.append(ours["words"].partition("Error: ")[2] or f"{architecture.smallest}: {ours['how']}")
            continue
        lines += [f"{architecture.smallest}, {failure['layer']}: {failure['detail']}" for failure in ours["failures"]]
        lines += [f"{architecture.smallest}, random plan {plan['seed']}: {plan['detail']}" for plan in ours["plans"] if not plan["equal"]]
        lines += [f"{architecture.smallest}: no rule for {name} ({number} times)" for name, number in ours["unknown_operations"].items()]
    return lines


def not_measured(rows: Iterable[Row]) -> list[str]:
    """The models that a run has not come to."""
    return [architecture.smallest for architecture, ours, _ in rows if ours is None]


def scales_table(scales: dict[str, Found]) -> str:
    """The larger scales: groups, locked, operations and seconds; nothing is cut there."""
    rows = [
        [name, found["groups"], found["locked"], found["operations"], len(found["unknown_operations"]), f"{found['warm_seconds']:.3f} s"]
        for name, found in scales.items()
    ]
    return table(["model", "groups", "locked", "operations", "without a rule", "trace"], rows)
