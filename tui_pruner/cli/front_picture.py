"""A front as a picture: what is left against the metric of the refitted models, or else the distance from the original."""

from __future__ import annotations

from html import escape

from tui_pruner.engine.planning_messages import PlanningResult, PlanPoint
from tui_pruner.metrics import main_metric

WIDTH, HEIGHT, MARGIN = 640, 400, 56


def picture(found: PlanningResult) -> str:
    """An SVG of its own: a dot for each point with its target, the original at 100 %, axes with their values."""
    points = [(share_of(point), value_of(point), " ".join(point.targets)) for point in found.points if point.plan]
    original = main_metric(found.original or {})
    known = [(share, value, name) for share, value, name in points if value is not None]
    if original:
        known.append((1.0, original[1], "original"))
    top = max((value for _, value, _ in known), default=1.0) or 1.0
    low = min((share for share, _, _ in known), default=0.0)
    label = original[0] if original else "distance from the original's outputs"

    def x(share: float) -> float:
        return MARGIN + (share - low) / ((1.0 - low) or 1.0) * (WIDTH - 2 * MARGIN)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)

    known.sort()
    line = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value, _ in known)
    dots = "".join(
        f'<circle cx="{x(share):.1f}" cy="{y(value):.1f}" r="4" fill="#2563eb"/>'
        f'<text x="{x(share):.1f}" y="{y(value) - 9:.1f}" text-anchor="middle">{escape(name)}: {value:.4g}</text>'
        for share, value, name in known
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<path d="M{MARGIN},{MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}" fill="none" stroke="#6b7280"/>'
        f'<polyline points="{line}" fill="none" stroke="#2563eb"/>{dots}'
        f'<text x="{MARGIN}" y="{HEIGHT - MARGIN + 18}">{100 * low:.0f} % left</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 18}" text-anchor="end">100 %</text>'
        f'<text x="{MARGIN}" y="{MARGIN - 20}">{escape(label)}</text></svg>\n'
    )


def share_of(point: PlanPoint) -> float:
    """What is left by the measure of the point's last target."""
    return point.shares[point.targets[-1].partition("=")[0]]


def value_of(point: PlanPoint) -> float | None:
    """The metric of the refitted model, or else its distance from the original's outputs."""
    found = main_metric(point.measured or {})
    if found:
        return found[1]
    return point.rivals[0].distance if point.rivals else None
