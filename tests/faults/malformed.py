"""`python -m tests.faults malformed`: 1,500 files that are no checkpoints any more, or never were, and one for every KiB of a good one.

The engine opens them one by one: each must be refused in one line or opened as it is, within 20 s and within the memory limit, without a
traceback in the log.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from tests.faults import broken, misshapen
from tests.faults.reader import BAD, OPENED, REFUSED, Outcome, reader
from tests.jobs.narrow import narrow, save_whole

FORWARD = ("the forward stopped in model.", "model.")
"""What the tracer says of a network that cannot run."""
MOST_GROWTH = 1 << 30
WANTED = 1500
Make = Callable[[Path], None]


def cases(original: Path, wanted: int, seed: int = 0) -> Iterator[tuple[str, Make]]:
    """Every kind of damage: all that are finite, and of the others as many as make up `wanted`; truncations besides."""
    chance = random.Random(seed)
    finite = {"made for harm": misshapen.made(original), "other formats": list(broken.FOREIGN.values())}
    endless = {
        "one to eight bits flipped": broken.flipped(original, chance),
        "members swapped, missing, twice, renamed": broken.shuffled(original, chance),
        "pickle changed, checksums right": broken.changed_pickle(original, chance),
        "attributes of another type or size": misshapen.attributes(original, chance),
    }
    yield from (("truncated at every KiB", make) for make in islice(broken.truncated(original), 0, None, max(1, WANTED // wanted)))
    yield from ((kind, make) for kind, makes in finite.items() for make in makes)
    share = -(-(wanted - sum(map(len, finite.values()))) // len(endless))
    yield from ((kind, make) for kind, makes in endless.items() for make in islice(makes, max(share, 0)))


def fault(outcome: Outcome, path: Path) -> str:
    """What is wrong with how a file was taken; empty where nothing is."""
    if outcome.kind in BAD:
        return f"{outcome.kind}: {outcome.message}"
    if outcome.kind == REFUSED and not outcome.message.startswith(FORWARD) and path.name not in outcome.message:
        return f"not about this file: {outcome.message}"
    if not outcome.message.isprintable():
        return "more than one line, or something that a terminal would obey"
    return f"took {outcome.grown >> 20} MiB" if outcome.grown > MOST_GROWTH else ""


def run(wanted: int = WANTED) -> list[str]:
    """Open all of them and tell what came of it; gives what must not have happened."""
    faults: list[str] = []
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="malformed-") as folder, reader() as engine:
        original = save_whole(narrow(Path(folder)), Path(folder) / "original.pt")
        for number, (kind, make) in enumerate(cases(original, wanted)):
            path = Path(folder) / f"case-{number}.pt"
            make(path)
            outcome = engine.open(path, imgsz=64)
            outcomes[kind].append(outcome)
            if wrong := fault(outcome, path):
                faults.append(f"{kind} ({path.name}): {wrong}")
                print(faults[-1], file=sys.stderr)
            path.unlink(missing_ok=True)
    tell(outcomes, time.monotonic() - started)
    return faults


def tell(outcomes: dict[str, list[Outcome]], seconds: float) -> None:
    """The figures."""
    for kind, found in outcomes.items():
        counts = Counter(outcome.kind for outcome in found)
        slowest, largest = max(outcome.seconds for outcome in found), max(outcome.grown for outcome in found)
        print(
            f"{len(found):5} {kind}: {counts[REFUSED]} refused, {counts[OPENED]} opened, {sum(counts[bad] for bad in BAD)} bad; "
            f"slowest {slowest:.2f} s, at most {largest >> 20} MiB more"
        )
    print(f"{sum(map(len, outcomes.values())):5} files in {seconds:.0f} s")
