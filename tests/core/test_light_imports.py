"""Opening a model and trying a cut on it loads no compiler and no solver: they would cost seconds and a hundred megabytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tui_pruner.core.tracing import coupling
from tui_pruner.core.tracing.coupling import connected, first_connected

WORK = """
import json, sys
from tui_pruner.engine.service import Service
from tui_pruner.engine.requests import CheckShapes, Open
service = Service(lambda event, data: None)
service.call(Open(path=sys.argv[1]))
ran = service.call(CheckShapes(requests=[{"layer": "model.5", "amount": "30%"}])).result()
print(json.dumps({"ok": ran.ok, "loaded": [name for name in ("torch._dynamo", "torch._inductor", "scipy") if name in sys.modules]}))
"""


def test_dry_run_works_without_importing_the_compiler(demo_checkpoint: Path):
    run = subprocess.run([sys.executable, "-c", WORK, demo_checkpoint], check=True, capture_output=True, text=True)
    assert json.loads(run.stdout.splitlines()[-1]) == {"ok": True, "loaded": []}


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60))
def test_each_number_is_mapped_to_the_smallest_connected_one(count: int, pairs: list[tuple[int, int]]):
    pairs = [(a % count, b % count) for a, b in pairs]
    expected = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    assert first_connected(count, left, right).tolist() == expected


RUN = st.tuples(st.integers(0, 399), st.integers(0, 399), st.integers(1, 200))


@given(st.integers(1, 400), st.lists(RUN, max_size=8))
def test_runs_of_pairs_connect_what_the_pairs_do(count: int, runs: list[tuple[int, int, int]]):
    placed = [(a % count, b % count, min(size, count - a % count, count - b % count)) for a, b, size in runs]
    left, right = (np.concatenate([np.arange(one[side], one[side] + one[2]) for one in placed] or [np.zeros(0, int)]) for side in (0, 1))
    assert connected(count, left, right).tolist() == first_connected(count, left, right).tolist()


def test_one_axis_tied_to_another_takes_a_few_pieces(monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(coupling, "first_connected", lambda count, *pairs: sizes.append(count) or first_connected(count, *pairs))
    left, right = np.r_[1:65, 33:65], np.r_[101:165, 301:333]  # a whole axis, then half of it: each side is split in two
    assert connected(400, left, right).tolist() == first_connected(400, left, right).tolist()
    assert sizes[0] < 12
