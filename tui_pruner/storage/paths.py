"""Where files live on this machine: configuration, state, log, cache (XDG folders through platformdirs)."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import PlatformDirs

OWN_LOG = "TUI_PRUNER_LOG"


def _dirs() -> PlatformDirs:
    return PlatformDirs("tui-pruner", appauthor=False)


def config_file() -> Path:
    """The user's settings."""
    return Path(_dirs().user_config_dir) / "config.yaml"


def state_folder() -> Path:
    """Sessions and the log."""
    return Path(_dirs().user_state_dir)


def sessions_folder() -> Path:
    """The sessions that can be resumed."""
    return state_folder() / "sessions"


def trust_file() -> Path:
    """The SHA-256 of the files that the user of the app trusts like programs."""
    return state_folder() / "trusted.txt"


def log_file() -> Path:
    """The output of the engine, the jobs and their libraries; for a job with a log of its own (`OWN_LOG`), that log."""
    own = os.environ.get(OWN_LOG)
    return Path(own) if own else state_folder() / "log" / "tui-pruner.log"


def job_logs() -> Path:
    """The folder with the logs of the newest jobs."""
    return state_folder() / "log" / "jobs"


def cache_folder() -> Path:
    """Results that can be computed again; safe to delete."""
    return Path(_dirs().user_cache_dir)


def demo_folder() -> Path:
    """The bundled checkpoint and its scenes: inside the wheel, or in the source tree's assets."""
    package = Path(__file__).parent.parent
    packaged = package / "demo"
    return packaged if packaged.is_dir() else package.parent / "assets" / "demo"
