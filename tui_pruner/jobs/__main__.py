"""One job in a process of its own: `python -m tui_pruner.jobs KIND [SCRATCH]`.

Reads one JSON line of parameters from stdin; writes {"progress": ...} lines, then one {"result": ...} or {"error": {"kind", "message"}}
to stdout. Exit status 0 or 3. Ends by itself when stdin ends; SCRATCH is its folder for temporary files, removed with it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping
from typing import NamedTuple

from tui_pruner import places
from tui_pruner.engine.compress_messages import CompressParameters, PruneParameters
from tui_pruner.engine.gate_messages import GateParameters
from tui_pruner.engine.job_messages import (
    CalibrationParameters,
    ExportParameters,
    FinetuneParameters,
    JobProgress,
    PictureParameters,
    RecalibrationParameters,
    ReconstructionParameters,
    ReportParameters,
    ValidationParameters,
)
from tui_pruner.engine.latency_messages import BenchParameters, QuickenParameters
from tui_pruner.engine.planning_messages import PlanningParameters
from tui_pruner.engine.protocol import Message
from tui_pruner.engine.scan_messages import ScanParameters
from tui_pruner.engine.wire import Wire, end_with_parent, reserve_stdout
from tui_pruner.errors import JobError, PrunerError, out_of_memory
from tui_pruner.jobs.diary import Diary
from tui_pruner.unexpected import one_line

FAILED = 3


class Kind(NamedTuple):
    """A kind of job: the message that its parameters are, and where its function `(parameters, on_progress) -> Message` lives."""

    parameters: type[Message]
    module: str
    function: str


KINDS = {
    "validate": Kind(ValidationParameters, "tui_pruner.jobs.validate", "run_validation"),
    "gate": Kind(GateParameters, "tui_pruner.jobs.gate", "run_gate"),
    "calibrate": Kind(CalibrationParameters, "tui_pruner.jobs.calibrate", "run_calibration"),
    "picture": Kind(PictureParameters, "tui_pruner.jobs.picture", "run_pictures"),
    "report": Kind(ReportParameters, "tui_pruner.jobs.report", "run_report"),
    "bench": Kind(BenchParameters, "tui_pruner.jobs.bench", "run_bench"),
    "export": Kind(ExportParameters, "tui_pruner.jobs.export", "run_export"),
    "finetune": Kind(FinetuneParameters, "tui_pruner.jobs.finetune", "run_finetuning"),
    "scan": Kind(ScanParameters, "tui_pruner.jobs.scan", "run_scan"),
    "quicken": Kind(QuickenParameters, "tui_pruner.jobs.quicken", "run_quickening"),
    "reconstruct": Kind(ReconstructionParameters, "tui_pruner.jobs.reconstruct", "run_reconstruction"),
    "plan": Kind(PlanningParameters, "tui_pruner.jobs.plan", "run_planning"),
    "prune": Kind(PruneParameters, "tui_pruner.jobs.prune", "run_pruning"),
    "compress": Kind(CompressParameters, "tui_pruner.jobs.compress", "run_compression"),
    "recalibrate": Kind(RecalibrationParameters, "tui_pruner.jobs.recalibrate", "run_recalibration"),
}


def main(arguments: list[str], kinds: Mapping[str, Kind] = KINDS) -> int:
    """Do one job and say how it went; gives the exit status."""
    wire = reserve_stdout()
    scratch = arguments[1] if len(arguments) > 1 else None
    _use_scratch(scratch)
    line = sys.stdin.buffer.readline()
    end_with_parent(lambda: shutil.rmtree(scratch, ignore_errors=True) if scratch else None)
    try:
        wire.send({"result": _work(kinds, arguments, line, wire).model_dump()})
    except BaseException as error:
        traceback.print_exc()
        explained = explain(error)
        wire.send({"error": {"kind": type(explained).__name__, "message": str(explained)}})
        return FAILED
    return 0


def explain(error: BaseException) -> PrunerError:
    """The error as a person gets to read it."""
    if isinstance(error, PrunerError):
        return error
    if out_of_memory(error):
        return JobError(f"not enough memory for this job; free some, choose another --device or a smaller --imgsz; see {places.log_file()}")
    return JobError(one_line("the job", error))


def _work(kinds: Mapping[str, Kind], arguments: list[str], line: bytes, wire: Wire) -> Message:
    if not arguments or arguments[0] not in kinds:
        raise JobError(f"there is no job {' '.join(arguments[:1])!r}; the jobs are {', '.join(kinds)}")
    kind = kinds[arguments[0]]
    parameters = kind.parameters.from_json(line)
    diary = Diary()
    diary.begin(arguments[0], parameters)
    function = getattr(importlib.import_module(kind.module), kind.function)

    def on_progress(progress: JobProgress) -> None:
        diary.follow(progress)
        wire.send({"progress": progress.model_dump()})

    result: Message = function(parameters, on_progress)
    diary.end()
    return result


def _use_scratch(scratch: str | None) -> None:
    with contextlib.suppress(OSError):
        os.nice(5)  # the interface and the engine answer keys on the same cores
    if scratch is not None:
        tempfile.tempdir = os.environ["TMPDIR"] = scratch


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
