"""Files that may execute arbitrary code, identified by their SHA-256: named with --trust, or typed into the app, which remembers them.

Files that the app makes from such a file are trusted too, since it knows every byte of them. On the command line each file is named.

A process gets the list from its environment. A command discards the list that it inherited, so that a script trusts only files that it
names; the app adds those that it remembers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tui_pruner.domain.errors import RequestError
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

VARIABLE = "TUI_PRUNER_TRUSTED"
SHORTEST = 8
DIGITS = re.compile(r"[0-9a-f]{8,64}")
MOST_REMEMBERED = 500
CHUNK = 1 << 20


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal, read once in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def short(sha256: str) -> str:
    """The part of a SHA-256 that a user is asked to type."""
    return sha256[:SHORTEST]


def begins(typed: str, sha256: str) -> bool:
    """Whether typed text is the beginning of a SHA-256, at least eight digits of it."""
    return bool(DIGITS.fullmatch(typed.strip().lower())) and sha256.startswith(typed.strip().lower())


def is_trusted(sha256: str) -> bool:
    """Whether this process trusts a file."""
    return any(begins(known, sha256) for known in _told())


def trust(digits: Iterable[str]) -> None:
    """Trust files in this process and in those that it starts, by the first eight or more digits of their SHA-256.

    Raises:
        RequestError: something other than digits.
    """
    known = [text.strip().lower() for text in digits]
    for text in known:
        if not DIGITS.fullmatch(text):
            raise RequestError(f"{text!r} is no SHA-256 to trust: give at least the first {SHORTEST} of its hexadecimal digits")
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*_told(), *known]))


def trust_remembered() -> None:
    """Trust what the user of the app has trusted before."""
    trust(remembered())


def remembered() -> tuple[str, ...]:
    """The SHA-256 of every file that was trusted in the app, oldest first; malformed lines are ignored."""
    try:
        lines = paths.trust_file().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ()
    first_words = [line.partition(" ")[0] for line in lines]
    return tuple(word for word in first_words if len(word) == 64 and DIGITS.fullmatch(word))[-MOST_REMEMBERED:]


def remember(sha256: str) -> None:
    """Trust a file from now on, in later sessions too; if the list cannot be written, only in this one."""
    known = [*(other for other in remembered() if other != sha256), sha256]
    with contextlib.suppress(OSError):
        replace_file(paths.trust_file(), ("\n".join(known) + "\n").encode())
    trust([sha256])


def inherit(sha256: str, own_names: Sequence[str], *, lasting: bool = True) -> None:
    """Trust a file that this program has just written from a trusted one, if it imports only what that one imported.

    It can do no more than that one. `lasting`: in later sessions too.
    """
    if own_names and lasting:
        remember(sha256)
    elif own_names:
        trust([sha256])


def _told() -> list[str]:
    return [text for text in os.environ.get(VARIABLE, "").split(",") if text]
