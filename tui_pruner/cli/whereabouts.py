"""`locate`: where files live."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from tui_pruner import places
from tui_pruner.cli.options import Json
from tui_pruner.errors import RequestError
from tui_pruner.printable import printable

PLACES = {
    "config": places.config_file,
    "state": places.state_folder,
    "log": places.log_file,
    "cache": places.cache_folder,
    "demo": places.demo_folder,
}


def locate(what: Annotated[str, typer.Argument(metavar="config|state|log|cache|demo")], as_json: Json = False) -> None:
    """Where files live: configuration, state, log, cache, demo."""
    if what not in PLACES:
        raise RequestError(f"there is no place {what!r}: ask for {', '.join(PLACES)}")
    path = str(PLACES[what]())
    if as_json:
        print(json.dumps({what: path}))
    elif sys.stdout.isatty():
        print(printable(path))
    else:  # for a program, which needs the very bytes
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.buffer.flush()
