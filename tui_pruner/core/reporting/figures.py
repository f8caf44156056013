"""Numbers as they stand in a document."""

from __future__ import annotations

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
ARROW = "\N{RIGHTWARDS ARROW}"
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(number: float, unit: str = "") -> str:
    """A large number in three digits: 3.01M, 8.1G; with its unit, 6.05 MB."""
    for size, letter in UNITS:
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{unit and NARROW}{letter}{unit}"
    return f"{number:.3g}{unit and NARROW}{unit}"


def change(before: float, after: float) -> str:
    """The relative change: "−26.5 %"; empty where there is none."""
    if before == after or not before:
        return ""
    return signed(100 * (after - before) / before, 1) + " %"


def signed(number: float, digits: int) -> str:
    """A number with its sign, as printers set it."""
    text = f"{number:+.{digits}f}"
    return text.replace("-", MINUS) if float(text) else f"{0:.{digits}f}"


def scientific(number: float) -> str:
    """A small number in two digits: 2.3e-07."""
    return f"{number:.1e}"


def shape(sides: Sequence[int]) -> str:
    """A shape: 64×80×80."""
    return "×".join(str(side) for side in sides)


def moved(before: object, after: object) -> str:
    """What was and what is; once where nothing changed."""
    return f"{before}" if before == after else f"{before} {ARROW} {after}"


def several(number: int, thing: str) -> str:
    """A number of things: 1 step, 2 steps."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def counted(classes: dict[str, int]) -> str:
    """Detections by class: "3: 2 four, nine"."""
    total = sum(classes.values())
    named = ", ".join(f"{number} {name}" if number > 1 else name for name, number in classes.items())
    return f"{several(total, 'detection')}: {named}" if total else "no detection"
