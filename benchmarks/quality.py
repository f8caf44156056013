"""`python -m benchmarks.quality`: the same checkpoints, the same operations left, the same recovery; torch-pruning's pruner and ours.

Everything that chooses looks at training images only; the validation images judge. The digits are in the repository; for the other
models give `--coco-model`, `--coco-data` and `--bccd-data`. Hours on two cores; goes on where it was broken off; writes `docs/quality.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.bench import CHOOSING, UNLABELLED, Bench
from benchmarks.candidates import Candidate, ours, theirs, uniform
from benchmarks.peer import operations
from tests.bench.report import machine

ROOT = Path(__file__).parent.parent
OURS = "tui-pruner"
PROGRAMS: dict[str, Callable[[Bench], Iterator[Candidate]]] = {OURS: ours, "uniform": uniform, "torch-pruning": theirs}
Figures = dict[str, Any]


def choose(bench: Bench, program: str, work: Path) -> None:
    """Keep, for each share, the candidate that does best on training images once its normalisation is measured again."""
    done = work / f"{program} candidates.json"
    if done.exists():
        return
    marks: dict[str, dict[str, float]] = {f"{share:.0%}": {} for share in bench.about.shares}
    for candidate in PROGRAMS[program](bench):
        share = f"{candidate.share:.0%}"
        mark = 0.0 if program == OURS else min(bench.metrics(bench.recalibrated(candidate.model), choosing=True).values())
        marks[share][candidate.way] = mark
        tell(f"{bench.about.name}: {program} {share} {candidate.way}: {mark:.3f} on training images")
        if mark == max(marks[share].values()):
            torch.save(candidate, work / f"{program} {share}.pt")
    done.write_text(json.dumps(marks))


def figures(bench: Bench, candidate: Candidate, seeds: int, kept: Path) -> Figures:
    """One model at its stages; each figure is kept as it lands."""
    found: Figures = json.loads(kept.read_text()) if kept.exists() else {}
    refitted = bench.refitted(candidate.original, candidate.model, candidate.kept)
    if not found:
        found = {
            "way": candidate.way,
            "left": operations(candidate.model, bench.image) / operations(bench.checkpoint.model, bench.image),
            "parameters": sum(parameter.numel() for parameter in candidate.model.parameters()),
            "after the cut": bench.metrics(candidate.model),
            "recalibrated": bench.metrics(bench.recalibrated(candidate.model)),
            "refitted": bench.metrics(refitted),
            "fine-tuned": [],
        }
        kept.write_text(json.dumps(found))
        tell(f"{bench.about.name}: {kept.stem}: {found}")
    for seed in range(len(found["fine-tuned"]), seeds if bench.about.epochs else 0):
        found["fine-tuned"].append(bench.finetuned(refitted, seed))
        kept.write_text(json.dumps(found))
        tell(f"{bench.about.name}: {kept.stem}: {found['fine-tuned'][-1]} with seed {seed}")
    return found


def compared(subject: subjects.Subject, seeds: int, work: Path) -> Iterator[str]:
    """One subject's part of the page."""
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(subject, work)
    for program in PROGRAMS:
        choose(bench, program, work)
    original = bench.metrics(bench.checkpoint.model)
    words = ", ".join(f"{name.removeprefix('metrics/')} {value:.4f}" for name, value in original.items())
    yield from ("", f"## {subject.name}", "", f"The original at {subject.imgsz} px: {words}. Every figure is a share of that.", "")
    yield "| operations left | by | parameters | after the cut | recalibrated | refitted | fine-tuned |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for share in subject.shares:
        for program in PROGRAMS:
            file = work / f"{program} {share:.0%}.pt"
            if not file.exists():
                yield f"| {share:.0%} | {program}: no candidate comes to it | | | | | |"
                continue
            row = figures(bench, torch.load(file, weights_only=False), seeds, file.with_suffix(".json"))
            yield line(program, row, original)
    marks = {program: json.loads((work / f"{program} candidates.json").read_text()) for program in PROGRAMS if program != OURS}
    yield from ways(marks)


def line(program: str, row: Figures, original: Mapping[str, float]) -> str:
    """A row of the table."""
    stages = [f"{smallest(row[stage], original):.3f}" for stage in ("after the cut", "recalibrated", "refitted")]
    tuned = [smallest(one, original) for one in row["fine-tuned"]]
    spread = f"{statistics.mean(tuned):.3f} ({min(tuned):.3f} to {max(tuned):.3f}, {len(tuned)} seeds)" if tuned else ""
    return f"| {row['left']:.1%} | {program} ({row['way']}) | {row['parameters'] / 1e6:.2f}M | {' | '.join(stages)} | {spread} |"


def smallest(metrics: Mapping[str, float], original: Mapping[str, float]) -> float:
    """The smallest of all figures' shares of the original's."""
    return min(metrics[name] / value for name, value in original.items())


def ways(marks: Mapping[str, Any]) -> Iterator[str]:
    """All ways tried, with what training images say of them."""
    for program, found in marks.items():
        shares = list(found)
        yield from ("", f"| {program}, on training images | {' | '.join(shares)} |", f"| --- |{' --- |' * len(shares)}")
        for words in dict.fromkeys(words for share in shares for words in found[share]):
            cells = [f"{found[share][words]:.3f}" if words in found[share] else "-" for share in shares]
            yield f"| {words} | {' | '.join(cells)} |"


INTRODUCTION = f"""# The same size, the same recovery: torch-pruning's pruner and ours

`make quality`. Operations are counted by torch-pruning for all. Ours is the plan by measured damage on {UNLABELLED} unlabelled training
images; the uniform cut takes one share of every layer; theirs is MetaPruner with C2f unfolded as in its YOLOv8 example, the best of its
recipes on {CHOOSING} labelled training images after recalibration. All are recalibrated, refitted and trained alike, on the same images:
the refit starts from the cut, training from the refit, and the best of the refit and every epoch counts. The validation images judge and
choose nothing but that epoch. Of several metrics the smallest share of the original's is shown.
"""


def main() -> None:
    """Compare, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--coco-model", type=Path, help="yolo11n-seg.pt with its COCO weights")
    parser.add_argument("--coco-data", type=Path, help="the yaml of coco128-seg in two halves")
    parser.add_argument("--bccd-data", type=Path, help="the yaml of BCCD; needs --coco-model to start from")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one of digits, coco, bccd")
    parser.add_argument("--work", type=Path, default=ROOT / "build/quality", help="what is known already; delete it to begin anew")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs/quality.md")
    wanted = parser.parse_args()
    wanted.work.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], subjects.Subject]] = {"digits": subjects.digits}
    if wanted.coco_model and wanted.coco_data:
        makers["coco"] = lambda: subjects.coco(wanted.coco_model, wanted.coco_data)
    if wanted.coco_model and wanted.bccd_data:
        makers["bccd"] = lambda: subjects.bccd(wanted.coco_model, wanted.bccd_data, wanted.work)
    parts = [INTRODUCTION.rstrip()]
    for name, maker in makers.items():
        if wanted.only in (None, name):
            parts.append("\n".join(compared(maker(), wanted.seeds, wanted.work / name)).strip("\n"))
    missing = [name for name in ("coco", "bccd") if name not in makers]
    if missing:
        parts.append(f"Not measured here, as no paths were given: {', '.join(missing)}.")
    wanted.output.write_text("\n\n".join([*parts, machine()]) + "\n")
    print(wanted.output.read_text())


def tell(text: str) -> None:
    """A line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
