"""What the Python API is given and gives beside models: arguments and their checks; groups, layers and previews, which a notebook shows."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import OutputError, RequestError

if TYPE_CHECKING:
    from typing import TypedDict

    from torch import Tensor, nn

    from tui_pruner.core.pruning.plan import Step
    from tui_pruner.core.pruning.preview import Size
    from tui_pruner.core.search.targets import Target
    from tui_pruner.domain.cuts import Request
    from tui_pruner.engine.recovery_messages import CompressResult

    class ModuleOptions(TypedDict, total=False):
        """The options of `tp.open` for a module."""

        kwargs: Mapping[str, Any] | None
        evaluate: Callable[[nn.Module], float] | None
        loss: Callable[[nn.Module, Any], Tensor] | None
        adapters: Mapping[type[nn.Module], Callable[..., None]] | None
        forward: Callable[..., Any] | None
        approximate: bool


LONGEST = 160
"""How many characters of a message of PyTorch's are quoted."""
IMAGES = 64
"""How many images are used for plans and refits, where nothing else is asked for."""


@dataclass(frozen=True)
class Group:
    """Channels that are removed together: the layers that produce them, and whether they can be cut; `reason` says why not."""

    id: int
    layers: tuple[str, ...]
    channels: int
    prunable: bool
    reason: str
    status: str


@dataclass(frozen=True)
class Layer:
    """A layer now: its channels, its status (free, coupled, linked or locked) with the reason, and its cost before any cut."""

    in_channels: int
    out_channels: int
    status: str
    reason: str
    parameters: int
    flops: int


@dataclass(frozen=True)
class Preview:
    """The effect of requests: sizes, the (input, output) channels of each layer that changes, before and after, and contradictions."""

    before: Size
    after: Size
    layers: Mapping[str, tuple[tuple[int, int], tuple[int, int]]]
    conflicts: tuple[str, ...]

    def _repr_html_(self) -> str:
        rows = [(name, f"{before[0]} -> {before[1]}", f"{after[0]} -> {after[1]}") for name, (before, after) in self.layers.items()]
        sizes = f"{self.before.flops:,} -> {self.after.flops:,} FLOPs, {self.before.parameters:,} -> {self.after.parameters:,} parameters"
        return f"<p>{sizes}</p>{table(('layer', 'before', 'after'), rows)}"


class Groups(list[Group]):
    """Groups that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        rows = [(str(one.id), ", ".join(one.layers), str(one.channels), one.status, one.reason) for one in self]
        return table(("id", "layers", "channels", "status", "reason"), rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as HTML."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def texts(given: Any, what: str) -> list[str]:
    """Return one text or several as several; `what` they are, with an example.

    Raises:
        RequestError: they are none.
    """
    found = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(one, str) for one in found):
        raise RequestError(f"{what} are texts, not {next(type(one).__name__ for one in found if not isinstance(one, str))}")
    return found


def aims_of(targets: Sequence[str | Sequence[str]]) -> list[str]:
    """Return targets that are given one by one, or as a list.

    Raises:
        RequestError: none, or something else.
    """
    found = [text for given in targets for text in texts(given, 'targets such as "flops=70%"')]
    if not found:
        raise RequestError('which target? write what shall be left, such as "flops=70%"')
    return found


def requests_of(cuts: Sequence[str], criterion: str, round_to: int) -> list[Request]:
    """Return cuts as they are written, as requests.

    Raises:
        RequestError: a cut cannot be read, or the multiple is none.
    """
    from tui_pruner.domain.cuts import parse_request

    demand_count("round_to", round_to)
    texts(criterion, 'criteria such as "l2"')
    return [parse_request(text, criterion, round_to) for text in texts(cuts, 'cuts such as "6=30%"')]


def demand_counts(**counts: Any) -> list[str]:
    """Refuse arguments that are not whole numbers from 1; return the names of those that are given.

    Raises:
        RequestError: one is not.
    """
    given = {name: value for name, value in counts.items() if value is not None}
    for name, value in given.items():
        demand_count(name, value)
    return list(given)


def demand_count(name: str, value: Any) -> None:
    """Refuse an argument that is not a whole number from 1.

    Raises:
        RequestError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(f"{name} is {value!r}: give a whole number from 1")


def demand_sizes(targets: list[Target], otherwise: str) -> list[Target]:
    """Refuse targets that only measuring can tell; `otherwise`: what to do then.

    Raises:
        RequestError: one of them is a latency.
    """
    from tui_pruner.domain.cuts import LATENCY

    if any(target.measure == LATENCY for target in targets):
        raise RequestError(f"a latency is found by timing plans, not by arithmetic: {otherwise}")
    return targets


