"""Take the README's animated picture of a whole cut in the real app on the demo checkpoint: `make pictures`, which runs this file.

cut.svg: a layer is found, a ratio turned and applied, the step is proved and validated, refitted, written, and stands in the lineage. Each
line of the screen is drawn once for the time that it is there, so that the file stays small. `--frames FOLDER` writes every frame as an
SVG of its own, to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from screenshots import ASSETS, NAMES, until
from textual.pilot import Pilot

from tui_pruner.storage import paths
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening

SIZE = (110, 32)
CELL, LINE, FONT, EDGE = 8.4, 17, 14, 14
BACKGROUND, FOREGROUND, CAPTION = "#11151c", "#d8dee9", "#8fbcbb"
SHORT, LONG = 0.22, 2.4
"""Seconds that a frame stays: after a key of many, and where there is something to read."""
LARGEST = 400_000
"""Bytes of the picture."""


@dataclass(frozen=True)
class Frame:
    """What stands on the screen, line by line, for how many seconds, and the words under it."""

    lines: tuple[tuple[Segment, ...], ...]
    seconds: float
    caption: str


@dataclass
class Cast:
    """The frames as they are taken."""

    pilot: Pilot[int]
    frames: list[Frame] = field(default_factory=list)
    caption: str = ""

    def take(self, seconds: float) -> None:
        """Keep the screen as it is; one that is as before stays longer."""
        strips = self.pilot.app.screen._compositor.render_strips()
        lines = tuple(tuple(Segment(s.text, s.style) for s in strip) for strip in strips)
        if self.frames and (self.frames[-1].lines, self.frames[-1].caption) == (lines, self.caption):
            seconds += self.frames.pop().seconds
        self.frames.append(Frame(lines, seconds, self.caption))

    async def press(self, *keys: str, seconds: float = SHORT) -> None:
        """Press keys, and keep what each does."""
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause(0.15)
            self.take(seconds)

    async def wait(self, what: str, reached: Callable[[str], bool], seconds: float = LONG) -> None:
        """Keep every change until something stands on the screen, each for a moment, and that for longer."""

        def look(screen: str) -> bool:
            if self.frames and len(self.frames[-1].lines) and self._moved():
                self.take(SHORT)
            return reached(screen)

        await until(self.pilot, what, look)
        await self.pilot.pause(0.3)
        self.take(seconds)

    def _moved(self) -> bool:
        """Whether more than a spinner has changed: progress is kept by its count."""
        return self._counts("".join(s.text for line in self.frames[-1].lines for s in line)) != self._counts(
            "\n".join(strip.text for strip in self.pilot.app.screen._compositor.render_strips())
        )

    def _counts(self, text: str) -> list[str]:
        return [word for word in text.split() if word.endswith("/64")]


async def walk(cast: Cast, output: Path) -> None:
    """A whole cut, key by key."""
    pilot = cast.pilot
    await until(pilot, "the checkpoint's metric", lambda screen: "Backbone" in screen and "checkpoint mAP" in screen)
    cast.caption = "A trained detector, and its accuracy."
    cast.take(LONG)
    cast.caption = "/ finds a layer"
    await cast.press("slash", *(NAMES.get(letter, letter) for letter in "8.cv2"))
    await cast.press("enter", "escape", seconds=0.6)
    cast.caption = "The arrow keys turn how much of it goes: sizes follow while a key is held."
    await cast.press(*["pageup"] * 7, *["right"] * 5)
    await cast.wait("the dry run", lambda screen: "the shapes fit" in screen)
    cast.caption = "a applies the cut: a step, proved against its masked twin, then validated in the background."
    await cast.press("a")
    await cast.wait("the step's metric", lambda screen: "step 1 mAP" in screen and "proved" in screen)
    cast.caption = "R, 1: refit the layers on unlabelled images, in closed form, without training."
    await cast.press("R", seconds=1.2)
    await cast.press("1", seconds=1.2)
    await pilot.press("end", "ctrl+u", *(NAMES.get(letter, letter) for letter in str(output)))
    await cast.press("enter")
    await cast.wait("the refit", lambda screen: "digits-refitted.pt refitted" in screen)
    cast.caption = "w writes a .pt that stock Ultralytics loads, checked in a clean process."
    await cast.press("w", seconds=1.0)
    await pilot.press("end", "ctrl+u", *(NAMES.get(letter, letter) for letter in str(output.with_name("digits-pruned.pt"))))
    await cast.press("enter")
    await cast.wait("the file", lambda screen: "wrote digits-pruned" in screen)
    cast.caption = "H shows where everything comes from."
    await cast.press("H", seconds=0.4)
    await cast.wait("the lineage", lambda screen: "95 % interval" in screen, seconds=3.5)


def hexed(color: Color | None, usual: str, foreground: bool = True) -> str:
    """A colour as SVG has it."""
    if color is None or color.is_default:
        return usual
    return str(color.get_truecolor(DIMMED_MONOKAI, foreground).hex)


def drawn(segments: Sequence[Segment], y: int) -> Iterator[str]:
    """The parts of a line of the screen, each with what is behind its letters."""
    x = 0
    for segment in segments:
        style, width = segment.style or Style.null(), cell_len(segment.text)
        ink, paper = hexed(style.color, FOREGROUND), hexed(style.bgcolor, BACKGROUND, foreground=False)
        if style.reverse:
            ink, paper = paper, ink
        if paper != BACKGROUND:
            wide = f"{width * CELL + 0.3:.1f}"
            yield f'<path d="M{EDGE + x * CELL:.1f} {EDGE + y * LINE}h{wide}v{LINE}h-{wide}z" fill="{paper}"/>'
        begin = x
        for part in re.split(r"( {2,})", segment.text):
            text, left = part.strip(), begin + len(part) - len(part.lstrip())
            begin += cell_len(part)
            if text:
                place = f'x="{EDGE + left * CELL:.1f}" y="{EDGE + y * LINE + 13}" textLength="{cell_len(text) * CELL:.1f}"'
                bold = ' font-weight="bold"' if style.bold else ""
                yield f'<text {place} fill="{ink}"{bold}>{escape(text, quote=False)}</text>'
        x += width


def joined(line: Iterable[Segment]) -> list[Segment]:
    """A line with neighbours of one style as one."""
    return list(Segment.simplify(Segment(s.text, s.style) for s in line if s.text))


def spans(shown: frozenset[int], times: Sequence[float]) -> str:
    """When something is there, as an animation of a whole round; nothing where it always is."""
    flags = [number in shown for number in range(len(times) - 1)]
    changes = [0, *(number for number in range(1, len(flags)) if flags[number] != flags[number - 1])]
    if len(changes) == 1:
        return ""
    values = ";".join("visible" if flags[number] else "hidden" for number in changes)
    keys = ";".join(f"{times[number] / times[-1]:.4g}" for number in changes)
    return (
        f'<animate attributeName="visibility" values="{values}" keyTimes="{keys}" dur="{times[-1]:.1f}s" calcMode="discrete" '
        'repeatCount="indefinite"/>'
    )


def picture(frames: Sequence[Frame]) -> str:
    """All frames as one animated picture; where nothing moves, the first is shown. What is there at the same times is drawn together."""
    times = [0.0]
    for frame in frames:
        times.append(times[-1] + frame.seconds)
    shown: dict[str, set[int]] = defaultdict(set)
    for number, frame in enumerate(frames):
        for y, line in enumerate(frame.lines):
            for part in drawn(joined(line), y):
                shown[part].add(number)
        shown[f'<text x="{EDGE}" y="{EDGE + (SIZE[1] + 1) * LINE + 8}" fill="{CAPTION}">{escape(frame.caption)}</text>'].add(number)
    together: dict[tuple[bool, frozenset[int]], list[str]] = defaultdict(list)
    for part, numbers in shown.items():
        together[(part.startswith("<text"), frozenset(numbers))].append(part)
    width, height = SIZE[0] * CELL + 2 * EDGE, (SIZE[1] + 2) * LINE + 2 * EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="{FONT}" '
        "font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\">",
        "<title>A whole cut in tui-pruner: find, turn, apply, prove, validate, refit, write</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
    ]
    for (_, numbers), drawings in sorted(together.items(), key=lambda item: item[0][0]):  # letters are in front of all that is behind any
        hidden = "" if 0 in numbers else ' visibility="hidden"'
        parts.append(f"<g{hidden}>{spans(numbers, times)}{''.join(drawings)}</g>")
    return "\n".join([*parts, "</svg>\n"])


async def recorded() -> list[Frame]:
    """Walk through the demo."""
    folder = paths.demo_folder()
    app = PrunerApp(Opening(str(folder / "digits.pt"), data=str(folder / "digits.yaml"), images=64))
    with tempfile.TemporaryDirectory() as place:
        async with app.run_test(size=SIZE) as pilot:
            cast = Cast(pilot)
            await walk(cast, Path(place, "digits-refitted.pt"))
            return cast.frames


def main() -> None:
    """Record, and write the picture, with nothing of this user's own settings and sessions on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            os.environ[name] = str(Path(folder, name.lower()))
        os.environ.pop("NO_COLOR", None)
        os.environ["TUI_PRUNER_THEME"] = "dark"
        frames = asyncio.run(recorded())
    text = picture(frames)
    if len(text.encode()) > LARGEST:
        raise SystemExit(f"the picture has {len(text.encode()) // 1000} KB of {LARGEST // 1000}: take fewer frames")
    (ASSETS / "cut.svg").write_text(text, encoding="utf-8")
    print(ASSETS / "cut.svg", f"{len(frames)} frames, {sum(frame.seconds for frame in frames):.0f} s, {len(text.encode()) // 1000} KB")
    if asked.frames:
        asked.frames.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            (asked.frames / f"{number:03d}.svg").write_text(picture([frame]), encoding="utf-8")


if __name__ == "__main__":
    main()
