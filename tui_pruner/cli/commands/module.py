"""The commands that look at any module, `--model package.module:build --inputs package.module:inputs` in place of a checkpoint; the app
on it; and what all commands on modules have in common.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect as inspection
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from tui_pruner.cli.commands.inspect import show_blocks, show_group, show_preview
from tui_pruner.cli.early_checks import check_module_options
from tui_pruner.cli.options import Ascii, Calm, Colours, Criterion, Cuts, HowProgress, Json, PlanFile, Progress, RoundTo, Trust
from tui_pruner.cli.output import progress_shown, reserved_stdout, say
from tui_pruner.domain.criteria import LABELS, criterion_of
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import large, running_code_of
from tui_pruner.storage.model_file import ModuleNames
from tui_pruner.storage.trust import trust

if TYPE_CHECKING:
    from tui_pruner.api.modules import ModuleSession
    from tui_pruner.domain.cuts import Request

OPTIONS = ("--model", "--inputs")
OPEN = "open"
EPILOG = "This runs the code of the module, in the folder that you are in, as any program does."
Build = Annotated[str, typer.Option("--model", metavar="PACKAGE.MODULE:BUILD", help="A function that builds the module; or a trusted .pt.")]
Given = Annotated[
    str, typer.Option("--inputs", metavar="PACKAGE.MODULE:INPUTS", help="What its forward reads, or a function that gives it.")
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE|FOLDER", help="Its weights, as safetensors; or a folder that was written from it."),
]
Followed = Annotated[
    str, typer.Option("--forward", metavar="PACKAGE.MODULE:FN", help="What runs in place of its forward: a function of module and inputs.")
]
Approximate = Annotated[
    bool,
    typer.Option(
        "--approximate", help="Let LayerNorm, GroupNorm, GRN and unscaled attention lose channels: checked, but not equal to the original."
    ),
]
FUNCTIONS = {
    "batches": Annotated[
        str, typer.Option("--batches", metavar="PACKAGE.MODULE:BATCHES", help="Batches of its inputs, or a function that gives them.")
    ],
    "evaluate": Annotated[
        str,
        typer.Option(
            "--evaluate",
            metavar="PACKAGE.MODULE:EVALUATE",
            help="A function of a module: a figure, larger is better; one for each sample; or figures by name, the main one first.",
        ),
    ],
    "loss": Annotated[
        str,
        typer.Option("--loss", metavar="PACKAGE.MODULE:LOSS", help="A function of a module and a batch: the loss, for taylor, hessian."),
    ],
    "train": Annotated[
        str,
        typer.Option(
            "--train", metavar="PACKAGE.MODULE:TRAIN", help="A function that trains a module; with a second argument, by the original."
        ),
    ],
}
"""The options that name functions for jobs."""
app = typer.Typer(
    name="tui-pruner",
    help="Make any torch.nn.Module smaller.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def on_module(*functions: str, **command_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command on a module, which gets the module's names as `names`; `functions`: the options for functions that it takes."""
    hints: dict[str, Any] = {
        "model": Build, "inputs": Given, "weights": Weights, "forward": Followed, **{name: FUNCTIONS[name] for name in functions},
        "approximate": Approximate, "trusted": Trust, "progress": HowProgress,
    }  # fmt: skip
    defaults = {"weights": None, "approximate": False, "trusted": None, "progress": Progress.PLAIN}

    def register(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(
            *, model: str, inputs: str, weights: Path | None, approximate: bool, trusted: Any, progress: Progress, **options: Any
        ) -> Any:
            trust(trusted or ())
            code = {name: options.pop(name) for name in ("forward", *functions)}
            names = names_of(model, inputs, weights, approximate, **code)
            check_module_options({**options, "weights": weights})
            with progress_shown(progress is Progress.JSON):
                return command(names=names, **options)

        own = [one for one in inspection.signature(command).parameters.values() if one.name != "names"]
        known = {**get_type_hints(command, include_extras=True), **hints}
        keyword = inspection.Parameter.KEYWORD_ONLY
        begin = [inspection.Parameter(name, keyword) for name in ("model", "inputs")]
        rest = [inspection.Parameter(name, keyword, default=defaults.get(name, "")) for name in hints if name not in ("model", "inputs")]
        parameters = [*begin, *own, *rest]
        run.__signature__ = inspection.Signature(  # type: ignore[attr-defined]
            [one.replace(kind=keyword, annotation=known[one.name]) for one in parameters]
        )
        run.__annotations__ = {one.name: known[one.name] for one in parameters}
        del run.__wrapped__  # Typer would find the signature of the command itself
        app.command(epilog=EPILOG, **command_options)(run)
        return command

    return register


def names_of(model: str, inputs: str, weights: Path | None, approximate: bool = False, **code: str) -> ModuleNames:
    """The names in the options; `--weights` is a file of weights, or a folder that was written from the module.

    Raises:
        RequestError: a file, a folder or a function of that name is missing.
    """
    for option, name in {"model": model, "inputs": inputs, **code}.items():
        if name and not all(name.partition(":")) and not (option == "model" and Path(name).suffix):
            raise RequestError(f"--{option} {name!r} is not a name: write package.module:function")
    if weights is not None and not weights.exists():
        raise RequestError(f"--weights {weights}: no such file or folder")
    file, folder = (None, str(weights)) if weights is not None and weights.is_dir() else (str(weights) if weights else None, None)
    return ModuleNames(model, inputs, file, approximate=approximate, folder=folder, **code)


def opened(names: ModuleNames, plan: Path | None = None) -> ModuleSession:
    """Open a session on a module, with the steps of a plan file; say whose code runs, and print remarks."""
    from tui_pruner.api.modules import ModuleSession
    from tui_pruner.core.pruning.session import PruningSession as Steps
    from tui_pruner.frameworks.plain.module_file import origin_named
    from tui_pruner.frameworks.plain.named_module import NamedModule

    announce(names)
    source = NamedModule(names)
    session = ModuleSession(Steps(source.analysis()), source.measure(), source.loss())
    for note in session.notes:
        say(note)
    if plan is not None:
        with origin_named(plan if plan.is_dir() else plan.parent):
            session.load(plan)
    return session


def announce(names: ModuleNames) -> None:
    """Say whose code runs."""
    say(running_code_of(names.build, names.inputs, names.forward, names.batches, names.evaluate, names.loss, names.train))


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


@on_module("batches", "evaluate", "loss", "train", name=OPEN, hidden=True)
def open_app(names: ModuleNames, plan: PlanFile = None, theme: Colours = None, ascii: Ascii = False, calm: Calm = False) -> int:
    """Open the app on the module; without a command."""
    from tui_pruner.cli.launch import launch
    from tui_pruner.storage.yaml import read_plan_file

    content = read_plan_file(plan) if plan is not None else None
    return launch(names.build, module=names, plan=content, theme=theme, ascii=ascii, calm=calm)


@on_module()
def inspect(names: ModuleNames, as_json: Json = False) -> None:
    """The block tree: every layer with its channels, cost and status."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.engine.views import block_views, model_info

        steps = opened(names)._steps
        info, blocks = model_info(steps.analysis, steps.arithmetic), block_views(steps.analysis, steps.arithmetic)
        output.document({"model": info.model_dump(), "blocks": [block.model_dump(by_alias=True) for block in blocks]})
        output.line(f"{info.path}  {info.parameters:,} parameters  {large(info.flops)} FLOPs  structure {info.sha256[:12]}")
        output.line()
        show_blocks(output, blocks)


@on_module()
def groups(names: ModuleNames, as_json: Json = False) -> None:
    """The coupling map: which channels are removed together, and what is locked, with the reason."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.pruning.coverage import coupling_report

        report = coupling_report(opened(names)._steps.analysis)
        output.document(report)
        for group in report["groups"]:
            show_group(output, group)
        output.line(f"traced in {report['seconds'] * 1000:.0f} ms")


@on_module()
def explain(
    names: ModuleNames,
    first: Annotated[str, typer.Argument(metavar="A", help="A layer, a block number or a module path.")],
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="Another one: how do A's channels get there?")] = None,
    as_json: Json = False,
) -> int:
    """Why cutting A touches B; without B, everything that it touches. Status 1 where nothing leads to B."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.pruning.explain import explain as explained

        found = explained(opened(names)._steps.analysis, first, second)
        output.document(dataclasses.asdict(found))
        output.line(found.summary)
        output.table(["at", "operation", "channels"], [[step.at, step.operation, step.detail] for step in found.path])
        output.table(["layer", "", "channels", "because"], [[t.layer, t.role, t.channels, t.because] for t in found.touches])
        return 0 if found.coupled or second is None else 1


@on_module()
def preview(
    names: ModuleNames,
    cut: Cuts = None,
    plan: PlanFile = None,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    as_json: Json = False,
) -> int:
    """What cuts would do: sizes and shapes before and after, and PyTorch's dry run of them."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.core.pruning.preview import dry_run
        from tui_pruner.engine.views import preview_view

        requests = cut_requests(cut, criterion, round_to)
        steps = opened(names, plan)._steps
        found = steps.preview(requests)
        found.demand_possible()
        view = preview_view(steps, requests, against_checkpoint=True)
        report = dry_run(steps.analysis, steps.removal.together(found.removal))
        output.document({**view.model_dump(), "dry_run": dataclasses.asdict(report)})
        show_preview(output, view)
        output.line(f"dry run {'ok' if report.ok else 'failed: ' + report.error}")
        return 1 if view.conflicts or not report.ok else 0


def cut_requests(cuts: list[str] | None, criterion: str, round_to: int, names: ModuleNames | None = None) -> list[Request]:
    """Cuts as they are written, as requests.

    Raises:
        RequestError: a cut cannot be read, or its criterion needs batches or a loss that the module's `names` lack.
    """
    from tui_pruner.api.data import requests_of

    demand_ranking(criterion, names)
    return requests_of(cuts or (), criterion, round_to)


def demand_ranking(criterion: str, names: ModuleNames | None = None) -> None:
    """Refuse a criterion that needs batches or a loss where the module's `names` lack them.

    Raises:
        RequestError: they do.
    """
    needs = criterion_of(criterion).needs
    wanted = ["batches", *(["loss"] if needs == LABELS else [])] if needs else []
    missing = [name for name in wanted if names is None or not getattr(names, name)]
    if missing:
        options = " and ".join(f"--{name} package.module:{name}" for name in missing)
        raise RequestError(
            f"the criterion {criterion} ranks channels by {' and '.join(wanted)}: {'give' if names else 'prune takes'} {options}"
        )
