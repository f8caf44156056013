"""`python -m tests.bench.report`: speed and memory as ratios measured within one run. A report: it never fails for being slow.

First paint is the whole first frame (header, panes, footer) on a terminal of 120x40, from the start of the process. Ready is the tree
and the first layer's group on that screen. Theirs are whole processes, `python -c "..."` from start to end; how long one takes until
`YOLO(path)` has returned is a line of its own. Memory is what the kernel says is resident (VmRSS), the engine's after it has nothing left
to do. At work: a long training runs, on all cores; a key is one that changes a ratio, and it is answered when the new ratio
has been written to the terminal.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from tests.bench.figures import Figure, table
from tests.bench.processes import result_of
from tests.bench.sandbox import temporary_home
from tests.bench.sliding import sliding_figures
from tests.bench.startup import startup_figures
from tests.bench.working import working_figures

LIBRARIES = ("torch", "ultralytics", "torch-pruning", "textual")


def machine() -> str:
    """What it was measured on."""
    cpu = Path("/proc/cpuinfo")
    names = [line.partition(": ")[2] for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), load {os.getloadavg()[0]:.1f} at the start; "
        f"Python {platform.python_version()}, {libraries}"
    )


def say(text: str) -> None:
    """Progress for who waits."""
    print(text, file=sys.stderr)


def main() -> int:
    """Measure everything and print the table."""
    if not Path("/proc/self/clear_refs").exists():
        say("the report reads memory from /proc, as Linux has it: run it there")
        return 0
    where, started = machine(), time.monotonic()
    with temporary_home():
        figures = startup_figures(say) + working_figures(say) + sliding_figures(say)
        for module in (
            "tests.bench.tracing",
            "tests.bench.largest",
            "tests.bench.previewing",
            "tests.bench.scanning",
            "tests.bench.planning",
        ):
            figures += [Figure(**fields) for fields in result_of(module)]
    print(f"{table(figures)}\n\n{where}\nmedians of runs in turn, in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
