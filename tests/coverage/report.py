"""`python -m tests.coverage.report [--cached]`: cut and prove everything in every architecture, and write `docs/coverage.md`.

Takes hours on two cores. What is found out is kept in the cache folder model by model, so that a run that was broken off goes on where it
was; `--cached` writes the document from what is there. Status 1 where a group or a plan is not proved.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from tests.bench.report import machine
from tests.bench.sandbox import ROOT
from tests.coverage.catalogue import Architecture, architectures
from tests.coverage.measuring import Found, measured, remembered
from tests.coverage.tables import Row, failures, is_covered, locks_table, main_table, not_measured, scales_table
from tests.coverage.theirs import EVERY, SECONDS

DOCUMENT = ROOT / "docs" / "coverage.md"


def rows_of(found: Sequence[Architecture], cached: bool) -> list[Row]:
    """Ours and theirs of every architecture; ours first, since theirs takes long where it does not finish."""
    ask = remembered if cached else measured
    ours = [ask("ours", architecture.smallest) for architecture in found]
    return [(architecture, own, ask("theirs", architecture.smallest)) for architecture, own in zip(found, ours, strict=True)]


def scales_of(found: Sequence[Architecture], cached: bool) -> dict[str, Found]:
    """The other scales of every architecture, one child for all scales of one."""
    scales: dict[str, Found] = {}
    for architecture in (architecture for architecture in found if architecture.others):
        name, others = architecture.smallest, ",".join(architecture.others)
        told = remembered("scales", name) if cached else measured("scales", name, others)
        scales |= {scale: told[scale] for scale in architecture.others if told and scale in told}
    return scales


def document(rows: Sequence[Row], scales: dict[str, Found], where: str) -> str:
    """The whole page."""
    ours = [own for _, own, _ in rows if own is not None and is_covered(own)]
    total = {key: sum(own[key] for own in ours) for key in ("groups", "equal", "approximate", "failed")}
    locked = sum(sum(own["locked"].values()) for own in ours)
    plans = [plan["equal"] for own in ours for plan in own["plans"]]
    unknown = sum(len(found["unknown_operations"]) for found in (*ours, *scales.values()))
    problems, waiting = failures(rows), not_measured(rows)
    return f"""# Coverage of Ultralytics' architectures

Every architecture file of Ultralytics at its smallest scale. Every group of channels is cut alone by a quarter, and the cut compared with
the masked twin; then three random plans cut all groups at once, each by 5 to 60 %, with random channels. Written by `make coverage`.

**{len(ours)} models, {total["groups"]} groups: {total["equal"]} equal, {total["approximate"]} approximate, {total["failed"]} failed,
{locked} locked; {sum(plans)} of {len(plans)} random plans proved; {unknown} operations without a rule.**

{where}

{main_table(rows)}

`trace` is the CPU time of a trace in a process that has traced before, `trace MB` the growth of its memory during it, `peak MB` the
largest size of the process that made all the proofs (half of it is the libraries).

Theirs is torch-pruning's own tracer and `get_all_groups` on the same model in a process with {SECONDS} s of CPU time and 6 GB of
address space. Of its groups, those that reach the predictions are left out; from the others every {EVERY}th channel of the root is removed
by its own functions, and the result compared with the twin in the same way: right, wrong (runs, but computes something else), broken
(cannot be cut, or does not run).

## What is locked, and why

{locks_table(rows)}

## What does not work

{chr(10).join(f"- {line}" for line in problems) if problems else "Nothing that was tried."}
{f"{chr(10)}Not measured in this run: {', '.join(waiting)}.{chr(10)}" if waiting else ""}
## Larger scales

They have the layers of the smallest scale, wider and more of them, so nothing is cut here: each is traced, and must have no operation
without a rule.

{scales_table(scales)}
"""


def main(arguments: Sequence[str]) -> int:
    """Measure what is not known yet and write the document."""
    cached = "--cached" in arguments
    found, where = architectures(), machine()
    if cached:  # the load is that of writing the page
        where = re.sub(r", load [\d.]+ at the start", ", other work beside it", where)
    rows = rows_of(found, cached)
    scales = scales_of(found, cached)
    DOCUMENT.write_text(document(rows, scales, where), encoding="utf-8")
    print(DOCUMENT)
    clean = all(own["failed"] == 0 and all(plan["equal"] for plan in own["plans"]) for _, own, _ in rows if own and is_covered(own))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
