"""A plan's file as plain data, read without the models' world: the interface hands it on to the engine, which understands it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from tui_pruner.errors import OutputError, PlanError

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


def check_plan_output(path: Path, force: bool) -> None:
    """Refuse a place where a plan cannot be written, before any work is done.

    Raises:
        OutputError: a folder, an existing file without `force`, no such folder, or no permission.
    """
    if path.is_dir():
        raise OutputError(f"the plan {path} is a folder: add a file name such as plan.yaml")
    if path.exists() and not force:
        raise OutputError(f"the plan {path} exists already: choose another name or give --force")
    if not path.parent.is_dir():
        raise OutputError(f"the plan {path} cannot be written: there is no folder {path.parent}, create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"the plan {path} cannot be written: no permission, choose another folder")
