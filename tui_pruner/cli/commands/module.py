"""The commands for any module: `--model package.module:build --inputs package.module:inputs` in place of a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.commands.inspect import show_blocks, show_group, show_preview
from tui_pruner.cli.commands.prune import verdict
from tui_pruner.cli.options import Ascii, Calm, Colours, Criterion, Cuts, Json, PlanFile, RoundTo, Trust
from tui_pruner.cli.output import change, reserved_stdout, say
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import large, running_code_of
from tui_pruner.storage.model_file import ModuleNames

if TYPE_CHECKING:
    from tui_pruner.api.modules import ModuleSession
    from tui_pruner.domain.cuts import Request
    from tui_pruner.frameworks.plain.named_module import NamedModule

OPTIONS = ("--model", "--inputs")
OPEN = "open"
EPILOG = "This runs the code of the module, in the folder that you are in, as any program does."
Build = Annotated[str, typer.Option("--model", metavar="PACKAGE.MODULE:BUILD", help="A function that builds the module; or a trusted .pt.")]
Given = Annotated[
    str, typer.Option("--inputs", metavar="PACKAGE.MODULE:INPUTS", help="What its forward reads, or a function that gives it.")
]
Weights = Annotated[Path | None, typer.Option("--weights", metavar="FILE", help="Its weights, as safetensors.")]
Followed = Annotated[
    str, typer.Option("--forward", metavar="PACKAGE.MODULE:FN", help="What runs in place of its forward: a function of module and inputs.")
]
Measured = Annotated[str, typer.Option("--evaluate", metavar="PACKAGE.MODULE:EVALUATE", help="A function: a figure for a module.")]
Batches = Annotated[
    str, typer.Option("--batches", metavar="PACKAGE.MODULE:BATCHES", help="Batches of its inputs, or a function that gives them.")
]
Lost = Annotated[str, typer.Option("--loss", metavar="PACKAGE.MODULE:LOSS", help="A function: the loss of a module on a batch.")]
Trained = Annotated[
    str, typer.Option("--train", metavar="PACKAGE.MODULE:TRAIN", help="A function that trains a module, or a module by the original.")
]
Approximate = Annotated[
    bool,
    typer.Option(
        "--approximate", help="Let LayerNorm, GroupNorm, GRN and unscaled attention lose channels: checked, but not equal to the original."
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder that is there.")]
Targets = Annotated[list[str] | None, typer.Option("--target", metavar="MEASURE=AMOUNT", help="Such as flops=50%; repeatable.")]
app = typer.Typer(
    name="tui-pruner",
    help="Make any torch.nn.Module smaller.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def is_meant(arguments: list[str]) -> bool:
    """Whether a command line is about any module; `report` has an option --model of its own.

    Raises:
        RequestError: it is, but no such command takes one.
    """
    own = [info.name or getattr(info.callback, "__name__", "") for info in app.registered_commands]
    shown = [name for name in own if name != OPEN]
    given = {argument.partition("=")[0] for argument in arguments} & set(OPTIONS)
    if arguments[:1] == ["report"]:
        given -= {OPTIONS[0]}
    if not given or arguments[0] in own:
        return bool(given)
    there = f"{', '.join(shown[:-1])} and {shown[-1]}"
    raise RequestError(
        f"{arguments[0]} is for files of Ultralytics: for any module there are {there}, the app without a command, and tp.open in Python"
    )


def named(
    model: str,
    inputs: str,
    trusted: list[str] | None,
    weights: Path | None = None,
    approximate: bool = False,
    **functions: str,
) -> NamedModule:
    """Resolve the names in the options; say whose code runs. `functions`: the other fields of `ModuleNames`."""
    from tui_pruner.frameworks.plain.named_module import NamedModule
    from tui_pruner.storage.trust import trust

    trust(trusted or ())
    say(running_code_of(model, inputs, *functions.values()))
    return NamedModule(names_of(model, inputs, weights, approximate=approximate, **functions))


def names_of(model: str, inputs: str, weights: Path | None, forward: str = "", approximate: bool = False, **functions: str) -> ModuleNames:
    """The names in the options; `--weights` is a file of weights, or a folder that was written from the module."""
    file, folder = (None, weights) if weights is not None and weights.is_dir() else (weights, None)
    return ModuleNames(
        model, inputs, str(file) if file else None, forward, approximate, folder=str(folder) if folder else None, **functions
    )


def opened(source: NamedModule, plan: Path | None = None) -> ModuleSession:
    """Open a session on a module, with the steps of a plan file; print remarks."""
    from tui_pruner.api.modules import ModuleSession
    from tui_pruner.core.pruning.session import PruningSession as Steps

    session = ModuleSession(Steps(source.analysis()), source.measure(), source.loss())
    for note in session.notes:
        say(note)
    if plan is not None:
        session.load(plan)
    return session


def cut_requests(cuts: list[str] | None, criterion: str, round_to: int) -> list[Request]:
    """Cuts as they are written, as requests.

    Raises:
        RequestError: a cut cannot be read, or its criterion needs batches, which a command has none of.
    """
    from tui_pruner.api.data import requests_of
    from tui_pruner.domain.criteria import NAMES, NEED_DATA

    if criterion in NEED_DATA:
        raise RequestError(
            f"the criterion {criterion} ranks by batches: in Python, target(..., data=batches) takes them; here use {', '.join(NAMES)}"
        )
    return requests_of(cuts or (), criterion, round_to)


@app.command(OPEN, epilog=EPILOG, hidden=True)
def open_app(
    model: Build,
    inputs: Given,
    plan: PlanFile = None,
    weights: Weights = None,
    forward: Followed = "",
    batches: Batches = "",
    evaluate: Measured = "",
    loss: Lost = "",
    train: Trained = "",
    trusted: Trust = None,
    approximate: Approximate = False,
    theme: Colours = None,
    ascii: Ascii = False,
    calm: Calm = False,
) -> int:
    """Open the app on the module; without a command."""
    from tui_pruner.cli.launch import launch
    from tui_pruner.storage.trust import trust
    from tui_pruner.storage.yaml import read_plan_file

    trust(trusted or ())
    content = read_plan_file(plan) if plan is not None else None
    names = names_of(model, inputs, weights, forward, approximate, batches=batches, evaluate=evaluate, loss=loss, train=train)
    return launch(model, module=names, plan=content, theme=theme, ascii=ascii, calm=calm)


@app.command(epilog=EPILOG)
def inspect(
    model: Build,
    inputs: Given,
    weights: Weights = None,
    forward: Followed = "",
    trusted: Trust = None,
    approximate: Approximate = False,
    as_json: Json = False,
) -> None:
    """The block tree: every layer with its channels, cost and status."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.engine.views import block_views, model_info

        steps = opened(named(model, inputs, trusted, weights, approximate, forward=forward))._steps
        info, blocks = model_info(steps.analysis, steps.arithmetic), block_views(steps.analysis, steps.arithmetic)
        output.document({"model": info.model_dump(), "blocks": [block.model_dump(by_alias=True) for block in blocks]})
        output.line(f"{info.path}  {info.parameters:,} parameters  {large(info.flops)} FLOPs  structure {info.sha256[:12]}")
        output.line()
        show_blocks(output, blocks)


