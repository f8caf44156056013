"""A plan's file as plain data, read without the models' world: the interface hands it on to the engine, which understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tui_pruner.errors import PlanError

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
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"cannot read the plan {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise PlanError(f"{file} is not YAML{line}: {getattr(error, 'problem', None) or 'malformed'}") from None
    except RecursionError:
        raise PlanError(f"{file} is nested too deeply for a plan") from None
