"""Commands around the app: MODEL alone, `demo`, `serve`, and what it keeps: `sessions`, `keys`, `locate`."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.launch import demo_files, in_terminal, launch, launch_demo
from tui_pruner.cli.options import Ascii, Calm, Classes, Colours, Data, Device, Images, ImageSize, Json, MaybeModel, PlanFile
from tui_pruner.cli.output import reserved_stdout, say
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import printable
from tui_pruner.storage import paths

if TYPE_CHECKING:
    from tui_pruner.storage.sessions import SavedSession


def open_app(
    model: MaybeModel = None,
    data: Data = None,
    images: Images = None,
    plan: PlanFile = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    theme: Colours = None,
    ascii: Ascii = False,
    calm: Calm = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the last session.")] = False,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Resume this one; tui-pruner sessions lists them.")] = "",
) -> int:
    """Open the app on a model, or the start screen."""
    if resume or session:
        from tui_pruner.storage.sessions import session_to_resume

        return launch(None, saved=session_to_resume(session), theme=theme, ascii=ascii, calm=calm)
    content = None
    if plan is not None:
        from tui_pruner.storage.yaml import read_plan_file

        content = read_plan_file(plan)
    return launch(
        model, imgsz=imgsz, classes=classes, data=str(data) if data else None, images=images, device=device, plan=content,
        theme=theme, ascii=ascii, calm=calm,
    )  # fmt: skip


def demo(
    report: Annotated[bool, typer.Option("--report", help="Print the tour instead of opening the app.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
    theme: Colours = None,
    ascii: Ascii = False,
    calm: Calm = False,
) -> int:
    """The app on the bundled checkpoint; without a terminal, the same tour as a report."""
    if report or as_json or not in_terminal():
        from tui_pruner.cli.demo import walk

        return walk(*demo_files(), imgsz, device, as_json)
    return launch_demo(imgsz=imgsz, device=device, theme=theme, ascii=ascii, calm=calm)


ServedModel = Annotated[
    str, typer.Argument(metavar="[MODEL]", help="A .pt checkpoint, an Ultralytics yaml, or demo; by default the start screen.")
]


def serve(
    model: ServedModel = "",
    host: Annotated[str, typer.Option("--host", help="The address to listen on; anyone who can reach it can use the app.")] = "localhost",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """The app in a browser, with a separate session for each window."""
    try:
        from textual_serve.server import Server
    except ImportError:
        raise RequestError("serving needs the package textual-serve: pip install 'tui-pruner[serve]'") from None
    command = shlex.join([sys.executable, "-m", "tui_pruner", *([model] if model else [])])
    Server(command, host=host, port=port, title="tui-pruner").serve()


def sessions(as_json: Json = False) -> int:
    """The kept sessions, newest first; --resume continues the first that is not open, --session ID with another."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.storage.sessions import sessions as kept

        found = kept()
        results.document({"sessions": [plain(session) for session in found]})
        for session in found:
            results.line(line_of(session))
        if not found:
            results.line("none is kept")
        return 0


def plain(session: SavedSession) -> dict[str, object]:
    """A session as plain data for scripts."""
    return {**session.model_dump(exclude={"format", "left", "running"}), "state": state_of(session)}


def state_of(session: SavedSession) -> str:
    """Whether it is open now, was quit, or was interrupted."""
    return "open" if session.running else "left" if session.left else "dropped"


def line_of(session: SavedSession) -> str:
    """A session in one line."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.saved_at))
    work = f"{session.steps} of {len(session.plan['steps'])} steps, {len(session.asked)} ratios, {len(session.marks)} marks"
    return f"{session.id}  {when}  {state_of(session):8}{work}  {session.model}"


def keys(as_json: Json = False) -> None:
    """The app's actions: id (for the keymap in the config file), keys, what each does, and the command line that does the same."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.storage.settings import read_config
        from tui_pruner.tui.actions import GROUPS, INTERACTIVE, Action, keymap_of, shown_keys
        from tui_pruner.tui.controllers import ACTIONS
        from tui_pruner.tui.drawing import GLYPHS

        config = read_config()
        keymap = keymap_of(ACTIONS, config.settings.keymap)
        for problem in (*config.problems, *keymap.problems):
            say(problem)

        def plain(action: Action) -> dict[str, Any]:
            return {
                "id": action.id,
                "keys": action.keys.split(",") if action.keys else [],
                "title": action.title,
                "help": action.help,
                "group": action.group,
                "headless": None if action.cli == INTERACTIVE else f"tui-pruner {action.cli}",
            }

        output.document({"actions": [plain(action) for action in keymap.actions]})
        for group in GROUPS:
            output.line(group, "bold")
            members = [action for action in keymap.actions if action.group == group]
            rows = [
                [shown_keys(action).replace(GLYPHS.horizontal, action.keys), action.id, action.help, plain(action)["headless"] or ""]
                for action in members
            ]
            output.table(["keys", "id", "does", "without the app"], rows, wraps=["does", "without the app"])
            output.line()


PLACES = {
    "config": paths.config_file,
    "state": paths.state_folder,
    "log": paths.log_file,
    "cache": paths.cache_folder,
    "demo": paths.demo_folder,
}


def locate(
    what: Annotated[str, typer.Argument(metavar="config|state|log|cache|demo")],
    imgsz: Annotated[int | None, typer.Option("--imgsz", hidden=True)] = None,
    device: Annotated[str, typer.Option("--device", hidden=True)] = "",
    as_json: Json = False,
) -> None:
    """Where files live: configuration, state, log, cache, demo."""
    if what not in PLACES:
        raise RequestError(f"no place {what!r}: ask for {', '.join(PLACES)}")
    path = str(PLACES[what]())
    if as_json:
        print(json.dumps({what: path}))
    elif sys.stdout.isatty():
        print(printable(path))
    else:  # a program needs the bytes of the path
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.buffer.flush()
