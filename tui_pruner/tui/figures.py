"""Numbers as a person reads them: short, aligned, with the unit that belongs to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tui_pruner.domain.formatting import score
from tui_pruner.tui.theme.glyphs import GLYPHS


def change(before: float, after: float) -> str:
    """The relative change with its direction: "▼27%", "▲3%"; empty when nothing changed."""
    if before <= 0 or before == after:
        return ""
    percent = 100 * abs(after - before) / before
    sign = (GLYPHS.down or GLYPHS.minus) if after < before else GLYPHS.up
    if percent < 0.05:
        return f"{sign}<0.1%"
    return f"{sign}{percent:.1f}%" if percent < 9.95 else f"{sign}{percent:.0f}%"


def signed(text: str, negative: bool) -> str:
    """A figure with the sign in front of it: −0.21M."""
    return f"{GLYPHS.minus if negative else '+'}{text}"


def titled(title: str) -> str:
    """A step's title with the screen's own minus: model.5 −30%."""
    return re.sub(r"(?<= )-(?=\d)", GLYPHS.minus, title)


def saving(before: float, after: float, figure: Callable[[float], str]) -> str:
    """What a cut saves, written by `figure`, without a sign unless it adds: 212K, and −3K where there is more than before."""
    return figure(before - after) if after <= before else signed(figure(after - before), True)


def fall(drop: float) -> str:
    """How far a metric falls: .012; +.003 where it rises, and 0 for less than a thousandth."""
    return "0" if abs(drop) < 0.0005 else score(drop) if drop > 0 else f"+{score(-drop)}"


def drop(fall: float) -> str:
    """How far a metric falls, with a sign: −.012; +.003 where it rises, and 0 for less than a thousandth."""
    if abs(fall) < 0.0005:
        return "0"
    return f"{GLYPHS.minus if fall > 0 else '+'}{score(abs(fall))}"


def gain(before: float, after: float) -> str:
    """How a metric moved, with a sign: −.012 where it fell, +.003 where it rose, and 0 for less than a thousandth.

    It is the difference of the two figures as they are shown.
    """
    return drop(round(before, 3) - round(after, 3))


def shape(sizes: Sequence[int]) -> str:
    """An output shape: 64×80×80."""
    return GLYPHS.times.join(str(size) for size in sizes)


def arrow(before: object, after: object) -> str:
    """Before and after, or only one of them when they are the same: 64→45."""
    return str(before) if before == after else f"{before}{GLYPHS.arrow}{after}"
