"""All commands in one place, and what errors become: one line on stderr and an exit status."""

from __future__ import annotations

import sys

import typer

from tui_pruner import __version__
from tui_pruner.cli.commands import app as around
from tui_pruner.cli.commands import compress, export, flow, inspect, measure, module, plan, prune, recover, report, scan
from tui_pruner.cli.launch import ended
from tui_pruner.cli.options import GroupedCommands, panel_of, with_trust
from tui_pruner.domain.errors import INTERRUPTED
from tui_pruner.domain.formatting import printable

EPILOG = (
    "MODEL alone opens the app on it; nothing at all opens the start screen. inspect, groups, explain, preview, prune and prove also take "
    "any module: --model package.module:build --inputs package.module:inputs [--weights FILE] [--evaluate package.module:evaluate]."
)
app = typer.Typer(
    name="tui-pruner",
    help="Make a trained Ultralytics model smaller and faster, layer by layer: previewed, proved, undoable.",
    epilog=EPILOG,
    no_args_is_help=False,
    cls=GroupedCommands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Make a trained Ultralytics model smaller and faster, layer by layer: previewed, proved, undoable."""
    if show:
        print(f"tui-pruner {__version__}")
        raise typer.Exit


OPEN_MODELS = (
    inspect.inspect, inspect.contents, inspect.groups, flow.flow, inspect.explain, inspect.preview, scan.scan, plan.plan,
    prune.prune, prune.prove, inspect.coverage, measure.validate, measure.gate, measure.bench, export.export,
    recover.recalibrate, recover.reconstruct, recover.finetune, compress.compress, report.report, prune.steps,
)  # fmt: skip
app.command("open", hidden=True)(with_trust(around.open_app, looks_first=False))
for command in OPEN_MODELS:
    app.command(rich_help_panel=panel_of(command.__name__))(with_trust(command))
for other in (around.demo, around.sessions, around.locate, around.keys, around.serve):
    app.command(rich_help_panel=panel_of(other.__name__))(other)


def call(arguments: list[str]) -> int:
    """Run a command line; its exit status."""
    return ended(lambda: parsed(arguments))


def parsed(arguments: list[str]) -> int:
    """Parse a command line and run its command."""
    commands = module.app if module.is_meant(arguments) else app
    try:
        status = commands(args=arguments, standalone_mode=False, prog_name="tui-pruner")
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if hasattr(error, "format_message"):
            return misused(error)
        raise
    if status == INTERRUPTED:  # Typer's answer to a KeyboardInterrupt
        raise KeyboardInterrupt
    return status if isinstance(status, int) else 0


def misused(error: Exception) -> int:
    """A usage error of the option parser, known by its interface: Typer brings a parser of its own, or uses Click."""
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    if near := getattr(error, "possibilities", None):
        message = f"{message.partition(' (Possible')[0].partition(' Did you')[0].rstrip('.')}; did you mean {' or '.join(sorted(near))}?"
    print(printable(f"tui-pruner: {message.rstrip('.')} (see tui-pruner --help)"), file=sys.stderr)
    return 2
