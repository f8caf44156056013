"""One job in a process of its own: `python -m tui_pruner.jobs KIND [SCRATCH]`, with a log of what it is and how it ended."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tui_pruner.domain.errors import FAILED, JobError, PrunerError, out_of_memory
from tui_pruner.engine.job_messages import JobProgress, told_of
from tui_pruner.engine.messages import Message
from tui_pruner.engine.processes import ATTENDED
from tui_pruner.engine.server import MessageStream, end_with_parent, reserve_stdout
from tui_pruner.storage import paths
from tui_pruner.storage.error_log import one_line, versions_line

METRICS = "metrics/"
NICENESS = 5
AUTOGROUP = Path("/proc/self/autogroup")


class JobLog:
    """Lines on stderr, each with the time of day; a repeated line is written once."""

    def __init__(self) -> None:
        self._last = ""

    def begin(self, kind: str, parameters: Message) -> None:
        """Write the kind and its parameters, without the plan's channels."""
        fields = told_of(parameters)
        self._write(f"{time.strftime('%Y-%m-%d')} {versions_line()}")
        self._write(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in fields.items()))

    def follow(self, progress: JobProgress) -> None:
        """Write the progress, with the metrics so far; what a recipe's stage counts, its own job has written."""
        if progress.stage and progress.total:
            return
        counted = f" {progress.done}/{progress.total}" if progress.total else ""
        named = {name.removeprefix(METRICS): value for name, value in progress.metrics.items() if name.startswith(METRICS)}
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in named.items())
        self._write(f"{progress.doing}{counted}" + (f": {metrics}" if metrics else ""))

    def end(self) -> None:
        """Write that the job is done."""
        self._write("done")

    def _write(self, text: str) -> None:
        if text != self._last:
            self._last = text
            print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class Kind(NamedTuple):
    """A kind of job: its parameters' class in `tui_pruner.engine`, and the module of its function `(parameters, on_progress) -> Message`.

    `on_modules`: the module of the function of the same name that does it on any module of the user's; empty where that cannot be done.

    Both are named, and imported only by the job that runs: the classes of all kinds take longer to build than the rest of this file.
    """

    message: str
    module: str
    function: str
    on_modules: str = ""

    @property
    def parameters(self) -> type[Message]:
        """The class of the parameters."""
        module, _, name = self.message.partition(".")
        found: type[Message] = getattr(importlib.import_module(f"tui_pruner.engine.{module}"), name)
        return found


FIGURES, STAGES = "tui_pruner.jobs.any_module.figures", "tui_pruner.jobs.any_module.stages"
KINDS = {
    "validate": Kind("job_messages.ValidationParameters", "tui_pruner.jobs.validate", "run_validation", FIGURES),
    "gate": Kind("search_messages.GateParameters", "tui_pruner.jobs.gate", "run_gate", FIGURES),
    "calibrate": Kind("job_messages.CalibrationParameters", "tui_pruner.jobs.calibrate", "run_calibration", STAGES),
    "picture": Kind("job_messages.PictureParameters", "tui_pruner.jobs.data.pictures", "run_pictures"),
    "detect": Kind("job_messages.DetectionParameters", "tui_pruner.jobs.detections", "run_detections"),
    "report": Kind("job_messages.ReportParameters", "tui_pruner.jobs.report", "run_report", "tui_pruner.jobs.report"),
    "bench": Kind("search_messages.BenchParameters", "tui_pruner.jobs.latency", "run_bench", FIGURES),
    "export": Kind("job_messages.ExportParameters", "tui_pruner.jobs.export", "run_export", "tui_pruner.jobs.any_module.export"),
    "finetune": Kind("recovery_messages.FinetuneParameters", "tui_pruner.jobs.training.finetune", "run_finetuning", STAGES),
    "scan": Kind("search_messages.ScanParameters", "tui_pruner.jobs.scan.scan", "run_scan", FIGURES),
    "search-latency": Kind("search_messages.LatencySearchParameters", "tui_pruner.jobs.latency", "run_latency_search", FIGURES),
    "reconstruct": Kind("recovery_messages.ReconstructionParameters", "tui_pruner.jobs.recover", "run_reconstruction", STAGES),
    "plan": Kind("search_messages.PlanningParameters", "tui_pruner.jobs.plan", "run_planning", STAGES),
    "prune": Kind("recovery_messages.PruneParameters", "tui_pruner.jobs.recover", "run_pruning", STAGES),
    "compress": Kind("recovery_messages.CompressParameters", "tui_pruner.jobs.compress", "run_compression", "tui_pruner.jobs.compress"),
    "recalibrate": Kind("recovery_messages.RecalibrationParameters", "tui_pruner.jobs.recover", "run_recalibration"),
}


def main(arguments: list[str], kinds: Mapping[str, Kind] = KINDS) -> int:
    """Run one job; return the exit status."""
    wire = reserve_stdout()
    scratch = arguments[1] if len(arguments) > 1 else None
    lower_priority(to_keys=ATTENDED in os.environ)
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
    """The error as the user reads it."""
    if isinstance(error, PrunerError):
        return error
    if out_of_memory(error):
        return JobError(f"not enough memory for this job; free some, choose another --device or a smaller --imgsz; see {paths.log_file()}")
    return JobError(one_line("the job", error))


def _work(kinds: Mapping[str, Kind], arguments: list[str], line: bytes, wire: MessageStream) -> Message:
    if not arguments or arguments[0] not in kinds:
        raise JobError(f"no job {' '.join(arguments[:1])!r}; the jobs are {', '.join(kinds)}")
    kind = kinds[arguments[0]]
    parameters = kind.parameters.from_json(line)
    job_log = JobLog()
    job_log.begin(arguments[0], parameters)
    place = kind.module if getattr(parameters, "module", None) is None else kind.on_modules
    if not place:
        raise JobError(f"{arguments[0]} is for checkpoints of Ultralytics, not for a module")
    function = getattr(importlib.import_module(place), kind.function)

    def on_progress(progress: JobProgress) -> None:
        job_log.follow(progress)
        wire.send({"progress": progress.model_dump()})

    result: Message = function(parameters, on_progress)
    job_log.end()
    return result


def lower_priority(to_keys: bool) -> None:
    """Let others go first, above all where the app's interface and engine answer keys on the same cores."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if not to_keys:
        return
    # Linux shares the cores among sessions first (sched(7), autogroup), and this process leads one: niceness counts only within it.
    # More would starve a job beside other work: at 5, a session gets a third of what another one gets, at 10 a ninth.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(NICENESS))
    # And a thread that wakes up does not interrupt one that runs.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _use_scratch(scratch: str | None) -> None:
    if scratch is not None:
        tempfile.tempdir = os.environ["TMPDIR"] = scratch


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
