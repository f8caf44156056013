"""Text from files, fit for a terminal: without the characters that move the cursor, change colours or turn the direction of writing."""

from __future__ import annotations

JOINERS = "\u200c\u200d"
"""Invisible, harmless, and part of the spelling of some languages."""


def printable(text: str) -> str:
    """The text on one line with a question mark for each character that a terminal would obey, or cannot write."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() or sign in JOINERS else "?" for sign in text)
