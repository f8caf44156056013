"""`python -m tests.mutation.report`: break each rule, each adapter and the pieces around them, one at a time: does a test notice?

A change that no test reaches survives without a run. Options: names of modules (all by default), `--seconds` of tests per change,
`--children` at a time, `--list`.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutation.changes import CHANGES, Change, changes
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.loading import ROOT, break_module, path_of
from tests.mutation.recording import Recorder
from tests.mutation.running import OPTIONS, first_failure, result, start

SUITE = (
    "test_flow", "test_odd_models", "test_resolve", "test_plan", "test_proof", "test_preview", "test_yolov8", "test_families",
    "test_random_models",
)  # fmt: skip
FEWEST_SECONDS = 60.0


@dataclass(frozen=True)
class Mutant:
    """A change of a module, by its number there."""

    module: str
    number: int
    line: int
    what: str
    reach: str

    @property
    def place(self) -> str:
        """Module and line, short."""
        return f"{self.module.removeprefix('tui_pruner.core.')}:{self.line}"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: "killed" by a test, "survived", "unreached", or "equivalent" with the reason."""

    mutant: Mutant
    verdict: str
    detail: str


def mutants(modules: Sequence[str]) -> list[Mutant]:
    """Every change of these modules."""
    found = []
    for module in modules:
        offered: list[Change] = changes(module, ast.parse(path_of(module).read_text(encoding="utf-8")))
        for number, change in enumerate(offered):
            reach = change.reach or f"line {change.line}"
            found.append(Mutant(module, number, change.line, change.what, f"{module} {reach}" if reach.startswith("line") else reach))
    return found


def healthy_run(files: Sequence[str]) -> dict[str, Any]:
    """In a child: run the suite as it is and say which test reaches what, and how long each takes."""
    import pytest

    recorder = Recorder()
    status = pytest.main([*OPTIONS, *files], plugins=[recorder])
    return {"status": int(status), "failed": recorder.failed, "reached": recorder.reached(), "seconds": dict(recorder.seconds)}


def broken_run(mutant: Mutant, tests: Sequence[str]) -> str:
    """In a child: break one thing and run the tests that reach it."""
    break_module(mutant.module, mutant.number)
    return first_failure(tests)


def within(tests: Sequence[str], seconds: dict[str, float], limit: float) -> list[str]:
    """The fastest tests that fit into a time, at least one."""
    chosen, total = [], 0.0
    for test in tests:
        total += seconds[test]
        if chosen and total > limit:
            break
        chosen.append(test)
    return chosen


def judge(mutant: Mutant, answer: str) -> Outcome:
    """The verdict on an answer."""
    if answer:
        return Outcome(mutant, "killed", answer)
    reason = EQUIVALENT.get((mutant.place.partition(":")[0], mutant.what))
    return Outcome(mutant, "equivalent", reason) if reason else Outcome(mutant, "survived", "")


def examine(found: Sequence[Mutant], healthy: dict[str, Any], options: argparse.Namespace, folder: Path) -> list[Outcome]:
    """Run all mutants, a few children at a time."""
    waiting, running, outcomes = list(found), [], []
    while waiting or running:
        while waiting and len(running) < options.children:
            mutant = waiting.pop(0)
            tests = within(healthy["reached"].get(mutant.reach, ()), healthy["seconds"], options.seconds)
            if not tests:
                verdict = judge(mutant, "")
                outcomes.append(verdict if verdict.verdict == "equivalent" else Outcome(mutant, "unreached", ""))
                continue
            limit = FEWEST_SECONDS + 4 * sum(healthy["seconds"][test] for test in tests)
            running.append((mutant, start(lambda mutant=mutant, tests=tests: broken_run(mutant, tests), folder, limit)))
        time.sleep(0.02)
        for mutant, child in list(running):
            answer = result(child)
            if answer != "running":
                running.remove((mutant, child))
                outcomes.append(judge(mutant, answer))
                print(f"{len(outcomes):4}/{len(found)}  {line_of(outcomes[-1])}", file=sys.stderr, flush=True)
    return outcomes


def line_of(outcome: Outcome) -> str:
    """An outcome on one line."""
    return f"{outcome.verdict:10} {outcome.mutant.place:22} {outcome.mutant.what}  {outcome.detail.rpartition('::')[2]}"


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Totals by module, and every mutant that was not killed."""
    verdicts = ("killed", "survived", "unreached", "equivalent")
    modules = dict.fromkeys(outcome.mutant.module for outcome in outcomes)
    rows = [f"{'module':14}{'mutants':>9}" + "".join(f"{verdict:>12}" for verdict in verdicts)]
    for module in (*modules, ""):
        own = [outcome for outcome in outcomes if module in ("", outcome.mutant.module)]
        counts = Counter(outcome.verdict for outcome in own)
        name = module.removeprefix("tui_pruner.core.") or "all"
        rows.append(f"{name.removeprefix('flow.'):14}{len(own):9}" + "".join(f"{counts[verdict]:12}" for verdict in verdicts))
    left = [line_of(outcome) for outcome in outcomes if outcome.verdict != "killed"]
    return "\n".join([*rows, "", *left, f"{seconds / 60:.1f} minutes"])


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="last names of modules, such as contraction")
    parser.add_argument("--seconds", type=float, default=90.0, help="of the fastest tests that reach a change")
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only list the changes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Report; the exit status is 1 where a mutant survived that nothing explains."""
    options, started = options_of(arguments), time.monotonic()
    found = mutants([name for name in CHANGES if not options.modules or name.rpartition(".")[2] in options.modules])
    if options.list:
        print("\n".join(f"{mutant.place:22} {mutant.what}" for mutant in found))
        return 0
    os.chdir(ROOT)
    os.environ |= {"TUI_PRUNER_PROPERTY": "brief", "OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    files = [f"tests/core/{name}.py" for name in SUITE if Path(f"tests/core/{name}.py").exists()]
    with tempfile.TemporaryDirectory(prefix="tui-pruner-mutants-") as name:
        load_libraries(Path(name))
        child = start(lambda: healthy_run(files), Path(name), 1800)
        while (healthy := result(child)) == "running":
            time.sleep(0.1)
        if not isinstance(healthy, dict) or healthy["status"]:
            print(f"the suite fails while nothing is broken: {healthy if isinstance(healthy, str) else healthy['failed']}")
            print(child.answer.with_suffix(".log").read_text()[-2000:], file=sys.stderr)
            return 1
        outcomes = examine(found, healthy, options, Path(name))
    print(summary(outcomes, time.monotonic() - started))
    return int(any(outcome.verdict in ("survived", "unreached") for outcome in outcomes))


def load_libraries(folder: Path) -> None:
    """Import once what every child needs, but nothing of the program."""
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    import hypothesis  # noqa: F401
    import torch
    import torch_pruning  # noqa: F401
    import ultralytics.nn.tasks  # noqa: F401

    torch.set_num_threads(1)


if __name__ == "__main__":
    sys.exit(main())
