"""Child processes whose surgery is wrong, so that every proof of a cut fails."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).parent


def damaged_environment() -> dict[str, str]:
    """The environment of a program whose cuts are damaged, in all of its children too."""
    path = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
