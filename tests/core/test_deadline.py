"""A deadline that was kept leaves nothing behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys

from tests.deadlines import HANGING

PROFILED = """
import sys
from tui_pruner.domain.deadlines import deadline

calls = []
with deadline(60):
    pass
sys.setprofile(lambda frame, event, argument: calls.append(event))
(lambda: None)()
sys.setprofile(None)
print(calls.count("call"))
"""


def test_profiler_works_after_a_deadline():
    ran = subprocess.run([sys.executable, "-c", PROFILED], capture_output=True, text=True, timeout=HANGING, check=True)
    assert ran.stdout.split() == ["1"]
