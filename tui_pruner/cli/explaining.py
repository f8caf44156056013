"""`explain`: why cutting one layer or block touches another."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from tui_pruner.cli.options import Classes, Device, ImageSize, Json, Model
from tui_pruner.cli.output import reserved_stdout


def explain(
    model: Model,
    first: Annotated[str, typer.Argument(metavar="A", help="A layer, a block number or a module path.")],
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="Another one: how do A's channels get there?")] = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """Why cutting A touches B, operation by operation; without B, everything that it touches. Status 1 where nothing leads to B."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.world import open_session
        from tui_pruner.core.explain import explain as look_up

        found = look_up(open_session(model, imgsz, classes).analysis, first, second)
        output.document(dataclasses.asdict(found))
        if second is not None:
            output.line(f"{first} and {second}: " + ("coupled" if found.coupled else "no channel path between them"))
            if found.path:
                output.table(["at", "operation", "channels"], [[step.at, step.operation, step.detail] for step in found.path])
            output.line()
        output.line(f"cutting {first} touches" if found.touches else f"cutting {first} touches nothing else")
        if found.touches:
            output.table(["layer", "", "channels", "because"], [[t.layer, t.role, t.channels, t.because] for t in found.touches])
        return 0 if found.coupled or second is None else 1
