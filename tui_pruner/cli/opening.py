"""Commands that open the app: MODEL alone, and `demo`, which prints the same walk where there is no terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tui_pruner import places
from tui_pruner.cli.options import Classes, Data, Device, Images, ImageSize, Json, MaybeModel, PlanFile
from tui_pruner.errors import CheckpointError, RequestError

DEMO_IMAGES = 64


def open_app(
    model: MaybeModel = None,
    data: Data = None,
    images: Images = 64,
    plan: PlanFile = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
) -> int:
    """Open the app on a model, or the start screen."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RequestError("the app needs a terminal; without one use inspect, preview, prune, validate (see tui-pruner --help)")
    content = None
    if plan is not None:
        from tui_pruner.plan_file import read_plan_file

        content = read_plan_file(plan)
    from tui_pruner.tui.app import run_app

    return run_app(model, imgsz=imgsz, classes=classes, data=str(data) if data else None, images=images, device=device, plan=content)


def demo(
    report: Annotated[bool, typer.Option("--report", help="Print the walk instead of opening the app.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
) -> int:
    """The app on the bundled checkpoint, or without a terminal the same walk as a report."""
    folder = places.demo_folder()
    checkpoint, data = folder / "digits.pt", folder / "digits.yaml"
    if not checkpoint.is_file():
        raise CheckpointError(f"the bundled checkpoint is missing at {checkpoint}: reinstall the package, or run assets/build_demo.py")
    if report or as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        from tui_pruner.cli.walk import walk

        return walk(checkpoint, data, imgsz, device, as_json)
    from tui_pruner.tui.app import run_app

    return run_app(str(checkpoint), imgsz=imgsz, data=str(data), images=DEMO_IMAGES, device=device)
