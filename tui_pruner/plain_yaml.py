"""YAML as people write it: text, numbers, lists and mappings. What it cannot be is said with its line; no tag makes an object.

A byte of a file's name that is not UTF-8 may stand in it as `\\udce9`, as PyYAML writes it, or as Python decodes it (`surrogateescape`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import Node

from tui_pruner.printable import BYTES, printable

MOST_VALUES = 1_000_000
DEEPEST = 60
LONGEST_PROBLEM = 200
BYTE = re.compile(r"(?<!\\)(?P<before>(?:\\\\)*)(?P<escape>\\u[dD][cC][89a-fA-F][0-9a-fA-F])|[\udc80-\udcff]")
"""What stands for a byte that is no UTF-8: an escape of YAML, or a lone surrogate."""
FIRST_STAND_IN = 0x10F000
"""In place of such a byte while libyaml reads, which refuses both: the end of a plane for private use."""


def parse_yaml(text: str) -> tuple[Node | None, Any]:
    """The nodes of a YAML text, which know their lines, and what it holds; None and None where it holds nothing.

    In what it holds, a byte that is no UTF-8 is a lone surrogate, as in any path.

    Raises:
        yaml.YAMLError: not YAML, or not plain; the message has the place where that is known.
    """
    text, stand_ins = _readable(text)
    _demand_shallow(text)
    loader = _Loader(text)
    loader.stand_ins = stand_ins
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        _count(root, {}, set())
        return root, loader.construct_document(root)
    finally:
        loader.dispose()


def place_of(error: yaml.YAMLError) -> str:
    """Where an error is, as " line 3"; empty where that is not known."""
    mark = getattr(error, "problem_mark", None)
    return f" line {mark.line + 1}" if mark else ""


def problem_of(error: yaml.YAMLError) -> str:
    """What an error says, in one line."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error) or "malformed"
    return printable(" ".join(str(problem).split())[:LONGEST_PROBLEM])


_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML was built with libyaml: a plan of a megabyte takes the other ten seconds."""


class _Loader(_Fastest):  # type: ignore[misc]
    """Says the place also of values that Python cannot make of their text: the 99th of January, an `!!int` of letters."""

    stand_ins: Mapping[str, str]

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if self.stand_ins and isinstance(text, str):
            for sign, meant in self.stand_ins.items():
                text = text.replace(sign, _byte(meant) if node.style == '"' else meant)
        return text

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, AttributeError, TypeError, KeyError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            reason = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise ConstructorError(None, None, f"this is no {kind} ({reason[:80]})", node.start_mark) from None


def _readable(text: str) -> tuple[str, dict[str, str]]:
    """A text that libyaml reads, and what each character in it means that stands for a byte which is no UTF-8."""
    if "\\u" not in text and (text.isascii() or not BYTES.search(text)):
        return text, {}
    written = dict.fromkeys(found["escape"] or found[0] for found in BYTE.finditer(text))
    free = (sign for sign in map(chr, itertools.count(FIRST_STAND_IN)) if sign not in text)
    stand_ins = dict(zip(written, free, strict=False))
    readable = BYTE.sub(lambda found: (found["before"] or "") + stand_ins[found["escape"] or found[0]], text)
    return readable, {sign: meant for meant, sign in stand_ins.items()}


def _byte(written: str) -> str:
    """The lone surrogate that is written."""
    return written if len(written) == 1 else chr(int(written[2:], 16))


def _demand_shallow(text: str) -> None:
    """Refuse what is nested too deeply before a parser descends into it: libyaml's ends the process there."""
    depth = 0
    for event in yaml.parse(text, Loader=_Fastest):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            mark: Any = event.start_mark
            raise ConstructorError(None, None, "nested too deeply", mark)


def _count(node: Node, known: dict[int, int], around: set[int]) -> int:
    """How many values a node stands for when every alias is written out: a few lines can stand for billions."""
    if id(node) in around:
        raise ConstructorError(None, None, "an alias (*) stands for what it is part of", node.start_mark)
    if id(node) not in known:
        around.add(id(node))
        parts = node.value if isinstance(node.value, list) else []
        known[id(node)] = 1 + sum(_count(one, known, around) for part in parts for one in (part if isinstance(part, tuple) else (part,)))
        around.discard(id(node))
    if known[id(node)] > MOST_VALUES:
        raise ConstructorError(None, None, "its aliases (*) stand for more values than anybody needs", node.start_mark)
    return known[id(node)]