@app.command(epilog=EPILOG)
def groups(
    model: Build,
    inputs: Given,
    weights: Weights = None,
    forward: Followed = "",
    trusted: Trust = None,
    approximate: Approximate = False,
    as_json: Json = False,
) -> None:
    """The coupling map: which channels are removed together, and what is locked, with the reason."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.pruning.coverage import coupling_report

        session = opened(named(model, inputs, trusted, weights, approximate, forward=forward))
        report = coupling_report(session._steps.analysis)
        output.document(report)
        for group in report["groups"]:
            show_group(output, group)
        output.line(f"traced in {report['seconds'] * 1000:.0f} ms")


@app.command(epilog=EPILOG)
def explain(
    model: Build,
    inputs: Given,
    first: Annotated[str, typer.Argument(metavar="A", help="A layer, a block number or a module path.")],
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="Another one: how do A's channels get there?")] = None,
    forward: Followed = "",
    trusted: Trust = None,
    approximate: Approximate = False,
    as_json: Json = False,
) -> int:
    """Why cutting A touches B; without B, everything that it touches. Status 1 where nothing leads to B."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.pruning.explain import explain as explained

        steps = opened(named(model, inputs, trusted, None, approximate, forward=forward))._steps
        found = explained(steps.analysis, first, second)
        output.document(dataclasses.asdict(found))
        output.line(found.summary)
        output.table(["at", "operation", "channels"], [[step.at, step.operation, step.detail] for step in found.path])
        output.table(["layer", "", "channels", "because"], [[t.layer, t.role, t.channels, t.because] for t in found.touches])
        return 0 if found.coupled or second is None else 1


