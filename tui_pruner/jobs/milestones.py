"""The points on the way to targets: as much of everything as the targets say, in steps of so many hundredths."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_pruner.errors import RequestError


def milestones(targets: list[str], step: int | None) -> list[list[str]]:
    """Return the targets of each point, the mildest first and the targets themselves last; only these without a step.

    Raises:
        RequestError: a target that is no share, where there is a step.
    """
    from tui_pruner.core.budget.targets import parse_target

    parsed = [parse_target(text) for text in targets]
    if not parsed:
        raise RequestError("there is no target: give one, such as flops=60%")
    if step is None:
        return [targets]
    shares = {target.measure: target.share for target in parsed}
    unclear = next((text for text, target in zip(targets, parsed, strict=True) if target.share is None), None)
    if unclear is not None:
        raise RequestError(f"with --max-drop the target {unclear} must be a share, such as flops=60%: it is approached in steps")
    count = max(1, math.ceil(max(100 * (1 - share) for share in shares.values() if share is not None) / step - 1e-9))
    return [
        [f"{measure}={100 - 100 * (1 - share) * number / count:g}%" for measure, share in shares.items() if share is not None]
        for number in range(1, count + 1)
    ]


def name_of(targets: Sequence[str]) -> str:
    """Return a point's name in files: flops-70."""
    return "-".join(target.replace("=", "-").replace("%", "") for target in targets)
