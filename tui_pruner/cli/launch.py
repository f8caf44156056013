"""Start the app while its engine starts, without the option parser; and how a command ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
    """Run a command and return its exit status."""
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
"""Set where the app runs in a browser: `textual serve` gives it another driver."""


def in_terminal() -> bool:
    """Whether the app can be shown and get keys."""
    return SERVED in os.environ or (sys.stdin.isatty() and sys.stdout.isatty())


def launch(model: str | None, *, theme: str | None = None, ascii: bool = False, calm: bool = False, **options: Any) -> int:
    """Start the app on a model, or on the start screen, with the user's settings; the other `options` are those of `run_app`.

    Raises:
        RequestError: no terminal.
    """
    if not in_terminal():
        raise RequestError("the app needs a terminal; without one use inspect, preview, prune, validate (see tui-pruner --help)")
    config = read_config()
    use_as_environment(config.settings, theme=theme, ascii=ascii, calm=calm)
    trust_remembered()
    gc.disable()  # until the first screen is there: passing over what is being imported takes a tenth of the time to it
    try:
        return asyncio.run(with_engine(model, config=config, **options))
    finally:
        gc.enable()


PAINTS = "1000"
"""The most paints a second: Textual begins one up to two of their periods after the last one. By its 60 a key waits up to 33 ms."""

LONGEST_TURN = 0.0005
"""Seconds until another thread may run: the one that writes a painted frame shall not wait for Python's 5 ms."""


async def with_engine(model: str | None, **options: Any) -> int:
    """The app, for which the engine starts before the interface is imported: both then import at the same time.

    Where the app does not come to take the engine over, or breaks off, the engine is ended here.
    """
    from tui_pruner.engine.processes import ATTENDED, end_group, start_engine

    os.environ[ATTENDED] = "1"
    os.environ.setdefault("TEXTUAL_FPS", PAINTS)
    sys.setswitchinterval(LONGEST_TURN)
    engine = None
    if model is not None or options.get("saved") is not None:
        with contextlib.suppress(OSError):  # tried again, and told, by the loading screen
            engine = await start_engine()
    try:
        from tui_pruner.tui.app import run_app

        await asyncio.sleep(0)  # Ctrl-C during the imports arrives here, before there is a screen
        return await run_app(model, engine=engine, **options)
    except BaseException:
        if engine is not None and engine.returncode is None:
            await end_group(engine)
        raise


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
    """Start the app on the bundled checkpoint."""
    checkpoint, data = demo_files()
    return launch(str(checkpoint), data=str(data), images=DEMO_IMAGES, **options)
