"""`python -m tests.faults fuzzed_plans`: 2,000 plans and as many config files that hypothesis made up, from random text to nearly right.

A plan is read and replayed on a real model, or refused in one line that names the file and the place. A config file gives settings, with
one line for each mistake. Tags make no objects, aliases no billions of values, and none of it takes longer than a few seconds.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.plan import read_plan
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.errors import PlanError, PrunerError
from tui_pruner.frameworks.ultralytics import build_from_yaml
from tui_pruner.storage.settings import Config, Settings, read_config
from tui_pruner.tui.actions import keymap_of
from tui_pruner.tui.controllers import ACTIONS

WANTED = 2000
LONGEST = 5.0
"""Seconds of processor time."""
MOST_GROWTH = 300 << 20
LAYERS = ("model.5", "model.6.m.0.cv1", "6", "backbone", "*", "model.22.cv3.0.2", "model.99", "", "[", "\x1b[2J")
AMOUNTS = ("30%", "0.3", "keep:20", "heads:1", "100%", "-1%", "nan", "1e99", "keep:99999999999999999999", "", "%")
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.binary(max_size=8), st.sampled_from(LAYERS)
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), inner, max_size=4),
    max_leaves=12,
)
INDICES = st.lists(st.one_of(st.integers(-2, 140), st.integers()), max_size=6)
PARAMETERS = st.sampled_from(["model.5.conv.weight", "model.7.conv.weight", "model.22.cv3.0.2.weight", "model.99.conv.weight", ""])
REMOVES = st.dictionaries(PARAMETERS, st.dictionaries(st.integers(-1, 5), INDICES, max_size=2), max_size=2)
CUT = st.fixed_dictionaries(
    {"layer": st.sampled_from(LAYERS), "amount": st.sampled_from(AMOUNTS)},
    optional={"criterion": st.sampled_from(["l2", "l1", "taylor", "no"]), "round_to": st.integers(-1, 9), "removes": REMOVES},
)
STEP = st.fixed_dictionaries({"cuts": st.lists(CUT, max_size=3)}, optional={"name": st.text(max_size=10)})
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "\n".join(f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi"))
SNIPPETS = st.sampled_from(
    ["!!python/object/apply:os.system [touch canary]", "!!python/name:os.system", "&a [*a]", BOMB, "[" * 5000, "{a: " * 5000, "- " * 5000,
     "<<: {a: 1}", "!!int x", "2001-99-99", "!!binary ?", "? [a]\n: b", "\t", "%YAML 3.0\n---", "---\n...\n---", "'", '"\\xZZ"', "9" * 5000,
     "*unknown", "&", "| \n x", "=", "!!set {a, b}", "!!omap [a: 1]", "0x" + "f" * 5000, "1:99:99", ".nan"]
)  # fmt: skip


def near_right(sha256: str) -> st.SearchStrategy[dict[str, Any]]:
    """Plans that are right but for a value, or altogether."""
    right = {"checkpoint": st.just("yolov8n.yaml"), "sha256": st.just(sha256), "steps": st.lists(STEP, max_size=3)}
    plans = st.fixed_dictionaries(right, optional={"format": st.sampled_from([1, 1, 2, "1", None]), "extra": DATA})
    wrong = st.tuples(plans, st.sampled_from(["format", "checkpoint", "sha256", "steps"]), DATA).map(lambda all: {**all[0], all[1]: all[2]})
    return st.one_of(plans, wrong)


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "theme": st.one_of(st.sampled_from(["light", "dark"]), DATA), "ascii": DATA, "calm": DATA, "imgsz": st.one_of(st.integers(), DATA),
        "images": DATA, "validate_every_step": DATA, "thmee": DATA,
        "keymap": st.one_of(DATA, st.dictionaries(st.sampled_from(["apply", "undo", "x"]), DATA)),
    },
)  # fmt: skip


def as_text(content: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """YAML of the content, with something put into it somewhere, or cut out of it, or as it is; or any bytes."""

    def damaged(text: str, place: int, snippet: str, mode: str) -> bytes:
        place %= len(text) + 1
        changed = {"right": text, "put": f"{text[:place]}{snippet}{text[place:]}", "cut": text[:place], "alone": snippet}[mode]
        return changed.encode("utf-8", "surrogatepass")

    written = content.map(lambda value: yaml.safe_dump(value, allow_unicode=True))
    modes = st.sampled_from(["right", "right", "right", "put", "put", "cut", "alone"])
    snippets = st.one_of(SNIPPETS, st.text(max_size=6))
    return st.one_of(st.builds(damaged, written, st.integers(0, 10_000), snippets, modes), st.binary(max_size=40))


class Tally:
    """What came of the files, and how long the slowest took."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0

    def count(self, kind: str, seconds: float) -> None:
        """One more."""
        self.counts[kind] += 1
        self.slowest = max(self.slowest, seconds)
        assert seconds < LONGEST, f"{seconds:.1f} s"

    def __str__(self) -> str:
        return ", ".join(f"{number} {kind}" for kind, number in sorted(self.counts.items())) + f"; slowest {self.slowest:.2f} s"


def try_plan(file: Path, session: PruningSession, tally: Tally) -> None:
    """Read and replay a plan, or have it refused with its place."""
    started = time.process_time()
    try:
        plan = read_plan(file)
    except PlanError as error:
        message = str(error)
        assert file.name in message and message.isprintable() and len(message) < 600, message
        tally.count("plans refused", time.process_time() - started)
        return
    try:
        session.load(plan.plain())
        tally.count("plans replayed", time.process_time() - started)
    except PrunerError as error:
        assert str(error).isprintable(), str(error)
        tally.count("plans that do not fit", time.process_time() - started)


def try_config(file: Path, tally: Tally) -> None:
    """Read settings and use their keymap, or have their mistakes said, each in one line with its place."""
    started = time.process_time()
    config = read_config(file)
    keymap = keymap_of(ACTIONS, config.settings.keymap)
    assert isinstance(config, Config) and isinstance(config.settings, Settings)
    for problem in config.problems:
        assert file.name in problem and problem.isprintable() and len(problem) < 600, problem
    assert all(problem.isprintable() and len(problem) < 600 for problem in keymap.problems), keymap.problems
    tally.count("settings with mistakes" if config.problems or keymap.problems else "settings without", time.process_time() - started)


def run(wanted: int = WANTED) -> list[str]:
    """Try plans and settings and tell what came of them; gives what must not have happened."""
    session, tally = PruningSession(analyse(build_from_yaml("yolov8n.yaml"), imgsz=64)), Tally()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="fuzzed-") as folder:
        file = Path(folder) / "fuzzed.yaml"
        often = settings(max_examples=wanted, deadline=None, database=None, suppress_health_check=list(HealthCheck))

        @seed(1)
        @often
        @given(as_text(near_right(session.analysis.checkpoint.sha256)))
        def plans(content: bytes) -> None:
            file.write_bytes(content)
            try_plan(file, session, tally)

        @seed(2)
        @often
        @given(as_text(SETTINGS))
        def configs(content: bytes) -> None:
            file.write_bytes(content)
            try_config(file, tally)

        faults = list(filter(None, map(_fails, (plans, configs))))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"      {tally}; at most {grown >> 20} MiB more")
    return faults if grown < MOST_GROWTH else [*faults, f"took {grown >> 20} MiB"]


def _fails(test: Any) -> str:
    try:
        test()
    except BaseException as error:  # no matter what it is, it must not have come through
        return f"{type(error).__name__}: {error}"[:400]
    return ""
