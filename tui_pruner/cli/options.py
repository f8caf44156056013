"""Options that several commands share, their completion in shells, and the help's groups of commands."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

from tui_pruner.cli.early_checks import check_without_libraries
from tui_pruner.cli.output import progress_shown
from tui_pruner.domain.criteria import NAMES, NEED_DATA
from tui_pruner.domain.errors import DataError
from tui_pruner.storage import paths
from tui_pruner.storage.settings import Theme
from tui_pruner.storage.trust import trust


def cuts_of(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the layer of a cut: the blocks and layers of the model on the command line."""
    return [f"{name}=" for name in layers_of(ctx, incomplete)]


def layers_of(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a block or layer of the model on the command line."""
    model = ctx.params.get("model") or next(iter(ctx.args), None)  # left over where an option still lacks its value
    return [name for name in known_layers(str(model)) if name.startswith(incomplete)] if model else []


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A .pt checkpoint, or the name of an Ultralytics yaml (random weights).")]
MaybeModel = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A .pt checkpoint, or an Ultralytics yaml.")]
ImageSize = Annotated[int | None, typer.Option("--imgsz", min=1, help="Side of the input image; by default the one it was trained at.")]
Device = Annotated[str, typer.Option("--device", help="cpu, 0, cuda:1, ...; by default a GPU if there is one; 0,1 to train or scan.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Classes = Annotated[int | None, typer.Option("--classes", min=1, help="Number of classes of a model from a yaml.")]
Cuts = Annotated[
    list[str] | None,
    typer.Option(
        "--cut",
        metavar="LAYER=AMOUNT",
        help="Remove 30% or 0.3 or heads:1, keep:205, or drop an inner block; repeatable.",
        autocompletion=cuts_of,
    ),
]
KeepClasses = Annotated[
    str | None,
    typer.Option("--keep-classes", metavar="NAME,...", help="Cut all other classes: names or numbers, such as person,car or 0,2."),
]
PlanFile = Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="Start from this plan (YAML); --cut adds to it.")]
Steps = Annotated[int | None, typer.Option("--steps", min=0, metavar="N", help="Use only the first N steps of the plan.")]
Criterion = Annotated[str, typer.Option("--criterion", help=f"{', '.join(NAMES)}; with --data: {', '.join(NEED_DATA)}.")]
RoundTo = Annotated[int, typer.Option("--round-to", min=1, help="Keep a multiple of this many channels.")]
Data = Annotated[Path | None, typer.Option("--data", help="The data set's yaml, or a classifier's folder.")]
CalibrationImages = Annotated[
    int, typer.Option("--calibration-images", min=1, help="Rank by the gradients on this many validation images (taylor, hessian).")
]
Images = Annotated[int | None, typer.Option("--images", min=1, help="Validate on this many images, chosen by a seed.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="SHA256", help="Allow the file with this SHA-256 to execute arbitrary code."),
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")]
Calm = Annotated[bool, typer.Option("--calm", help="Nothing spins, blinks or slides: for slow lines and screen readers.")]
Colours = Annotated[Theme | None, typer.Option("--theme", help="By default what the terminal can show.")]


class Progress(str, Enum):
    """How progress and remarks are written to stderr: as text (a bar on a terminal, lines elsewhere), or as a JSON document a line."""

    PLAIN = "plain"
    JSON = "json"


HowProgress = Annotated[
    Progress, typer.Option("--progress", help="Print progress on stderr as text (a bar on a terminal) or as JSON lines.")
]


def needed(data: Path | None) -> str:
    """The data set that was given.

    Raises:
        DataError: none.
    """
    if data is None:
        raise DataError("which data set? give --data DATA.yaml, the yaml that the model was trained with")
    return str(data)


def with_trust(command: Callable[..., Any], looks_first: bool = True) -> Callable[..., Any]:
    """A command that opens models, with the options that name trusted files and the form of progress.

    `looks_first`: refuse what can be refused without a library before the command imports one.
    """

    @functools.wraps(command)
    def trusting(*, trust_files: list[str] | None = None, progress: Progress = Progress.PLAIN, **options: Any) -> Any:
        trust(trust_files or ())
        if looks_first:
            check_without_libraries(options, command.__name__)
        with progress_shown(progress is Progress.JSON):
            return command(**options)

    hints = {**get_type_hints(command, include_extras=True), "trust_files": Trust, "progress": HowProgress}
    defaults = {"trust_files": None, "progress": Progress.PLAIN}
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default) for name, default in defaults.items()]
    parameters = [*inspect.signature(command).parameters.values(), *more]
    trusting.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in parameters]
    )
    trusting.__annotations__ = hints
    del trusting.__wrapped__  # Typer would find the signature of the command itself
    return trusting


LOOK, CUT, MEASURE, RECOVER, REST = "Look", "Cut and prove", "Measure and decide", "Recover, compress, deploy", "App and files"
GROUPS = {
    LOOK: {
        "inspect": "The block tree: channels, cost and status of every layer.",
        "contents": "The classes that a .pt names, without loading it.",
        "groups": "The coupling map: which channels are cut together, and why.",
        "flow": "Where every block's channels come from, with offsets.",
        "explain": "Why cutting A touches B, or all that cutting A touches.",
        "steps": "The steps of a plan; add, name, compare or select some.",
    },
    CUT: {
        "preview": "Sizes and shapes that a plan or some cuts would come to.",
        "prune": "Cut, prove against the masked twin, write and verify.",
        "prove": "Compare a pruned file with its original's masked twin.",
        "coverage": "Cut every group alone and prove each.",
    },
    MEASURE: {
        "validate": "Metrics with their interval, beside another model's.",
        "scan": "What each group's cut alone costs in accuracy.",
        "plan": "The cuts that reach a target; --front gives several.",
        "bench": "Latency of one or two models, measured in turns.",
        "gate": "For CI: may PRUNED be merged? Status 0 yes, 1 no.",
        "report": "One HTML or Markdown file about a plan, to attach.",
    },
    RECOVER: {
        "recalibrate": "Estimate the normalisation statistics again.",
        "reconstruct": "Refit the cut layers in closed form, without labels.",
        "finetune": "Train with Ultralytics' trainer, the widths kept.",
        "compress": "All stages from the checkpoint to report and export.",
        "export": "Another format, compared with the PyTorch model.",
    },
    REST: {
        "demo": "The app on the bundled checkpoint.",
        "serve": "The app in a browser.",
        "sessions": "The kept sessions, newest first.",
        "keys": "Every action with its key and the command that does it.",
        "locate": "Where settings, sessions, log and cache live.",
    },
}
"""By heading: the commands in the order in which they are listed, each described in words that fit into 80 columns."""


def panel_of(command: str) -> str | None:
    """Return the heading of a command; None where it has none."""
    return next((heading for heading, names in GROUPS.items() if command in names), None)


class GroupedCommands(TyperGroup):
    """The commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading."""
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, words) for name, words in commands.items() if name in self.commands])


PATIENCE = 30
"""Seconds that a shell waits for the layers of a model that was not completed before."""
TRIED_AGAIN = 60
"""Seconds after which a model whose layers could not be found is read again."""


def known_layers(model: str) -> list[str]:
    """The blocks and layers of a model that can be cut, for a shell that completes them; none where it cannot be read.

    The first time this takes as long as `inspect`, then they are in the cache folder, until the file changes; that there are none, for a
    minute.
    """
    import hashlib
    import time

    from tui_pruner.storage.atomic import replace_file

    try:
        file = Path(model).expanduser()
        status = file.stat() if file.exists() else None
        key = f"{file.absolute()}\0{status.st_size} {status.st_mtime_ns}" if status else model
        store = paths.cache_folder() / "layers" / hashlib.sha256(os.fsencode(key)).hexdigest()
        if store.is_file() and (store.stat().st_size or time.time() - store.stat().st_mtime < TRIED_AGAIN):
            return store.read_text(encoding="utf-8").split()
        found = inspected_layers(model)
        replace_file(store, "\n".join(found).encode())
    except (OSError, ValueError):
        return []
    return found


def inspected_layers(model: str) -> list[str]:
    """The blocks and layers that can be cut as `inspect` finds them; none where it cannot read the model in time."""
    import json
    import subprocess

    from tui_pruner.__main__ import COMPLETION

    environment = {name: value for name, value in os.environ.items() if name != COMPLETION}
    command = [sys.executable, "-m", "tui_pruner", "inspect", model, "--json"]
    found = []
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=PATIENCE, check=True)
        for block in json.loads(done.stdout)["blocks"]:
            free = [layer["name"] for layer in block["layers"] if layer["status"] != "locked"]
            found += [str(block["index"]), *free] if free else []
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return []
    return found
