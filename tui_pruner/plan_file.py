"""A plan's file as plain data, read without the models' world: the interface hands it on to the engine, which understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tui_pruner.errors import PlanError
from tui_pruner.plain_yaml import parse_yaml, place_of, problem_of

LARGEST_FILE = 16 << 20


def read_plan_file(path: str | Path) -> Any:
    """What a YAML file holds.

    Raises:
        PlanError: missing, too large, or not YAML.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise PlanError(f"{file} is too large for a plan ({file.stat().st_size >> 20} MB)")
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PlanError(f"cannot read the plan {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    try:
        return parse_yaml(text)[1]
    except yaml.YAMLError as error:
        where = place_of(error)
        raise PlanError(f"{file} is not YAML{' in' if where else ''}{where}: {problem_of(error)}") from None
