"""Names for files of ours that are made from another file's name: legible, typable, and no longer than a file system takes."""

from __future__ import annotations

LONGEST = 200
"""Bytes; file systems take 255, and something is added."""


def own_name(stem: str, longest: int = LONGEST) -> str:
    """A name with an underscore for what cannot be printed, such as bytes that are not UTF-8, and cut between two characters."""
    legible = "".join(sign if sign.isprintable() else "_" for sign in stem)
    return legible.encode()[:longest].decode(errors="ignore")
