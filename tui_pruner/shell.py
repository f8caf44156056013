"""Command lines to be copied into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from tui_pruner.printable import BYTES, legible


def command_line(words: Iterable[object]) -> str:
    """The words as one line; bytes of a name that are not UTF-8 in the way that Bash and Zsh read them, as `$'caf\\xe9.pt'`."""
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    if not BYTES.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{legible(escaped)}'"
