"""Results of trials, each in a file of its own as soon as it is known: a scan that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from tui_pruner import places
from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.jobs.cache import digest_of
from tui_pruner.whole_file import replace_file

BASELINE = "baseline"
IMAGES = "images"
SHARED = "shared"
"""Beside the baseline's metrics: how many images could be used, and whether trials share what they do not change (1 or 0)."""
Metrics = dict[str, float]


class ScanStore:
    """The metrics of a checkpoint's trials on one subset of one data set, by the digest of what a trial removes."""

    def __init__(self, parameters: JobParameters, data_digest: str) -> None:
        self.folder: Path = places.cache_folder() / "scan" / digest_of(parameters, data_digest)

    def load(self, digest: str) -> Metrics | None:
        """What is known of a trial; None where there is nothing, or its file is damaged."""
        try:
            content = json.loads((self.folder / f"{digest}.json").read_bytes())
        except (OSError, ValueError):
            return None
        sound = isinstance(content, dict) and all(isinstance(value, (int, float)) for value in content.values())
        return {str(name): float(value) for name, value in content.items()} if sound else None

    def keep(self, digest: str, metrics: Mapping[str, float]) -> None:
        """Remember a trial, whole or not at all; a cache that cannot be written is no reason to lose the result."""
        with contextlib.suppress(OSError):
            replace_file(self.folder / f"{digest}.json", json.dumps(dict(metrics)).encode())
