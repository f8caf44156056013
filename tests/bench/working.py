"""The app at work in a pseudo-terminal: how soon keys answer while a training or a scan runs, what it sends, what memory it holds."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import yaml

from tests.bench.figures import Figure
from tests.bench.processes import (
    children_of,
    cores_used,
    occupied,
    proportional_bytes,
    resident_bytes,
    seconds_used,
    wait_until_idle,
    with_descendants,
)
from tests.bench.sandbox import CHECKPOINT, PROGRAM, temporary_home
from tests.bench.screen import Terminal

MIB, KB = 1 << 20, 1000
LAYER, FOUND = "16", "1 of 64 layers"
METRIC = "(."
"""How the interval of a validation's metric begins."""
COUNTED = re.compile(rb"trained\.pt\W+\d+/\d+")
"""How the jobs pane shows a training that has counted a batch."""
SCANNING = re.compile(rb"scan checkpoint\W+\d+/\d+")
"""How it shows a scan that knows its trials."""
MOST_PERCENT = 60
TO_END, CLEAR = "\x05", "\x15"
SILENCE, OPENING = 1.0, 1.0
TARGETS = {"key": 0.025, "job": 20.0, "idle": 0.0, "memory": 80.0}


@dataclass(frozen=True)
class Load:
    """How many copies of the bundled scenes to train on (more than there is time for), keys to press, seconds to watch it and nothing.

    `under_load`: keys are pressed once more while all other cores are busy with a job's priority.
    """

    copies: int = 2
    imgsz: int = 320
    images: int = 32
    keys: int = 300
    watched: float = 5.0
    idle: float = 5.0
    under_load: bool = False


@dataclass(frozen=True)
class Work:
    """What was seen: seconds from each key to its effect, the interface's own seconds for a key, cores that the job used, bytes a second
    while it ran (on the workbench, and with the list of jobs in front of it), bytes while nothing did, and bytes of memory.

    `under_load`: seconds from each key to its effect while all cores were busy, and how many were.
    """

    keys: list[float]
    own: float
    cores: float
    under_load: tuple[list[float], float] | None
    bytes_per_second: float
    jobs_bytes_per_second: float
    idle_bytes: int
    proportional: int
    resident: int


def working_figures(say: Callable[[str], None]) -> list[Figure]:
    """All figures of one session with a long training."""
    load, longer = Load(under_load=True), Load(imgsz=640, images=256)
    with TemporaryDirectory(prefix="tui-pruner-work-") as folder:
        say("working while a training runs")
        work = watch(load, Path(folder))
        say("working while a scan runs")
        beside_scan, cores = keys_beside_a_scan(longer, Path(folder))
    return [
        *key_figures("a training", work.keys, work.cores),
        *(key_figures("a training, all other cores busy with its priority", *work.under_load) if work.under_load else ()),
        *key_figures("a scan", beside_scan, cores),
        Figure("  the processor's time in the interface for a key, mean", work.own, "s", target=TARGETS["key"]),
        Figure("bytes a second while a training runs, 120x40", work.bytes_per_second / KB, "KB", target=TARGETS["job"]),
        Figure("  the same with the list of jobs open", work.jobs_bytes_per_second / KB, "KB", target=TARGETS["job"]),
        Figure(f"bytes while nothing runs, in {load.idle:.0f} s", work.idle_bytes, "B", target=TARGETS["idle"]),
        Figure("memory of the interface after that, resident", work.resident / MIB, "MB", target=TARGETS["memory"]),
        Figure("  the same, its share of what it shares (PSS)", work.proportional / MIB, "MB", target=TARGETS["memory"]),
    ]


def key_figures(job: str, keys: Sequence[float], cores: float) -> list[Figure]:
    """How soon keys answer beside a job."""
    return [
        Figure(f"a key answers beside {job} ({cores:.1f} cores busy): p99 of {len(keys)}", p99(keys), "s", target=TARGETS["key"]),
        Figure("  the same, median", median(keys), "s"),
    ]


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(seconds, n=100, method="inclusive")[98]


def opened(load: Load, folder: Path) -> list[str]:
    """The command that opens the bundled checkpoint with a data set that keeps a job busy."""
    data = copied_scenes(folder, load.copies)
    return [str(PROGRAM), str(CHECKPOINT), "--data", str(data), "--images", str(load.images), "--imgsz", str(load.imgsz)]


def until_open(terminal: Terminal) -> None:
    """Wait until the model and its metric are shown."""
    terminal.read_until(["Backbone"], settled=False)
    terminal.read_until([METRIC], settled=False)


def jobs_once(terminal: Terminal, shown: re.Pattern[bytes]) -> list[int]:
    """The app's jobs once the jobs pane shows that theirs is under way."""
    while not shown.search(terminal.recording.plain()):
        assert terminal.process.poll() is None, "the program ended before its job began"
        terminal.record(OPENING)
    return jobs_of(terminal.process.pid)


