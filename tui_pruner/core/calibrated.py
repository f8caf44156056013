"""Scores of channels that came from data, as a file: arrays by criterion and parameter axis, and which checkpoint they belong to."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_pruner.core.groups import ChannelGroup, CouplingMap, Member
from tui_pruner.errors import DataError

Scores = NDArray[np.float64]
ABOUT = "about"
SHA256, IMAGES, NOTES = "sha256", "images", "notes"


@dataclass(frozen=True)
class Calibration:
    """Scores of a checkpoint's channels. `axes` has an array per criterion and axis of a producer, NaN where nothing was scored."""

    sha256: str
    images: int
    notes: tuple[str, ...]
    axes: Mapping[str, Scores]

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria that there are scores by."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self.axes))

    def scores(self, group: ChannelGroup, criterion: str) -> Scores:
        """One score per channel of a group that `covers` was true of."""
        member = group.producers[0]
        return self.axes[name_of(criterion, member)][member.indices[:, 0]]

    def covers(self, coupling: CouplingMap, criteria: Iterable[str]) -> bool:
        """Whether every channel that can be removed has a score by each of the criteria."""
        return all(self._has(group, criterion) for criterion in criteria for group in coupling.groups if group.prunable)

    def to_bytes(self) -> bytes:
        """The content of the file: NumPy's .npz, without pickle."""
        stream = io.BytesIO()
        about = json.dumps({SHA256: self.sha256, IMAGES: self.images, NOTES: list(self.notes)})
        arrays: dict[str, Any] = {ABOUT: np.array(about), **self.axes}
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    def _has(self, group: ChannelGroup, criterion: str) -> bool:
        member = group.producers[0]
        found = self.axes.get(name_of(criterion, member))
        if found is None or found.ndim != 1 or len(found) <= int(member.indices.max()):
            return False
        return found.dtype == np.float64 and bool(np.isfinite(found[member.indices[:, 0]]).all())


def name_of(criterion: str, member: Member) -> str:
    """An array's name: "taylor/model.5.conv.weight/0"."""
    return f"{criterion}/{member.axis.parameter}/{member.axis.dim}"


def read_calibration(file: str | Path) -> Calibration:
    """Scores from a file.

    Raises:
        DataError: it is missing, damaged, or no such file.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            axes = {name: arrays[name] for name in arrays.files if name != ABOUT}
            about = json.loads(str(arrays[ABOUT]))
        return Calibration(str(about[SHA256]), int(about[IMAGES]), tuple(map(str, about[NOTES])), axes)
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise DataError(f"the calibrated scores {file} are missing or damaged: calibrate again") from None


def calibration_for(file: str | Path, sha256: str, coupling: CouplingMap, criteria: Iterable[str] = ()) -> Calibration:
    """Scores from a file that are good for a checkpoint: by these criteria, or by those that the file has.

    Raises:
        DataError: it is missing or damaged, belongs to another checkpoint, or lacks channels of this one.
    """
    found = read_calibration(file)
    if found.sha256 != sha256:
        raise DataError(f"the calibrated scores {file} are of another checkpoint ({found.sha256[:12]}): calibrate this one ({sha256[:12]})")
    wanted = tuple(criteria) or found.criteria
    if not wanted or not found.covers(coupling, wanted):
        raise DataError(f"the calibrated scores {file} do not cover every channel of this model: calibrate again")
    return found
