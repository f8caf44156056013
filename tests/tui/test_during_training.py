"""The app in a real terminal while a training takes all the processor time that it can get: keys, bytes and memory; then at rest.

The bounds leave room for a busy machine; `make bench` has the targets.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

import pytest

from tests.bench.working import KB, MIB, Load, p99, watch

LIGHT = Load(copies=1, imgsz=640, keys=100, watched=1.5, idle=3.0)
P99, MEDIAN = 0.5, 0.15
BYTES_PER_SECOND = 20 * KB
MEMORY = 80 * MIB


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads memory and processor time from /proc")
def test_keys_bytes_and_memory_stay_within_limits_while_a_training_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count()))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    work = watch(LIGHT, tmp_path)
    assert work.cores > 0.1
    assert len(work.keys) == LIGHT.keys and 0 < median(work.keys) < MEDIAN and p99(work.keys) < P99
    assert 100 < work.bytes_per_second < BYTES_PER_SECOND
    assert 100 < work.jobs_bytes_per_second < BYTES_PER_SECOND
    assert work.idle_bytes == 0
    assert 20 * MIB < work.resident <= MEMORY and work.proportional <= work.resident
