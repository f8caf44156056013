"""`python -m benchmarks.quality`: torch-pruning's pruner and ours on the same checkpoints, at the same operations, with the same recovery.

No choice is made on the test images. The digits are in the repository; for the other models give `--coco-model`, `--coco-data` and
`--bccd-data`. Hours on two cores; every row is stored when it is finished, so that an interrupted run resumes, and the most important rows
can be measured first. Writes its tables into `docs/quality.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.bench import Bench
from benchmarks.candidates import Candidate, ours, response, theirs, uniform
from benchmarks.peer import CRITERIA, operations
from tests.bench.report import machine
from tui_pruner.domain.results import percentiles

ROOT = Path(__file__).parent.parent
OURS, RESPONSE = "tui-pruner", "response"
PROGRAMS: dict[str, Callable[[Bench, Sequence[float], Collection[str]], Iterator[Candidate]]] = {
    OURS: ours,
    RESPONSE: response,
    "uniform": uniform,
    "torch-pruning": theirs,
}
BEGIN, END = "<!-- make quality -->", "<!-- end of make quality -->"
STAGES = ("after the cut", "recalibrated", "refitted")
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """All finished rows, one JSON document a line; the last of rows with the same key counts."""

    file: Path

    def find(self, **key: Any) -> list[Row]:
        """The rows with these fields, in the order of their first."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        rows = [json.loads(line) for line in lines]
        return [row for row in rows if all(row.get(name) == value for name, value in key.items())]

    def keep(self, row: Row) -> None:
        """Append a row at once."""
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        shown = {name: value for name, value in row.items() if name not in ("stages", "draws")}
        tell(f"{time.strftime('%H:%M:%S')} {shown}")


@dataclass(frozen=True)
class Wanted:
    """What is to be measured now: shares (none: all of the subject), programs, seeds, and torch-pruning's criteria (none: all)."""

    shares: tuple[float, ...]
    programs: tuple[str, ...]
    seeds: int
    criteria: tuple[str, ...]

    def of(self, subject: subjects.Subject) -> list[float]:
        """The subject's shares that are wanted."""
        return [share for share in self.shares or subject.shares if share in subject.shares]


def compare(subject: subjects.Subject, wanted: Wanted, work: Path, rows: Rows) -> None:
    """Measure what is missing of one subject, in the order of the shares that are asked for; second seeds after all first ones."""
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(subject, work)
    about = {"subject": subject.name}
    if not rows.find(**about, stage="original"):
        found = {name: judged(bench, bench.checkpoint.model, data) for name, data in judges(bench).items()}
        rows.keep({**about, "stage": "original", "stages": found})
    for program in wanted.programs:
        choose(bench, program, wanted, work, rows)
    for seed in range(max(1, wanted.seeds)):
        for program in wanted.programs:
            for share in wanted.of(subject):
                file = work / f"{program} {share:.0%}.pt"
                key = {**about, "program": program, "share": share}
                if file.exists() and not rows.find(**key, stage="untrained"):
                    rows.keep({**key, "stage": "untrained", **untrained(bench, torch.load(file, weights_only=False), file)})
                key |= {"stage": "trained", "seed": seed}
                if file.exists() and subject.epochs and seed < wanted.seeds and share in subject.wanted_trained and not rows.find(**key):
                    rows.keep({**key, **trained(bench, torch.load(refit_of(file), weights_only=False), seed)})


def choose(bench: Bench, program: str, wanted: Wanted, work: Path, rows: Rows) -> None:
    """Keep, for each share, the candidate with the highest metric on training images after recalibration."""
    missing = [share for share in wanted.of(bench.about) if not (work / f"{program} {share:.0%}.pt").exists()]
    if not missing:
        return
    started = time.perf_counter()
    best: dict[float, float] = {}
    for candidate in PROGRAMS[program](bench, missing, wanted.criteria):
        share = candidate.share
        mark = 0.0 if program in (OURS, RESPONSE) else bench.mark(candidate.model)
        seconds, started = time.perf_counter() - started, time.perf_counter()
        about = {"subject": bench.about.name, "program": program, "share": share, "stage": "chosen among"}
        rows.keep({**about, "way": candidate.way, "mark": mark, "seconds": seconds})
        if mark >= best.get(share, 0.0):
            best[share] = mark
            torch.save(candidate, work / f"{program} {share:.0%}.begun")
    for share in best:
        (work / f"{program} {share:.0%}.begun").replace(work / f"{program} {share:.0%}.pt")


