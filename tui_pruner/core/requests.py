"""What somebody asks for: LAYER=AMOUNT, understood against a model's layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tui_pruner.errors import RequestError

if TYPE_CHECKING:
    from tui_pruner.core.blocks import Layer

PERCENT = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)\s*%$")
FRACTION = re.compile(r"^(\d*\.\d+|\d+(?:\.\d*)?)$")
HEADS = re.compile(r"^heads\s*:\s*(.+)$", re.IGNORECASE)
DROP = re.compile(r"^drop$", re.IGNORECASE)
KEEP = re.compile(r"^keep\s*:\s*(.+)$", re.IGNORECASE)


CLASSES = "classes"
"""What stands in place of a layer where classes are cut: `classes=person,car` keeps these two."""


@dataclass(frozen=True)
class Amount:
    """How much: a fraction of the channels to remove, an exact number to keep, a number of attention heads to remove as a whole, or all of
    an inner block."""

    remove: float | None = None
    keep: int | None = None
    heads: int | None = None
    drop: bool = False


@dataclass(frozen=True)
class Request:
    """One cut that is asked for."""

    layer: str
    amount: str
    criterion: str = "l2"
    round_to: int = 1


@dataclass(frozen=True)
class Match:
    """The layers that a request names. `exact`: one layer by its own name, whose lock is an error and not something to skip."""

    layers: tuple[Layer, ...]
    exact: bool


def parse_request(text: str, criterion: str = "l2", round_to: int = 1) -> Request:
    """LAYER=AMOUNT.

    Raises:
        RequestError: no equals sign, or an amount that is none.
    """
    if text.partition("=")[0].strip() == CLASSES:
        return class_request(text.partition("=")[2])
    layer, equals, amount = text.rpartition("=")
    if not equals or not layer.strip() or not amount.strip():
        raise RequestError(f"cannot read the cut {text!r}: write LAYER=AMOUNT, such as model.6.m.0.cv1=30% or 7=keep:205")
    request = Request(layer.strip(), amount.strip(), criterion, round_to)
    parse_amount(request.amount)
    return request


def class_request(listed: str) -> Request:
    """The classes that stay, by names or numbers: "person,car".

    Raises:
        RequestError: none is named.
    """
    words = [word.strip() for word in listed.strip().removeprefix("keep:").split(",") if word.strip()]
    if not words:
        raise RequestError("which classes? name those to keep, by names or numbers: classes=person,car")
    return Request(CLASSES, f"keep:{','.join(words)}")


def parse_amount(text: str) -> Amount:
    """What to remove ("30%", "0.3", "heads:1", "drop") or to keep ("keep:205").

    Raises:
        RequestError: not a number, 0, or 100 % and more.
    """
    if DROP.match(text.strip()):
        return Amount(drop=True)
    kept = KEEP.match(text.strip())
    if kept:
        return Amount(keep=parse_width(kept.group(1).strip(), text))
    heads = HEADS.match(text.strip())
    if heads:
        return Amount(heads=parse_width(heads.group(1).strip(), text))
    percent, fraction = PERCENT.match(text.strip()), FRACTION.match(text.strip())
    if percent is None and fraction is None:
        raise RequestError(f"the amount {text!r} is no number: write what to remove (30% or 0.3), what to keep (keep:205), or drop")
    share = float(percent.group(1)) / 100 if percent else float(text)
    if share <= 0:
        raise RequestError(f"the amount {text!r} removes nothing: give more than 0")
    if share >= 1:
        hint = f"; did you mean {text.strip()}%?" if percent is None else ""
        raise RequestError(f"the amount {text!r} would remove every channel: give less than 100%{hint}")
    return Amount(remove=share)


def parse_width(number: str, text: str) -> int:
    """A positive number of channels to keep, or of heads to remove."""
    if not number.isdecimal():
        raise RequestError(f"the amount {text!r} is no number of channels: write keep:205, or heads:1 for whole attention heads")
    if int(number) == 0:
        what = "remove no head: remove" if HEADS.match(text.strip()) else "keep no channel: keep"
        raise RequestError(f"the amount {text!r} would {what} at least 1")
    return int(number)


def match_layers(name: str, layers: Mapping[str, Layer], sections: Mapping[str, tuple[Layer, ...]]) -> Match:
    """The layers that a name means: a layer, the convolution in it, a block number, a module path above layers, a glob, or a section.

    Raises:
        RequestError: nothing matches; the message has the nearest names.
    """
    by_path = {layer.path: layer for layer in layers.values()}
    for candidate in (name, f"model.{name}"):
        found = layers.get(candidate) or by_path.get(candidate)
        if found is not None:
            return Match((found,), exact=True)
    if any(mark in name for mark in "*?["):
        matching = tuple(layer for layer in layers.values() if fnmatchcase(layer.name, name) or fnmatchcase(layer.path, name))
    else:
        prefixes = (f"{name}.", f"model.{name}.")
        matching = tuple(layer for layer in layers.values() if layer.path.startswith(prefixes)) or sections.get(name, ())
    if not matching:
        near = get_close_matches(name, [*layers, *by_path], n=3, cutoff=0.5) or list(layers)[:3]
        raise RequestError(f"no layer {name!r} in this model; the nearest are {', '.join(near)}")
    return Match(matching, exact=False)
