"""`python -m tests.saved.report [FILE]`: every family's file pruned by a quarter, and what stock Ultralytics makes of it, as a table.

Prints the table, and with FILE writes the page that holds it. Ends with status 1 where a family failed.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.sandbox import temporary_home
from tests.saved.expected import EXPORTS, SAME, SAME_EXPORTED
from tests.saved.families import CHOICE, chosen
from tests.saved.walk import Walk, walk

LIBRARIES = ("torch", "ultralytics", "onnx", "onnxruntime")
HEADINGS = ("model", "task", "loads as", "predict", *EXPORTS, "parameters", "after the cut", "after training", "widths", "seconds")
PAGE = """# Saved files

What stock Ultralytics does with a pruned file of every family. Written by `make saved`.

Each model, with random weights from its yaml, loses a quarter of every group and is saved as by `tui-pruner prune`. A process that cannot
import this program then loads the file with stock Ultralytics, predicts, exports, calls `train()`, which must refuse and name the right
trainer, fine-tunes for one epoch with that trainer on a tiny data set of the task, and loads `best.pt` and `last.pt`.

Differences from the pruned model in memory are the largest ones, relative to the largest value of their output: allowed are {same:.0e} for
the file's predictions and {exported:.0e} for an export's. *ONNX dynamic* predicts on an image of another shape than it was exported with;
*ONNX end-to-end* (`nms=False`) exists for heads that have such a branch. "kept": every parameter and buffer has the shape
that it had before training, in both files.

{table}

{where}

onnxruntime runs without its optimisation `Pad_Fusion`: it merges YOLOv3-tiny's zero padding into the max pooling that follows, which pads
with minus infinity, and so changes the predictions of the unpruned model too (relative difference 2e-2).
"""


def row(family: str, walked: Walk, seconds: float) -> list[str]:
    """A family's line of the table."""
    report, saved = walked.report, walked.saved
    tuned = report["tuned"]
    return [
        family,
        saved.task,
        report["loaded_as"],
        f"{report['predict_difference']:.0e}",
        *(f"{report['export_differences'][name]:.0e}" if name in report["export_differences"] else "" for name in EXPORTS),
        *(f"{count:,}" for count in (*saved.parameters, tuned["parameters"][0])),
        "kept" if tuned["structure_kept"] and tuned["moved"] else "LOST",
        f"{seconds:.0f}",
    ]


def shortcomings(walked: Walk) -> list[str]:
    """What a walk found wrong; empty where all is well."""
    report: dict[str, Any] = walked.report
    tuned, dense_and_pruned = report["tuned"], walked.saved.parameters
    found = {
        "it predicts something else": not report["predict_difference"] <= SAME,
        "an export computes something else": not all(one <= SAME_EXPORTED for one in report["export_differences"].values()),
        "train() does not refuse": "PRUNED MODEL" not in report["refusal"],
        "the refusal names another trainer": not report["trainer_is_its_own"],
        "training changed no weight": not tuned["moved"],
        "training changed the widths": not tuned["structure_kept"] or {*tuned["parameters"]} != {dense_and_pruned[1]},
    }
    return [what for what, wrong in found.items() if wrong]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under their headings, as Markdown."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What it ran on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"Python {platform.python_version()}, {libraries}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end."


def say(text: str) -> None:
    """Progress for who waits."""
    print(text, file=sys.stderr, flush=True)


def walk_all(families: Sequence[str]) -> tuple[list[list[str]], bool]:
    """The lines of all families, and whether all is well."""
    rows, well = [], True
    for family in families:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="saved-") as folder:
            try:
                walked = walk(family, Path(folder))
                wrong = shortcomings(walked)
                rows.append(row(family, walked, time.monotonic() - started))
            except Exception as error:
                wrong = [str(error)]
                rows.append([family, f"FAILED: {str(error).splitlines()[-1][:100]}", *[""] * (len(HEADINGS) - 2)])
        well = well and not wrong
        say(f"{family}: {'; '.join(wrong) or 'well'} ({time.monotonic() - started:.0f} s)")
    return rows, well


def main(arguments: Sequence[str]) -> int:
    """Walk with every family, print the table, and write the page where one is asked for."""
    with temporary_home():
        rows, well = walk_all(chosen(os.environ.get(CHOICE, "all")))
    found = table(rows)
    print(found)
    for page in arguments:
        Path(page).write_text(PAGE.format(same=SAME, exported=SAME_EXPORTED, table=found, where=machine()), encoding="utf-8")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
