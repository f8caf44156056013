"""Text from files, fit for people: without what moves the cursor, changes colours, turns the direction of writing, or cannot be written.

A name of a file is bytes. Where they are no UTF-8, Python has a lone surrogate for each such byte (`surrogateescape`), which travels in
JSON and YAML as `\\udcXX` and leads back to the very file. What people see of it is `\\xXX`.
"""

from __future__ import annotations

import re

JOINERS = "\u200c\u200d"
"""Invisible, harmless, and part of the spelling of some languages."""
BYTES = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is no UTF-8."""
SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """The text on one line with a question mark for each character that a terminal would obey, or cannot write."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in JOINERS else "?" for sign in legible(text))


def legible(text: str) -> str:
    """The text with each byte of a name that is no UTF-8 as `\\xe9`, so that any encoding of Unicode has it."""
    if text.isascii() or not SURROGATES.search(text):
        return text
    return SURROGATES.sub("?", BYTES.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text))