def keys_beside_a_scan(load: Load, folder: Path) -> tuple[list[float], float]:
    """Press keys while a scan runs; seconds of each key, and the cores that the scan used."""
    with temporary_home(), Terminal(opened(load, folder)) as terminal:
        until_open(terminal)
        terminal.press("S")
        jobs = jobs_once(terminal, SCANNING)
        _, cores = bytes_and_cores(terminal, jobs, load.watched)
        find_layer(terminal)
        keys = press_keys(terminal, load.keys)
        assert jobs == jobs_of(terminal.process.pid), "the scan was over before the last key"
        return keys, cores


def watch(load: Load, folder: Path) -> Work:
    """One session: after a validation, a training; first no one presses a key, then many; then it is cancelled and nothing runs."""
    with Terminal(opened(load, folder)) as terminal:
        until_open(terminal)
        terminal.press("10\r")  # what was not cut is not trained
        terminal.read_until(["applies"], settled=False)
        terminal.press("a")
        terminal.read_until(["proved"], settled=False)
        terminal.press("R")
        terminal.read_until(["30 epochs"], settled=False)
        terminal.press("5")
        terminal.read_until(["Enter confirm"], settled=False)
        terminal.press(f"{TO_END}{CLEAR}{folder / 'trained.pt'}\r")
        jobs, interface = jobs_once(terminal, COUNTED), terminal.process.pid
        sent, cores = bytes_and_cores(terminal, jobs, load.watched)
        terminal.press("b")
        terminal.read_until(["run again"], settled=False)
        terminal.record(OPENING)
        sent_by_list, _ = bytes_and_cores(terminal, jobs, load.watched)
        terminal.press("\x1b")
        terminal.read_until(["Backbone"], settled=False)
        terminal.record(OPENING)
        find_layer(terminal)
        before_keys = seconds_used(interface)
        keys = press_keys(terminal, load.keys)
        own = (seconds_used(interface) - before_keys) / load.keys
        under_load = keys_under_load(terminal, load, jobs) if load.under_load else None
        assert jobs == jobs_of(interface), "the training was over before the last key"
        ending = len(terminal.recording.chunks)
        while b"cancelled" not in terminal.recording.plain(ending):  # the first time, a training with an epoch behind it ends early
            terminal.press("K")
            terminal.read_until(["Cancel the job?"], settled=False)
            terminal.press("y")
            terminal.record(OPENING)
        for child in children_of(interface):
            wait_until_idle(child)
        terminal.record_until_silent(SILENCE)
        before = terminal.recording.size
        terminal.record(load.idle)
        return Work(
            keys,
            own,
            cores,
            under_load,
            sent,
            sent_by_list,
            terminal.recording.size - before,
            proportional_bytes(interface),
            resident_bytes(interface),
        )


def keys_under_load(terminal: Terminal, load: Load, jobs: Sequence[int]) -> tuple[list[float], float]:
    """Press keys while a job runs and all other cores are busy too; seconds of each key, and the cores that were used beside them."""
    with occupied((os.cpu_count() or 2) - 1) as others:
        terminal.record(OPENING)
        _, cores = bytes_and_cores(terminal, [*jobs, *others], load.watched)
        return press_keys(terminal, load.keys), cores


def bytes_and_cores(terminal: Terminal, processes: Sequence[int], seconds: float) -> tuple[float, float]:
    """Bytes a second that come, and cores that the processes keep busy, while no one presses a key."""
    before = terminal.recording.size
    cores = cores_used(with_descendants(processes), lambda: terminal.record(seconds))
    return (terminal.recording.size - before) / seconds, cores


def find_layer(terminal: Terminal) -> None:
    """Go to a layer."""
    terminal.press(f"/{LAYER}\r")
    terminal.read_until([FOUND], settled=False)


def press_keys(terminal: Terminal, count: int) -> list[float]:
    """Change a layer's ratio by one percent after the other; seconds until each is on the screen."""
    answers = []
    for number in itertools.islice(itertools.cycle(range(1, MOST_PERCENT + 1)), count):
        if number == 1:
            terminal.press("x")
            terminal.record(0.3)
        answers.append(terminal.answer("\x1b[C", f"−{number}%"))
        terminal.record(0.01 + 0.037 * number % 0.03)  # keys at all phases of the screen's own pulse
    return answers


def jobs_of(interface: int) -> list[int]:
    """The app's jobs that run, by their process ids."""
    return [child for child in children_of(interface) if "tui_pruner.jobs" in Path(f"/proc/{child}/cmdline").read_text()]


def copied_scenes(folder: Path, copies: int) -> Path:
    """The bundled scenes this many times over, as a data set of its own; gives its data yaml."""
    from tui_pruner.storage.paths import demo_folder

    content = yaml.safe_load((demo_folder() / "digits.yaml").read_text())
    source = demo_folder() / content["val"]
    for image in sorted(source.glob("*.*")):
        label = Path(str(image).replace("images", "labels")).with_suffix(".txt")
        for number in range(copies):
            for file, kind in ((image, "images"), (label, "labels")):
                target = folder / kind / "val" / f"{number:02}-{file.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    yaml_file = folder / "scenes.yaml"
    yaml_file.write_text(yaml.safe_dump({"train": "images/val", "val": "images/val", "names": content["names"]}))
    return yaml_file