@app.command(epilog=EPILOG)
def preview(
    model: Build,
    inputs: Given,
    cut: Cuts = None,
    plan: PlanFile = None,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    weights: Weights = None,
    forward: Followed = "",
    trusted: Trust = None,
    approximate: Approximate = False,
    as_json: Json = False,
) -> int:
    """What cuts would do: sizes and shapes before and after, and PyTorch's dry run of them."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.pruning.preview import dry_run
        from tui_pruner.engine.views import preview_view

        requests = cut_requests(cut, criterion, round_to)
        steps = opened(named(model, inputs, trusted, weights, approximate, forward=forward), plan)._steps
        found = steps.preview(requests)
        found.demand_possible()
        view = preview_view(steps, requests, against_checkpoint=True)
        report = dry_run(steps.analysis, steps.removal.together(found.removal))
        output.document({**view.model_dump(), "dry_run": dataclasses.asdict(report)})
        show_preview(output, view)
        output.line(f"dry run {'ok' if report.ok else 'failed: ' + report.error}")
        return 1 if view.conflicts or not report.ok else 0


@app.command(epilog=EPILOG)
def prune(
    model: Build,
    inputs: Given,
    output: Output,
    cut: Cuts = None,
    target: Targets = None,
    plan: PlanFile = None,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    weights: Weights = None,
    forward: Followed = "",
    evaluate: Measured = "",
    force: Force = False,
    trusted: Trust = None,
    approximate: Approximate = False,
    as_json: Json = False,
) -> int:
    """Prune, prove against the masked twin, and save a folder that is loaded into a freshly built module."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.frameworks.plain.module_file import check_folder, load_module, same_state

        if not (cut or target or plan):
            raise RequestError("nothing to cut: give --cut LAYER=AMOUNT, --target flops=50% or --plan FILE")
        check_folder(output, force)
        place = Path.cwd() / output  # the code of the module may change the folder
        requests = cut_requests(cut, criterion, round_to)
        source = named(model, inputs, trusted, weights, approximate, forward=forward, evaluate=evaluate)
        session = opened(source)
        source.check_deterministic(session.module.sha256)
        whole = session.size
        before = session.evaluate() if evaluate else None
        if plan:
            session.load(plan)
        if requests:
            session._steps.apply(requests)
        if target:
            session.target(*target, criterion=criterion)
        after = session.evaluate() if evaluate else None  # before anything is written, as it may fail
        session.save(place, force)
        proof, loads = session.prove(), same_state(load_module(place, source.built()), session.model())
        sizes: dict[str, Any] = {"before": dataclasses.asdict(whole), "after": dataclasses.asdict(session.size)}
        figures = {"evaluate": {"before": before, "after": after}} if evaluate else {}
        results.document(
            {
                "output": str(output),
                **sizes,
                "kept": session.kept(),
                "proof": proof.plain(),
                "loads": loads,
                **figures,
                "notes": session.notes,
            }
        )
        results.line(f"parameters {change(whole.parameters, session.size.parameters)}")
        results.line(f"FLOPs      {change(whole.flops, session.size.flops)}")
        results.line(verdict(proof))
        if evaluate:
            results.line(f"evaluate   {before:.6g} -> {after:.6g}")
        results.line(
            f"written    {output}, {'loaded again into a freshly built module' if loads else 'WHICH DOES NOT LOAD AGAIN AS IT WAS'}"
        )
        return 0 if loads else 3


@app.command(epilog=EPILOG)
def prove(
    model: Build,
    inputs: Given,
    pruned: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `prune` wrote.")],
    weights: Weights = None,
    forward: Followed = "",
    trusted: Trust = None,
    approximate: Approximate = False,
    as_json: Json = False,
) -> int:
    """Compare a saved module with the masked twin of the one that it was cut from, which needs the same weights."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.core.pruning.proof import prove as compare
        from tui_pruner.core.pruning.surgery import cut
        from tui_pruner.frameworks.plain.module_file import PLAN, demand_unfitted, load_module, same_state

        demand_unfitted(pruned)
        pruned = pruned.absolute()
        source = named(model, inputs, trusted, weights, approximate, forward=forward)
        session = opened(source, pruned / PLAN)
        steps = session._steps
        small = load_module(pruned, source.built()).float()
        proof = compare(session.module.model, small, steps.analysis.coupling, steps.removal, original=steps.original())
        results.document(proof.plain())
        results.line(verdict(proof))
        if not proof.holds and not same_state(cut(session.module.model, steps.analysis.coupling, steps.removal), small):
            say(f"{model} has other weights than the module that was cut: have it load them, or give them with --weights")
        return 0 if proof.holds else 1
