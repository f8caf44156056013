"""Text for display: file names, numbers, command lines.

A file name is bytes. Where they are not UTF-8, Python has a lone surrogate for each such byte (`surrogateescape`), which JSON and YAML
write as `\\udcXX` and which leads back to the same file. It is displayed as `\\xXX`.
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Iterable, Sequence

JOINERS = "\u200c\u200d"
"""Invisible, harmless, and part of the spelling of some languages."""
BYTES = re.compile("[\udc80-\udcff]")
"""The characters for bytes that are not UTF-8."""
SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """The text on one line with a question mark for each character that a terminal would interpret, or cannot display."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in JOINERS else "?" for sign in legible(text))


def legible(text: str) -> str:
    """The text with each byte of a name that is not UTF-8 as `\\xe9`, so that it can be encoded."""
    if text.isascii() or not SURROGATES.search(text):
        return text
    return SURROGATES.sub("?", BYTES.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text))


LONGEST_NAME = 200
"""Bytes; file systems allow 255, and a suffix is added."""


def own_name(stem: str, longest: int = LONGEST_NAME) -> str:
    """A name with an underscore for what cannot be printed, such as bytes that are not UTF-8, cut between two characters."""
    legible = "".join(sign if sign.isprintable() else "_" for sign in stem)
    return legible.encode()[:longest].decode(errors="ignore")


def command_line(words: Iterable[object]) -> str:
    """The words as one command line; bytes that are not UTF-8 as Bash and Zsh read them: `$'caf\\xe9.pt'`."""
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    if not BYTES.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{legible(escaped)}'"


_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "K"))


def count(number: float) -> str:
    """A number of things with three digits: 812, 64.5K, 3.01M, 68.2M."""
    for scale, unit in _SCALES:
        if abs(number) >= scale * 0.9995:
            return _three_digits(number / scale) + unit
    return str(round(number))


def giga(flops: float) -> str:
    """Floating-point operations in units of 10^9: 0.512, 8.10, 165."""
    value = flops / 1e9
    return f"{value:.3f}" if abs(value) < 0.9995 else _three_digits(value)


def percent(share: float) -> str:
    """A share of a whole in at most four characters: 12%, 1.9%, <.1%; 100%."""
    number = 100 * share
    if 0 < number < 0.1:
        return "<.1%"
    return f"{number:.0f}%" if number >= 9.95 or number == 0 else f"{number:.1f}%"


def operations(flops: float) -> str:
    """Floating-point operations with their unit: 1.6 MFLOPs, 8.10 GFLOPs."""
    text = count(flops)
    return f"{text[:-1]} {text[-1]}FLOPs" if text[-1].isalpha() else f"{text} FLOPs"


def score(metric: float) -> str:
    """A metric between 0 and 1 with three decimals and no leading zero: .512; 1.000 stays."""
    text = f"{metric:.3f}"
    return text[1:] if text.startswith("0.") else text


def milliseconds(time: float) -> str:
    """A time in milliseconds with three digits: 0.12 ms, 8.31 ms, 120 ms."""
    return f"{time:.2f} ms" if time < 10 else f"{time:.1f} ms" if time < 100 else f"{time:.0f} ms"


def duration(seconds: float) -> str:
    """A time: 61 ms, 2.3 s, 48 s, 1:05."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def clock(seconds: float) -> str:
    """A running time in whole seconds: 9 s, 1:05."""
    return f"{seconds:.0f} s" if seconds < 59.5 else duration(seconds)


def ago(moment: float) -> str:
    """How long ago a moment was: just now, 5 minutes ago, 3 hours ago, 2 days ago."""
    seconds = max(time.time() - moment, 0.0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit)} ago"
    return "just now"


def tiny(number: float) -> str:
    """A very small number: 3e-7, 0, or inf."""
    if number == 0 or not math.isfinite(number):
        return f"{number:.0f}"
    mantissa, exponent = f"{number:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def file_size(size: int) -> str:
    """Bytes in decimal units: 812 B, 64.5 KB, 6.2 MB."""
    return f"{size} B" if size < 1000 else f"{count(size).replace('K', ' K').replace('M', ' M').replace('G', ' G')}B"


def plural(number: int, thing: str) -> str:
    """A number with its noun: 1 layer, 2 layers."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listing(things: Sequence[str]) -> str:
    """Things in a sentence: "Taylor, Hessian and OBS"."""
    return " and ".join(filter(None, [", ".join(things[:-1]), *things[-1:]]))


def distance(value: float) -> str:
    """The distance of predictions from the original's: 0.105, 0.024; two significant digits where it is smaller."""
    return f"{value:.3f}" if value >= 0.00995 or value == 0 else f"{value:.2g}"


def _three_digits(value: float) -> str:
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f}"


MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
ARROW = "\N{RIGHTWARDS ARROW}"
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def large(number: float, unit: str = "") -> str:
    """A large number in three digits: 3.01M, 8.1G; with its unit, 6.05 MB."""
    for size, letter in UNITS:
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{unit and NARROW}{letter}{unit}"
    return f"{number:.3g}{unit and NARROW}{unit}"


def relative_change(before: float, after: float) -> str:
    """The relative change: "−26.5 %"; empty where there is none."""
    if before == after or not before:
        return ""
    return signed_number(100 * (after - before) / before, 1) + " %"


def signed_number(number: float, digits: int) -> str:
    """A number with its sign, typographically."""
    text = f"{number:+.{digits}f}"
    return text.replace("-", MINUS) if float(text) else f"{0:.{digits}f}"


def scientific(number: float) -> str:
    """A small number in two digits: 2.3e-07."""
    return f"{number:.1e}"


def dimensions(sides: Sequence[int]) -> str:
    """A shape: 64×80×80."""
    return "×".join(str(side) for side in sides)


def moved(before: object, after: object) -> str:
    """The value before and after; once where nothing changed."""
    return f"{before}" if before == after else f"{before} {ARROW} {after}"


def counted(classes: dict[str, int]) -> str:
    """Detections by class: "3: 2 four, nine"."""
    total = sum(classes.values())
    named = ", ".join(f"{number} {name}" if number > 1 else name for name, number in classes.items())
    return f"{plural(total, 'detection')}: {named}" if total else "no detection"


def running_code_of(*names: str) -> str:
    """Whose code runs, for a user who named a module by what builds it."""
    return f"running the code of {' and '.join(filter(None, names))}, as the program that it is"
