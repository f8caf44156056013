"""The commands that decide on any module, and hand it over: `gate`, `compress`, `report`."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_pruner.cli.commands.measure import Junit, Markdown, MaxLatency, Strict
from tui_pruner.cli.commands.module import announce, on_module
from tui_pruner.cli.commands.module_jobs import Target, demand, fields_of
from tui_pruner.cli.options import Json
from tui_pruner.cli.output import reserved_stdout, say, write_progress
from tui_pruner.storage.model_file import ModuleNames


@on_module("evaluate")
def gate(
    names: ModuleNames,
    pruned: Target,
    against: Annotated[
        str | None, typer.Option("--against", metavar="FOLDER", help="Compare with this folder, not the module as built.")
    ] = None,
    max_drop: Annotated[float, typer.Option("--max-drop", min=0, help="The allowed loss, in the unit of --evaluate's figure.")] = 0.01,
    max_latency: MaxLatency = None,
    strict: Strict = False,
    junit: Junit = None,
    markdown: Markdown = None,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Latency: samples of each model, taken in turns.")] = 50,
    as_json: Json = False,
) -> int:
    """May FOLDER be merged? Status 0 yes, 1 no, by --evaluate: no only where the loss is more than chance, if it gives a figure a sample."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.commands.measure import keep, show
        from tui_pruner.engine.search_messages import GateParameters
        from tui_pruner.jobs.module_figures import run_gate
        from tui_pruner.storage.atomic import check_place

        demand(names, "evaluate")
        for place, example in ((junit, "gate.xml"), (markdown, "gate.md")):
            if place is not None:
                check_place(place, f"the report {place}", example, force=True)
        announce(names)
        parameters = GateParameters(
            **fields_of(names, pruned), against=against or names.build, max_drop=max_drop, max_latency=max_latency, strict=strict, runs=runs
        )
        result = run_gate(parameters, write_progress)
        for note in result.notes:
            say(note)
        keep(result, junit, markdown)
        output.document(result.model_dump())
        show(output, result)
        return 0 if result.verdict == "yes" else 1
