"""`python -m tests.mutation.report`: break each rule, each adapter and the pieces around them, one at a time: does a test notice?

A change that no test reaches survives without a run. The exit status is 1 where one survived that `equivalent.py` does not explain.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.mutation.breaking import ROOT
from tests.mutation.changes import CHANGES
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.laboratory import Laboratory, Mutant, Outcome, mutants

SUITE = ("flow", "tracing", "operations", "kernels", "adapters", "odd_models", "resolve", "plan", "proof", "preview", "random_models")
"""The fast part of the core's tests: whole families take minutes, and what only they noticed deserves a small test of its own."""
OPTIONS = ("-q", "-s", "-p", "no:cacheprovider", "--timeout", "0", "-k", "not never_ends")
"""Nothing is timed here, with several children at work on a few cores."""
VERDICTS = ("killed", "survived", "unreached", "equivalent")


def reason_of(mutant: Mutant) -> str:
    """Why a change alters nothing, or an empty string."""
    return EQUIVALENT.get((mutant.place, mutant.what), "")


def verdict_of(outcome: Outcome) -> str:
    """In one word."""
    if outcome.noticed:
        return "killed"
    return "equivalent" if reason_of(outcome.mutant) else "survived" if outcome.reached else "unreached"


def line_of(outcome: Outcome) -> str:
    """An outcome on one line."""
    detail = outcome.noticed.rpartition("::")[2] or reason_of(outcome.mutant)
    return f"{verdict_of(outcome):10} {outcome.mutant.place:32} {outcome.mutant.line:4}  {outcome.mutant.what}  {detail}".rstrip()


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Totals by module, and every mutant that was not killed."""
    rows = [f"{'module':14}{'mutants':>9}" + "".join(f"{verdict:>12}" for verdict in VERDICTS)]
    for module in (*dict.fromkeys(outcome.mutant.module for outcome in outcomes), ""):
        own = [outcome for outcome in outcomes if module in ("", outcome.mutant.module)]
        counts = Counter(map(verdict_of, own))
        rows.append(f"{module.rpartition('.')[2] or 'all':14}{len(own):9}" + "".join(f"{counts[verdict]:12}" for verdict in VERDICTS))
    left = [line_of(outcome) for outcome in outcomes if not outcome.noticed]
    return "\n".join([*rows, "", *left, f"{seconds / 60:.1f} minutes"])


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="last names of modules, such as contraction; all by default")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the tests that reach a change, the most telling first")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--list", action="store_true", help="only list the changes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Report."""
    options, started = options_of(arguments), time.monotonic()
    found = mutants([name for name in CHANGES if not options.modules or name.rpartition(".")[2] in options.modules])
    if options.list:
        print("\n".join(f"{mutant.place:32} {mutant.line:4}  {mutant.what}" for mutant in found))
        return 0
    os.chdir(ROOT)
    os.environ |= {"TUI_PRUNER_PROPERTY": "brief", "OMP_NUM_THREADS": "1"}
    files = [f"tests/core/test_{name}.py" for name in SUITE]
    laboratory = Laboratory(found, options.seconds, options.children, tell)
    status = pytest.main([*OPTIONS, *files], plugins=[laboratory, Warm()])
    print(summary(laboratory.outcomes, time.monotonic() - started))
    if laboratory.ailing or status:
        print(f"left out, as they fail while nothing is broken: {', '.join(laboratory.ailing) or status}")
        return 1
    return int(any(verdict_of(outcome) in ("survived", "unreached") for outcome in laboratory.outcomes))


def tell(outcome: Outcome) -> None:
    """Progress for who waits."""
    print(line_of(outcome), file=sys.stderr, flush=True)


class Warm:
    """Loads what every child needs: PyTorch's meta kernels in Python import its compiler when first used."""

    def pytest_collection_finish(self) -> None:
        """Before the first fork."""
        import torch

        torch.set_num_threads(1)
        torch.empty(1, 8, 4, 4, device="meta").mean((2, 3))


if __name__ == "__main__":
    sys.exit(main())