def some_cuts(step: Step) -> Step:
    """Return a planned step, if it cuts anything.

    Raises:
        RequestError: it does not.
    """
    if not step.cuts:
        raise RequestError("the target is reached already: ask for less, or undo a step first")
    return step


def demand_kinds(trust: Any, approximate: Any) -> None:
    """Refuse options of `tp.open` of the wrong type.

    Raises:
        RequestError: either has another type.
    """
    if trust is not None and not isinstance(trust, str):
        raise RequestError(f"trust is a {type(trust).__name__}: give the first digits of the file's SHA-256, as a text")
    if not isinstance(approximate, bool):
        raise RequestError(f"approximate is {approximate!r}: give True or False")


def demand_plain_file(model: str | Path, called: bool, options: Sequence[str]) -> None:
    """Refuse a name that is not a file's, and what only a module takes: inputs, where it is `called` with some, and `options`.

    Raises:
        RequestError: it is such a name, or such arguments.
    """
    from tui_pruner.storage.model_file import FUNCTION

    if FUNCTION.fullmatch(str(model)) and not Path(model).exists():
        raise RequestError(
            f"{model} is the name of a function: call it, and give the module that it builds with example_inputs=(tensor, ...)"
        )
    if Path(model).suffix.lower() == ".safetensors":
        raise RequestError(
            f"{model} has weights alone: build the module and load them; a folder that a session saved is for load(folder, module)"
        )
    if called and not Path(model).is_dir():
        raise RequestError(f"example_inputs are for a module; {model} is a file, whose images are known")
    if options and not Path(model).is_dir():
        raise RequestError(f"{', '.join(options)}: for a module only, and {model} is a file of Ultralytics")


def file_of(given: Any, what: str) -> Path:
    """Return a path; `what` it is the path of.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise RequestError(f"{what} is named by a path, not by a {type(given).__name__}")
    if "\0" in str(given):
        raise RequestError(f"{what} is named by {str(given)!r}: a path has no zero byte")
    return Path(given)


IN_PYTHON = {
    "calibrate it first (--data DATA.yaml)": "call target with this criterion and data=",
    ", see inspect": ", see layers()",
    "give --force": "give force=True",
}
"""What error messages name for the command line, with what a script does."""


@contextmanager
def in_python() -> Iterator[None]:
    """Name in error messages what a script can do, in place of commands and options.

    Raises:
        RequestError, OutputError: the same, in other words.
    """
    try:
        yield
    except (RequestError, OutputError) as error:
        said = str(error)
        for command, call in IN_PYTHON.items():
            said = said.replace(command, call)
        if said == str(error):
            raise
        raise type(error)(said) from error


def compress(model: str | Path, *, data: str | Path, target: str | Sequence[str], folder: str | Path, **options: Any) -> CompressResult:
    """Do everything in one, as `tui-pruner compress` does: each stage in a process of its own, kept, so that a killed one goes on.

    `options` are those of `CompressParameters`: max_drop, epochs, images, format and others.

    Raises:
        RequestError: there is no such option, or its value is impossible.
        DataError: the data cannot be used.
        JobError: a stage ended without a result.
    """
    from pydantic import ValidationError

    from tui_pruner.api.session import open
    from tui_pruner.engine.recovery_messages import CompressParameters
    from tui_pruner.jobs.compress import run_compression
    from tui_pruner.storage.recipe import recipe_of

    if not isinstance(model, (str, os.PathLike)):
        raise RequestError(
            f"compress is for a checkpoint on a data set, not for a {type(model).__name__}: call target, reconstruct and save"
        )
    place, targets = file_of(folder, "the folder"), texts(target, 'targets such as "flops=70%"')
    fields = open(file_of(model, "the checkpoint"))._fields(data)
    try:
        parameters = CompressParameters(**{**fields, "images": IMAGES, **options}, targets=targets, folder=str(place))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        raise RequestError(f"compress has no option {name}" if unknown else f"compress: {name}: {first['msg'].lower()}") from None
    recipe_of(parameters.model_dump())
    with in_python():
        return run_compression(parameters, lambda progress: None)


def points_of(points: Any) -> list[list[str]]:
    """Return the targets of several points, each given as one text or several.

    Raises:
        RequestError: a point is none.
    """
    given = [points] if isinstance(points, str) or not isinstance(points, Iterable) else points
    return [texts(point, 'targets such as "flops=70%"') for point in given]
