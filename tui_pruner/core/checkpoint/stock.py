"""The one door to stock Ultralytics: imported late, quiet, offline, and never installing or evaluating what a file names."""

from __future__ import annotations

import os
from types import ModuleType

ENVIRONMENT = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false", "ULTRALYTICS_SAFE_LOAD": "true"}


def stock_tasks() -> ModuleType:
    """`ultralytics.nn.tasks`: the model classes and the allow-list loader.

    From here on this process loads known classes only and evaluates nothing that a checkpoint or an architecture says.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ultralytics.nn import tasks
    from ultralytics.utils import checks

    tasks.SAFE_LOAD = True  # the flag above is read at import, which may have happened before
    checks.AUTOINSTALL = False  # whatever the user's environment says: a file that names a module gets none installed
    return tasks  # type: ignore[no-any-return]


def default_arguments() -> dict[str, object]:
    """Ultralytics' default settings, which its own loader merges under a checkpoint's training arguments."""
    stock_tasks()
    from ultralytics.utils import DEFAULT_CFG_DICT

    return dict(DEFAULT_CFG_DICT)