def untrained(bench: Bench, candidate: Candidate, file: Path) -> Row:
    """One model at its stages without training."""
    started = time.perf_counter()
    refitted = bench.refitted(candidate.original, candidate.model, candidate.kept)
    seconds = time.perf_counter() - started
    torch.save(refitted, refit_of(file))
    networks = dict(zip(STAGES, (candidate.model, bench.recalibrated(candidate.model), refitted), strict=True))
    return {
        "way": candidate.way,
        "left": operations(candidate.model, bench.image) / operations(bench.checkpoint.model, bench.image),
        "parameters": sum(parameter.numel() for parameter in candidate.model.parameters()),
        "stages": {
            name: {stage: judged(bench, network, data) for stage, network in networks.items()} for name, data in judges(bench).items()
        },
        "refit seconds": seconds,
        "seconds": time.perf_counter() - started,
    }


def trained(bench: Bench, refitted: torch.nn.Module, seed: int) -> Row:
    """The best of refit and epochs by the choosing images, measured on the test images."""
    started = time.perf_counter()
    network, epoch = bench.finetuned(refitted, seed)
    stages = {"judging": judged(bench, network, bench.judging)}
    return {"epoch": epoch, "stages": stages, "seconds": time.perf_counter() - started}


def refit_of(file: Path) -> Path:
    """Where the refitted network of a candidate is kept."""
    return file.with_name(f"{file.stem} refitted.pt")


def judges(bench: Bench) -> dict[str, Any]:
    """The test images; also those that choose an epoch, where they are a split of their own: without training they influence nothing."""
    apart = bench.about.epochs and len(bench.choosing.images) >= len(bench.judging.images)
    return {"judging": bench.judging, **({"validation": bench.choosing} if apart else {})}


def judged(bench: Bench, network: torch.nn.Module, data: Any) -> Row:
    """The metrics that count, and the main one on resampled images."""
    found = bench.measured(network, data)
    return {"metrics": {name: found.metrics[name] for name in bench.about.figures}, "draws": found.resamples, "images": found.images}


def page(subject: subjects.Subject, rows: Rows) -> Iterator[str]:
    """One subject's part of the page, as far as it was measured."""
    found = {(row.get("program"), row.get("share"), row["stage"], row.get("seed")): row for row in rows.find(subject=subject.name)}
    original = found.get((None, None, "original", None))
    if original is None:
        return
    for judge, first in original["stages"].items():
        words = ", ".join(f"{name.removeprefix('metrics/')} {value:.4f}" for name, value in first["metrics"].items())
        where = "test images" if judge == "judging" else "validation images, which influence nothing without training"
        yield from ("", f"### {subject.name}: {where}", "")
        yield f"The original at {subject.imgsz} px, on {first['images']} images: {words}. Every figure is a share of that."
        tuned = subject.epochs and judge == "judging"
        headings = ["operations left", "by", "parameters", *STAGES, "95 %", "wanted"]
        headings += [f"{subject.epochs} epochs", "wanted"] if tuned else []
        yield from ("", f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}")
        for share in subject.shares:
            for program in PROGRAMS:
                row = found.get((program, share, "untrained", None))
                if row:
                    cells = cells_of(subject, row, first, judge, share)
                    seeds = [one for key, one in found.items() if key[:3] == (program, share, "trained")]
                    yield f"| {' | '.join([*cells, *(cells_of_training(subject, seeds, first, share) if tuned else [])])} |"
    yield from ways(subject, rows)


def cells_of(subject: subjects.Subject, row: Row, original: Row, judge: str, share: float) -> list[str]:
    """A row of the table without training."""
    stages = row["stages"][judge]
    shares = [f"{smallest(stages[stage]['metrics'], original['metrics']):.3f}" for stage in STAGES]
    pairs = [mine / whole for mine, whole in zip(stages[STAGES[-1]]["draws"], original["draws"], strict=False) if whole]
    low, high = percentiles(pairs) if pairs else (float("nan"), float("nan"))
    name = row["program"]
    aim = subject.wanted.get(share) if name in (OURS, RESPONSE) else None
    return [
        f"{row['left']:.1%}", f"{name} ({row['way']})", f"{row['parameters'] / 1e6:.2f}M", *shares, f"{low:.3f} to {high:.3f}",
        "" if aim is None else f"{aim:.2f}",
    ]  # fmt: skip


