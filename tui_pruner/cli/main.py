"""All commands in one place, and what errors become: one line on stderr and an exit status."""

from __future__ import annotations

import contextlib
import sys
import traceback

import typer

from tui_pruner import __version__
from tui_pruner.cli import looking, opening, pruning, validating, whereabouts
from tui_pruner.errors import PrunerError

EPILOG = "MODEL alone opens the app on it; nothing at all opens the start screen."
INTERRUPTED = 130
app = typer.Typer(
    name="tui-pruner",
    help="Make a trained Ultralytics model smaller and faster, layer by layer: previewed, proved, undoable.",
    epilog=EPILOG,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Make a trained Ultralytics model smaller and faster, layer by layer: previewed, proved, undoable."""
    if show:
        print(f"tui-pruner {__version__}")
        raise typer.Exit


app.command("open", hidden=True)(opening.open_app)
app.command()(opening.demo)
app.command()(looking.inspect)
app.command()(looking.groups)
app.command()(looking.preview)
app.command()(pruning.prune)
app.command()(pruning.prove)
app.command()(validating.validate)
app.command()(whereabouts.locate)


def call(arguments: list[str]) -> int:
    """Run a command line; its exit status."""
    try:
        status = at_once(arguments) if is_plain(arguments) else app(args=arguments, standalone_mode=False, prog_name="tui-pruner")
        if status == INTERRUPTED:  # Typer's answer to a KeyboardInterrupt
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("tui-pruner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except PrunerError as error:
        print(f"tui-pruner: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        return misused(error) if hasattr(error, "format_message") else unforeseen(error)


def is_plain(arguments: list[str]) -> bool:
    """Whether this only opens the app, with nothing to parse: Typer imports pydantic to parse, and the first screen would wait."""
    return len(arguments) <= 2 and arguments[:1] == ["open"] and not any(argument.startswith("-") for argument in arguments)


def at_once(arguments: list[str]) -> int:
    """Open the app without parsing."""
    return opening.open_app(arguments[1] if len(arguments) > 1 else None)


def misused(error: Exception) -> int:
    """A usage error of the option parser, known by its interface: Typer brings a parser of its own, or uses Click."""
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    print(f"tui-pruner: {message.rstrip('.')} (see tui-pruner --help)", file=sys.stderr)
    return 2


def unforeseen(error: Exception) -> int:
    """An error that nobody thought of: the traceback goes to the log, one line to the user."""
    from tui_pruner import places

    log = places.log_file()
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            traceback.print_exception(error, file=stream)
    first = str(error).splitlines()[0] if str(error) else ""
    print(f"tui-pruner: internal error: {type(error).__name__}: {first} (the traceback is in {log})", file=sys.stderr)
    return 3
