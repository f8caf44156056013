"""`python -m benchmarks.quality`: the same checkpoint, the same operations left, the same training; torch-pruning's pruner and ours.

Everything that chooses (our scans, the best way of each program) looks at training images only; the validation images judge.
An hour on two cores; goes on where it was broken off; writes `docs/quality.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.bench import CHOOSING, Bench
from benchmarks.candidates import Candidate, ours, theirs
from benchmarks.peer import operations
from tests.bench.report import machine

ROOT = Path(__file__).parent.parent
PROGRAMS: dict[str, Callable[[Bench, Sequence[float]], Iterator[Candidate]]] = {"tui-pruner": ours, "torch-pruning": theirs}
Figures = dict[str, Any]


def choose(bench: Bench, program: str, shares: Sequence[float], work: Path) -> None:
    """Keep, for each share, the candidate that does best on training images once its normalisation is measured again."""
    if all((work / f"{program} {share:.0%}.pt").exists() for share in shares):
        return
    marks: dict[float, dict[str, float]] = {share: {} for share in shares}
    for share, words, model in PROGRAMS[program](bench, shares):
        mark = marks[share][words] = bench.metric(bench.recalibrated(model), choosing=True)
        tell(f"{program} {share:.0%} {words}: {mark:.3f} on training images")
        if mark == max(marks[share].values()):
            torch.save((model, words), work / f"{program} {share:.0%}.pt")
    (work / f"{program} candidates.json").write_text(json.dumps({f"{share:.0%}": found for share, found in marks.items()}))


def figures(bench: Bench, model: nn.Module, words: str, seeds: int, kept: Path) -> Figures:
    """One model at its three stages; each figure is kept as it lands."""
    found: Figures = json.loads(kept.read_text()) if kept.exists() else {}
    again = bench.recalibrated(model)
    if not found:
        found = {
            "way": words,
            "left": operations(model, bench.image) / operations(bench.checkpoint.model, bench.image),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "after the cut": bench.metric(model),
            "recalibrated": bench.metric(again),
            "fine-tuned": [],
        }
    for seed in range(len(found["fine-tuned"]), seeds):
        found["fine-tuned"].append(bench.finetuned(again, seed))
        kept.write_text(json.dumps(found))
        tell(f"{kept.stem}: {found}")
    return found


def document(original: float, rows: Mapping[str, Figures], marks: Mapping[str, Any], bench: Bench, seeds: int) -> str:
    """The page."""
    counts = " and ".join(f"{len(next(iter(found.values())))} of {program}" for program, found in marks.items())
    lines = [
        "# The same size, the same training: torch-pruning's pruner and ours",
        "",
        f"`make quality` on the bundled checkpoint (YOLOv8n on digits, mAP50-95 {original:.3f} on all validation images). Operations are",
        f"counted by torch-pruning for both. Fine-tuning is Ultralytics' trainer for {bench.epochs} epochs from the recalibrated model,",
        f"{seeds} seeds: mean and range. Of all ways tried ({counts}) each program's best is shown: the one that does best on",
        f"{CHOOSING} training images after recalibration. Our scans saw the same images. The validation images judge and choose nothing.",
        "Theirs is MetaPruner with C2f unfolded as in its YOLOv8 example.",
        "",
        "| operations left | by | parameters | after the cut | recalibrated | fine-tuned |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        tuned = row["fine-tuned"]
        spread = f"{statistics.mean(tuned):.3f} ({min(tuned):.3f} to {max(tuned):.3f})"
        stages = f"{row['after the cut']:.3f} | {row['recalibrated']:.3f} | {spread}"
        lines.append(f"| {row['left']:.1%} | {name} ({row['way']}) | {row['parameters'] / 1e6:.2f}M | {stages} |")
    return "\n".join([*lines, *ways(marks), "", machine(), ""])


def ways(marks: Mapping[str, Any]) -> Iterator[str]:
    """All ways tried, with what training images say of them."""
    yield from ("", "## All ways tried", "", "mAP50-95 on the training images that choose, after recalibration.")
    for program, found in marks.items():
        shares = list(found)
        yield from ("", f"| {program} | {' | '.join(shares)} |", f"| --- |{' --- |' * len(shares)}")
        for words in dict.fromkeys(words for share in shares for words in found[share]):
            cells = [f"{found[share][words]:.3f}" if words in found[share] else "-" for share in shares]
            yield f"| {words} | {' | '.join(cells)} |"


def main() -> None:
    """Compare, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=str(ROOT / "assets/demo/digits.pt"))
    parser.add_argument("--data", default=str(ROOT / "assets/demo/digits.yaml"))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--work", type=Path, default=ROOT / "build/quality", help="what is known already; delete it to begin anew")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs/quality.md")
    wanted = parser.parse_args()
    wanted.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(wanted.model, wanted.data, wanted.epochs, wanted.work)
    for program in PROGRAMS:
        choose(bench, program, wanted.shares, wanted.work)
    rows: dict[str, Figures] = {}
    for share in wanted.shares:
        for program in PROGRAMS:
            name = f"{program} {share:.0%}"
            model, words = torch.load(wanted.work / f"{name}.pt", weights_only=False)
            rows[name] = figures(bench, model, words, wanted.seeds, wanted.work / f"{name}.json")
    marks = {program: json.loads((wanted.work / f"{program} candidates.json").read_text()) for program in PROGRAMS}
    wanted.output.write_text(document(bench.metric(bench.checkpoint.model), rows, marks, bench, wanted.seeds))
    print(wanted.output.read_text())


def tell(text: str) -> None:
    """A line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
