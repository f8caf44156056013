"""`python -m tests.faults [NAME...]`: faults that take too long for the default tests; `make faults` runs all."""

from __future__ import annotations

import importlib
import sys
import time

from tests.bench.sandbox import temporary_home

SCRIPTS = {
    "kill_loop": "240 kills of the interface, the engine or a job",
    "kill_in_terminal": "60 kills and hang-ups in a pseudo-terminal",
    "nth_call": "each call on the disk fails in turn",
    "stateful": "300 runs of 30 steps against a model of the session",
    "load": "10,000 cuts and undos",
    "malformed": "1,500 malformed checkpoints",
    "hostile": "files that want to run something",
    "fuzzed_plans": "2,000 fuzzed plans and config files",
}


def main(wanted: list[str]) -> int:
    """Run the scripts that are named, or all; status 1 where something happened that must not."""
    unknown = [name for name in wanted if name not in SCRIPTS]
    if unknown:
        print(f"no {unknown[0]}: {', '.join(SCRIPTS)}", file=sys.stderr)
        return 2
    faults: list[str] = []
    for name in wanted or SCRIPTS:
        print(f"{name}: {SCRIPTS[name]}", flush=True)
        started = time.monotonic()
        with temporary_home():
            found = importlib.import_module(f"tests.faults.{name}").run()
        print(f"      {len(found)} faults in {time.monotonic() - started:.0f} s\n", flush=True)
        faults += [f"{name}: {fault}" for fault in found]
    print("\n".join(faults) or "nothing happened that must not")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
