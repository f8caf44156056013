"""Commands that open the app: MODEL alone, and `demo`, which prints the same walk where there is no terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_pruner.cli.launch import demo_files, in_terminal, launch, launch_demo
from tui_pruner.cli.options import Ascii, Calm, Classes, Colours, Data, Device, Images, ImageSize, Json, MaybeModel, PlanFile


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
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last session.")] = False,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Go on with this one; tui-pruner sessions lists them.")] = "",
) -> int:
    """Open the app on a model, or the start screen."""
    if resume or session:
        from tui_pruner.sessions import session_to_resume

        return launch(None, saved=session_to_resume(session), theme=theme, ascii=ascii, calm=calm)
    content = None
    if plan is not None:
        from tui_pruner.plan_file import read_plan_file

        content = read_plan_file(plan)
    return launch(
        model, imgsz=imgsz, classes=classes, data=str(data) if data else None, images=images, device=device, plan=content,
        theme=theme, ascii=ascii, calm=calm,
    )  # fmt: skip


def demo(
    report: Annotated[bool, typer.Option("--report", help="Print the walk instead of opening the app.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
    theme: Colours = None,
    ascii: Ascii = False,
    calm: Calm = False,
) -> int:
    """The app on the bundled checkpoint, or without a terminal the same walk as a report."""
    if report or as_json or not in_terminal():
        from tui_pruner.cli.walk import walk

        return walk(*demo_files(), imgsz, device, as_json)
    return launch_demo(imgsz=imgsz, device=device, theme=theme, ascii=ascii, calm=calm)
