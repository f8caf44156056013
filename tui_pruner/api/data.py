"""Results of the Python API beside models: groups, layers, previews, as frozen dataclasses that a notebook shows as tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import PrunerError, RequestError, out_of_memory

if TYPE_CHECKING:
    from tui_pruner.core.pruning.preview import Size


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


@contextmanager
def run_on_batches() -> Iterator[None]:
    """Turn what a model's forward raises on a user's batches into words.

    Raises:
        RequestError: it did.
    """
    try:
        yield
    except PrunerError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        if out_of_memory(error):
            raise
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RequestError(f"the model does not run on these batches ({said}): give them as its forward reads them") from error
