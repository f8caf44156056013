"""The metrics of a validation over the images that it has seen so far."""

from __future__ import annotations

import copy
import time
from typing import Any

SHARE = 0.05


class SoFar:
    """What Ultralytics itself would say if the validation ended now, told as long as that costs a small share of the time.

    The cost grows with the images seen, so that in a long validation most batches repeat what was computed last.
    """

    def __init__(self, validator: Any) -> None:
        self._validator = validator
        self._began = time.perf_counter()
        self._spent = self._last = 0.0
        self._metrics: dict[str, float] = {}

    def metrics(self) -> dict[str, float]:
        """By Ultralytics' names; the validation goes on as if nothing had been asked."""
        began = time.perf_counter()
        if self._spent + self._last <= SHARE * (began - self._began):
            self._metrics = metrics_now(self._validator)
            self._last = time.perf_counter() - began
            self._spent += self._last
        return self._metrics


def metrics_now(validator: Any) -> dict[str, float]:
    """The final metrics of a twin that has seen the same images: computing them empties what a validator has collected."""
    twin = copy.copy(validator)
    twin.metrics = copy.deepcopy(validator.metrics)
    return {name: float(value) for name, value in twin.get_stats().items()}
