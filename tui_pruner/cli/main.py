"""All commands, and how errors are reported: one line on stderr and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module

import typer

from tui_pruner import __version__
from tui_pruner.cli.launch import ended
from tui_pruner.cli.options import GroupedCommands, panel_of, with_trust
from tui_pruner.domain.errors import INTERRUPTED
from tui_pruner.domain.formatting import printable

EPILOG = (
    "MODEL alone opens the app on it; nothing at all opens the start screen. The app (no command) and inspect, groups, explain, preview, "
    "prune, prove, validate, scan, plan, bench, gate, report, reconstruct, finetune, compress and export also take any module: --model "
    "package.module:build --inputs package.module:inputs, with functions of yours (--batches, --evaluate, --train)."
)
SUMMARY = "Make a trained Ultralytics model smaller and faster, layer by layer: previewed, proved, undoable."
MODULES = {
    "app": ("demo", "sessions", "locate", "keys", "serve"),
    "compress": ("compress",),
    "export": ("export", "report"),
    "flow": ("flow",),
    "inspect": ("inspect", "contents", "groups", "explain", "preview", "coverage"),
    "measure": ("validate", "gate", "bench"),
    "plan": ("plan",),
    "prune": ("prune", "prove", "steps"),
    "recover": ("recalibrate", "reconstruct", "finetune"),
    "scan": ("scan",),
}
"""The commands by their module in `cli/commands`; each is a function of its name."""
FOUND = {command: module for module, commands in MODULES.items() for command in commands}
WITHOUT_MODEL = MODULES["app"]
OF_A_MODULE = ("--model", "--inputs", "--weights", "--batches", "--evaluate", "--train")
"""Prefixes of the options by which a command is about any module."""


def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Make a trained Ultralytics model smaller and faster, layer by layer: previewed, proved, undoable."""
    if show:
        print(f"tui-pruner {__version__}")
        raise typer.Exit


def app_of(commands: Iterable[str] = ("open", *FOUND)) -> typer.Typer:
    """The parser of these commands; only their modules are imported."""
    app = typer.Typer(
        name="tui-pruner",
        help=SUMMARY,
        epilog=EPILOG,
        no_args_is_help=False,
        cls=GroupedCommands,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(version)
    for name in commands:
        if name == "open":
            app.command("open", hidden=True)(with_trust(function_of("app", "open_app"), looks_first=False))
        else:
            command = function_of(FOUND[name], name)
            app.command(rich_help_panel=panel_of(name))(command if name in WITHOUT_MODEL else with_trust(command))
    return app


def function_of(module: str, name: str) -> Callable[..., int]:
    """The function of a command."""
    found: Callable[..., int] = getattr(import_module(f"tui_pruner.cli.commands.{module}"), name)
    return found


def call(arguments: list[str]) -> int:
    """Run a command line and return its exit status."""
    return ended(lambda: parsed(arguments))


def parsed(arguments: list[str]) -> int:
    """Parse a command line and run its command."""
    try:
        status = parser_for(arguments)(args=arguments, standalone_mode=False, prog_name="tui-pruner")
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if hasattr(error, "format_message"):
            return usage_error_status(error)
        raise
    if status == INTERRUPTED:  # Typer's answer to a KeyboardInterrupt
        raise KeyboardInterrupt
    return status if isinstance(status, int) else 0


def parser_for(arguments: list[str]) -> typer.Typer:
    """The parser for a command line: with its own command only, or with all where it names none."""
    if any(argument.startswith(OF_A_MODULE) for argument in arguments):
        from tui_pruner.cli.commands import module, module_jobs, module_results  # noqa: F401  # each registers its commands

        if module.is_meant(arguments):
            return module_jobs.app
    first = arguments[0] if arguments else ""
    return app_of([first]) if first in FOUND or first == "open" else app_of()


def usage_error_status(error: Exception) -> int:
    """A usage error of the option parser, recognised by its methods: Typer has a parser of its own, or uses Click."""
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    if near := getattr(error, "possibilities", None):
        message = f"{message.partition(' (Possible')[0].partition(' Did you')[0].rstrip('.')}; did you mean {' or '.join(sorted(near))}?"
    print(printable(f"tui-pruner: {message.rstrip('.')} (see tui-pruner --help)"), file=sys.stderr)
    return 2
