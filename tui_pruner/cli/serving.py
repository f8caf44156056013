"""`serve`: the app in a browser, for a machine that one reaches by a forwarded port."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from tui_pruner.errors import RequestError

ServedModel = Annotated[
    str, typer.Argument(metavar="[MODEL]", help="A .pt checkpoint, an Ultralytics yaml, or demo; by default the start screen.")
]


def serve(
    model: ServedModel = "",
    host: Annotated[str, typer.Option("--host", help="The address to listen on; anybody who reaches it can use the app.")] = "localhost",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """The app in a browser: a session of its own for each window."""
    try:
        from textual_serve.server import Server
    except ImportError:
        raise RequestError("serving needs the package textual-serve: pip install 'tui-pruner[serve]'") from None
    command = shlex.join([sys.executable, "-m", "tui_pruner", *([model] if model else [])])
    Server(command, host=host, port=port, title="tui-pruner").serve()