def cells_of_training(subject: subjects.Subject, seeds: Sequence[Row], original: Row, share: float) -> list[str]:
    """The results of training over the seeds."""
    shares = [smallest(one["stages"]["judging"]["metrics"], original["metrics"]) for one in seeds]
    aim = subject.wanted_trained.get(share) if seeds and seeds[0]["program"] in (OURS, RESPONSE) else None
    spread = f" ({min(shares):.3f} to {max(shares):.3f}, {len(shares)} seeds)" if len(shares) > 1 else " (1 seed)"
    return [f"{statistics.mean(shares):.3f}{spread}" if shares else "", "" if aim is None else f"{aim:.2f}"]


def smallest(metrics: Mapping[str, float], original: Mapping[str, float]) -> float:
    """The smallest of all figures' shares of the original's."""
    return min(metrics[name] / value for name, value in original.items())


def ways(subject: subjects.Subject, rows: Rows) -> Iterator[str]:
    """The variants of torch-pruning that were tried, with their metric on training images."""
    tried = rows.find(subject=subject.name, program="torch-pruning", stage="chosen among")
    shares = [share for share in subject.shares if any(row["share"] == share for row in tried)]
    if not shares:
        return
    yield from ("", f"| torch-pruning, on training images | {' | '.join(f'{share:.0%}' for share in shares)} |")
    yield f"| --- |{' --- |' * len(shares)}"
    for words in dict.fromkeys(row["way"] for row in tried):
        marks = {row["share"]: row["mark"] for row in tried if row["way"] == words}
        yield f"| {words} | {' | '.join(f'{marks[share]:.3f}' if share in marks else '-' for share in shares)} |"


def write(parts: Sequence[str], output: Path) -> None:
    """Replace the tables between their marks; the text around them stays."""
    text = output.read_text() if output.exists() else f"# Quality\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    output.write_text(before + BEGIN + "\n" + "\n\n".join(parts) + "\n\n" + END + rest.partition(END)[2])


def main() -> None:
    """Compare, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--coco-model", type=Path, help="yolo11n-seg.pt with its COCO weights")
    parser.add_argument("--coco-data", type=Path, help="the yaml of coco128-seg in two halves")
    parser.add_argument("--bccd-data", type=Path, help="the yaml of BCCD; needs --coco-model to start from")
    parser.add_argument("--models", type=words, default=("digits", "coco", "bccd"), help="of digits, coco and bccd: by default all")
    parser.add_argument("--shares", type=words, default=(), help="such as 50,35: only these percents of the operations")
    parser.add_argument("--peers", type=words, default=tuple(PROGRAMS), help=f"of {', '.join(PROGRAMS)}: by default all")
    parser.add_argument("--criteria", type=words, default=(), help=f"torch-pruning's: of {', '.join(CRITERIA)}; by default all")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row; 0: none")
    parser.add_argument("--work", type=Path, default=ROOT / "build/quality", help="what is known already; delete it to begin anew")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs/quality.md")
    asked = parser.parse_args()
    work = asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], subjects.Subject]] = {"digits": subjects.digits}
    if asked.coco_model and asked.coco_data:
        makers["coco"] = lambda: subjects.coco(asked.coco_model, asked.coco_data)
    if asked.coco_model and asked.bccd_data:
        makers["bccd"] = lambda: subjects.bccd(asked.coco_model, asked.bccd_data, work)
    unknown = [name for name in (*asked.models, *asked.peers) if name not in ("digits", "coco", "bccd", *PROGRAMS)]
    if unknown:
        parser.error(f"no such model or peer: {', '.join(unknown)}")
    rows, parts = Rows(work / "rows.jsonl"), []
    wanted = Wanted(tuple(float(share) / 100 for share in asked.shares), asked.peers, asked.seeds, asked.criteria)
    for name, maker in makers.items():
        subject = maker() if name in asked.models or (work / name).exists() else None
        if subject and name in asked.models:
            compare(subject, wanted, work / name, rows)
        if subject:
            parts.append("\n".join(page(subject, rows)).strip("\n"))
    missing = [name for name in ("coco", "bccd") if name not in makers]
    if missing:
        parts.append(f"Not measured here, as no paths were given: {', '.join(missing)}.")
    write([*parts, machine()], asked.output)
    tell("\n\n".join(parts))


def words(text: str) -> tuple[str, ...]:
    """Split at commas."""
    return tuple(part for part in text.split(",") if part)


def tell(text: str) -> None:
    """Print a line and flush."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
