"""Start the app without the option parser, whose import takes a sixth of the time until the first screen; and how a command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tui_pruner.domain.errors import FAILED, INTERRUPTED, CheckpointError, PrunerError, RequestError
from tui_pruner.storage import paths
from tui_pruner.storage.error_log import keep_traceback, one_line
from tui_pruner.storage.settings import read_config, use_as_environment
from tui_pruner.storage.trust import trust_remembered


def ended(action: Callable[[], int]) -> int:
    """Run a command; its exit status."""
    try:
        return action()
    except KeyboardInterrupt:
        print("tui-pruner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except PrunerError as error:
        print(f"tui-pruner: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        keep_traceback(error)
        print(f"tui-pruner: {one_line('the command', error)}", file=sys.stderr)
        return FAILED


DEMO_IMAGES = 64
SERVED = "TEXTUAL_DRIVER"
"""Set where the person sits before a browser: `textual serve` gives the app a driver of its own."""


def in_terminal() -> bool:
    """Whether a person is there to see the app and to press its keys."""
    return SERVED in os.environ or (sys.stdin.isatty() and sys.stdout.isatty())


def launch(model: str | None, *, theme: str | None = None, ascii: bool = False, calm: bool = False, **options: Any) -> int:
    """The app on a model, or on the start screen, with the user's settings; the other `options` are those of `run_app`.

    Raises:
        RequestError: no terminal.
    """
    if not in_terminal():
        raise RequestError("the app needs a terminal; without one use inspect, preview, prune, validate (see tui-pruner --help)")
    config = read_config()
    use_as_environment(config.settings, theme=theme, ascii=ascii, calm=calm)
    trust_remembered()
    from tui_pruner.tui.app import run_app

    return run_app(model, config=config, **options)


def demo_files() -> tuple[Path, Path]:
    """The bundled checkpoint and its data yaml.

    Raises:
        CheckpointError: the package is incomplete.
    """
    folder = paths.demo_folder()
    checkpoint, data = folder / "digits.pt", folder / "digits.yaml"
    if not checkpoint.is_file():
        raise CheckpointError(f"the bundled checkpoint is missing at {checkpoint}: reinstall the package, or run assets/build_demo.py")
    return checkpoint, data


def launch_demo(**options: Any) -> int:
    """The app on the bundled checkpoint."""
    checkpoint, data = demo_files()
    return launch(str(checkpoint), data=str(data), images=DEMO_IMAGES, **options)
