"""Numbers as a person reads them: short, aligned, with the unit that belongs to them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from tui_pruner.tui.theme.glyphs import GLYPHS

_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "K"))


def count(number: float) -> str:
    """A number of things with three digits: 812, 64.5K, 3.01M, 68.2M."""
    for scale, unit in _SCALES:
        if abs(number) >= scale * 0.9995:
            return _three_digits(number / scale) + unit
    return str(round(number))


def giga(flops: float) -> str:
    """Floating-point operations in units of 10^9: 0.512, 8.1, 165."""
    value = flops / 1e9
    if abs(value) < 0.9995:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def change(before: float, after: float) -> str:
    """The relative change with its direction: "▼27%", "▲3%"; empty when nothing changed."""
    if before <= 0 or before == after:
        return ""
    percent = 100 * abs(after - before) / before
    sign = (GLYPHS.down or GLYPHS.minus) if after < before else GLYPHS.up
    if percent < 0.05:
        return f"{sign}<0.1%"
    return f"{sign}{percent:.1f}%" if percent < 9.95 else f"{sign}{percent:.0f}%"


def percent(share: float) -> str:
    """A share of a whole in at most four signs: 12%, 1.9%, <.1%; 100%."""
    number = 100 * share
    if 0 < number < 0.1:
        return "<.1%"
    return f"{number:.0f}%" if number >= 9.95 or number == 0 else f"{number:.1f}%"


def signed(text: str, negative: bool) -> str:
    """A figure with the sign in front of it: −0.21M."""
    return f"{GLYPHS.minus if negative else '+'}{text}"


def operations(flops: float) -> str:
    """Floating-point operations with their unit: 1.6 MFLOPs, 8.10 GFLOPs."""
    text = count(flops)
    return f"{text[:-1]} {text[-1]}FLOPs" if text[-1].isalpha() else f"{text} FLOPs"


def difference(before: float, after: float, figure: Callable[[float], str]) -> str:
    """What a cut takes away or adds, written by `figure`."""
    return signed(figure(abs(after - before)), after <= before)


def score(metric: float) -> str:
    """A metric between 0 and 1 with three decimals and no leading zero: .512; 1.000 stays."""
    text = f"{metric:.3f}"
    return text[1:] if text.startswith("0.") else text


def milliseconds(time: float) -> str:
    """A time in milliseconds with three figures: 0.12 ms, 8.31 ms, 120 ms."""
    return f"{time:.2f} ms" if time < 10 else f"{time:.1f} ms" if time < 100 else f"{time:.0f} ms"


def drop(fall: float) -> str:
    """How far a metric falls, with a sign: −.012; +.003 where it rises, and 0 for less than a thousandth."""
    if abs(fall) < 0.0005:
        return "0"
    return f"{GLYPHS.minus if fall > 0 else '+'}{score(abs(fall))}"


def shape(sizes: Sequence[int]) -> str:
    """An output shape: 64×80×80."""
    return GLYPHS.times.join(str(size) for size in sizes)


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
    """A very small number: 3e-7, a plain 0 for none, and inf."""
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
    """How far predictions are from the original's: 0.105, 0.024; two figures where it is smaller."""
    return f"{value:.3f}" if value >= 0.00995 or value == 0 else f"{value:.2g}"


def arrow(before: object, after: object) -> str:
    """Before and after, or only one of them when they are the same: 64→45."""
    return str(before) if before == after else f"{before}{GLYPHS.arrow}{after}"


def _three_digits(value: float) -> str:
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f}"
