"""The target slider: positions from all to a tenth of a resource, each a plan that is there already, and the line that it is dragged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.domain.cuts import Asked, typed_amount
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.state import COLOURS, Store
from tui_pruner.tui.theme import colours
from tui_pruner.tui.theme.glyphs import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.engine.messages import PreviewResult
    from tui_pruner.engine.requests import TargetLadder, TargetRung

SHARES = tuple(percent / 100 for percent in range(95, 5, -5))
"""What is left at the positions below the first one, at which nothing goes."""
TITLES = {"flops": "FLOPs", "params": "params"}
LABEL, SHORTEST, LONGEST = 7, 8, 60


@dataclass(frozen=True)
class Position:
    """What the slider stands on: the share that is left, the cuts that leave it, and what the model would be with them."""

    share: float
    asked: Asked
    preview: PreviewResult | None = None


@dataclass(frozen=True)
class TargetSlider:
    """A slider over positions that fall from one to the next, the first of them without a cut; they come one after the other.

    `before`: what was pending when it was opened; `scan`: by which scan, in words, where there is one. `total`: how many positions
    are being planned; `ladder` once all are there.
    """

    number: int
    measure: str
    before: Position
    positions: tuple[Position, ...]
    at: int = 0
    total: int = 0
    ladder: TargetLadder | None = None
    scan: str = ""

    @property
    def here(self) -> Position:
        """The position that it stands on."""
        return self.positions[self.at]

    def moved(self, by: int) -> TargetSlider:
        """The slider further down, or up where `by` is negative, as far as positions are there."""
        return replace(self, at=min(max(self.at + by, 0), len(self.positions) - 1))

    def longer(self, rung: TargetRung) -> TargetSlider:
        """The slider with one more position."""
        amounts = {layer: amount for layer, text in rung.amounts.items() if (amount := typed_amount(text))}
        asked = replace(self.positions[0].asked, amounts=amounts)
        return replace(self, positions=(*self.positions, Position(rung.share, asked, rung.preview)), total=rung.total)


def slider_line(slider: TargetSlider, width: int) -> Text:
    """The slider in one line: what is left as a bar with a knob, the share, and what is known of the positions where there is room."""
    here, reach = slider.here, _reach(slider)
    share = f"{100 * here.share:.0f} % left"
    while reach and LABEL + SHORTEST + len(share) + 4 + sum(len(part) + 3 for part in reach) > width:
        reach.pop()
    tail = "".join(f"   {part}" for part in reach)
    space = min(max(width - LABEL - len(share) - len(tail) - 4, SHORTEST), LONGEST)
    knob = min(round(here.share * space), space - 1)
    track = round(slider.positions[-1].share * space)
    line = Text.assemble((f"{TITLES[slider.measure]:<{LABEL}}", f"bold {colours.WARNING}"), no_wrap=True)
    for cell in range(space):
        if cell == knob:
            line.append(GLYPHS.mark, f"bold {colours.WARNING}")
        else:
            line.append(GLYPHS.line if cell < knob else GLYPHS.track, colours.GOOD if cell < knob else _ground(cell, track))
    return line.append(f"  {share}", f"bold {colours.STRONG}").append(tail, colours.MUTED)


def _ground(cell: int, track: int) -> str:
    return colours.MUTED if cell >= track else colours.FAINT


def _reach(slider: TargetSlider) -> list[str]:
    """What is known of the positions, the most needed words first."""
    ladder = slider.ladder
    if ladder is None:
        done = len(slider.positions) - 1
        return [f"{done} of {slider.total} positions planned{GLYPHS.ellipsis}" if slider.total else f"planning{GLYPHS.ellipsis}"]
    ground = slider.scan if ladder.scanned else "by importance"
    return [f"reachable {100 * ladder.least:.0f} to {100 * ladder.most:.0f} %", ground]


class SliderLine(Lines, can_focus=True):
    """The line below the panes that has the keys while a target is dragged."""

    def follow(self, store: Store) -> None:
        """Show the slider of a session from now on."""
        view = store.view

        def lines(width: int, height: int) -> Sequence[Text]:
            return [slider_line(view.slider, width)] if view.slider is not None else [Text()]

        store.observe(("slider", COLOURS), lambda: self.draw(lines))
